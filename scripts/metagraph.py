#!/usr/bin/env python3
"""Writes the metagraph as the JSON that roadcrew reads, with the real Bittensor SDK.

For operators who keep Python away from the miner: run this anywhere, and copy the file over (to a
name beside it, then rename) or write it to a shared folder. roadcrew watches the file.

  pip install bittensor                      # 9.x, 10.x or 11.x
  python scripts/metagraph.py --netuid 72 --out metagraph.json
  python scripts/metagraph.py --netuid 72 --out metagraph.json --every 300

Ends with 1 if the metagraph could not be had; the file is then left as it was. With --every it says
so and goes on.

Checked against the classes of SDK 9.12.2, 10.5.0 and 11.3.0, filled by hand. Not checked against a
chain: that `Subtensor.metagraph` (9, 10) and `client.subnets.metagraph` (11) still answer as those
versions expect. The stake is what the SDK calls `S` or `total_stake`: on subnets other than 0 that is
stake weight, the subnet's own token and weighted TAO together.
"""
import argparse
import datetime
import json
import os
import sys
import tempfile
import time

RAO = 1_000_000_000


def row(uid, hotkey, validator_permit, stake):
    stake = float(stake)
    if not 0 <= stake < float("inf"):
        raise ValueError(f"the stake of {hotkey} is {stake}")
    return {
        "uid": int(uid),
        "hotkey": str(hotkey),
        "validator_permit": bool(validator_permit),
        "stake": stake,
    }


def columns(graph):
    """Rows of a Metagraph of SDK 9 or 10, which holds one array for each property."""
    lengths = {len(graph.uids), len(graph.hotkeys), len(graph.validator_permit), len(graph.S)}
    if len(lengths) > 1:
        # The SDK passes over a failed call for the stakes and leaves them out.
        raise ValueError(f"the SDK answered in part: arrays of {sorted(lengths)} neurons")
    return [row(*of) for of in zip(graph.uids, graph.hotkeys, graph.validator_permit, graph.S)]


def neurons(graph):
    """Rows of a Metagraph of SDK 11, which holds one object for each neuron."""
    return [
        row(n.uid, n.hotkey, n.validator_permit, n.total_stake.rao / RAO) for n in graph.neurons
    ]


def fetch(network, netuid):
    """The rows and the block."""
    import bittensor

    if int(bittensor.__version__.split(".")[0]) >= 11:
        with bittensor.SyncClient(network) as client:
            graph = client.subnets.metagraph(netuid, commitments=False)
        if graph is None:
            raise ValueError(f"there is no subnet {netuid} on {network}")
        return neurons(graph), int(graph.block)
    graph = bittensor.Subtensor(network=network).metagraph(netuid)
    return columns(graph), graph.block.item()


def snapshot(network, netuid):
    # From before the question, so that the file never claims to be younger than it is.
    taken_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    rows, block = fetch(network, netuid)
    if not rows:
        raise ValueError(f"subnet {netuid} on {network} has no neurons")
    return {"netuid": netuid, "block": block, "taken_at": taken_at, "neurons": rows}


def save(value, path):
    """Writes a file beside the old one and puts it in its place."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, beside = tempfile.mkstemp(dir=folder, prefix=os.path.basename(path) + ".")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(value, file, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="the file to write")
    parser.add_argument("--netuid", type=int, default=72, help="the subnet (72)")
    parser.add_argument("--network", default="finney", help="a name, or a wss:// endpoint (finney)")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="do it again and again")
    options = parser.parse_args()
    while True:
        failed = False
        try:
            value = snapshot(options.network, options.netuid)
            save(value, options.out)
            print(f"{options.out}: {len(value['neurons'])} neurons at block {value['block']}")
        except Exception as error:  # whatever the SDK raises
            failed = True
            print(f"{options.out} is left as it was: {error!r}", file=sys.stderr)
        if options.every is None:
            return int(failed)
        sys.stdout.flush()
        time.sleep(options.every)


if __name__ == "__main__":
    sys.exit(main())
