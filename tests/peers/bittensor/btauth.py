"""btauth/1: the real `bittensor.http_auth` of the SDK 11 as client.

    btauth.py HOST:PORT SAMPLE [--emit]

`--emit` prints one good request as base64 instead of sending anything.
"""

import argparse
import base64
import http.client
import json
import os
import sys
import tempfile
import time

_argv, sys.argv = sys.argv, sys.argv[:1]
os.environ["HOME"] = os.environ.get("PEERS_TMP") or tempfile.mkdtemp()

import bittensor as bt  # noqa: E402
from bittensor import http_auth  # noqa: E402
from bittensor.sp_core import Keypair  # noqa: E402

from report import Report  # noqa: E402
from roadcrew import ALICE, BOB  # noqa: E402

sys.argv = _argv
PATH = "/ImageSynapse"
SERVED = "200 roadwork"
VERSION, HOTKEY, RECEIVER = http_auth.HEADER_VERSION, http_auth.HEADER_HOTKEY, http_auth.HEADER_RECEIVER
NONCE, CRYPTO, SIGNATURE = http_auth.HEADER_NONCE, http_auth.HEADER_CRYPTO, http_auth.HEADER_SIGNATURE
SECOND = 1_000_000_000


def keypair(uri):
    """A throw-away development key, such as `//Alice`."""
    return Keypair.create_from_uri(uri)


def headers(body, *, uri="//Alice", receiver=BOB, path=PATH, method="POST", age=0.0):
    """What the SDK signs for a body; `age` in seconds, negative for the future."""
    nonce = time.time_ns() - int(age * SECOND)
    signed = http_auth.sign(keypair(uri), method=method, path=path, body=body, receiver_ss58=receiver, nonce_ns=nonce)
    return {**signed, "Content-Type": "application/json"}


class Caller:
    """One axon, one picture."""

    def __init__(self, address, picture):
        self.address = address
        self.body = json.dumps({"image": base64.b64encode(picture).decode()}).encode()

    def post(self, head, body=None, path=PATH):
        """The status; for 200 also whether the answer is one."""
        connection = http.client.HTTPConnection(*self.address, timeout=12)
        try:
            connection.request("POST", path, body=self.body if body is None else body, headers=head)
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        if reply.status != 200:
            return reply.status, text.decode(errors="replace")[:300]
        answer = json.loads(text)
        prediction = answer["prediction"]
        if prediction == 0.5:
            return "200 prior"
        return SERVED if 0.5 < prediction <= 1 and not answer.get("image") else f"200 {text[:300]}"


def check(report, caller):
    """Every case. Headers are signed when their turn comes, or the old ones would be older still."""
    body = caller.body
    charlie = keypair("//Charlie").ss58_address
    twice = headers(body)
    query = PATH + "?a=1&b=%2f"
    extended = "/ExtendedImageSynapse"
    cases = (
        ("good", SERVED, lambda: twice, {}),
        ("replayed", 401, lambda: twice, {}),
        ("signature in capitals", SERVED, lambda: capitals(headers(body)), {}),
        ("header names in lower case", SERVED, lambda: {k.lower(): v for k, v in headers(body).items()}, {}),
        ("tampered body", 401, lambda: headers(body), {"body": body.replace(b"/9j/", b"/9J/", 1)}),
        ("a blank more at the end", 401, lambda: headers(body), {"body": body + b" "}),
        ("no body where one was signed", 401, lambda: headers(body), {"body": b""}),
        ("9 s old", SERVED, lambda: headers(body, age=9), {}),
        ("11 s old", 401, lambda: headers(body, age=11), {}),
        ("an hour old", 401, lambda: headers(body, age=3600), {}),
        ("1 s in the future", SERVED, lambda: headers(body, age=-1), {}),
        ("4 s in the future", 401, lambda: headers(body, age=-4), {}),
        ("for another receiver", 401, lambda: headers(body, receiver=charlie), {}),
        ("for another receiver, header changed", 401, lambda: headers(body, receiver=charlie) | {RECEIVER: BOB}, {}),
        ("for no receiver", 401, lambda: headers(body, receiver=None), {}),
        ("for no receiver, header added", 401, lambda: headers(body, receiver=None) | {RECEIVER: BOB}, {}),
        ("signed for another path", 401, lambda: headers(body, path="/Other"), {}),
        ("signed for another method", 401, lambda: headers(body, method="PUT"), {}),
        ("of a stranger", 403, lambda: headers(body, uri="//Eve"), {}),
        ("of a stranger who says to be ours", 401, lambda: headers(body, uri="//Eve") | {HOTKEY: ALICE}, {}),
        ("version 2", 401, lambda: headers(body) | {VERSION: "2"}, {}),
        ("said to be ed25519", 401, lambda: headers(body) | {CRYPTO: "ed25519"}, {}),
        ("said to be of an unknown scheme", 401, lambda: headers(body) | {CRYPTO: "rot13"}, {}),
        ("nonce not a number", 401, lambda: headers(body) | {NONCE: "abc"}, {}),
        ("no signature", 401, lambda: without(headers(body), SIGNATURE), {}),
        ("no hotkey", 401, lambda: without(headers(body), HOTKEY), {}),
        ("a path with a query, signed with it", SERVED, lambda: headers(body, path=query), {"path": query}),
        ("a query that was not signed", 401, lambda: headers(body), {"path": query}),
        ("the other synapse", SERVED, lambda: headers(body, path=extended), {"path": extended}),
        ("not JSON", 400, lambda: headers(b"{not json"), {"body": b"{not json"}),
        ("not an image", "200 prior", lambda: headers(b'{"image":"AAAA"}'), {"body": b'{"image":"AAAA"}'}),
    )
    for name, want, head, how in cases:
        report.attempt(name, want, lambda head=head, how=how: caller.post(head(), **how))


def without(head, name):
    """Headers less one."""
    return {found: value for found, value in head.items() if found != name}


def capitals(head):
    """The signature's digits in capitals."""
    return head | {SIGNATURE: "0x" + head[SIGNATURE][2:].upper()}


def emit(caller):
    """One good request as it goes over the wire."""
    host, port = caller.address
    lines = [f"POST {PATH} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(caller.body)}"]
    lines += [f"{name}: {value}" for name, value in headers(caller.body).items()]
    return base64.b64encode("\r\n".join([*lines, "", ""]).encode() + caller.body).decode()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axon")
    parser.add_argument("sample")
    parser.add_argument("--emit", action="store_true")
    options = parser.parse_args()
    host, port = options.axon.rsplit(":", 1)
    with open(options.sample, "rb") as file:
        caller = Caller((host, int(port)), file.read())
    if options.emit:
        print(emit(caller))
        return
    report = Report(f"btauth {bt.__version__}")
    check(report, caller)
    report.exit()


if __name__ == "__main__":
    main()
