"""Requests signed by the real `btauth/1` of bittensor, and what its own verifier says of them.

    python3.11 -m venv venv && venv/bin/pip install bittensor==11.3.0
    venv/bin/python tools/make_btauth_vectors.py > tests/fixtures/bittensor/btauth_11.json

Throw-away keys (//Alice calls //Bob) and a fixed time; only the signatures differ from run to run.
"""

import json

import bittensor
from bittensor import http_auth
from bittensor.sp_core import CRYPTO_ED25519, CRYPTO_SR25519, Keypair

NOW = 1_795_359_862_387_512_062
SECOND = 1_000_000_000
ALICE = Keypair.create_from_uri("//Alice", CRYPTO_SR25519)
BOB = Keypair.create_from_uri("//Bob", CRYPTO_SR25519).ss58_address
CHARLIE = Keypair.create_from_uri("//Charlie", CRYPTO_SR25519)
ED_ALICE = Keypair.create_from_uri("//Alice", CRYPTO_ED25519)
BODY = b'{"image": "/9j/4AAQSkZJRgABAQAAAQABAAD", "prediction": -1.0}'


class Wrapped:
    """Signs as wallets in browsers do."""

    ss58_address, crypto_type, public_key = ALICE.ss58_address, ALICE.crypto_type, ALICE.public_key

    def sign(self, payload):
        return ALICE.sign(b"<Bytes>" + payload + b"</Bytes>")


def case(note, signer=ALICE, receiver=BOB, nonce=NOW, header=None, **received):
    """Signs one request, changes what `received` and `header` say, and asks the real verifier."""
    sent = {"method": "POST", "path": "/ImageSynapse", "body": BODY}
    sent |= {k[5:]: v for k, v in received.items() if k.startswith("sent_")}
    headers = http_auth.sign(signer, receiver_ss58=receiver, nonce_ns=nonce, **sent)
    for name, value in (header or {}).items():
        headers.pop(name, None)
        if value is not None:
            headers[name] = value
    got = sent | {k: v for k, v in received.items() if not k.startswith("sent_")}
    try:
        http_auth.verify(
            headers, got["body"], method=got["method"], path=got["path"], self_hotkey_ss58=BOB,
            nonce_store=http_auth.InMemoryNonceStore(), now_ns=NOW,
        )
        verdict = "ok"
    except http_auth.AuthError as error:
        verdict = type(error).__name__
    return {
        "note": note, "method": got["method"], "target": got["path"], "body": got["body"].hex(),
        "headers": headers, "sdk": verdict,
    }


def cases():
    yield case("plain")
    yield case("with a query", sent_path="/ImageSynapse?a=1&b=%20c")
    yield case("no body", sent_body=b"")
    yield case("a body of any bytes", sent_body=bytes(range(256)))
    yield case("GET", sent_method="GET", sent_body=b"")
    yield case("for nobody in particular", receiver=None)
    yield case("for nobody, and a dash for a receiver", receiver=None, header={"X-Bittensor-Receiver": "-"})
    yield case("for somebody else", receiver=CHARLIE.ss58_address)
    yield case("for somebody else, and then us in the header", receiver=CHARLIE.ss58_address,
               header={"X-Bittensor-Receiver": BOB})
    yield case("ten seconds old", nonce=NOW - 10 * SECOND)
    yield case("a nanosecond older", nonce=NOW - 10 * SECOND - 1)
    yield case("two seconds ahead", nonce=NOW + 2 * SECOND)
    yield case("a nanosecond further ahead", nonce=NOW + 2 * SECOND + 1)
    yield case("another body", body=BODY.replace(b"-1.0", b"-1.1"))
    yield case("another path", path="/ExtendedImageSynapse")
    yield case("another query", sent_path="/ImageSynapse?a=1", path="/ImageSynapse?a=2")
    yield case("a query that was not sent", path="/ImageSynapse?a=1")
    yield case("another method", method="PUT")
    yield case("another nonce", header={"X-Bittensor-Nonce": str(NOW + 1)})
    yield case("another caller", header={"X-Bittensor-Hotkey": CHARLIE.ss58_address})
    yield case("signed between Bytes", signer=Wrapped())
    yield case("ed25519", signer=ED_ALICE)
    yield case("ed25519, not said", signer=ED_ALICE, header={"X-Bittensor-Crypto": None})
    yield case("sr25519, said to be ed25519", header={"X-Bittensor-Crypto": "ed25519"})
    yield case("sr25519, said", header={"X-Bittensor-Crypto": "sr25519"})
    yield case("sr25519, said loudly", header={"X-Bittensor-Crypto": "SR25519"})
    yield case("sr25519, by number", header={"X-Bittensor-Crypto": "1"})
    yield case("a scheme that nobody knows", header={"X-Bittensor-Crypto": "ecdsa"})
    yield case("another version", header={"X-Bittensor-Version": "2"})
    for name in ("Version", "Hotkey", "Nonce", "Signature", "Receiver"):
        yield case(f"without {name}", header={f"X-Bittensor-{name}": None})
    yield case("a nonce in words", header={"X-Bittensor-Nonce": "now"})
    yield case("a negative nonce", header={"X-Bittensor-Nonce": str(-NOW)})
    yield case("a hotkey with a typing error", header={"X-Bittensor-Hotkey": BOB[:-1] + "z"})
    signature = ALICE.sign(http_auth.build_payload(
        scheme="sr25519", method="POST", path="/ImageSynapse", body=BODY, nonce_ns=NOW,
        sender_ss58=ALICE.ss58_address, receiver_ss58=BOB)).hex()
    yield case("a signature without 0x", header={"X-Bittensor-Signature": signature})
    yield case("a short signature", header={"X-Bittensor-Signature": "0x" + signature[:-2]})
    yield case("no hexadecimal", header={"X-Bittensor-Signature": "0x" + "zz" * 64})
    yield case("a signature of ones", header={"X-Bittensor-Signature": "0x" + "11" * 64})


print(json.dumps(
    {"bittensor": bittensor.__version__, "now": NOW, "own": BOB, "vectors": list(cases())}, indent=1))
