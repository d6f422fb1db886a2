#!/usr/bin/env bash
# Makes the virtual environments of the real Bittensor SDK that the axon is tested with, under
# target/peers/bittensor, and prints that folder: 9 (what the subnet pins), 10 (the last one with a
# dendrite), 11 (btauth/1). Nothing is installed on the machine. Done already: a matter of milliseconds.
#   scripts/setup-bittensor.sh [9] [10] [11]     all three without arguments
set -euo pipefail
cd "$(dirname "$0")/.."

pins=tests/peers/bittensor
cache=$PWD/target/peers/bittensor
fail() { printf 'setup-bittensor: %s\n' "$*" >&2; exit 1; }

# The pins have wheels for these versions of Python. A name may be on PATH and yet not start.
find_python() {
  local name
  for name in "${PYTHON:-}" python3.11 python3.12 python3; do
    [ -n "$name" ] || continue
    if "$name" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
      2>/dev/null; then
      "$name" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  fail "no Python 3.11 or 3.12 with the venv module found; install one (Debian: apt-get install" \
    "python3 python3-venv), or name one: PYTHON=/path/to/python3.11 $0"
}

# What an environment was made from; when it differs, the environment is made anew.
recipe() { { "$python" -VV; cat "$pins/requirements-$1.txt"; } | sha256sum; }

make_env() {
  local env=$cache/$1 log=$cache/$1.log
  rm -rf "$env"
  printf 'setup-bittensor: installing the SDK %s, about half a minute\n' "$1" >&2
  # The pins are the whole closure, so nothing else is resolved; `pip check` says if that is not so.
  { "$python" -m venv "$env" &&
    "$env/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary :all: \
      -r "$pins/requirements-$1.txt" &&
    "$env/bin/pip" check --disable-pip-version-check &&
    HOME=$env/home "$env/bin/python" -c 'import bittensor; print(bittensor.__version__)'; } \
    >"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    fail "the SDK $1 could not be installed (all of it: $log). Without a network, name an index that" \
      "can be reached (PIP_INDEX_URL) or a folder of wheels (PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR);" \
      "if a pin has been withdrawn, renew $pins/requirements-$1.txt"
  }
}

[ $# -gt 0 ] || set -- 9 10 11
python=$(find_python)
mkdir -p "$cache"
for version in "$@"; do
  [ -f "$pins/requirements-$version.txt" ] || fail "no pins for '$version'; say 9, 10 or 11"
  (
    flock 9
    if [ "$(cat "$cache/$version/.recipe" 2>/dev/null)" != "$(recipe "$version")" ]; then
      make_env "$version"
      recipe "$version" >"$cache/$version/.recipe"
    fi
  ) 9>"$cache/$version.lock"
done
echo "$cache"
