#!/usr/bin/env bash
# RUSTC_WRAPPER of scripts/fuzz.sh: the compiler, with coverage and `cfg(fuzzing)` for our own crate
# and for those that parse what comes from outside. The rest, tensors above all, runs as it is: it
# would only be slow, and say nothing of the input.
set -euo pipefail

compiler=$1
shift
coverage=(
  -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
  --cfg fuzzing
)
args=" $* "
# A build script is called build_script_*, and must not be linked with counters.
case $args in
  *" --crate-name roadcrew "* | *" --crate-name roadcrew_fuzz "* | \
    *" --crate-name image "* | *" --crate-name png "* | *" --crate-name fdeflate "* | \
    *" --crate-name zune_jpeg "* | *" --crate-name image_webp "* | *" --crate-name base64 "* | \
    *" --crate-name toml "* | *" --crate-name toml_parser "* | *" --crate-name safetensors "* | \
    *" --crate-name serde_json "* | *" --crate-name bs58 "* | \
    *" --crate-name "*" fuzz_targets/"*)
    exec "$compiler" "$@" "${coverage[@]}"
    ;;
esac
exec "$compiler" "$@"
