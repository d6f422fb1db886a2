"""Hostile heads: floods, names, doubled headers, and everything that a signature covers."""

import concurrent.futures
import threading
import time

import wire
from cases import EVE, MEGABYTE, REFUSED_HEAD, case
from wire import ALICE, BOB, Connection, request, signed

HOTKEY, NONCE, SIGNATURE = "bt_header_dendrite_hotkey", "bt_header_dendrite_nonce", "bt_header_dendrite_signature"


@case("300 headers more", REFUSED_HEAD)
def _(t):
    return t.ask([*signed().items(), *((f"x-{n}", "y") for n in range(300))])


@case("10,000 headers more", REFUSED_HEAD)
def _(t):
    return t.ask([*signed().items(), *((f"x-{n}", "y") for n in range(10_000))])


@case("a header of 1 MB", REFUSED_HEAD)
def _(t):
    return t.ask({**signed(), "x": "y" * MEGABYTE})


@case("an address of 1 MB in the path", [400, 404, 414, 431, "closed"])
def _(t):
    return t.ask(path="/" + "a" * MEGABYTE)


@case("a bt header of 6 kB", [401, *REFUSED_HEAD])
def _(t):
    return t.ask({**signed(), "bt_header_dendrite_uuid": "u" * 6000})


@case("a signed uuid of 3 kB", [200, 401, *REFUSED_HEAD])
def _(t):
    return t.ask(signed(uuid="u" * 3000))


@case("hyphens for underscores", [401, 403])
def _(t):
    return t.ask({name.replace("_", "-"): value for name, value in signed().items()})


@case("a hyphenated hotkey beside the good one", 200)
def _(t):
    return t.ask({"bt-header-dendrite-hotkey": EVE.ss58_address, **signed()})


@case("a good hyphenated hotkey beside a stranger's", 403)
def _(t):
    return t.ask({"bt-header-dendrite-hotkey": ALICE.ss58_address, **signed(EVE)})


@case("header names in capitals", 200)
def _(t):
    return t.ask({name.upper(): value for name, value in signed().items()})


def doubled(name, first, second, headers):
    """Headers with one of them twice."""
    return [(name, first), (name, second), *((found, value) for found, value in headers.items() if found != name)]


@case("two hotkeys, ours first, signed by the stranger", [400, 401, 403])
def _(t):
    return t.ask(doubled(HOTKEY, ALICE.ss58_address, EVE.ss58_address, signed(EVE)))


@case("two hotkeys, ours last, signed by the stranger", [400, 401, 403])
def _(t):
    return t.ask(doubled(HOTKEY, EVE.ss58_address, ALICE.ss58_address, signed(EVE)))


@case("two hotkeys, signed by ours", [400, 401, 403])
def _(t):
    return t.ask(doubled(HOTKEY, ALICE.ss58_address, EVE.ss58_address, signed()))


@case("two nonces, the signed one first", [400, 401])
def _(t):
    headers = signed()
    return t.ask(doubled(NONCE, headers[NONCE], str(time.time_ns()), headers))


@case("two nonces, the signed one last", [400, 401])
def _(t):
    headers = signed()
    return t.ask(doubled(NONCE, str(time.time_ns()), headers[NONCE], headers))


@case("two signatures, one of them good", [400, 401])
def _(t):
    headers = signed()
    return t.ask(doubled(SIGNATURE, headers[SIGNATURE], "0x" + "00" * 64, headers))


@case("two timeouts do not widen the window", [400, 401])
def _(t):
    return t.ask(doubled("timeout", "9.0", "900", signed(age=60)))


# Signatures, nonces, times.


@case("another class's body hash, well signed", 401)
def _(t):
    return t.ask(signed(body_hash="ab" * 32))


@case("an empty body hash, well signed", 401)
def _(t):
    return t.ask(signed(body_hash=""))


def nonces(name, write):
    """A case whose nonce is written strangely, and signed as written or as the number it is."""
    for how, text in (("signed as written", None), ("signed as its number", str)):

        def run(t, text=text):
            now = time.time_ns()
            headers = signed(nonce=write(now) if text is None else text(now))
            return t.ask({**headers, NONCE: write(now)})

        case(f"nonce {name}, {how}", 401)(run)


