# `just` lists the recipes. `just check` is what CI runs.

default:
    @just --list

# Format, lints, tests, docs: what CI runs.
check:
    bash .ci/run

# The tests, as the README gives them.
test:
    cargo test

# Serve the embedded default and ask it about the sample image.
demo:
    cargo run --release -- predict samples/roadwork.jpg

# Criterion benches and the open-loop run; see benches/README.md.
bench:
    cargo bench

# Each fuzz target for five minutes, or as long as you say.
fuzz seconds="300":
    bash scripts/fuzz.sh {{seconds}}

# Accept changed snapshots after reading them (needs cargo-insta).
review:
    cargo insta review

# Licences, advisories, bans (needs cargo-deny).
deny:
    cargo deny check
