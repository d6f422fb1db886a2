#!/usr/bin/env bash
# The race; `benches/peers/setup.sh` first.
#   run.sh [OPTIONS]          rounds of cells, then the tables; --help says more
#   run.sh faults [OPTIONS]   what happens when things go wrong
#   run.sh smoke [NAME...]    does every server start and answer rightly
# ROADCREW names the binary, and ROADCREW_CEILING that of the bench; both are built if they are not named.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for python in "${PYTHON311:-}" python3.13 python3.12 python3.11 python3 "$HOME"/.pyenv/versions/3.1[123].*/bin/python3; do
  [ -n "$python" ] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
done
if [ -z "${ROADCREW:-}" ]; then
  (cd "$here/../.." && cargo build --release --quiet)
  ROADCREW=$(cd "$here/../.." && pwd)/target/release/roadcrew
fi
ROADCREW=$(realpath "$ROADCREW")
export ROADCREW PYTHONDONTWRITEBYTECODE=1
case "${1:-}" in
  faults | smoke) script=$1; shift ;;
  *) script=race ;;
esac
exec "$python" "$here/$script.py" "$@"
