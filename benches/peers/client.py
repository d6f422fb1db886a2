"""A client of plain sockets: it can leave in the middle, and says how every request ended."""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    status: int | str
    """The status; or `left`, `closed`, `timeout`, or the name of an error."""
    seconds: float
    sent: float
    """When, in seconds after the first request of the probe."""

    @property
    def ok(self):
        return self.status == 200


class Client:
    def __init__(self, server):
        self.port = server.port
        lines = [f"POST {server.peer.path} HTTP/1.1", "Host: race", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in server.headers.items()]
        self.head = "\r\n".join(lines)
        self.good, self.bad = server.good.read_bytes(), server.bad.read_bytes()
        self.start = time.monotonic()

    async def send(self, body=None, *, timeout=20, leave_after=None):
        """One request on a connection of its own."""
        begun = time.monotonic()
        try:
            status = await asyncio.wait_for(self._exchange(body or self.good, leave_after), timeout)
        except TimeoutError:
            status = "timeout"
        except OSError as error:
            status = type(error).__name__
        return Outcome(status, time.monotonic() - begun, begun - self.start)

    async def _exchange(self, body, leave_after):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"{self.head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            if leave_after is not None:
                await asyncio.sleep(leave_after)
                return "left"
            line = await reader.readline()
            if not line:
                return "closed"
            await reader.read()
            return int(line.split()[1])
        finally:
            writer.transport.abort()

    async def paced(self, rate, seconds, *, timeout, at=None):
        """Requests at a constant rate; `at` is a moment and what to do then."""
        self.start, tasks, pending = time.monotonic(), [], at
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0, self.start + number / rate - time.monotonic()))
            if pending and time.monotonic() - self.start >= pending[0]:
                pending[1]()
                pending = None
            tasks.append(asyncio.create_task(self.send(timeout=timeout)))
        return await asyncio.gather(*tasks)

    async def looped(self, clients, seconds):
        """Requests/s of so many clients that send again as soon as they have an answer."""
        end = time.monotonic() + seconds

        async def one():
            answered = 0
            while time.monotonic() < end:
                outcome = await self.send()
                answered += outcome.ok
                if not outcome.ok:
                    await asyncio.sleep(0.05)
            return answered

        return sum(await asyncio.gather(*(one() for _ in range(clients)))) / seconds
