"""Hostile bodies: JSON that is none, bombs, pictures that are none."""

import base64
import gzip
import json
import zlib

from cases import MEGABYTE, case
from wire import signed, synapse


@case("an image with escapes is the same image", True)
def _(t):
    plain = t.prediction(t.body)
    first = f"\\u{ord(t.image[0]):04x}" + t.image[1:].replace("/", "\\/")
    return t.prediction(t.body.replace(t.image.encode(), first.encode())) == plain


@case("keys with escapes", "200 model")
def _(t):
    return t.answer(t.body.replace(b'"image"', b'"\\u0069mage"'))


@case("fields in another order, spaces and unknown keys", "200 model")
def _(t):
    fields = {"z": [{"image": "no"}], **dict(reversed(json.loads(t.body).items()))}
    return t.answer(json.dumps(fields, indent=2).encode())


@case("an image inside another object is not the image", "200 prior")
def _(t):
    return t.answer(json.dumps({"axon": {"image": t.image}, "x": {"image": t.image}}).encode())


@case("base64 without padding", ["200 model", "200 prior"])
def _(t):
    return t.answer(synapse(t.image.rstrip("=")))


@case("base64 with line ends", ["200 model", "200 prior"])
def _(t):
    return t.answer(synapse("\n".join((t.image[:76], t.image[76:]))))


@case("the alphabet of URLs", ["200 model", "200 prior"])
def _(t):
    return t.answer(synapse(t.image.replace("+", "-").replace("/", "_")))


@case("a data URL", ["200 model", "200 prior"])
def _(t):
    return t.answer(synapse("data:image/jpeg;base64," + t.image))


for _name, _json in {
    "image is null": b'{"image": null}',
    "image is a list": b'{"image": ["x"]}',
    "image is an object": b'{"image": {}}',
    "image is true": b'{"image": true}',
    "a list": b'["image"]',
    "a string": b'"image"',
    "a number": b"5",
    "null": b"null",
    "an empty body": b"",
    "a cut body": b'{"image": "abc',
    "two objects": b'{"image": ""}{"image": ""}',
    "a comma too many": b'{"image": "",}',
    "a comment": b'{/* */"image": ""}',
    "single quotes": b"{'image': ''}",
    "a raw line feed in the image": b'{"image": "ab\ncd"}',
    "half a surrogate": b'{"image": "\\ud800"}',
    "a bad escape": b'{"image": "\\x41"}',
    "UTF-16": '{"image": ""}'.encode("utf-16"),
    "bytes that are not UTF-8": b'{"image": "\xff\xfe"}',
}.items():
    # Not a synapse at all is the caller's error; an image that is not one gets the prior.
    _want = ["200 prior", 400] if _name in ("half a surrogate", "bytes that are not UTF-8", "image is null") else 400
    case(f"body: {_name}", _want)(lambda t, data=_json: t.answer(data))


@case("body: nested 100,000 deep", ["200 model", 400])
def _(t):
    return t.answer(b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"," + t.body[1:])


@case("body: nested objects 100,000 deep", ["200 model", 400])
def _(t):
    return t.answer(b'{"x":' * 100_000 + b"1" + b"}" * 99_999 + b"," + t.body[1:])


@case("body: nested and cut", 400)
def _(t):
    return t.answer(b'{"x":' * 100_000)


@case("body: the fields as a list, in the order of the class", 400)
def _(t):
    return t.answer(json.dumps(list(json.loads(t.body).values())).encode())


@case("body: a million keys", ["200 model", 400])
def _(t):
    return t.answer(b"{" + b"".join(b'"k%d":0,' % n for n in range(1_000_000)) + t.body[1:])


@case("body: bytes that are not UTF-8 in another field", ["200 model", 400])
def _(t):
    return t.answer(t.body.replace(b"192.0.2.10", b"\xff\xfe"))


@case("body: a BOM before", ["200 model", 400])
def _(t):
    return t.answer(b"\xef\xbb\xbf" + t.body)


@case("body: the image twice", ["200 model", "200 prior", 400])
def _(t):
    return t.answer(b'{"image": "",' + t.body[1:])


@case("body: NaN, as Python writes it", ["200 model", 400])
def _(t):
    return t.answer(synapse(t.image, prediction=float("nan")))


@case("body: other fields of wrong types", ["200 model", 400])
def _(t):
    return t.answer(synapse(t.image, timeout="soon", dendrite=None, axon=[], prediction="high", name=7))


@case("body: gzip", [400, 415])
def _(t):
    return t.ask({**signed(), "Content-Encoding": "gzip"}, gzip.compress(t.body))


@case("body: gzip of 1 GB of blanks", [400, 413, 415])
def _(t):
    bomb = gzip.compress(b" " * (64 * MEGABYTE), 9) * 16
    return t.ask({**signed(), "Content-Encoding": "gzip"}, bomb)


@case("body: 40 MB of blanks around it", "200 prior")
def _(t):
    return t.answer(b" " * (20 * MEGABYTE) + t.body + b" " * (20 * MEGABYTE))


def bomb(width, height):
    """The head of a PNG of that size, with nothing in it."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(bytes(10 * MEGABYTE), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@case("an image of 60,000 by 60,000", "200 prior")
def _(t):
    return t.answer(synapse(base64.b64encode(bomb(60_000, 60_000)).decode()))


@case("an image of 2^31 by 2^31", "200 prior")
def _(t):
    return t.answer(synapse(base64.b64encode(bomb(0x7FFFFFFF, 0x7FFFFFFF)).decode()))
