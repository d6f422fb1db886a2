#!/usr/bin/env bash
# Installs what the race needs and prints the folder: target/peers/race, or $ROADCREW_PEERS.
#   benches/peers/setup.sh [PEER...]     all of it; or only the environments of these peers
# A virtual environment for each peer, the load generators wrk and oha, the floor server, the graphs
# and the request bodies. Nothing is installed on the machine. What is there already is left alone.
# Needs Python 3.11 for most peers and 3.12 for PyTriton (PYTHON311=, PYTHON312= name them), cargo,
# and apt-get and dpkg for wrk (a wrk on PATH does as well). About five minutes, most of them for oha.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${ROADCREW_PEERS:-$here/../../target/peers/race}
mkdir -p "$cache/envs" "$cache/tools"
cache=$(cd "$cache" && pwd)

everyone=(ref mosec litserve bentoml mlserver ray pytriton)
oha_version=1.16.0

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The pins have wheels for one version of Python each. A name may be on PATH and yet not start.
find_python() { # VERSION CHOSEN
  local name
  for name in "$2" "python$1" python3 "$HOME/.pyenv/versions/$1".*/bin/python3; do
    [ -n "$name" ] || continue
    if "$name" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
      "$name" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  fail "no Python $1 with the venv module found; name one: PYTHON${1/./}=/path/to/python$1 $0"
}

# An environment is made anew when its pins or its Python differ from what it was made of.
make_env() { # PEER
  local python env=$cache/envs/$1 log=$cache/envs/$1.log pins=$here/requirements/$1.txt recipe
  [ -f "$pins" ] || fail "no pins for '$1'; say one of: ${everyone[*]}"
  if [ "$1" = pytriton ]; then
    python=$(find_python 3.12 "${PYTHON312:-}")
  else
    python=$(find_python 3.11 "${PYTHON311:-}")
  fi
  recipe=$({ "$python" -VV; cat "$pins"; } | sha256sum)
  [ "$(cat "$env/.recipe" 2>/dev/null)" != "$recipe" ] || return 0
  say "installing $1"
  rm -rf "$env"
  # The pins are the whole closure, so nothing else is resolved.
  { "$python" -m venv "$env" &&
    "$env/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$pins" &&
    "$env/bin/python" -c 'import onnxruntime, PIL'; } >"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    fail "$1 could not be installed (all of it: $log); if a pin has been withdrawn, renew $pins"
  }
  echo "$recipe" >"$env/.recipe"
}

make_wrk() {
  [ ! -x "$cache/tools/usr/bin/wrk" ] || return 0
  if command -v wrk >/dev/null; then
    mkdir -p "$cache/tools/usr/bin"
    ln -sf "$(command -v wrk)" "$cache/tools/usr/bin/wrk"
    return
  fi
  say "unpacking wrk"
  mkdir -p "$cache/debs"
  (cd "$cache/debs" && apt-get download wrk libluajit-5.1-2 >/dev/null 2>&1) ||
    fail "wrk could not be downloaded; run apt-get update, or put a wrk on PATH"
  for package in "$cache"/debs/*.deb; do dpkg -x "$package" "$cache/tools"; done
}

make_oha() {
  [ ! -x "$cache/tools/bin/oha" ] || return 0
  say "compiling oha $oha_version, some minutes"
  cargo install oha --version "$oha_version" --locked --quiet --no-default-features --features rustls \
    --root "$cache/tools" >&2
}

make_floor() {
  cargo build --release --locked --quiet --manifest-path "$here/floor/Cargo.toml" --target-dir "$cache/floor" >&2
}

if [ $# -gt 0 ]; then
  for peer in "$@"; do make_env "$peer"; done
else
  for peer in "${everyone[@]}"; do make_env "$peer"; done
  make_wrk
  make_floor
  make_oha
fi
[ -d "$cache/envs/ref" ] || make_env ref
"$cache/envs/ref/bin/python" "$here/models.py" "$cache/data" >&2
echo "$cache"
