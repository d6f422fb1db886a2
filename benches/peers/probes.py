"""What a server does when things go wrong. Each probe takes a fresh server and returns figures.

| probe | what is done | what is counted |
|---|---|---|
| poison | five times twelve at once, one of them a broken image | the 55 good ones that failed |
| leave_early | 40 clients leave after 0.15 s | images that are computed for them later |
| leave_late | 120 clients leave after 1 s | the same |
| kill | 10/s for 20 s; after 5 s the busiest process gets SIGKILL | failures of 200; time to the next answer |
| overload | three times what it can, for 8 s | answers within 9 s, of what it can do in these 17 s |
| drain | 24 at once, then SIGTERM after 0.15 s | of 24 those answered; until the process had ended |
"""

import asyncio
import collections
import os
import signal
import subprocess
import time

import meter
from client import Client

# Validators wait so long.
IN_TIME = 9.0


def statuses(outcomes):
    """How requests ended, as text: `200 x 190, closed x 10`."""
    counts = collections.Counter(str(outcome.status) for outcome in outcomes)
    return ", ".join(f"{status} x {count}" for status, count in counts.most_common())


def poison(server, computed):
    client = Client(server)

    async def twelve():
        bodies = [client.bad if i == 5 else client.good for i in range(12)]
        return await asyncio.gather(*(client.send(body) for body in bodies))

    async def go():
        return [await twelve() for _ in range(5)]

    batches = asyncio.run(go())
    good = [outcome for batch in batches for i, outcome in enumerate(batch) if i != 5]
    return {
        "failed_of_55": sum(not outcome.ok for outcome in good),
        "good": statuses(good),
        "broken": statuses([batch[5] for batch in batches]),
    }


def leave(server, computed, clients, after):
    """The images computed when the clients left, and those computed for nobody."""
    client, before = Client(server), computed.images(server)

    async def go():
        await asyncio.gather(*(client.send(leave_after=after) for _ in range(clients)))

    asyncio.run(go())
    at_leaving = computed.images(server) - before
    total = settled(lambda: computed.images(server)) - before
    return {"computed_at_leaving": at_leaving, "computed_for_nobody": total - at_leaving, "clients": clients}


def settled(count, still=2.0, limit=40.0):
    """A count once it has not changed for so many seconds."""
    end, last, since = time.monotonic() + limit, count(), time.monotonic()
    while time.monotonic() < min(end, since + still):
        time.sleep(0.2)
        if (now := count()) != last:
            last, since = now, time.monotonic()
    return last


def leave_early(server, computed):
    return leave(server, computed, 40, 0.15)


def leave_late(server, computed):
    return leave(server, computed, 120, 1.0)


def kill(server, computed, rate=10, seconds=20, after=5.0):
    client, before = Client(server), meter.cpu_seconds(server.mark)
    asyncio.run(client.looped(8, 2))
    now = meter.cpu_seconds(server.mark)
    busiest = max(now, key=lambda pid: now[pid] - before.get(pid, 0))
    killed = []

    def strike():
        killed.append(time.monotonic() - client.start)
        os.kill(busiest, signal.SIGKILL)

    outcomes = asyncio.run(client.paced(rate, seconds, timeout=15, at=(after, strike)))
    later = [o.sent + o.seconds - killed[0] for o in outcomes if o.ok and o.sent > killed[0]]
    return {
        "failed_of_200": sum(not outcome.ok for outcome in outcomes),
        "answers_again_s": round(min(later), 2) if later else None,
        "slowest_answer_s": round(max((o.seconds for o in outcomes if o.ok), default=0), 2),
        "outcomes": statuses(outcomes),
        "is_whole_server": busiest == server.process.pid,
    }


def overload(server, computed, seconds=8):
    client = Client(server)
    can = asyncio.run(client.looped(16, 3))
    outcomes = asyncio.run(client.paced(3 * can, seconds, timeout=30))
    ok = sorted(outcome.seconds for outcome in outcomes if outcome.ok)
    in_time = sum(took <= IN_TIME for took in ok)
    refused = sorted(outcome.seconds for outcome in outcomes if not outcome.ok)
    return {
        "capacity_rps": round(can, 1),
        "in_time": in_time,
        "in_time_of_capacity": round(in_time / (can * (seconds + IN_TIME)), 2),
        "late": len(ok) - in_time,
        "outcomes": statuses(outcomes),
        "p50_s": round(ok[len(ok) // 2], 2) if ok else None,
        "refusal_p50_s": round(refused[len(refused) // 2], 3) if refused else None,
    }


def drain(server, computed):
    client = Client(server)

    async def go():
        tasks = [asyncio.create_task(client.send()) for _ in range(24)]
        await asyncio.sleep(0.15)
        server.process.send_signal(signal.SIGTERM)
        return await asyncio.gather(*tasks)

    outcomes, begun = asyncio.run(go()), time.monotonic()
    try:
        server.process.wait(20)
        ended = round(time.monotonic() - begun, 1)
    except subprocess.TimeoutExpired:
        ended = None
    return {"answered_of_24": sum(o.ok for o in outcomes), "outcomes": statuses(outcomes), "ended_after_s": ended}


ALL = {probe.__name__: probe for probe in (poison, leave_early, leave_late, kill, overload, drain)}
