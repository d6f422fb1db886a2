"""The rows of a race as markdown: a table for each model, and the targets.

A cell counts as quiet if nobody else used more than a quarter of a core in any of its phases. Medians
are of quiet cells; where there is none, of all, and the row is marked `*`.
"""

import csv
import math
import statistics

import peers
import targets

QUIET = 0.25
NUMBERS = "rate rps answers errors p50_ms p99_ms cpu_s_per_1k generator_cores other_cores"
NUMBERS = (NUMBERS + " rss_mb pss_mb processes cold_s").split()
FIELDS = ["when", "peer", "model", "round", "phase", *NUMBERS]
OPEN = ("open_50", "open_80", "open_ours", "open_fixed")


def read(path):
    """The rows of a CSV, with numbers as numbers."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in NUMBERS:
            row[name] = float(row[name]) if row[name] else math.nan
    return rows


def counts(row, column):
    """Latencies are of the answers only, so they say nothing where more than one in a hundred is missing."""
    return column not in ("p50_ms", "p99_ms") or row["errors"] <= 0.01 * max(row["answers"], 1)


class Results:
    """All rows of a race, asked by model, peer and phase."""

    def __init__(self, rows):
        self.rows = rows
        loud = {self._cell(row) for row in rows if row["other_cores"] > QUIET}
        self.quiet = [row for row in rows if self._cell(row) not in loud]

    @staticmethod
    def _cell(row):
        return row["peer"], row["model"], row["when"]

    def models(self):
        return list(dict.fromkeys(row["model"] for row in self.rows))

    def names(self, model):
        return list(dict.fromkeys(row["peer"] for row in self.rows if row["model"] == model))

    def pick(self, model, name, phase):
        """The rows that count, and whether they are quiet."""

        def of(rows):
            return [row for row in rows if (row["model"], row["peer"], row["phase"]) == (model, name, phase)]

        quiet = of(self.quiet)
        return (quiet, True) if quiet else (of(self.rows), False)

    def median(self, model, name, phase, column):
        rows, _ = self.pick(model, name, phase)
        values = [row[column] for row in rows if not math.isnan(row[column]) and counts(row, column)]
        return statistics.median(values) if values else math.nan

    def errors(self, model, name):
        rows = (row for row in self.rows if (row["model"], row["peer"]) == (model, name))
        return int(sum(row["errors"] for row in rows))


def number(value):
    """Three figures are all that a median of some runs is good for; more where they are integers."""
    if math.isnan(value):
        return "–"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def row_of(cells):
    return "| " + " | ".join(cells) + " |"


def model_table(results, model):
    names = results.names(model)
    opened = [phase for phase in OPEN if any(results.pick(model, name, phase)[0] for name in names)]
    head = ["server", "requests/s", *(f"{phase}: rate, p50 / p99 ms" for phase in opened)]
    head += ["CPU s per 1,000", "PSS MB", "processes", "cold start s", "errors", "runs"]
    lines = [f"### {model}", "", row_of(head), row_of(["---"] * len(head)).replace(" ", "")]
    for name in sorted(names, key=lambda name: -results.median(model, name, "closed", "rps")):
        lines.append(row_of(peer_row(results, model, name, opened)))
    return "\n".join(lines)


def peer_row(results, model, name, opened):
    def of(phase, column):
        return number(results.median(model, name, phase, column))

    def latencies(phase):
        if not results.pick(model, name, phase)[0]:
            return "–"
        return f"{of(phase, 'rate')}: {of(phase, 'p50_ms')} / {of(phase, 'p99_ms')}"

    runs, quiet = results.pick(model, name, "closed")
    cells = [name if quiet else f"{name}*", of("closed", "rps"), *map(latencies, opened)]
    cells += [of("closed", column) for column in ("cpu_s_per_1k", "pss_mb", "processes", "cold_s")]
    return [*cells, str(results.errors(model, name)), str(len(runs))]


def ceiling_table(results):
    """What one image costs without a server."""
    head = [
        "model",
        "images/s",
        "one image alone, p50 / p99 ms",
        "decode ms",
        "resize and model ms",
        "CPU ms per image",
    ]
    lines = [row_of(head), row_of(["---"] * len(head)).replace(" ", "")]
    for model in results.models():
        if not results.pick(model, peers.CEILING, "closed")[0]:
            continue

        def of(phase, column, model=model):
            return number(results.median(model, peers.CEILING, phase, column))

        bare = f"{of('bare', 'p50_ms')} / {of('bare', 'p99_ms')}"
        cells = [model, of("closed", "rps"), bare, of("decode", "p50_ms"), of("infer", "p50_ms")]
        lines.append(row_of([*cells, of("closed", "cpu_s_per_1k")]))
    return "\n".join(lines) if len(lines) > 2 else ""


def verdicts(results):
    found = []
    for model in results.models():
        ran = results.names(model)
        if "ours" in ran and model != "null2":
            others = [
                n for n in ran if n in peers.BY_NAME and peers.BY_NAME[n].kind == "peer" and not n.endswith("_raw")
            ]
            found += targets.judge(lambda *which, model=model: results.median(model, *which), model, others)
    return found


def target_table(results):
    head = ["model", "measure", "target", "ours", "reference", "ratio", "met"]
    lines = [row_of(head), row_of(["---"] * len(head)).replace(" ", "")]
    words = {True: "yes", False: "**no**", None: "not measured"}
    for verdict in verdicts(results):
        reference = f"{number(verdict.reference)} ({verdict.whose})"
        cells = [verdict.model, verdict.measure, verdict.target, number(verdict.ours), reference]
        lines.append(row_of([*cells, number(verdict.ratio), words[verdict.met]]))
    return "\n".join(lines)


def document(rows):
    """Everything, as markdown."""
    results = Results(rows)
    cells, quiet = ({Results._cell(row) for row in some} for some in (rows, results.quiet))
    say = f"{len(cells)} cells, {len(quiet)} of them quiet; `*` marks a server without a quiet one."
    parts = [say, "## Targets\n\n" + target_table(results)]
    if ceiling := ceiling_table(results):
        parts.append("## One image, without a server\n\n" + ceiling)
    parts.append("## Every server, medians")
    parts += [model_table(results, model) for model in results.models()]
    return "\n\n".join(parts) + "\n"
