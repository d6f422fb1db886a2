#!/usr/bin/env bash
# Fetches ONNX Runtime's library for the processor into vendor/onnxruntime, where roadcrew looks for it:
# setup-onnxruntime.sh [FOLDER]. From the Python registry's wheel, of which only the one file is kept;
# nothing is installed on the machine. Does nothing if the file is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { printf 'setup-onnxruntime: %s\n' "$*" >&2; exit 1; }

version=1.31.1
# SHA-256 of the wheel, and of the library in it.
case $(uname -s)-$(uname -m) in
  Linux-x86_64)
    platform=manylinux_2_28_x86_64
    wheel_hash=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
    file_hash=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3
    ;;
  Linux-aarch64)
    platform=manylinux_2_28_aarch64
    wheel_hash=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3
    file_hash=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467
    ;;
  *)
    fail "there is no library pinned for $(uname -sm); install one of version 1.24 or newer and name it" \
      "with onnx.library"
    ;;
esac

folder=${1:-vendor/onnxruntime}
target=$folder/libonnxruntime.so.$version
is_ours() { echo "$file_hash  $1" | sha256sum --check --status 2>/dev/null; }
if [ -f "$target" ] && is_ours "$target"; then
  echo "$target"
  exit
fi

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 8))' 2>/dev/null && "$python" -m pip --version >/dev/null 2>&1 ||
  fail "no python3 with pip found, which fetches the wheel (Debian: apt-get install python3-pip); or name one:" \
    "PYTHON=/path/to/python3 $0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "onnxruntime==$version --hash=sha256:$wheel_hash" >"$work/pin"
# Every wheel of a version carries the same library, so the version of Python is not the machine's.
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
  --python-version 3.11 --implementation cp --abi cp311 --platform "$platform" --dest "$work" --requirement "$work/pin" ||
  fail "the wheel could not be fetched. Without a network, name an index that can be reached (PIP_INDEX_URL) or a" \
    "folder of wheels (PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR)"
"$python" - "$work" "onnxruntime/capi/libonnxruntime.so.$version" <<'PYTHON'
import glob, sys, zipfile
folder, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel, open(folder + "/library", "wb") as out:
    out.write(wheel.read(name))
PYTHON
is_ours "$work/library" || fail "the library in the wheel is not the one that is pinned"
mkdir -p "$folder"
chmod 755 "$work/library"
# Whole or not at all, also if somebody loads it right now.
mv "$work/library" "$folder/.new.$$" && mv "$folder/.new.$$" "$target"
echo "$target"
