"""Does every server start, give the right answer, refuse a broken image, and end? smoke.py [NAME...]"""

import sys

import meter
import peers
from server import NotReady, Server


def check(name, model, port):
    try:
        with Server(peers.BY_NAME[name], model, port) as server:
            cost, bad = meter.memory(server.mark), server.post(server.bad, 30)[0]
        left = meter.processes(server.mark)
    except NotReady as error:
        return f"FAILED: {error}"
    return f"ready in {server.cold_s:.2f} s, {cost.pss_mb:.0f} MB in {cost.processes}, broken image {bad}, left {left}"


def main():
    names = peers.chosen(",".join(sys.argv[1:]) or "ours,floors,plain,tuned,raw")
    failed = False
    for number, name in enumerate(name for name in names if name != peers.CEILING):
        for model in peers.BY_NAME[name].models[:1]:
            said = check(name, model, 19000 + 10 * number)
            failed |= said.startswith("FAILED")
            print(f"{name:16} {model:7} {said}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
