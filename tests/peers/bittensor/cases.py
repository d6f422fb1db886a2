"""What the hostile cases share: how one is registered, and the target with its ways of asking."""

import base64

import wire
from wire import key, request, signed, synapse

EVE = key("//Eve")
CASES = {}
SLOW = {}

REFUSED_HEAD = [400, 431, "closed"]
MEGABYTE = 1 << 20


def case(name, want, slow=False):
    """Registers a case; slow ones mostly wait and run side by side."""
    return lambda function: (SLOW if slow else CASES).setdefault(name, (want, function))


class Target:
    """The axon, and a picture for it."""

    def __init__(self, address, picture):
        self.address = address
        self.raw = picture
        self.image = base64.b64encode(picture).decode()
        self.body = synapse(self.image)

    def ask(self, headers=None, body=None, wait=12.0, **how):
        """One request on its own connection, good unless told otherwise: how it ends."""
        data = request(signed() if headers is None else headers, self.body if body is None else body, **how)
        return wire.outcome(self.address, data, wait)

    def answer(self, body, headers=None, **how):
        """The status of a reply and, when it is 200, whether the answer is the model's or the prior."""
        reply = wire.exchange(self.address, request(headers or signed(), body, **how))
        if reply.status != 200:
            return reply.status
        found, answer = wire.flaws(reply)
        return f"200 {answer}" + "".join(f", {flaw}" for flaw in found)

    def prediction(self, body):
        """What the axon says of the picture in a body."""
        return wire.exchange(self.address, request(signed(), body)).json()["prediction"]
