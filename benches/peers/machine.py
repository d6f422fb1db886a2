"""Where and with what a race was run, for the head of its results."""

import os
import platform
import shlex
import subprocess
import sys
import time

import peers
import places


def said(*command):
    """What a command prints, or nothing where it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=places.REPOSITORY)
    except OSError:
        return ""
    return done.stdout.strip()


def field(path, name):
    with open(path) as file:
        lines = (line.partition(":") for line in file)
        return next((value.strip() for key, _, value in lines if key.strip() == name), "unknown")


def system():
    with open("/etc/os-release") as file:
        pairs = dict(line.strip().split("=", 1) for line in file if "=" in line)
    return pairs.get("PRETTY_NAME", "Linux").strip('"')


def versions():
    """Of the peers, by their pins."""
    package = {"ref": "fastapi", "ray": "ray", "pytriton": "nvidia-pytriton"}
    found = {}
    for name in peers.GROUPS["plain"]:
        pins = (places.HERE / "requirements" / f"{name}.txt").read_text().splitlines()
        wanted = package.get(name, name)
        found[wanted] = next(pin.split("==")[1] for pin in pins if pin.split("==")[0].split("[")[0] == wanted)
        found["onnxruntime"] = next(pin.split("==")[1] for pin in pins if pin.startswith("onnxruntime=="))
    return found


def describe(*words):
    """A paragraph."""
    memory = int(field("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    commit = said("git", "rev-parse", "--short", "HEAD")
    changed = " with uncommitted changes" if said("git", "status", "--porcelain", "--untracked-files=no") else ""
    ours = said(peers.OURS.command(0, "null0")[0], "--version")
    pins = ", ".join(f"{name} {version}" for name, version in versions().items())
    command = shlex.join(["benches/peers/run.sh", *words, *sys.argv[1:]])
    return (
        f"`{command}`, {time.strftime('%Y-%m-%d %H:%M')}, commit {commit}{changed}.\n\n"
        f"Machine: {os.cpu_count()} virtual cores of {field('/proc/cpuinfo', 'model name')}, {memory:.0f} GiB, "
        f"{system()}, Linux {platform.release()}; load average {os.getloadavg()[0]:.2f} at the end.\n\n"
        f"Versions: {ours}, {said('rustc', '--version').split(' (')[0]}; {pins}; "
        f"wrk 4.1.0, {said(str(places.OHA), '--version')}.\n"
    )
