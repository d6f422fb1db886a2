"""Many callers of the real SDK at once: all served, how fast, and whose CPU it was.

    load.py BINARY [--callers 64] [--processes 4] [--seconds 10] [--reference] [--set KEY=VALUE]...

The callers are spread over several processes, since one Python process is slower than the server.
Every picture has other bytes, so that no cache answers. `--reference` measures the SDK's own axon
after ours. Prints a Markdown table; exits 1 if ours did not answer every call with 200.
"""

import argparse
import asyncio
import base64
import collections
import ctypes
import json
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import sdk
from roadcrew import BOB, HERE, SAMPLE, Server, state_dir

TIMEOUT_S = 9.0
COLUMNS = (
    "axon",
    "calls",
    "statuses",
    "calls/s",
    "p50 / p95 / p99 / max ms",
    "inside, p50 ms",
    "client CPU ms/call",
    "server CPU ms/call",
    "client's share of CPU",
)
TICK = os.sysconf("SC_CLK_TCK")


def cpu_s(pid):
    """CPU seconds of a process so far, user and system."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


async def caller(address, picture, number, end, seen):
    """One validator, with a dendrite of its own: calls until the end."""
    probe = sdk.Probe(sdk.Keypair.create_from_uri("//Alice"))
    count = 0
    while time.monotonic() < end:
        count += 1
        # What follows the end of a JPEG changes its bytes and not the picture.
        image = base64.b64encode(picture + f"{number}.{count}.{time.time_ns()}".encode()).decode()
        start = time.perf_counter()
        synapse = sdk.ImageSynapse(image=image)
        (back,) = await probe(axons=[sdk.target(address, BOB)], synapse=synapse, deserialize=False, timeout=TIMEOUT_S)
        took = time.perf_counter() - start
        inside = back.axon.process_time if back.axon else None
        seen.append((str(back.dendrite.status_code), took * 1e3, (inside or 0.0) * 1e3, back.prediction))
    await probe.aclose_session()


def process(address, numbers, seconds, start, results):
    """Some of the callers, in a process of their own."""

    async def run():
        seen = []
        picture = SAMPLE.read_bytes()
        await asyncio.sleep(max(0.0, start - time.monotonic()))
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.gather(*[caller(address, picture, n, start + seconds, seen) for n in numbers])
        after = resource.getrusage(resource.RUSAGE_SELF)
        return seen, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    results.put(asyncio.run(run()))


def load(address, pid, options, seconds):
    """Runs all callers; what they saw, the seconds it took, and the CPU seconds of both sides."""
    results = multiprocessing.Queue()
    start = time.monotonic() + 2.0
    shares = [range(options.callers)[k :: options.processes] for k in range(options.processes)]
    arguments = [(address, share, seconds, start, results) for share in shares]
    workers = [multiprocessing.Process(target=process, args=words) for words in arguments]
    for worker in workers:
        worker.start()
    time.sleep(max(0.0, start - time.monotonic()))
    before = cpu_s(pid)
    parts = [results.get(timeout=seconds + 60) for _ in workers]
    took, server = time.monotonic() - start, cpu_s(pid) - before
    for worker in workers:
        worker.join()
    return [one for seen, _ in parts for one in seen], took, sum(cpu for _, cpu in parts), server


def percentile(values, share):
    """The value below which that share lies."""
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def show(name, seen, took, client, server):
    """One row of the table; whether all were served."""
    statuses = collections.Counter(status for status, *_ in seen)
    latency, inside = [one[1] for one in seen], [one[2] for one in seen]
    marks = " / ".join(f"{percentile(latency, share):.0f}" for share in (0.5, 0.95, 0.99)) + f" / {max(latency):.0f}"
    words = [
        name,
        len(seen),
        json.dumps(statuses).replace('"', ""),
        f"{len(seen) / took:.1f}",
        marks,
        f"{percentile(inside, 0.5):.1f}",
        f"{client / len(seen) * 1e3:.2f}",
        f"{server / len(seen) * 1e3:.2f}",
        f"{client / (client + server):.0%}",
    ]
    print("| " + " | ".join(map(str, words)) + " |", flush=True)
    answered = all(0.0 <= prediction <= 1.0 for *_, prediction in seen)
    return statuses == {"200": len(seen)} and answered


def reference():
    """The SDK's own axon, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    die = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # noqa: E731
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen([sys.executable, HERE / "ref_axon.py", str(port)], preexec_fn=die, **quiet)
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return child, ("127.0.0.1", port)
        except OSError:
            time.sleep(0.1)
    child.kill()
    raise RuntimeError("the reference axon does not listen")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    print(f"SDK {sdk.bt.__version__}, {options.callers} callers in {options.processes} processes\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    with Server(options.binary, state_dir(), "callers.max_per_minute=1000000", *options.set) as server:
        load(server.axon, server.process.pid, options, 2.0)
        fine = show("roadcrew", *load(server.axon, server.process.pid, options, options.seconds))
    if options.reference:
        child, address = reference()
        try:
            load(address, child.pid, options, 2.0)
            show("reference", *load(address, child.pid, options, options.seconds))
        finally:
            child.kill()
            child.wait()
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