nonces("with a sign", lambda now: f"+{now}")
nonces("with leading zeros", lambda now: f"000{now}")
nonces("with underscores", lambda now: f"{now:_}")
nonces("with a fraction", lambda now: f"{now}.0")
nonces("in hexadecimal", hex)
nonces("in seconds", lambda now: str(now // 1_000_000_000))


for _name, _nonce in {
    "negative": "-1795359862387512062",
    "zero": "0",
    "of 40 digits": "9" * 40,
    "of 2^64": str(1 << 64),
    "of 2^63": str(1 << 63),
    "empty": "",
    "of 5,000 digits": "1" * 5000,
    "nan": "nan",
    "as an exponent": "1e19",
}.items():
    case(f"nonce {_name}", [401, *(REFUSED_HEAD if len(_nonce) > 1000 else [])])(
        lambda t, nonce=_nonce: t.ask(signed(nonce=nonce))
    )

for _name, _write in {
    "without 0x": lambda good: good[2:],
    "of 63 bytes": lambda good: good[:-2],
    "of 65 bytes": lambda good: good + "00",
    "of half a byte more": lambda good: good + "0",
    "empty": lambda good: "",
    "0x alone": lambda good: "0x",
    "with a blank inside": lambda good: good[:20] + " " + good[21:],
    "not ASCII": lambda good: good[:-2] + "\xe9\xe9",
}.items():

    def _run(t, write=_write):
        headers = signed()
        return t.ask({**headers, SIGNATURE: write(headers[SIGNATURE])})

    case(f"signature {_name}", [400, 401])(_run)


@case("signature over <Bytes>, which wallets accept", [200, 401])
def _(t):
    headers = signed()
    message = f"{headers[NONCE]}.{ALICE.ss58_address}.{BOB}.{headers['bt_header_dendrite_uuid']}.{wire.EMPTY_HASH}"
    return t.ask({**headers, SIGNATURE: "0x" + ALICE.sign(f"<Bytes>{message}</Bytes>".encode()).hex()})


for _text in ("abc", "nan", "inf", "-1", "1e308", "0", "9,0", ""):
    case(f"timeout {_text or 'empty'}, an hour old", 401)(lambda t, text=_text: t.ask(signed(timeout=text, age=3600)))
    case(f"timeout {_text or 'empty'}, fresh", [200, 400, 401])(lambda t, text=_text: t.ask(signed(timeout=text)))

case("timeout 100000 does not widen the window past 16 s", 401)(lambda t: t.ask(signed(timeout="100000", age=17)))
case("no timeout, fresh", [200, 400, 401])(
    lambda t: t.ask({name: value for name, value in signed().items() if name != "timeout"})
)
case("no timeout, an hour old", 401)(
    lambda t: t.ask({name: value for name, value in signed(age=3600).items() if name != "timeout"})
)

for _name, _hotkey in {
    "of another network": "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5",
    "with a typing error": ALICE.ss58_address[:-1] + "Z",
    "as hexadecimal": "0x" + ALICE.public_key.hex(),
    "empty": "",
    "of 5,000 letters": "5" * 5000,
}.items():
    case(f"hotkey {_name}", [400, 401, 403, 431])(lambda t, hotkey=_hotkey: t.ask({**signed(), HOTKEY: hotkey}))


@case("a public key of small order, signature of zeros", [401, 403])
def _(t):
    zero = wire.Keypair(public_key="0x" + "00" * 32, ss58_format=42).ss58_address
    return t.ask({**signed(), HOTKEY: zero, SIGNATURE: "0x" + "00" * 64})


@case("one nonce sent 16 times at once: one is served", {200: 1, 401: 15})
def _(t):
    data = request(signed(), t.body)
    gate = threading.Barrier(16)

    def one(_):
        with Connection(t.address) as connection:
            connection.send(data[:-1])
            gate.wait()
            connection.send(data[-1:])
            return connection.reply().status

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(one, range(16)))
    return {status: statuses.count(status) for status in sorted(set(statuses))}
