"""One cell of the race: one server, one model, once, from its start to its end.

| phase | what |
|---|---|
| (warm-up) | closed loop, not counted |
| closed | closed loop: the server's maximum |
| open_50, open_80 | open loop at 50 % and 80 % of that maximum |
| open_ours | open loop at 80 % of *our* maximum, for everybody at the same absolute rate |
| open_fixed | null models, instead of the three: a low rate, the same for everybody |

The cold start is measured before, the memory after all phases.
"""

import time
from dataclasses import asdict, dataclass

import ceiling
import load
import meter
import peers
from server import Server


@dataclass(frozen=True)
class Plan:
    seconds: int = 5
    warm_up: int = 2
    closed_only: bool = False
    pin: bool = True
    """Null models: the server on core 0 and the load on core 1."""
    null_rate: int = 300


def is_null(model):
    return model in peers.NULLS


def connections(model):
    return 64 if is_null(model) else 32


def phases(server, model, plan, core, common_rate):
    """The samples, as they come. Between phases the server finishes what clients left behind."""
    first = load.closed(server, connections(model), plan.seconds, core)
    yield first
    if plan.closed_only:
        return
    if is_null(model):
        rates = {"open_fixed": plan.null_rate}
    else:
        rates = {"open_50": 0.5 * first.rps, "open_80": 0.8 * first.rps}
        if common_rate:
            rates["open_ours"] = common_rate
    for phase, rate in rates.items():
        meter.wait_until_idle(server.mark)
        yield load.opened(server, phase, rate, plan.seconds, core)


def run(name, model, port, plan, common_rate=None):
    """The rows of a cell, as for the CSV."""
    when = time.strftime("%H:%M:%S")
    if name == peers.CEILING:
        samples = ceiling.run(model, plan.seconds)
        return [{"when": when} | asdict(sample) for sample in samples]
    pinned = plan.pin and is_null(model)
    own, other = (0, 1) if pinned else (None, None)
    with Server(peers.BY_NAME[name], model, port, core=own) as server:
        load.closed(server, connections(model), plan.warm_up, other)
        # Most servers go on computing for the clients of the warm-up; that is not to count.
        meter.wait_until_idle(server.mark)
        samples = list(phases(server, model, plan, other, common_rate))
        memory = meter.memory(server.mark)
    facts = asdict(memory) | {"cold_s": server.cold_s, "when": when}
    return [facts | asdict(sample) for sample in samples]


def maximum(rows):
    """The throughput in a cell's rows."""
    return next(row["rps"] for row in rows if row["phase"] == "closed")
