"""The server under test: a real binary, started, watched and stopped."""

import ctypes
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
SAMPLE = HERE.parents[2] / "samples" / "roadwork.jpg"
ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
BOB = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"
MODEL_URL = "https://models.example/roadcrew"


def _die_with_parent():
    """In the child, before exec: the kernel ends it with the thread that started it, however that ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Server:
    """`roadcrew serve` with Bob's hotkey, who lets Alice call. A context manager."""

    def __init__(self, binary, state_dir, *settings, port=0):
        self.state_dir = pathlib.Path(state_dir)
        self.log = tempfile.TemporaryFile()
        pairs = [
            "http.port=0",
            f"axon.port={port}",
            "axon.host=127.0.0.1",
            f'axon.hotkeys=["{BOB}"]',
            f'callers.allow=["{ALICE}"]',
            f"axon.state_dir={state_dir}",
            f"axon.model_url={MODEL_URL}",
            *settings,
        ]
        self.settings = settings
        self.binary = binary
        command = [binary, "serve", *(word for pair in pairs for word in ("--set", pair))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, preexec_fn=_die_with_parent
        )
        try:
            self.private = self._address(r"listening on http://([^\s/:]+):(\d+)")
            self.axon = self._address(r"axon on http://([^\s/:]+):(\d+)")
            self._wait(lambda: self.get("/readyz") == 200, "ready")
        except BaseException:
            self.kill()
            raise

    def logs(self):
        """What the server has printed and logged so far."""
        return os.pread(self.log.fileno(), 1 << 26, 0).decode(errors="replace")

    def _wait(self, check, what, limit=60.0):
        end = time.monotonic() + limit
        while not (found := check()):
            if self.process.poll() is not None or time.monotonic() > end:
                said = f"the server is not {what}; exit code {self.process.poll()}"
                raise RuntimeError(f"{said}\n{self.logs()[-3000:]}")
            time.sleep(0.05)
        return found

    def _address(self, pattern):
        host, port = self._wait(lambda: re.search(pattern, self.logs()), f"saying '{pattern}'").groups()
        return host, int(port)

    def get(self, path):
        """The status of a GET on the private port; None when nobody is there."""
        try:
            return self.text(path)[0]
        except OSError:
            return None

    def text(self, path):
        """Status and body of a GET on the private port."""
        url = f"http://{self.private[0]}:{self.private[1]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, pattern):
        """The sum of the metrics whose line begins with the pattern."""
        lines = self.text("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(pattern, line))

    def memory_mb(self, which="VmRSS"):
        """Resident memory of the server; `VmHWM` is its peak."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{which}:\s+(\d+) kB", status).group(1)) / 1024

    def alive(self):
        """Whether the process runs."""
        return self.process.poll() is None

    def term(self):
        """SIGTERM, without waiting."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        """SIGKILL, as a power cut would; returns when the process is gone."""
        self.process.kill()
        self.process.wait()

    def again(self):
        """A new process with the same settings, state and axon port."""
        return Server(self.binary, self.state_dir, *self.settings, port=self.axon[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.alive():
            self.kill()
        self.log.close()


def state_dir():
    """An empty folder for a server's state, removed with the harness."""
    base = os.environ.get("PEERS_TMP")
    return tempfile.mkdtemp(prefix="state-", dir=base)
