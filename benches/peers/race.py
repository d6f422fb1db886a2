"""The race: race.py [OPTIONS], or race.py --table CSV to print the tables of one that was run.

In each round every server gets one cell for each model, in a new order, so that a change of the
machine's mood hits all alike. Results are appended to OUT.csv as they come and OUT.md is written at
the end; running again with the same --out adds to the same table.
"""

import argparse
import csv
import pathlib
import random
import statistics
import time

import cell
import machine
import meter
import peers
import places
import table
from load import NoResult
from server import NotReady

PORTS = range(18000, 20000, 10)


def arguments():
    stem = places.CACHE / "results" / time.strftime("race-%Y-%m-%d")
    a = argparse.ArgumentParser(prog="run.sh", description="roadcrew and its peers on the same work")
    a.add_argument(
        "--peers", default=peers.DEFAULT, help=f"names and groups ({', '.join(peers.GROUPS)}); default %(default)s"
    )
    a.add_argument("--models", default="vit_ti,vit_s,null0", help="of vit_ti, vit_s, null0, null2; default %(default)s")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--seconds", type=int, default=5, help="of each phase")
    a.add_argument("--warm-up", type=int, default=2, help="seconds")
    a.add_argument("--closed-only", action="store_true", help="no open loop")
    a.add_argument("--null-rate", type=int, default=300, help="requests/s of the null models' open loop")
    a.add_argument(
        "--no-pin", dest="pin", action="store_false", help="null models: let server and load share the cores"
    )
    a.add_argument("--quiet-wait", type=int, default=30, help="seconds to wait before a cell for a quiet machine")
    a.add_argument("--minutes", type=float, help="start no cell after so many")
    a.add_argument("--seed", type=int, default=1, help="of the order")
    a.add_argument("--out", type=pathlib.Path, default=stem, help="results go to OUT.csv and OUT.md")
    a.add_argument("--table", type=pathlib.Path, metavar="CSV", help="print the tables of that race, and run nothing")
    return a.parse_args()


class Rate:
    """80 % of our maximum, by the median of what has been seen; the same for all within a round."""

    def __init__(self):
        self.seen = {}

    def learn(self, model, maximum):
        self.seen.setdefault(model, []).append(maximum)

    def common(self, model):
        return 0.8 * statistics.median(self.seen[model]) if model in self.seen else None


class Race:
    def __init__(self, options, writer):
        self.options, self.writer = options, writer
        self.plan = cell.Plan(options.seconds, options.warm_up, options.closed_only, options.pin, options.null_rate)
        self.ports, self.random, self.rate = iter(list(PORTS) * 99), random.Random(options.seed), Rate()
        self.start = time.monotonic()

    def is_over(self):
        minutes = self.options.minutes
        return minutes is not None and time.monotonic() - self.start > minutes * 60

    def run(self):
        names, models = peers.chosen(self.options.peers), self.options.models.split(",")
        for number in range(self.options.rounds):
            for model in models:
                order = [name for name in names if peers.runs(name, model)]
                self.random.shuffle(order)
                self.pilot(model, order)
                rate, seen = self.rate.common(model), []
                for name in order:
                    if self.is_over():
                        return
                    rows = self.cell(name, model, number, rate)
                    if name == "ours" and rows:
                        seen.append(cell.maximum(rows))
                for maximum in seen:
                    self.rate.learn(model, maximum)

    def pilot(self, model, order):
        """Before the first round nobody knows our maximum: a short run that is not counted."""
        if "ours" not in order or self.rate.common(model) or self.plan.closed_only or cell.is_null(model):
            return
        plan = cell.Plan(self.plan.seconds, self.plan.warm_up, closed_only=True)
        self.rate.learn(model, cell.maximum(cell.run("ours", model, next(self.ports), plan)))

    def cell(self, name, model, number, rate):
        meter.wait_until_quiet(self.options.quiet_wait)
        begun = time.monotonic()
        try:
            rows = cell.run(name, model, next(self.ports), self.plan, rate)
        except (NotReady, NoResult) as error:
            print(f"  {name:14} {model:7} FAILED: {error}", flush=True)
            return []
        for row in rows:
            row |= {"peer": name, "model": model, "round": number}
            self.writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
        print(f"  {line(rows)} ({time.monotonic() - begun:.0f} s)", flush=True)
        return rows


def line(rows):
    """A cell for whoever watches."""
    first = rows[0]
    phases = [f"{r['phase']} {r['p50_ms']:.1f}/{r['p99_ms']:.1f} ms" for r in rows[1:]]
    errors, others = sum(r["errors"] for r in rows), max(r["other_cores"] for r in rows)
    say = f"{first['peer']:14} {first['model']:7} {first['rps']:8.1f}/s {first['cpu_s_per_1k']:7.3f} CPU s/1k"
    if "cold_s" in first:
        say += f" {first['pss_mb']:5.0f} MB cold {first['cold_s']:.2f} s"
    return f"{say} errors {errors} others {others:.2f} {', '.join(phases)}"


def main():
    options = arguments()
    if options.table:
        print(table.document(table.read(options.table)))
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows, document = (options.out.with_name(options.out.name + end) for end in (".csv", ".md"))
    is_new = not rows.exists()
    with open(rows, "a", newline="", buffering=1) as file:
        writer = csv.DictWriter(file, table.FIELDS)
        if is_new:
            writer.writeheader()
        Race(options, writer).run()
    text = f"# The race, {time.strftime('%Y-%m-%d')}\n\n{machine.describe()}\n{table.document(table.read(rows))}"
    document.write_text(text)
    print(text)
    print(f"written: {document} and {rows}")


if __name__ == "__main__":
    main()
