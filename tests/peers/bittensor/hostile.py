"""What no SDK sends, over raw sockets. Any answer is fine that is in the table; a hang, a crash or a
prediction for who may not have one is not.

    hostile.py HOST:PORT SAMPLE

Each case says what must come back: a status, `closed` (the connection, without a reply), or a list
of what will do. After all of them the server must still answer a good call.
"""

import concurrent.futures
import sys

import hostile_bodies
import hostile_framing
import hostile_heads
from cases import CASES, SLOW, Target
from report import Report

__all__ = ["hostile_bodies", "hostile_framing", "hostile_heads"]


def main():
    """The command line."""
    host, port = sys.argv[1].rsplit(":", 1)
    with open(sys.argv[2], "rb") as file:
        target = Target((host, int(port)), file.read())
    report = Report("hostile")
    for name, (want, run) in CASES.items():
        report.attempt(name, want, run, target)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(report.attempt, name, want, run, target) for name, (want, run) in SLOW.items()]
        for future in waiting:
            future.result()
    report.case("a good call after all that", "200 model", target.answer(target.body))
    report.exit()


if __name__ == "__main__":
    main()
