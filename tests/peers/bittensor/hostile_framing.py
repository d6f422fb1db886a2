"""Hostile framing: lengths that lie, chunks, pipelines, other protocols, other paths, slow clients."""

import threading
import time

import wire
from cases import EVE, MEGABYTE, case
from hostile_heads import SIGNATURE
from wire import Connection, request, signed


def chunked(body, size=1000):
    """A body in chunks."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@case("a chunked body", "200 model")
def _(t):
    return t.answer(chunked(t.body), {**signed(), "Transfer-Encoding": "chunked"}, length=False)


@case("a chunk that lies about its size", 400)
def _(t):
    return t.ask({**signed(), "Transfer-Encoding": "chunked"}, b"5\r\n{}\r\n0\r\n\r\n" + b"x" * 20, length=False)


@case("a chunk of a negative size", 400)
def _(t):
    return t.ask({**signed(), "Transfer-Encoding": "chunked"}, b"-5\r\n{}\r\n0\r\n\r\n", length=False)


@case("a chunk of 2^64 bytes", [400, 413])
def _(t):
    return t.ask({**signed(), "Transfer-Encoding": "chunked"}, b"10000000000000000\r\n{}", length=False)


@case("both a length and chunks", 400)
def _(t):
    return t.ask({**signed(), "Transfer-Encoding": "chunked"}, chunked(t.body))


@case("two lengths that differ", 400)
def _(t):
    return t.ask({**signed(), "content-length": "5"})


for _length in ("-1", "+5", "abc", "99999999999999999999999", "5, 6", ""):
    case(f"Content-Length {_length or 'empty'}", [400, 413])(
        lambda t, length=_length: t.ask({**signed(), "Content-Length": length}, length=False)
    )


@case("no length at all: an empty body", [200, 400, 411])
def _(t):
    return t.ask(body=b"", length=False)


@case("a length too short: what is over is no second request", ["400, 400", "400, closed", "closed"])
def _(t):
    with Connection(t.address, wait=5) as connection:
        connection.send(request(signed(), t.body, length=len(t.body) - 10))
        seen = []
        try:
            while len(seen) < 2:
                seen.append(connection.reply().status)
        except wire.Closed:
            seen.append("closed")
        return ", ".join(map(str, seen))


@case("100-continue: interim, then the answer", "100, 200 model")
def _(t):
    with Connection(t.address) as connection:
        connection.send(request({**signed(), "Expect": "100-continue"}, length=len(t.body)))
        while not connection.buffer.endswith(b"\r\n\r\n"):
            connection.more(time.monotonic() + 3)
        connection.send(t.body)
        reply = connection.reply()
        return f"{', '.join(map(str, reply.interim))}, {reply.status} {wire.flaws(reply)[1]}"


@case("100-continue of a stranger", 403)
def _(t):
    with Connection(t.address, wait=5) as connection:
        connection.send(request({**signed(EVE), "Expect": "100-continue"}, length=27_000_000))
        return connection.reply().status


@case("Expect with nonsense", [200, 400, 417])
def _(t):
    return t.ask({**signed(), "Expect": "a miracle"})


@case("three requests in one write", "200, 401, 200")
def _(t):
    with Connection(t.address) as connection:
        good = request(signed(), t.body)
        connection.send(good + request(signed(age=60), t.body, length=True) + request(signed(), t.body))
        seen = []
        for _ in range(3):
            try:
                seen.append(connection.reply().status)
            except wire.Closed:
                # A refusal may end the connection; then the third comes on another one.
                seen.append(t.ask())
        return ", ".join(map(str, seen))


@case("HTTP/1.0", "200, closed")
def _(t):
    with Connection(t.address) as connection:
        connection.send(request(signed(), t.body, version="HTTP/1.0"))
        return f"{connection.reply().status}, {'closed' if connection.ended() else 'open'}"


@case("HTTP/1.0 without Host", [200, 400])
def _(t):
    return wire.outcome(t.address, request(signed(), t.body, version="HTTP/1.0").replace(b"Host: 127.0.0.1\r\n", b""))


for _name, _bytes in {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512),
    "zeros": bytes(4096),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET / HTTP/9.9\r\n\r\n",
    "a bare line feed in a header": b"POST /ImageSynapse HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "a header without a name": b"POST /ImageSynapse HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
}.items():
    case(f"{_name} on the port", [400, 401, 404, 408, 505, "closed"])(
        lambda t, data=_bytes: wire.outcome(t.address, data)
    )


# Who may send how much.


@case("10 GB announced by a stranger: refused before the body", 403)
def _(t):
    return t.ask(signed(EVE), b"", wait=3, length=10_000_000_000)


@case("27 MB announced by a stranger: refused before the body", 403)
def _(t):
    return t.ask(signed(EVE), b"", wait=3, length=27_000_000)


@case("27 MB announced with a bad signature: refused before the body", 401)
def _(t):
    return t.ask({**signed(), SIGNATURE: "0x" + "11" * 64}, b"", wait=3, length=27_000_000)


@case("10 GB announced by a caller: the prior before the body", "200 prior")
def _(t):
    return t.answer(b"", length=10_000_000_000)


def without_end(t, caller):
    """What becomes of who sends and sends; whoever stops reading must not be served for ever."""
    with Connection(t.address, wait=5) as connection:
        connection.send(request({**signed(caller), "Transfer-Encoding": "chunked"}, length=False))
        chunk, end = b"10000\r\n" + b" " * (1 << 16) + b"\r\n", time.monotonic() + 12
        while time.monotonic() < end:
            try:
                connection.socket.sendall(chunk)
            except OSError:
                return "cut off"
            time.sleep(0.002)
        return "still read after 12 s"


case("chunks without end by a caller", "cut off", slow=True)(lambda t: without_end(t, wire.ALICE))
case("chunks without end by a stranger", "cut off", slow=True)(lambda t: without_end(t, EVE))


@case("chunks of more than the limit by a caller", ["200 prior", "closed"])
def _(t):
    with Connection(t.address, wait=20) as connection:
        connection.send(request({**signed(), "Transfer-Encoding": "chunked"}, length=False))
        chunk = b"100000\r\n" + b" " * MEGABYTE + b"\r\n"
        for _ in range(64):
            connection.send(chunk)
        try:
            reply = connection.reply()
        except wire.Closed:
            return "closed"
        return f"{reply.status} {wire.flaws(reply)[1]}"


for _path in (
    "/metrics",
    "/healthz",
    "/readyz",
    "/v1/predict",
    "/v1/reload",
    "/docs",
    "/openapi.json",
    "/board",
    "/index.html",
    "/imagesynapse",
    "/ImageSynapse/",
    "//ImageSynapse",
    "/%49mageSynapse/..",
    "/../ImageSynapse",
    "/Synapse",
):
    case(f"{_path} is not there", [400, 404])(lambda t, path=_path: t.ask({}, b"", method="GET", path=path))

for _method in ("DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW"):
    case(f"{_method} of a synapse", [400, 405])(lambda t, method=_method: head_only(t, method))


def head_only(t, method):
    """The status alone: a reply to HEAD has no body whatever its length says."""
    with Connection(t.address) as connection:
        connection.send(request(signed(), t.body, method=method))
        return connection.reply(head_only=True).status


@case("GET / says nothing of us", True)
def _(t):
    reply = wire.exchange(t.address, request({}, method="GET", path="/"))
    words = (str(reply.headers) + reply.body.decode()).lower()
    told = [word for word in ("roadcrew", "actix", "rust", "bittensor", "axon", "version", "0.1") if word in words]
    return True if not told else f"it says {told}"


@case("a refusal does not echo what was sent", True)
def _(t):
    headers = {**signed(), SIGNATURE: "0x" + "5a" * 64}
    reply = wire.exchange(t.address, request(headers, t.body))
    words = str(reply.headers) + reply.body.decode()
    return "5a5a" not in words and headers["bt_header_dendrite_uuid"] not in words


# Slow ones.


@case("half a body, then nothing: the prior before the deadline", "200 prior in time", slow=True)
def _(t):
    return slow_body(t, "4.0", lambda connection: connection.send(t.body[: len(t.body) // 2]))


@case("no body at all: the prior before the deadline", "200 prior in time", slow=True)
def _(t):
    return slow_body(t, "3.0", lambda connection: None)


@case("a byte every 100 ms: the prior before the deadline", "200 prior in time", slow=True)
def _(t):
    def drip(connection):
        for byte in t.body[:80]:
            connection.send(bytes([byte]))
            time.sleep(0.1)

    return slow_body(t, "5.0", lambda connection: threading.Thread(target=drip, args=[connection]).start())


def slow_body(t, timeout, send):
    """What comes back for a body that does not; the connection must end with it."""
    with Connection(t.address) as connection:
        start = time.monotonic()
        connection.send(request(signed(timeout=timeout), length=len(t.body)))
        send(connection)
        reply = connection.reply()
        took = time.monotonic() - start
        late = "in time" if took < float(timeout) else f"after {took:.2f} s"
        flaw = "" if connection.ended() else ", and the connection stays open"
        return f"{reply.status} {wire.flaws(reply)[1]} {late}{flaw}"


@case("a refused caller that neither sends nor leaves", "403, closed", slow=True)
def _(t):
    with Connection(t.address) as connection:
        connection.send(request(signed(EVE), length=27_000_000))
        return f"{connection.reply().status}, {'closed' if connection.ended(20) else 'open'}"


@case("a head that begins 8 s after the connection", 200, slow=True)
def _(t):
    """As from a busy SDK 9, which connects for all its calls before it has signed and sent the first."""
    with Connection(t.address) as connection:
        time.sleep(8)
        connection.send(request(signed(), t.body))
        return connection.reply().status


@case("a head that does not end", [408, "closed"], slow=True)
def _(t):
    return wire.outcome(t.address, b"POST /ImageSynapse HTTP/1.1\r\nHost: x\r\n", wait=40)


@case("200 heads that drip do not keep others out", 200, slow=True)
def _(t):
    waiting = [Connection(t.address, wait=20) for _ in range(200)]
    try:
        for _ in range(5):
            for connection in waiting:
                connection.send(b"x")
            time.sleep(0.2)
        return t.ask()
    finally:
        for connection in waiting:
            connection.socket.close()


@case("300 connections that say nothing do not keep others out", 200, slow=True)
def _(t):
    waiting = [Connection(t.address, wait=20) for _ in range(300)]
    try:
        return t.ask()
    finally:
        for connection in waiting:
            connection.socket.close()


@case("callers that leave at once do not stop others", 200, slow=True)
def _(t):
    for _ in range(100):
        with Connection(t.address) as connection:
            connection.send(request(signed(), t.body))
    return t.ask()
