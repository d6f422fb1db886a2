"""One started server: from the command to the first correct answer, and to its end."""

import http.client
import json
import os
import pathlib
import signal
import subprocess
import time
import uuid

import meter
import places

PATIENCE = 120
# Decoders differ in the last bit of a pixel, and graphs in the order of their sums.
TOLERANCE = 0.003


class NotReady(Exception):
    """The server ended, answered wrongly, or took too long."""


def expected(model):
    return json.loads((places.DATA / "expected.json").read_text())[model]


class Server:
    """A context manager; `cold_s` is the time from the start to the first correct answer."""

    def __init__(self, peer, model, port, *, core=None, extra=(), environment=None):
        self.peer, self.model, self.port = peer, model, port
        self.mark = uuid.uuid4().hex
        self.good, self.bad = (self._body(tag) for tag in ("good", "bad"))
        self.headers = {"Content-Type": peer.content_type}
        if (head := self.good.with_name(self.good.name + ".head")).exists():
            self.headers["Inference-Header-Content-Length"] = head.read_text()
        self.url = f"http://127.0.0.1:{port}{peer.path}"
        scratch = places.SCRATCH
        for folder in (scratch / "home", scratch / "bentoml", scratch / "mlserver"):
            folder.mkdir(parents=True, exist_ok=True)
        self.log = scratch / f"{peer.name}.{model}.log"
        command = [*peer.command(port, model), *extra]
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        folder = places.DATA if peer.kind == "ours" else places.APPS
        self.started = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=self._environment(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_for_answer()
        except BaseException:
            self.stop()
            raise

    def _body(self, tag):
        return places.DATA / f"{tag}.{self.peer.body}"

    def _environment(self, more):
        peer, scratch = self.peer, places.SCRATCH
        program = pathlib.Path(peer.command(self.port, self.model)[0])
        ours = {
            meter.MARK: self.mark,
            "RACE_PORT": str(self.port),
            "PYTHONPATH": str(places.APPS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "HOME": str(scratch / "home"),
            "TMPDIR": str(scratch),
            # The pools of numpy and the like would only take turns with the model's threads.
            "OMP_NUM_THREADS": "1",
        }
        ours |= peer.settings(self.model) | peer.environment | more
        ours |= {name: str(self.port + i) for i, name in enumerate(peer.ports)}
        return os.environ | ours

    def _wait_for_answer(self):
        want = expected(self.model)
        while True:
            if self.process.poll() is not None:
                raise NotReady(f"{self.peer.name} ended with {self.process.returncode}, see {self.log}")
            try:
                status, reply = self.post(self.good, PATIENCE)
            except (OSError, http.client.HTTPException):
                status, reply = None, b""
            if status == 200:
                got = self.peer.score(json.loads(reply))
                if abs(got - want) > TOLERANCE:
                    raise NotReady(f"{self.peer.name} answers {got} instead of {want}")
                self.cold_s = time.monotonic() - self.started
                return
            if time.monotonic() - self.started > PATIENCE:
                raise NotReady(f"{self.peer.name} is not ready after {PATIENCE} s ({status}), see {self.log}")
            time.sleep(0.01)

    def post(self, body, timeout):
        """Sends a file on a new connection; the status and the reply."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("POST", self.peer.path, body.read_bytes(), self.headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def stop(self):
        """Ends every process of the run."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(12)
            except subprocess.TimeoutExpired:
                pass
        for each in (signal.SIGTERM, signal.SIGKILL):
            left = meter.processes(self.mark)
            for pid in left:
                try:
                    os.kill(pid, each)
                except OSError:
                    pass
            if left:
                time.sleep(1)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
