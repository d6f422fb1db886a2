#!/usr/bin/env bash
# Real Bittensor clients against a real binary: run.sh ROADCREW_BINARY [-v]
# Makes the SDKs' environments first if need be. Prints a table; exits 1 on any difference.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "usage: $0 ROADCREW_BINARY [-v]" >&2; exit 2; }
binary=$(realpath "$1")
shift
envs=$(bash "$here/../../../scripts/setup-bittensor.sh")
export PYTHONDONTWRITEBYTECODE=1
exec "$envs/10/bin/python" "$here/run.py" "$binary" "$envs" "$@"
