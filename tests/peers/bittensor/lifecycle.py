"""What needs a server of its own: replay over restarts, a torn state, drain, keep-alive.

    lifecycle.py BINARY [--btauth PYTHON]

`--btauth` names the Python of the SDK 11, which signs the request that is replayed by that protocol.
"""

import argparse
import asyncio
import base64
import concurrent.futures
import subprocess
import threading
import time

import sdk
import wire
from report import Report
from roadcrew import BOB, HERE, SAMPLE, Server, state_dir
from wire import Connection, request, signed, synapse

# A stage slow enough that requests are under way when the server is told to stop.
SLOW_STAGE = (
    "stages.screen.backend=scripted",
    # Few enough calls, and quick enough, that the door expects all of them in time, even one by one.
    "stages.screen.scripted.base_ms=1000",
    "stages.screen.scripted.answer=0.9",
    # Or all calls with one image would be answered from memory.
    "axon.remember=0",
    "axon.share_in_flight=false",
)
IN_FLIGHT = 6
BODY = synapse(base64.b64encode(SAMPLE.read_bytes()).decode())


class Tee:
    """A proxy for one connection at a time that keeps, byte for byte, what the client sent."""

    def __init__(self, address):
        self.address = address
        self.seen = b""
        self.port = None

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def _serve(self, reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection(*self.address)
        await asyncio.gather(self._pump(reader, upstream_writer, True), self._pump(upstream_reader, writer, False))

    async def _pump(self, reader, writer, keep):
        try:
            while data := await reader.read(1 << 16):
                self.seen += data if keep else b""
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def captured(address):
    """The bytes of one good call of the real dendrite."""
    async with Tee(address) as tee:
        probe = sdk.Probe(sdk.Keypair.create_from_uri("//Alice"))
        axon = sdk.target(("127.0.0.1", tee.port), BOB)
        picture = base64.b64encode(SAMPLE.read_bytes()).decode()
        (end,) = await probe(axons=[axon], synapse=sdk.ImageSynapse(image=picture), deserialize=False, timeout=9.0)
        await probe.aclose_session()
        return end.dendrite.status_code, tee.seen


def replays(report, binary, btauth):
    """One signed request is served once, whatever happens to the server in between."""
    with Server(binary, state_dir()) as first:
        status, dendrite = asyncio.run(captured(first.axon))
        report.case("a call of the dendrite, through a tee", 200, status)
        raw = {"dendrite": dendrite}
        if btauth:
            words = [btauth, HERE / "btauth.py", f"127.0.0.1:{first.axon[1]}", SAMPLE, "--emit"]
            raw["btauth"] = base64.b64decode(subprocess.run(words, check=True, capture_output=True).stdout)
            report.case("a call of btauth, by hand", 200, wire.outcome(first.axon, raw["btauth"]))
        replay(report, raw, first, "to the same process")
        first.kill()
        with first.again() as second:
            replay(report, raw, second, "after SIGKILL and a restart")
            fresh(report, second, "after SIGKILL and a restart")
            second.term()
            second.process.wait(30)
            with second.again() as third:
                replay(report, raw, third, "after SIGTERM and a restart")


def replay(report, raw, server, when):
    """Sends each of the recorded requests again."""
    for name, data in raw.items():
        report.attempt(f"replay of {name} {when}", 401, wire.outcome, server.axon, data)


def fresh(report, server, when):
    """A new call is served."""
    report.attempt(f"a fresh call {when}", 200, wire.outcome, server.axon, request(signed(), BODY))


def longer(data):
    """A write that was begun and not ended."""
    return data + b"\x00\xff torn"


def halved(data):
    """A file that lost its end."""
    return data[: len(data) // 2]


def spoilt(data):
    """A bit that turned, where something was written."""
    at = next(at for at in range(64, len(data)) if data[at])
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def emptied(data):
    """Nothing at all."""
    return b""


def torn(report, binary):
    """State that a power cut left torn: the server starts, and serves nothing twice."""
    for harm in (longer, halved, spoilt, emptied):
        with Server(binary, state_dir()) as first:
            early, late = request(signed(), BODY), request(signed(), BODY)
            for data in (early, late):
                wire.outcome(first.axon, data)
            first.kill()
            files = [path for path in first.state_dir.rglob("*") if path.is_file() and path.stat().st_size]
            for path in files:
                path.write_bytes(harm(path.read_bytes()))
            with first.again() as second:
                name = f"state {harm.__name__} ({len(files)} files)"
                report.attempt(f"{name}: replay of the first", 401, wire.outcome, second.axon, early)
                report.attempt(f"{name}: replay of the last", 401, wire.outcome, second.axon, late)
                # Calls from up to 2 s ahead were let in before, so as much must pass before it is sure.
                time.sleep(2.1)
                fresh(report, second, f"after 2 s with {name}")


def in_flight(address, gate):
    """One request on a connection of its own: its status, and whether it says that it closes."""
    with Connection(address, wait=20) as connection:
        data = request(signed(), BODY)
        connection.send(data)
        gate.wait()
        try:
            reply = connection.reply()
        except wire.Closed:
            return "cut off", False
        return reply.status, reply.closes()


def drain(report, binary):
    """SIGTERM while requests are in flight: they are answered, and nobody keeps the connection."""
    with Server(binary, state_dir(), *SLOW_STAGE) as server:
        gate = threading.Barrier(IN_FLIGHT + 1)
        idle = Connection(server.axon, wait=10)
        idle.send(request(signed(), BODY))
        first = idle.reply()
        report.case("before: served, and the connection stays", (200, False), (first.status, first.closes()))
        with concurrent.futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
            running = [pool.submit(in_flight, server.axon, gate) for _ in range(IN_FLIGHT)]
            gate.wait()
            time.sleep(0.2)
            server.term()
            time.sleep(0.1)
            later = after_term(server, idle)
            ends = [future.result() for future in running]
        report.case("in flight at SIGTERM: answered", [IN_FLIGHT], sum(status == 200 for status, _ in ends))
        # The first may be out before the signal is there.
        closing = list(range(IN_FLIGHT - 2, IN_FLIGHT + 1))
        report.case("in flight at SIGTERM: Connection: close", closing, sum(closes for _, closes in ends), ends)
        kept, new = later
        report.case("after SIGTERM, on a kept connection", ["200 close", "503 close", "closed"], kept)
        report.case("after SIGTERM, on a new connection", ["200 close", "503 close", "closed", "refused"], new)
        try:
            code = server.process.wait(20)
        except subprocess.TimeoutExpired:
            code = "still running"
        report.case("exit code after the drain", 0, code)


def after_term(server, idle):
    """How a kept and a new connection fare while the server drains."""
    kept = ending(idle, request(signed(), BODY))
    try:
        with Connection(server.axon) as connection:
            new = ending(connection, request(signed(), BODY))
    except ConnectionError:
        new = "refused"
    return kept, new


def ending(connection, data):
    """The status of a call, and `close` if the reply says so."""
    connection.send(data)
    try:
        reply = connection.reply()
    except wire.Closed:
        return "closed"
    return f"{reply.status}{' close' if reply.closes() else ' keeps'}"


async def pauses(report, address, seconds):
    """A dendrite's session, used again after a pause: aiohttp never sends a POST twice."""
    probe = sdk.Probe(sdk.Keypair.create_from_uri("//Alice"))
    picture = base64.b64encode(SAMPLE.read_bytes()).decode()
    seen = []
    for pause in (0, seconds):
        await asyncio.sleep(pause)
        synapse_ = sdk.ImageSynapse(image=picture)
        (end,) = await probe(axons=[sdk.target(address, BOB)], synapse=synapse_, deserialize=False, timeout=9.0)
        seen.append(end.dendrite.status_code)
    await probe.aclose_session()
    report.case(f"a dendrite's session, idle for {seconds} s", "200, 200", ", ".join(map(str, seen)))


def kept_alive(report, address, seconds):
    """The very connection, used again after a pause."""
    with Connection(address) as connection:
        seen = []
        for pause in (0, seconds):
            time.sleep(pause)
            connection.send(request(signed(), BODY))
            try:
                seen.append(connection.reply().status)
            except wire.Closed:
                seen.append("closed")
    report.case(f"one connection, idle for {seconds} s", "200, 200", ", ".join(map(str, seen)))


async def keep_alive(report, binary):
    """All pauses at once."""
    with Server(binary, state_dir()) as server:
        waits = [pauses(report, server.axon, seconds) for seconds in (14.5, 16, 25)]
        await asyncio.gather(*waits, asyncio.to_thread(kept_alive, report, server.axon, 25))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--btauth")
    options = parser.parse_args()
    report = Report(f"lifecycle {sdk.bt.__version__}")
    replays(report, options.binary, options.btauth)
    torn(report, options.binary)
    drain(report, options.binary)
    asyncio.run(keep_alive(report, options.binary))
    report.exit()


if __name__ == "__main__":
    main()
