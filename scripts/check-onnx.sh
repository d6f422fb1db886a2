#!/usr/bin/env bash
# Exports models and compares ONNX Runtime with candle: check-onnx.sh ROADCREW_BINARY [MODEL ...]
# Makes a virtual environment under target/ first if need be; nothing is installed on the machine.
# What is compared, and how closely: tools/check_onnx.py.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "usage: $0 ROADCREW_BINARY [MODEL ...]" >&2; exit 2; }
fail() { printf 'check-onnx: %s\n' "$*" >&2; exit 1; }

pins=tools/requirements-onnx.txt
env=$PWD/target/onnx-env
find_python() {
  local name
  for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    [ -n "$name" ] || continue
    if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] < (3, 11))' 2>/dev/null; then
      "$name" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  fail "no Python 3.11 or newer with the venv module found; install one (Debian: apt-get install" \
    "python3 python3-venv), or name one: PYTHON=/path/to/python3.11 $0"
}

# What the environment is made from; when it differs, it is made anew.
python=$(find_python)
recipe=$({ "$python" -VV; cat "$pins"; } | sha256sum)
mkdir -p target
(
  flock 9
  if [ "$(cat "$env/.recipe" 2>/dev/null)" != "$recipe" ]; then
    rm -rf "$env"
    echo "check-onnx: installing onnx and onnxruntime, about half a minute" >&2
    { "$python" -m venv "$env" &&
      "$env/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r "$pins" &&
      "$env/bin/pip" check --disable-pip-version-check; } >"$env.log" 2>&1 || {
      tail -n 15 "$env.log" >&2
      fail "the environment could not be made (all of it: $env.log). Without a network, name an index that" \
        "can be reached (PIP_INDEX_URL) or a folder of wheels (PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR)"
    }
    printf '%s\n' "$recipe" >"$env/.recipe"
  fi
) 9>"$env.lock"

binary=$(realpath "$1")
shift
exec "$env/bin/python" tools/check_onnx.py "$binary" "$@"
