"""Every way in which the real dendrite, or somebody who holds its signature, calls the axon.

    modes.py HOST:PORT SAMPLE [--only MODE,MODE] [--at-once N] [--anybody]

What each mode must see is in `strict.json`: the HTTP status; whether the prediction is the
`model`'s, the `prior` or `none`; or how many of many at once got which status. `anybody` is what is
seen where the axon lets everybody call who signs, if that differs; `--anybody` runs those modes.
"""

import argparse
import asyncio
import base64
import collections
import io
import json
import math
import pathlib
import time

import aiohttp
from PIL import Image

import sdk
import wire
from report import Report
from roadcrew import BOB, MODEL_URL
from sdk import ExplainedImageSynapse, ExtendedImageSynapse, ImageSynapse, NoSuchSynapse, Probe, RequiredImageSynapse

EXPECTED = pathlib.Path(__file__).with_name("strict.json")
TIMEOUT = 9.0
MODES = {}


def mode(name):
    """Registers a mode; they run in the order of this file."""
    return lambda function: MODES.setdefault(name, function)


def text(raw):
    """Bytes as the base64 text of the wire."""
    return base64.b64encode(raw).decode()


def picture(width=224, height=224, seed=0, form="JPEG", colours="RGB"):
    """A gradient, different for every seed."""
    image = Image.new("RGB", (width, height))
    places = ((x, y) for y in range(height) for x in range(width))
    image.putdata([(x * 255 // width, y * 255 // height, (x ^ y ^ seed) & 255) for x, y in places])
    out = io.BytesIO()
    image.convert(colours).save(out, format=form)
    return out.getvalue()


def big():
    """A JPEG of a little over 20 MB."""
    out = io.BytesIO()
    Image.effect_noise((3900, 3100), 120).convert("RGB").save(out, format="JPEG", quality=100, subsampling=0)
    return out.getvalue()


class Harness:
    """One caller, one axon."""

    def __init__(self, address, sample, at_once):
        self.alice = sdk.Keypair.create_from_uri("//Alice")
        self.axon = sdk.target(address, BOB)
        self.sample = sample.read_bytes()
        self.plain = picture()
        self.at_once = at_once

    def call(self, image=None, kind=ImageSynapse, **fields):
        """A synapse with the plain picture, or what is given instead."""
        return kind(image=text(self.plain) if image is None else image, **fields)

    async def ask(self, synapse=None, *, axon=None, probe=None, keypair=None, timeout=TIMEOUT, **tamper):
        """Calls by the real dendrite and judges what it made of the reply."""
        own = probe is None
        probe = probe or Probe(keypair or self.alice, **tamper)
        synapse = self.call() if synapse is None else synapse
        try:
            (end,) = await probe(axons=[axon or self.axon], synapse=synapse, deserialize=False, timeout=timeout)
        finally:
            if own:
                await probe.aclose_session()
        return seen_by_dendrite(end, probe.reply_to(end))

    async def post(self, mutate=None, *, method="POST", path="/ImageSynapse", data=None, kind="application/json"):
        """A request made by hand from a synapse that the real dendrite signed."""
        probe = Probe(self.alice)
        synapse = probe.preprocess_synapse_for_request(self.axon, self.call(), TIMEOUT)
        headers = dict(synapse.to_headers())
        body = json.dumps(synapse.model_dump()).encode() if data is None else data
        if mutate:
            headers, body = mutate(headers, body)
        url = f"http://{self.axon.ip}:{self.axon.port}{path}"
        headers = {**headers, "Content-Type": kind}
        limit = aiohttp.ClientTimeout(total=TIMEOUT)
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.request(method, url, headers=headers, data=body) as reply,
        ):
            pairs = [(name.decode(), value.decode()) for name, value in reply.raw_headers]
            return seen_on_wire(wire.Reply(reply.status, pairs, await reply.read()))

    async def many(self, ask, count):
        """Counts what `count` calls at once end as; a prior or a flaw counts apart."""
        seen = await asyncio.gather(*[ask(number) for number in range(count)])
        words = [[one["http"], *([] if one["answer"] == "model" else [one["answer"]]), *one["flaws"]] for one in seen]
        return {"statuses": dict(collections.Counter(" ".join(map(str, word)) for word in words))}


def seen_on_wire(reply):
    """What a mode saw that reads the reply itself."""
    found, answer = wire.flaws(reply) if reply.status == 200 and reply.json() is not None else ([], "none")
    return {"http": reply.status, "answer": answer, "flaws": found}


def seen_by_dendrite(synapse, raw):
    """What the dendrite's object holds in the end, and what is wrong with the reply it came from."""
    if raw is None:
        status = synapse.dendrite and (synapse.dendrite.status_code, synapse.dendrite.status_message)
        return {"http": None, "answer": "none", "flaws": [f"no reply: {status}"]}
    status, headers, body = raw
    found, answer = wire.flaws(wire.Reply(status, headers, json.dumps(body).encode()))
    prediction = getattr(synapse, "prediction", -1.0)
    if answer == "none" and prediction != -1.0:
        found.append(f"prediction {prediction} of a reply without one")
    if answer != "none" and not (math.isfinite(prediction) and prediction == body["prediction"]):
        found.append(f"the dendrite holds {prediction}, the body {body['prediction']}")
    sender, miner = synapse.dendrite, synapse.axon
    if sender is None or str(sender.status_code) != str(status) or not sender.status_message:
        found.append(f"dendrite status {sender and (sender.status_code, sender.status_message)}")
    if sender is None or not float(sender.process_time or 0) > 0:
        found.append("no dendrite process_time")
    if miner is None or not isinstance(miner.process_time, float) or miner.process_time < 0:
        found.append(f"axon process_time {miner and miner.process_time!r}")
    return {"http": status, "answer": answer, "flaws": found, "synapse": synapse}


@mode("good")
async def _(h):
    seen = await h.ask()
    if extra := {"explanation", "model_url"} & vars(seen["synapse"]).keys():
        seen["flaws"].append(f"the plain class has {extra}")
    return seen


@mode("bad-signature")
async def _(h):
    return await h.ask(signature="0x" + "11" * 64)


@mode("malformed-signature")
async def _(h):
    return await h.ask(signature="0xzz")


@mode("other-key-signature")
async def _(h):
    eve = Probe(sdk.Keypair.create_from_uri("//Eve"), claim=h.alice.ss58_address)
    seen = await h.ask(probe=eve)
    await eve.aclose_session()
    return seen


@mode("other-hotkey-claimed")
async def _(h):
    """Signed by ours, in the name of somebody who may not call anyway."""
    return await h.ask(claim=sdk.Keypair.create_from_uri("//Charlie").ss58_address)


@mode("unsigned")
async def _(h):
    return await h.ask(signature=None)


@mode("replayed-nonce")
async def _(h):
    probe = Probe(h.alice, nonce=time.time_ns())
    first, second = await h.ask(probe=probe), await h.ask(probe=probe)
    await probe.aclose_session()
    if first["http"] != 200:
        second["flaws"].append(f"the first call got {first['http']}")
    return second


@mode("out-of-order-nonce")
async def _(h):
    now = time.time_ns()
    probe = Probe(h.alice, nonce=now)
    await h.ask(probe=probe)
    probe.tamper["nonce"] = now - 1_000_000
    seen = await h.ask(probe=probe)
    await probe.aclose_session()
    return seen


def aged(name, seconds, **tamper):
    """A mode whose nonce is `seconds` old."""

    async def run(h):
        return await h.ask(nonce=time.time_ns() - int(seconds * 1e9), **tamper)

    mode(name)(run)


aged("stale-nonce", 60)
aged("stale-nonce-12s", 12)
aged("stale-nonce-14s", 14)
aged("stale-old-version", 3600, version=7_001_000)
aged("future-nonce", -3600)
aged("future-nonce-3s", -3)
aged("future-nonce-1s", -1)


@mode("wrong-hotkey")
async def _(h):
    other = sdk.target((h.axon.ip, h.axon.port), sdk.Keypair.create_from_uri("//Charlie").ss58_address)
    return await h.ask(axon=other)


@mode("stranger")
async def _(h):
    return await h.ask(keypair=sdk.Keypair.create_from_uri("//Eve"))


@mode("stranger-bad-signature")
async def _(h):
    return await h.ask(keypair=sdk.Keypair.create_from_uri("//Eve"), signature="0x" + "11" * 64)


@mode("not-base64")
async def _(h):
    return await h.ask(h.call("@@@ this is not base64 @@@"))


@mode("empty-image")
async def _(h):
    return await h.ask(h.call(""))


@mode("not-an-image")
async def _(h):
    return await h.ask(h.call(text(b"hello world, not a picture " * 40)))


@mode("truncated-jpeg")
async def _(h):
    return await h.ask(h.call(text(h.plain[: len(h.plain) // 2])))


def shown(name, **how):
    """A mode that sends another kind of picture."""

    async def run(h):
        return await h.ask(h.call(text(picture(**how))))

    mode(name)(run)


shown("png", form="PNG", colours="RGBA")
shown("webp", form="WEBP")
shown("grey-jpeg", colours="L")
shown("cmyk-jpeg", colours="CMYK")
shown("one-pixel", width=1, height=1)
shown("full-hd", width=1920, height=1080)


@mode("20MB-image")
async def _(h):
    raw = big()
    seen = await h.ask(h.call(text(raw)))
    if len(raw) < 20_000_000:
        seen["flaws"].append(f"only {len(raw)} bytes")
    return seen


@mode("body-over-the-limit")
async def _(h):
    """A dendrite sends a body to its end before it looks at the reply."""
    return await h.ask(h.call(text(big()) * 2))


@mode("stranger-20MB")
async def _(h):
    return await h.ask(h.call(text(big())), keypair=sdk.Keypair.create_from_uri("//Eve"))


@mode("sample")
async def _(h):
    seen = await h.ask(h.call(text(h.sample)))
    if seen["http"] == 200 and not seen["synapse"].prediction > 0.5:
        seen["flaws"].append(f"roadwork at {seen['synapse'].prediction}")
    return seen


@mode("extended-synapse")
async def _(h):
    seen = await h.ask(h.call(kind=ExtendedImageSynapse))
    if seen["http"] == 200 and seen["synapse"].model_url != MODEL_URL:
        seen["flaws"].append(f"model_url {seen['synapse'].model_url!r}")
    return seen


@mode("explained-synapse")
async def _(h):
    seen = await h.ask(h.call(text(h.sample), kind=ExplainedImageSynapse))
    if seen["http"] == 200:
        end = seen["synapse"]
        if end.model_url != MODEL_URL or not end.explanation.strip():
            seen["flaws"].append(f"model_url {end.model_url!r}, explanation {end.explanation!r}")
    return seen


@mode("required-field")
async def _(h):
    return await h.ask(h.call(kind=RequiredImageSynapse))


@mode("wrong-path")
async def _(h):
    return await h.ask(h.call(kind=NoSuchSynapse))


@mode("ping")
async def _(h):
    return await h.ask(sdk.Synapse())


@mode("body-tampered")
async def _(h):
    other = text(picture(64, 64, seed=9))
    return await h.post(lambda head, body: (head, json.dumps({**json.loads(body), "image": other}).encode()))


def without(*names):
    """Headers less some."""
    return lambda head, body: ({name: value for name, value in head.items() if name not in names}, body)


def changed(**values):
    """Headers with other values."""
    return lambda head, body: ({**head, **values}, body)


def posted(name, *arguments, **how):
    """A mode that posts by hand."""

    async def run(h):
        return await h.post(*arguments, **how)

    mode(name)(run)


posted("hash-header-changed", changed(computed_body_hash="00" * 32))
posted("hash-header-missing", without("computed_body_hash"))
posted("no-bt-headers", lambda head, body: ({}, body))
posted("no-nonce", without("bt_header_dendrite_nonce"))
posted("bad-nonce", changed(bt_header_dendrite_nonce="abc"))
posted("body-not-json", data=b"{not json")
posted("body-empty-object", data=b"{}")
posted("image-wrong-type", lambda head, body: (head, json.dumps({**json.loads(body), "image": 5}).encode()))
posted("no-json-content-type", kind="text/plain")
posted("get-method", method="GET")
posted("put-method", method="PUT")
posted("subpath", path="/ImageSynapse/x")
posted("root-get", lambda head, body: ({}, b""), method="GET", path="/")


@mode("challenge")
async def _(h):
    """As a validator does it: one call of the dendrite, ten UIDs, one picture."""
    probe = Probe(h.alice)
    ends = await probe(axons=[h.axon] * 10, synapse=h.call(text(h.sample)), deserialize=False, timeout=TIMEOUT)
    await probe.aclose_session()
    return {"statuses": dict(collections.Counter(f"{end.dendrite.status_code} {end.prediction > 0.5}" for end in ends))}


@mode("concurrent")
async def _(h):
    """Many at once over one dendrite, so one uuid: nonces arrive in any order."""
    probe = Probe(h.alice)
    pictures = [text(picture(96, 96, seed=number + 1)) for number in range(h.at_once)]
    seen = await h.many(lambda number: h.ask(h.call(pictures[number]), probe=probe), h.at_once)
    await probe.aclose_session()
    return seen


@mode("concurrent-uuids")
async def _(h):
    """Many at once, each from a dendrite of its own."""
    return await h.many(lambda number: h.ask(), h.at_once)


async def run(h, names, expected, report):
    """Runs the modes and reports each against what is expected."""
    for name in names:
        want = {what: value for what, value in expected[name].items() if what != "anybody"}
        if "statuses" in want:
            all_of = {"all": h.at_once}
            want["statuses"] = {status: all_of.get(count, count) for status, count in want["statuses"].items()}
        try:
            seen = await MODES[name](h)
        except Exception as error:  # a mode that breaks the client is a finding like any other
            seen = {"http": None, "flaws": [f"{type(error).__name__}: {error}"]}
        found = "; ".join(seen.get("flaws", []))
        if found:
            want["flaws"], seen["flaws"] = "", found
        report.case(name, want, {what: seen.get(what) for what in want})


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axon")
    parser.add_argument("sample", type=pathlib.Path)
    parser.add_argument("--only")
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--anybody", action="store_true")
    options = parser.parse_args()
    host, port = options.axon.rsplit(":", 1)
    harness = Harness((host, int(port)), options.sample, options.at_once)
    expected = json.loads(EXPECTED.read_text())
    report = Report(f"dendrite {sdk.bt.__version__}")
    if missing := expected.keys() ^ MODES.keys():
        report.case("modes and expectations", "the same", f"only one knows {sorted(missing)}")
    names = options.only.split(",") if options.only else list(MODES)
    if options.anybody:
        names = [name for name in names if "anybody" in expected[name]]
        expected = {name: expected[name]["anybody"] for name in names}
    asyncio.run(run(harness, names, expected, report))
    report.exit()


if __name__ == "__main__":
    main()
