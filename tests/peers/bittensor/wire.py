"""The wire without an SDK: requests signed by hand, raw sockets, replies as they came.

Needs only `bittensor_wallet` (for sr25519), which is quick to import.
"""

import hashlib
import json
import socket
import time
import uuid as uuids
from dataclasses import dataclass, field

from bittensor_wallet import Keypair

EMPTY_HASH = hashlib.sha3_256(b"").hexdigest()
BOB = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"
PATH = "/ImageSynapse"


def key(uri):
    """A throw-away development key, such as `//Alice`."""
    return Keypair.create_from_uri(uri)


ALICE = key("//Alice")


def signed(caller=ALICE, axon=BOB, *, signer=None, nonce=None, age=0.0, uuid=None, timeout="9.0", body_hash=EMPTY_HASH):
    """The headers of a good call, in the order in which the dendrite sends them.

    `age` is how many seconds ago the call was signed; negative is the future. `nonce` is the text
    of the header, for when it is not to be made from the clock.
    """
    nonce = str(time.time_ns() - int(age * 1e9)) if nonce is None else nonce
    uuid = uuid or str(uuids.uuid1())
    message = f"{nonce}.{caller.ss58_address}.{axon}.{uuid}.{body_hash}"
    signature = "0x" + (signer or caller).sign(message.encode()).hex()
    return {
        "name": "ImageSynapse",
        "timeout": timeout,
        "bt_header_axon_ip": "127.0.0.1",
        "bt_header_axon_port": "8091",
        "bt_header_axon_hotkey": axon,
        "bt_header_dendrite_ip": "192.0.2.10",
        "bt_header_dendrite_version": "9012002",
        "bt_header_dendrite_nonce": nonce,
        "bt_header_dendrite_uuid": uuid,
        "bt_header_dendrite_hotkey": caller.ss58_address,
        "bt_header_dendrite_signature": signature,
        "header_size": "464",
        "total_size": "7530",
        "computed_body_hash": body_hash,
    }


def terminal(**known):
    """A `dendrite` or `axon` object of the body, with null for whatever is not known."""
    names = "status_code status_message process_time ip port version nonce uuid hotkey signature"
    return {name: known.get(name) for name in names.split()}


def synapse(image, **more):
    """The JSON body of a call, in the order in which the dendrite sends it."""
    return json.dumps(
        {
            "name": "ImageSynapse",
            "timeout": 9.0,
            "total_size": 7530,
            "header_size": 0,
            "dendrite": terminal(ip="192.0.2.10", version=9012002),
            "axon": terminal(hotkey=BOB),
            "computed_body_hash": "",
            "testnet_label": -1,
            "image": image,
            "prediction": -1.0,
            **more,
        }
    ).encode()


def request(headers, body=b"", *, method="POST", path=PATH, version="HTTP/1.1", length=True):
    """The bytes of a request. `headers` is a dict or a list of pairs; names go out as they are."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    pairs = [("Host", "127.0.0.1"), *pairs, ("Content-Type", "application/json")]
    if length:
        pairs.append(("Content-Length", str(len(body) if length is True else length)))
    head = f"{method} {path} {version}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return head.encode("latin-1") + b"\r\n" + body


@dataclass
class Reply:
    """A reply as it came. Header names keep their case."""

    status: int
    headers: list = field(default_factory=list)
    body: bytes = b""
    took: float = 0.0
    interim: list = field(default_factory=list)

    def header(self, name):
        """The value of a header, its name compared byte for byte; None when there is none."""
        return next((value for found, value in self.headers if found == name), None)

    def json(self):
        """The body as JSON, or None."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def closes(self):
        """Whether the server says that the connection ends here."""
        return "close" in (self.header("connection") or "").lower()


class Closed(Exception):
    """The server closed the connection where a reply was due."""


class Silent(Exception):
    """Nothing came within the time given."""


