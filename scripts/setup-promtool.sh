#!/usr/bin/env bash
# Fetches Prometheus's promtool from Debian's packages into target/tools and prints its path.
# Nothing is installed or started on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v promtool >/dev/null; then
  command -v promtool
  exit
fi
tools=$PWD/target/tools
if [ ! -x "$tools/usr/bin/promtool" ]; then
  mkdir -p "$tools"
  apt-get update -qq >&2
  (cd "$tools" && apt-get download -qq prometheus >&2 && dpkg -x prometheus_*.deb . && rm -f prometheus_*.deb)
fi
echo "$tools/usr/bin/promtool"
