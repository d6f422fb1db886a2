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

# The real server under faults, departures and reloads; `-- --help` of the example says what is counted.
chaos seed="1" seconds="20":
    cargo run --release --example chaos -- --seed {{seed}} --seconds {{seconds}}

# Ten minutes of the same; memory, threads and open files must be flat at the end.
soak:
    cargo run --release --example chaos -- --seed 1 --seconds 600 --flat

# Real Bittensor clients against the release binary; `just peers -v` prints every case.
peers *arguments:
    cargo build --release
    bash tests/peers/bittensor/run.sh target/release/roadcrew {{arguments}}

# The round trip of labels through a real Label Studio (installs it from PyPI; two minutes and more).
label-studio *arguments:
    cargo build --release
    bash tests/peers/label_studio/run.sh target/release/roadcrew {{arguments}}

# The servers that a user would pick instead, for the race (target/peers/race; five minutes).
race-setup:
    bash benches/peers/setup.sh

# roadcrew beside them on the same work; `just race --help` says what can be chosen.
race *arguments:
    bash benches/peers/run.sh {{arguments}}

# What each of them does when things go wrong.
race-faults *arguments:
    bash benches/peers/run.sh faults {{arguments}}

# ONNX Runtime against candle on exported models; all of the repository's, or those you name.
onnx *models:
    cargo build --release
    bash scripts/check-onnx.sh target/release/roadcrew {{models}}

# Each fuzz target for five minutes, or as long as you say.
fuzz seconds="300":
    bash scripts/fuzz.sh {{seconds}}

# Accept changed snapshots after reading them (needs cargo-insta).
review:
    cargo insta review

# Days of traffic in the engine's pure parts; as many as you have time for.
simulate days="20000":
    ROADCREW_SEEDS={{days}} cargo test --lib every_promise_holds

# Licences, advisories, bans (needs cargo-deny).
deny:
    cargo deny check

# The guarantee of `roadcrew calibrate` over many samples from populations whose risk is known.
guarantee sets="2000":
    ROADCREW_GUARANTEE={{sets}} cargo test --lib violations_are_no_more_than_delta -- --nocapture