class Connection:
    """A TCP connection that sends bytes as given and reads replies one by one."""

    def __init__(self, address, wait=12.0):
        host, port = address
        self.socket = socket.create_connection((host, port), timeout=wait)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wait = wait
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Sends; a server that refuses to read is no error here, its reply says why."""
        try:
            self.socket.sendall(data)
        except OSError:
            pass

    def more(self, end):
        """Waits for more bytes, until `end` on the monotonic clock."""
        self.socket.settimeout(max(0.01, end - time.monotonic()))
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            raise Silent(f"no reply within {self.wait:g} s") from None
        except OSError as error:
            raise Closed(f"closed: {error}") from None
        if not data:
            raise Closed("closed")
        self.buffer += data

    def _until(self, mark, end):
        while mark not in self.buffer:
            self.more(end)
        head, self.buffer = self.buffer.split(mark, 1)
        return head

    def _exactly(self, count, end):
        while len(self.buffer) < count:
            self.more(end)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def _chunks(self, end):
        data = b""
        while size := int(self._until(b"\r\n", end).split(b";")[0], 16):
            data += self._exactly(size, end)
            self._exactly(2, end)
        self._until(b"\r\n", end)
        return data

    def reply(self, head_only=False):
        """The next reply; interim ones (100 Continue) are kept beside it."""
        start = time.monotonic()
        end = start + self.wait
        interim = []
        while True:
            first, *lines = self._until(b"\r\n\r\n", end).decode("latin-1").split("\r\n")
            status = int(first.split(" ", 2)[1])
            if status >= 200:
                break
            interim.append(status)
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
        names = {name.lower(): value for name, value in headers}
        body = b""
        if not head_only and status not in (204, 304):
            if "chunked" in names.get("transfer-encoding", ""):
                body = self._chunks(end)
            elif "content-length" in names:
                body = self._exactly(int(names["content-length"]), end)
        return Reply(status, headers, body, time.monotonic() - start, interim)

    def ended(self, wait=3.0):
        """Whether the server closes the connection within `wait` seconds, all replies read."""
        try:
            while True:
                self.buffer = b""
                self.more(time.monotonic() + wait)
        except Closed:
            return True
        except Silent:
            return False


def exchange(address, data, wait=12.0):
    """Sends one request on a connection of its own and returns the reply."""
    with Connection(address, wait) as connection:
        connection.send(data)
        return connection.reply()


def outcome(address, data, wait=12.0):
    """The status of a request's reply, or `closed` or `silent`."""
    try:
        return exchange(address, data, wait).status
    except Closed:
        return "closed"
    except Silent:
        return "silent"


def flaws(reply, prior=0.5):
    """What is wrong with a reply to an authenticated call, as a list of words; and its answer.

    The answer is `model`, `prior` or `none`.
    """
    found = []
    for name, _ in reply.headers:
        if name.lower().startswith(("bt-", "bt_")) and (name != name.lower() or "-" in name):
            found.append(f"header name {name}")
    for name, read in (("status_code", int), ("process_time", float), ("status_message", str)):
        try:
            if not str(read(reply.header(f"bt_header_axon_{name}"))).strip():
                found.append(f"empty {name}")
        except (TypeError, ValueError):
            found.append(f"no {name}")
    if reply.header("bt_header_axon_status_code") != str(reply.status):
        found.append(f"status_code {reply.header('bt_header_axon_status_code')}")
    body = reply.json()
    if not isinstance(body, dict):
        return [*found, "the body is no JSON object"], "none"
    if reply.status != 200:
        return ([*found] if isinstance(body.get("message"), str) else [*found, "no message"]), "none"
    for name in ("dendrite", "axon"):
        if not isinstance(body.get(name, {}), dict):
            found.append(f"{name} is {body[name]!r}")
    if body.get("image", "") != "":
        found.append("image echoed")
    if not (reply.header("content-type") or "").startswith("application/json"):
        found.append("content-type")
    prediction = body.get("prediction")
    if isinstance(prediction, bool) or not isinstance(prediction, (int, float)) or not 0 <= prediction <= 1:
        return [*found, f"prediction {prediction!r}"], "none"
    return found, "prior" if prediction == prior else "model"
