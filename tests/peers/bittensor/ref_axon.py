"""The real axon of the SDK, for comparison: decodes the picture and answers from its digest.

ref_axon.py PORT
"""

import base64
import hashlib
import io
import sys
import time

from PIL import Image

import sdk


class Wallet:
    """As much of a wallet as an axon asks for."""

    def __init__(self, keypair):
        self.hotkey = self.hotkeypub = self.coldkeypub = keypair


async def forward(synapse: sdk.ImageSynapse) -> sdk.ImageSynapse:
    """In place of a model, a number drawn from the bytes."""
    raw = base64.b64decode(synapse.image)
    Image.open(io.BytesIO(raw)).convert("RGB").load()
    synapse.prediction = int.from_bytes(hashlib.sha256(raw).digest()[:2], "big") / 65535.0
    return synapse


def main():
    """Serves until it is killed."""
    port = int(sys.argv[1])
    wallet = Wallet(sdk.Keypair.create_from_uri("//Bob"))
    axon = sdk.bt.Axon(wallet=wallet, ip="127.0.0.1", port=port, external_ip="127.0.0.1", external_port=port)
    axon.attach(forward_fn=forward)
    axon.start()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
