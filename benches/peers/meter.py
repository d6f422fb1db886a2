"""What processes cost, from /proc: CPU seconds, memory, and what everybody else used meanwhile.

The processes of a server are those whose environment carries the mark of its run: they are found
again whoever their parent is by now.
"""

import os
import resource
import time
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")
MARK = "RACE_RUN"


def processes(mark):
    """The ids of the living processes of a run."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if wanted in file.read():
                        found.append(int(name))
            except OSError:
                pass
    return found


def cpu_seconds(mark):
    """User and system time by process."""
    seconds = {}
    for pid in processes(mark):
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            seconds[pid] = (int(fields[11]) + int(fields[12])) / TICKS
        except OSError:
            pass
    return seconds


@dataclass
class Memory:
    rss_mb: float = 0.0
    pss_mb: float = 0.0
    """A page that n processes share counts 1/n for each."""
    processes: int = 0


def memory(mark):
    total = Memory()
    for pid in processes(mark):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                lines = dict(line.split(":", 1) for line in file if ":" in line)
        except OSError:
            continue
        total.rss_mb += int(lines["Rss"].split()[0]) / 1024
        total.pss_mb += int(lines["Pss"].split()[0]) / 1024
        total.processes += 1
    return total


def machine_seconds():
    """What all processes of the machine have computed so far."""
    with open("/proc/stat") as file:
        values = [int(value) for value in file.readline().split()[1:9]]
    idle = values[3] + values[4]
    return (sum(values) - idle) / TICKS


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Watch:
    """Measures from its making until `stop`: the run's CPU seconds, our children's, and others'."""

    def __init__(self, mark):
        self.mark = mark
        self.machine, self.before = machine_seconds(), cpu_seconds(mark)
        self.children, self.start = children_seconds(), time.monotonic()

    def stop(self):
        self.wall = time.monotonic() - self.start
        after = cpu_seconds(self.mark)
        self.used = sum(seconds - self.before.get(pid, 0) for pid, seconds in after.items())
        self.generator = children_seconds() - self.children
        others = machine_seconds() - self.machine - self.used - self.generator
        self.other_cores = max(0.0, others) / self.wall
        return self


def wait_until_quiet(limit, most=0.2):
    """Waits until the machine computes on at most this share of its cores; returns whether it came."""
    end = time.monotonic() + limit
    while True:
        before, start = machine_seconds(), time.monotonic()
        time.sleep(1)
        if (machine_seconds() - before) / (time.monotonic() - start) / os.cpu_count() <= most:
            return True
        if time.monotonic() > end:
            return False


def wait_until_idle(mark, limit=5.0):
    """Waits until a run computes no more: most servers go on for clients that have left."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = sum(cpu_seconds(mark).values())
        time.sleep(0.25)
        if sum(cpu_seconds(mark).values()) - before <= 0.03:
            return
