"""Who runs: how each server is started, asked and understood.

Every peer does the same work (`apps/work.py`) with the settings below, as its own documentation
would have it. A name with `_tuned` is the best setting of that peer that we found for this machine:
as many workers as cores with one thread each and no batches, since on a CPU a batch gains nothing;
for the null models larger batches and no wait. `_raw` sends the JPEG itself and not base64 in JSON.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import places

JSON, JPEG, BINARY = "application/json", "image/jpeg", "application/octet-stream"
VITS, NULLS = ("vit_ti", "vit_s"), ("null0", "null2")


@dataclass(frozen=True)
class Peer:
    name: str
    command: Callable[[int, str], list[str]]
    """Port and model to the words of the command."""
    path: str
    score: Callable[[Any], float]
    """The score in a decoded reply."""
    body: str = "simple.json"
    """The request is the file `good.BODY`."""
    content_type: str = JSON
    environment: dict[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()
    """Environment variables that name ports: the first gets the port, the next the one after."""
    tuned: bool = False
    kind: str = "peer"
    models: tuple[str, ...] = VITS + NULLS

    def settings(self, model):
        """What `apps/work.py` reads."""
        if not self.tuned:
            workers, threads, batch, wait = 1, 2, 8, 5
        elif model in NULLS:
            workers, threads, batch, wait = 1, 1, 64, 0
        else:
            workers, threads, batch, wait = os.cpu_count(), 1, 1, 0
        pairs = {"MODEL": model, "DATA": places.DATA, "WORKERS": workers, "THREADS": threads}
        pairs |= {"MAX_BATCH": batch, "MAX_WAIT_MS": wait}
        settings = {f"RACE_{name}": str(value) for name, value in pairs.items()}
        if self.name.startswith("mlserver"):
            settings["MLSERVER_PARALLEL_WORKERS"] = str(workers)
            settings["MLSERVER_MODEL_MAX_BATCH_SIZE"] = str(batch)
            # Without a wait MLServer forms no batches at all.
            settings["MLSERVER_MODEL_MAX_BATCH_TIME"] = str(max(wait, 1) / 1000 if batch > 1 else 0)
        return settings


def app(name, *words):
    return lambda port, model: [places.python(name), f"{name}_app.py", *(w.format(port=port) for w in words)]


def ours(port, model):
    binary = os.environ.get("ROADCREW") or str(places.REPOSITORY / "target" / "release" / "roadcrew")
    command = [binary, "serve", "--config", str(places.OURS / f"{model}.toml"), "--set", f"http.port={port}"]
    if model in VITS:
        command += ["--set", f'onnx.library="{places.onnxruntime()}"']
    return command


def plain_score(reply):
    return reply["score"]


def v2_score(reply):
    return reply["outputs"][0]["data"][0]


OURS = Peer("ours", ours, "/v1/predict", lambda reply: reply["probability"], kind="ours")
FLOOR = Peer("floor", lambda port, model: [str(places.FLOOR)], "/predict", plain_score, kind="floor", models=NULLS)
REF = Peer("ref", lambda port, model: [places.python("ref"), "ref.py"], "/predict", plain_score)
MOSEC = Peer(
    "mosec",
    app("mosec", "--port", "{port}", "--address", "127.0.0.1", "--log-level", "warning", "--timeout", "30000"),
    "/inference",
    plain_score,
)
LITSERVE = Peer("litserve", app("litserve"), "/predict", plain_score)
BENTOML = Peer(
    "bentoml",
    lambda port, model: [
        *(places.python("bentoml"), "-m", "bentoml", "serve", "bentoml_app:Vit"),
        *("-p", str(port), "--host", "127.0.0.1"),
    ],
    "/predict",
    lambda reply: reply[0],
    body="bentoml.json",
    environment={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(places.SCRATCH / "bentoml")},
)
RAY = Peer(
    "ray",
    app("ray"),
    "/predict",
    plain_score,
    environment={
        "RACE_RAY_FOLDER": str(places.SCRATCH / "ray"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_DISABLE_DASHBOARD": "1",
    },
)
MLSERVER = Peer(
    "mlserver",
    lambda port, model: [str(places.CACHE / "envs/mlserver/bin/mlserver"), "start", str(places.APPS / "mlserver")],
    "/v2/models/vit/infer",
    v2_score,
    body="mlserver.json",
    environment={
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_DEBUG": "false",
        "MLSERVER_METRICS_DIR": str(places.SCRATCH / "mlserver"),
    },
    ports=("MLSERVER_HTTP_PORT", "MLSERVER_GRPC_PORT", "MLSERVER_METRICS_PORT"),
)
PYTRITON = Peer(
    "pytriton",
    app("pytriton"),
    "/v2/models/vit/infer",
    v2_score,
    body="triton.json",
    # The part of Triton that runs Python needs the shared library of that Python.
    environment={"PYTRITON_NO_TELEMETRY": "1", "LD_LIBRARY_PATH": places.libpython("pytriton")},
)


def tuned(peer, **environment):
    return replace(peer, name=peer.name + "_tuned", tuned=True, environment=peer.environment | environment)


def raw(peer, **changes):
    return replace(peer, name=peer.name + "_raw", **({"body": "jpg", "content_type": JPEG} | changes))


PLAIN = [REF, MOSEC, LITSERVE, BENTOML, RAY, MLSERVER, PYTRITON]
TUNED = [tuned(peer) for peer in PLAIN if peer is not LITSERVE] + [tuned(LITSERVE, RACE_RESTART="1")]
FLOORS = [FLOOR, replace(FLOOR, name="floor_eager", environment={"RACE_EAGER": "1"})]
RAW = [
    raw(OURS),
    raw(REF, path="/raw"),
    raw(MOSEC),
    raw(RAY),
    raw(PYTRITON, body="triton.bin", content_type=BINARY),
    *(raw(floor) for floor in FLOORS),
]
# Not a server: our own work in a loop, see `ceiling.py`.
CEILING = "ceiling"

BY_NAME = {peer.name: peer for peer in [OURS, *PLAIN, *TUNED, *FLOORS, *RAW]}
GROUPS = {
    "plain": [peer.name for peer in PLAIN],
    "tuned": [peer.name for peer in TUNED],
    "floors": [peer.name for peer in FLOORS],
    "raw": [peer.name for peer in RAW],
}
# What fits into a race of two hours with five rounds: every peer as documented, and the tuned
# settings of those that may win something by them.
DEFAULT = "ours,ceiling,floors,plain,ref_tuned,mosec_tuned,litserve_tuned,pytriton_tuned"


def chosen(text):
    """Names and groups, separated by commas, to names without repetition."""
    names = [name for word in text.split(",") if word for name in GROUPS.get(word, [word])]
    for name in names:
        if name not in BY_NAME and name != CEILING:
            raise SystemExit(f"no peer {name}; say one of {', '.join([*BY_NAME, CEILING, *GROUPS])}")
    return list(dict.fromkeys(names))


def runs(name, model):
    """Whether this one has something to do with that model."""
    return model in (VITS if name == CEILING else BY_NAME[name].models)
