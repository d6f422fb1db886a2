"""What is asked of ours, as ratios within one race. Pure: medians in, verdicts out."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    model: str
    measure: str
    target: str
    ours: float
    """In the unit of the measure."""
    reference: float
    whose: str
    limit: float
    at_least: bool

    @property
    def ratio(self):
        return self.ours / self.reference if self.reference else math.nan

    @property
    def met(self):
        """None where something was not measured."""
        if math.isnan(self.ratio):
            return None
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit


def judge(medians, model, names):
    """`medians(name, phase, column)` is a number, NaN where there is none; `names` says who ran."""
    return list(_null(medians, names) if model == "null0" else _vit(medians, model, names))


def _best(medians, names, phase, column, most):
    """The best of the peers: a name and its figure."""
    figures = {name: medians(name, phase, column) for name in names}
    figures = {name: figure for name, figure in figures.items() if not math.isnan(figure)}
    if not figures:
        return "no peer", math.nan
    return (max if most else min)(figures.items(), key=lambda item: item[1])


def _vit(medians, model, names):
    def at_least(measure, limit, ours, whose, reference):
        return Verdict(model, measure, f"≥ {limit}", ours, reference, whose, limit, True)

    def at_most(measure, limit, ours, whose, reference):
        return Verdict(model, measure, f"≤ {limit}", ours, reference, whose, limit, False)

    rps = medians("ours", "closed", "rps")
    yield at_least("requests/s, of the ceiling", 0.95, rps, "ceiling", medians("ceiling", "closed", "rps"))
    yield at_least("requests/s, of the best peer", 1.1, rps, *_best(medians, names, "closed", "rps", True))
    p99 = medians("ours", "open_ours", "p99_ms")
    best = _best(medians, names, "open_ours", "p99_ms", False)
    yield at_most("p99 in ms at 80 % of our maximum", 0.7, p99, *best)
    p50, bare = medians("ours", "open_50", "p50_ms"), medians("ceiling", "bare", "p50_ms")
    yield at_most("p50 in ms at 50 % load, of one image alone", 1.15, p50, "ceiling", bare)
    yield from _light(medians, model, names)
    if model == "vit_ti":
        yield Verdict(
            model, "cold start in s", "< 1 s", medians("ours", "closed", "cold_s"), 1.0, "one second", 1, False
        )


def _light(medians, model, names):
    """Below every peer."""
    for measure, column in (("memory (PSS) in MB", "pss_mb"), ("cold start in s", "cold_s")):
        best, figure = _best(medians, names, "closed", column, False)
        yield Verdict(model, measure, "< 1", medians("ours", "closed", column), figure, best, 1, False)


def _null(medians, names):
    model, rps = "null0", medians("ours", "closed", "rps")
    cpu = medians("ours", "closed", "cpu_s_per_1k")
    for floor in ("floor_eager", "floor"):
        reference = medians(floor, "closed", "rps")
        yield Verdict(model, "requests/s, of the floor", "≥ 0.8", rps, reference, floor, 0.8, True)
        reference = medians(floor, "closed", "cpu_s_per_1k")
        yield Verdict(model, "CPU s per 1,000, of the floor", "≤ 1.25", cpu, reference, floor, 1.25, False)
    best, figure = _best(medians, names, "closed", "rps", True)
    yield Verdict(model, "requests/s, of the best peer", "≥ 1.2", rps, figure, best, 1.2, True)
    best, figure = _best(medians, names, "closed", "cpu_s_per_1k", False)
    yield Verdict(model, "CPU s per 1,000", "< 1", cpu, figure, best, 1, False)
