"""The machine's limit for the models: our own decode and model in a loop, without a server.

Runs the bench `ceiling` (`benches/ceiling.rs`) with the settings that ours is served with, and turns
what it prints into samples: `closed` is its throughput; `bare` is one image at a time while
nothing else runs, which `decode` and `infer` split.
"""

import functools
import json
import os
import pathlib
import subprocess
import uuid

import meter
import peers
import places
from load import NoResult, Sample


@functools.cache
def program():
    """The bench's executable: $ROADCREW_CEILING, or what cargo builds."""
    if chosen := os.environ.get("ROADCREW_CEILING"):
        return pathlib.Path(chosen)
    command = ["cargo", "bench", "--bench", "ceiling", "--no-run", "--message-format=json", "--quiet"]
    built = subprocess.run(command, cwd=places.REPOSITORY, capture_output=True, text=True, check=True)
    messages = (json.loads(line) for line in built.stdout.splitlines() if line.startswith("{"))
    return next(
        pathlib.Path(message["executable"])
        for message in messages
        if message.get("executable") and message["target"]["name"] == "ceiling"
    )


def run(model, seconds):
    """One row of samples, and the memory of the process is not asked for."""
    command = [str(program()), "--config", str(places.OURS / f"{model}.toml")]
    command += ["--image", str(places.DATA / "good.jpg"), "--seconds", str(seconds)]
    if model in peers.VITS:
        command += ["--set", f'onnx.library="{places.onnxruntime()}"']
    environment = os.environ | {meter.MARK: uuid.uuid4().hex}
    watch = meter.Watch(environment[meter.MARK])
    done = subprocess.run(command, cwd=places.DATA, env=environment, capture_output=True, text=True, timeout=300)
    watch.stop()
    if done.returncode:
        raise NoResult(f"ceiling: {done.stderr[-500:]}")
    return samples(json.loads(done.stdout.splitlines()[-1]), watch.other_cores)


def samples(said, other_cores):
    """What the bench printed, as samples."""

    def sample(phase, rps, p50_ms, p99_ms, cpu_ms):
        return Sample(phase, None, rps, 0, 0, p50_ms, p99_ms, cpu_s_per_1k=cpu_ms, other_cores=other_cores)

    rows = [sample("closed", said["images_per_s"], said["p50_ms"], said["p99_ms"], said["cpu_ms_per_image"])]
    for phase in ("bare", "decode", "infer"):
        part = said[phase]
        rows.append(sample(phase, 1e3 / part["p50_ms"], part["p50_ms"], part["p99_ms"], 0.0))
    return rows
