#!/usr/bin/env bash
# Fuzzes every target of fuzz/ for SECONDS each (20 if not said): fuzz.sh [SECONDS] [TARGET..]
# Stable Rust and a C++ compiler are enough. What the targets learn is kept in fuzz/corpus; an input
# that fells one is left in fuzz/artifacts/TARGET, and named.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(image request config weights axon synapse)
folder=${CARGO_TARGET_DIR:-$PWD/target}/fuzz

RUSTC_WRAPPER=$PWD/scripts/fuzz-rustc.sh CARGO_INCREMENTAL=0 \
  cargo build --release --manifest-path fuzz/Cargo.toml --target-dir "$folder"

# A backtrace for every error that is expected would take most of the time.
export RUST_LIB_BACKTRACE=0

status=0
for target in "${targets[@]}"; do
  corpus=fuzz/corpus/$target found=fuzz/artifacts/$target
  mkdir -p "$corpus" "$found"
  echo "fuzzing $target for $seconds s"
  if ! "$folder/release/$target" "$corpus" "fuzz/seeds/$target" -artifact_prefix="$found/" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=16384 -print_final_stats=1 \
    >"$found/log.txt" 2>&1; then
    tail -n 40 "$found/log.txt"
    echo "fuzz: $target fell; again with: $folder/release/$target INPUT, where INPUT is one of" >&2
    find "$found" -type f ! -name log.txt >&2
    status=1
  fi
  grep -E "^(Done|stat::(number_of_executed_units|average_exec_per_sec|new_units_added|peak_rss_mb))" \
    "$found/log.txt" || true
done
exit $status
