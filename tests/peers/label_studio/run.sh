#!/usr/bin/env bash
# The round trip through a real Label Studio: run.sh ROADCREW_BINARY [--fixtures DIR]
# Makes its environment under target/peers/label_studio first if need be (a few minutes). Exits 1 on any
# difference.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: $0 ROADCREW_BINARY [--fixtures DIR]" >&2; exit 2; }
binary=$(realpath "$1")
shift
cache=$(cd "$here/../../.." && pwd)/target/peers/label_studio
env=$cache/env
if ! cmp -s "$here/requirements.txt" "$env/made-from.txt"; then
  rm -rf "$env"
  mkdir -p "$cache"
  echo "installing Label Studio, some minutes" >&2
  "${PYTHON:-python3}" -m venv "$env"
  "$env/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$env/made-from.txt"
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$env/bin/python" "$here/run.py" "$binary" "$env/bin/label-studio" "$@"
