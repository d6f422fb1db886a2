"""The real SDK as a client, and the synapse classes of validators, past, present and wished for.

Nothing here touches the chain or the internet. Importing `bittensor` reads `sys.argv` and writes
under `HOME`; both are kept from it.
"""

import os
import sys
import tempfile

_argv, sys.argv = sys.argv, sys.argv[:1]
os.environ["HOME"] = os.environ.get("PEERS_TMP") or tempfile.mkdtemp()

import bittensor as bt  # noqa: E402
import pydantic  # noqa: E402
from bittensor.core.chain_data import AxonInfo  # noqa: E402
from bittensor.core.synapse import Synapse  # noqa: E402
from bittensor.utils import networking  # noqa: E402
from bittensor_wallet import Keypair  # noqa: E402

networking.get_external_ip = lambda: "192.0.2.10"  # TEST-NET-1, never dialled
sys.argv = _argv

__all__ = ["AxonInfo", "Keypair", "Synapse", "bt", "pydantic", "Probe", "target"]


class ImageSynapse(Synapse):
    """Field names, order, types and defaults of the subnet's wire contract."""

    testnet_label: int = -1
    image: str = pydantic.Field(default="")
    prediction: float = pydantic.Field(default=-1.0)

    def deserialize(self) -> float:
        """As the subnet's class does."""
        return self.prediction


class ExtendedImageSynapse(ImageSynapse):
    """What validators sent until November 2025."""

    model_url: str = pydantic.Field(default="")


class NoSuchSynapse(ImageSynapse):
    """A class that no miner serves."""


def _named_image_synapse(**fields):
    """The class name is the path, so a richer ImageSynapse must be called ImageSynapse too."""
    return pydantic.create_model("ImageSynapse", __base__=ImageSynapse, **fields)


ExplainedImageSynapse = _named_image_synapse(explanation=(str, ""), model_url=(str, ""))
# A field without a default makes the dendrite send a `bt_header_input_obj_image` header.
RequiredImageSynapse = _named_image_synapse(image=(str, ...))


class Probe(bt.Dendrite):
    """The real dendrite. It can tamper with what it signs, and keeps the raw replies."""

    def __init__(self, keypair, **tamper):
        super().__init__(keypair)
        self.tamper = tamper
        self.replies = {}

    def preprocess_synapse_for_request(self, target_axon_info, synapse, timeout=12.0):
        """Signs as the SDK does, then changes what the mode wants changed."""
        tamper = self.tamper
        synapse = super().preprocess_synapse_for_request(target_axon_info, synapse, timeout)
        sender = synapse.dendrite
        sender.version = tamper.get("version", sender.version)
        if "nonce" in tamper:
            sender.nonce = tamper["nonce"]
            message = f"{sender.nonce}.{sender.hotkey}.{synapse.axon.hotkey}.{sender.uuid}.{synapse.body_hash}"
            sender.signature = "0x" + self.keypair.sign(message).hex()
        sender.hotkey = tamper.get("claim", sender.hotkey)
        sender.signature = tamper.get("signature", sender.signature)
        return synapse

    def process_server_response(self, server_response, json_response, local_synapse):
        """Keeps status, headers and body before the SDK merges them into the synapse."""
        headers = [(name.decode(), value.decode()) for name, value in server_response.raw_headers]
        self.replies[id(local_synapse)] = (server_response.status, headers, json_response)
        return super().process_server_response(server_response, json_response, local_synapse)

    def reply_to(self, synapse):
        """Status, headers and body of the reply that a synapse came back from; None without one."""
        return self.replies.pop(id(synapse), None)


def target(address, hotkey):
    """What the metagraph would say of the miner."""
    host, port = address
    return AxonInfo(version=0, ip=host, port=port, ip_type=4, hotkey=hotkey, coldkey=hotkey)
