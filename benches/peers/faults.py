"""The fault probes for some servers: faults.py [OPTIONS], or --table JSONL for one that was run.

Each probe gets a fresh server with vit_ti. Results are appended to OUT.jsonl as they come; OUT.md is
written at the end.
"""

import argparse
import functools
import json
import pathlib
import subprocess
import time

import machine
import peers
import places
import probes
from computed import Computed
from server import NotReady, Server
from table import row_of

DEFAULT = "ours,plain,ref_tuned,mosec_tuned,litserve_tuned,bentoml_tuned,mlserver_tuned"
MODEL = "vit_ti"

# For each probe: the figure that counts, whether more is better, and what cannot be bettered.
FIGURES = {
    "poison": ("failed_of_55", False, 0),
    "leave_early": ("computed_for_nobody", False, 0),
    "leave_late": ("computed_for_nobody", False, 0),
    "kill": ("failed_of_200", False, 0),
    "overload": ("in_time_of_capacity", True, None),
    "drain": ("answered_of_24", True, 24),
}


def arguments():
    stem = places.CACHE / "results" / time.strftime("faults-%Y-%m-%d")
    a = argparse.ArgumentParser(prog="run.sh faults", description="what servers do when things go wrong")
    a.add_argument("--peers", default=DEFAULT, help="names and groups; default %(default)s")
    a.add_argument("--probes", default=",".join(probes.ALL), help="default %(default)s")
    a.add_argument("--out", type=pathlib.Path, default=stem, help="results go to OUT.jsonl and OUT.md")
    a.add_argument("--table", type=pathlib.Path, metavar="JSONL", help="print the table of that run, and run nothing")
    return a.parse_args()


@functools.cache
def extra(kind):
    """What the command needs to survive its own process: a parent that starts it again."""
    if kind != "ours":
        return ()
    said = subprocess.run([peers.OURS.command(0, MODEL)[0], "serve", "--help"], capture_output=True, text=True).stdout
    return ("--supervised",) if "--supervised" in said else ()


def run(name, probe, port):
    """One line of the results."""
    peer, facts = peers.BY_NAME[name], {"peer": name, "probe": probe}
    computed = Computed(peer)
    try:
        with Server(peer, MODEL, port, extra=extra(peer.kind), environment=computed.environment()) as server:
            return facts | probes.ALL[probe](server, computed)
    except (NotReady, OSError) as error:
        return facts | {"error": str(error)}


def read(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def compare(results, probe):
    """Ours against the best peer: `better`, `as good`, `worse`; None where one is missing."""
    figure, more, ideal = FIGURES[probe]
    found = {r["peer"]: r[figure] for r in results if r["probe"] == probe and figure in r}
    ours, others = found.get("ours"), {name: value for name, value in found.items() if name != "ours"}
    if ours is None or not others:
        return None
    name, best = (max if more else min)(others.items(), key=lambda item: item[1])
    if ours == best:
        word = "as good, nothing to better" if ours == ideal else "as good"
    else:
        word = "better" if (ours > best) == more else "**worse**"
    return ours, best, name, word


def detail(result):
    """Everything that a probe counted, for the table."""
    skip = ("peer", "probe")
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.items() if name not in skip)


def document(results):
    """The results as markdown; the latest counts where a probe was run twice."""
    results = list({(r["peer"], r["probe"]): r for r in results}.values())
    lines = [row_of(["probe", "figure", "ours", "best peer", "ours is"]), "|---|---|---|---|---|"]
    for probe, (figure, _, _) in FIGURES.items():
        if found := compare(results, probe):
            ours, best, name, word = found
            lines.append(row_of([probe, figure.replace("_", " "), str(ours), f"{best} ({name})", word]))
    parts = ["\n".join(lines)]
    for probe in FIGURES:
        rows = [r for r in results if r["probe"] == probe]
        if rows:
            body = [row_of([r["peer"], detail(r)]) for r in rows]
            parts.append("\n".join([f"### {probe}", "", row_of(["server", "counted"]), "|---|---|", *body]))
    return "\n\n".join(parts) + "\n"


def main():
    options = arguments()
    if options.table:
        print(document(read(options.table)))
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines, page = (options.out.with_name(options.out.name + end) for end in (".jsonl", ".md"))
    port = 21000
    for name in peers.chosen(options.peers):
        for probe in options.probes.split(","):
            result, port = run(name, probe, port), port + 10
            print(json.dumps(result), flush=True)
            with open(lines, "a") as file:
                file.write(json.dumps(result) + "\n")
    title = f"# Faults, {time.strftime('%Y-%m-%d')}"
    text = f"{title}\n\n{machine.describe('faults')}\n{probes.__doc__.strip()}\n\n{document(read(lines))}"
    page.write_text(text)
    print(text)
    print(f"written: {page} and {lines}")


if __name__ == "__main__":
    main()
