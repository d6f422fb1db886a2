"""Load on a server: closed loop by wrk, open loop by oha.

Open loop: requests are due at a constant rate whatever the server does, and a latency counts from
the moment the request was due, so that a stall is charged to every request that it delayed.
"""

import json
import math
import os
import subprocess
from dataclasses import dataclass

import meter
import places


class NoResult(Exception):
    """The load generator said nothing that can be read."""


@dataclass
class Sample:
    """One phase of one cell."""

    phase: str
    rate: float | None
    """What was offered, in requests/s; none in a closed loop."""
    rps: float
    """What was answered 200."""
    answers: int
    errors: int
    p50_ms: float
    p99_ms: float
    cpu_s_per_1k: float
    """CPU seconds of the server for a thousand answers."""
    generator_cores: float = 0.0
    other_cores: float = 0.0
    """Cores that nobody of ours used: a cell is quiet if this is small."""


def on_core(core):
    return [] if core is None else ["taskset", "-c", str(core)]


def measured(server, command, environment=None):
    watch = meter.Watch(server.mark)
    environment = os.environ | (environment or {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    return done, watch.stop()


def closed(server, connections, seconds, core=None):
    """As many requests as the server answers, from so many connections."""
    header = "".join(f"{k}: {v}" for k, v in server.headers.items() if k != "Content-Type")
    environment = {"BODY": str(server.good), "CT": server.headers["Content-Type"], "HEADER": header}
    environment["LD_LIBRARY_PATH"] = str(places.WRK_LIBRARIES)
    command = [*on_core(core), str(places.WRK), "-t", "1", "-c", str(connections), "-d", f"{seconds}s"]
    command += ["--timeout", "30s", "-s", str(places.HERE / "post.lua"), server.url]
    done, watch = measured(server, command, environment)
    lines = [line[5:] for line in done.stdout.splitlines() if line.startswith("JSON ")]
    if not lines:
        raise NoResult(f"wrk: {done.stdout[-300:]}{done.stderr[-300:]}")
    said = json.loads(lines[0])
    answered = said["requests"] - said["refused"]
    return Sample(
        phase="closed",
        rate=None,
        rps=answered / (said["duration_us"] / 1e6),
        answers=answered,
        errors=said["refused"] + said["broken"],
        p50_ms=said["p50_us"] / 1e3,
        p99_ms=said["p99_us"] / 1e3,
        cpu_s_per_1k=1000 * watch.used / max(1, answered),
        generator_cores=watch.generator / watch.wall,
        other_cores=watch.other_cores,
    )


def opened(server, phase, rate, seconds, core=None):
    """So many requests a second."""
    rate = max(1, round(rate))
    connections = min(512, max(64, rate // 4))
    command = [*on_core(core), str(places.OHA), "-z", f"{seconds}s", "-w", "-q", str(rate), "-c", str(connections)]
    command += ["--latency-correction", "--no-tui", "--output-format", "json", "-m", "POST", "-t", "30s"]
    command += ["-D", str(server.good)]
    for name, value in server.headers.items():
        command += ["-H", f"{name}: {value}"]
    done, watch = measured(server, [*command, server.url])
    try:
        said = json.loads(done.stdout)
    except ValueError as error:
        raise NoResult(f"oha: {done.stdout[-300:]}{done.stderr[-300:]}") from error
    statuses, percentiles = said["statusCodeDistribution"], said["latencyPercentiles"]
    answered = statuses.get("200", 0)
    everything = sum(statuses.values()) + sum(said.get("errorDistribution", {}).values())
    return Sample(
        phase=phase,
        rate=rate,
        rps=answered / said["summary"]["total"],
        answers=answered,
        errors=everything - answered,
        p50_ms=(percentiles["p50"] or math.nan) * 1e3,
        p99_ms=(percentiles["p99"] or math.nan) * 1e3,
        cpu_s_per_1k=1000 * watch.used / max(1, answered),
        generator_cores=watch.generator / watch.wall,
        other_cores=watch.other_cores,
    )
