"""Runs every suite against one binary and prints one table; `run.sh` is the way to call it."""

import argparse
import collections
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from roadcrew import HERE, SAMPLE, Server, state_dir

LIMIT_S = 240
# What the server may have held at most, after bodies of 27 MB, bombs and floods.
MEMORY_MB = 1500


class Table:
    """The lines of all suites, as they come."""

    def __init__(self, verbose):
        self.verbose = verbose
        self.lines = []
        self.lock = threading.Lock()

    def add(self, line):
        """Takes one case."""
        with self.lock:
            self.lines.append(line)
            if self.verbose or not line["ok"]:
                print(row(line), flush=True)

    def summary(self):
        """One row a suite, then every difference; true if there is none."""
        suites = collections.defaultdict(collections.Counter)
        for line in self.lines:
            suites[line["suite"]][line["ok"]] += 1
        print(f"\n{'suite':24}{'cases':>8}{'as wanted':>12}{'different':>12}")
        for suite, count in suites.items():
            print(f"{suite:24}{count.total():8}{count[True]:12}{count[False]:12}")
        different = [line for line in self.lines if not line["ok"]]
        for line in different:
            print(f"\n{row(line)}")
            if line["detail"]:
                print(f"      {line['detail']}")
        return not different


def row(line):
    """A case on one line."""
    want = line["want"]
    text = f"{'ok  ' if line['ok'] else 'DIFF'} {line['suite']:20} {line['case']}: {brief(line['got'])}"
    return text if line["ok"] else f"{text}, wanted {brief(want)}"


def brief(value):
    """A value in a few words."""
    text = ", ".join(f"{k} {v}" for k, v in value.items() if v != "") if isinstance(value, dict) else str(value)
    return text if len(text) < 300 else text[:300] + "..."


def _own_group():
    """In the child: a session of its own, and SIGKILL from the kernel when the harness ends."""
    pr_set_pdeathsig = 1
    os.setsid()
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def suite(table, python, script, *arguments):
    """Runs one suite and adds its lines."""
    start = time.monotonic()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryFile() as errors:
        words = [python, HERE / script, *map(str, arguments)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors, "text": True}
        child = subprocess.Popen(words, env=environment, preexec_fn=_own_group, **pipes)
        timer = threading.Timer(LIMIT_S, kill_group, [child])
        timer.start()
        seen = failed = 0
        try:
            for text in child.stdout:
                try:
                    line = json.loads(text)
                    table.add(line)
                except (ValueError, KeyError, TypeError):
                    print(text, end="")
                    continue
                seen += 1
                failed += not line["ok"]
            code = child.wait()
        finally:
            timer.cancel()
            kill_group(child)
        tail = os.pread(errors.fileno(), 1 << 20, 0).decode(errors="replace")[-1500:]
    if not seen or code != (1 if failed else 0):
        table.add(a_line(script, "the suite ends by itself", "0 or 1", f"{code} after {seen} cases", tail))
    took = time.monotonic() - start
    print(f"-- {script}, SDK {pathlib.Path(python).parents[1].name}: {seen} cases in {took:.0f} s", flush=True)


def kill_group(child):
    """Ends a suite with everything that it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def a_line(suite_name, case, want, got, detail=""):
    """A case of this script's own."""
    return {"suite": suite_name, "case": case, "want": want, "got": got, "ok": got == want, "detail": detail}


def afterwards(table, server):
    """What must be true of the server after everything."""
    add = lambda *words: table.add(a_line("afterwards", *words))  # noqa: E731
    add("the server is ready", 200, server.get("/readyz"))
    add("nothing panicked", [], re.findall(r".*panicked.*", server.logs())[:3])
    peak = server.memory_mb("VmHWM")
    add(f"memory stays below {MEMORY_MB} MB", True, peak < MEMORY_MB, f"{peak:.0f} MB at most")
    server.term()
    try:
        code = server.process.wait(30)
    except subprocess.TimeoutExpired:
        code = "still running"
    add("exit code after SIGTERM", 0, code, server.logs()[-1500:] if code else "")
    print(f"-- the server held {peak:.0f} MB at most")


def serving(table, binary, work, *settings):
    """Does the work with a server; one that does not start is a difference like any other."""
    try:
        server = Server(binary, state_dir(), *settings)
    except RuntimeError as error:
        table.add(a_line("server", f"starts with {settings}", True, False, str(error)))
        return
    with server:
        work(server, f"{server.axon[0]}:{server.axon[1]}")


def suites(table, binary, envs):
    """Everything, on one server but for what needs its own."""
    python = {version: str(envs / version / "bin" / "python") for version in ("9", "10", "11")}

    def one_caller(server, axon):
        suite(table, python["9"], "modes.py", axon, SAMPLE)
        suite(table, python["10"], "modes.py", axon, SAMPLE, "--at-once", 64)
        suite(table, python["11"], "btauth.py", axon, SAMPLE)
        suite(table, python["10"], "hostile.py", axon, SAMPLE)
        afterwards(table, server)

    def anybody(_, axon):
        suite(table, python["10"], "modes.py", axon, SAMPLE, "--anybody")

    serving(table, binary, one_caller)
    serving(table, binary, anybody, 'callers.allow=["*"]')
    suite(table, python["10"], "lifecycle.py", binary, "--btauth", python["11"])


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("envs", type=pathlib.Path)
    parser.add_argument("-v", "--verbose", action="store_true", help="print every case, not the differences alone")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    table = Table(options.verbose)
    os.environ["PEERS_TMP"] = tempfile.mkdtemp(prefix="peers-")
    try:
        suites(table, options.binary, options.envs)
    finally:
        shutil.rmtree(os.environ["PEERS_TMP"], ignore_errors=True)
    sys.exit(0 if table.summary() else 1)


if __name__ == "__main__":
    main()
