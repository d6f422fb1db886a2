#!/usr/bin/env python3
"""What the Python SDK writes for `serve_axon`, from the same recorded metadata: test vectors.

Run it with the interpreter of each SDK's environment (bittensor 9.12.2, 10.5.0, 11.3.0); it writes
one file for the SDK that it finds:

  venv9/bin/python tools/chain_vectors.py tests/fixtures/chain

SDK 9 and 10 speak to a node that this script plays, so that their own client reads the metadata,
composes the call, makes the payload to be signed and signs it. SDK 11 does the same in its core
library, which needs no node. Signatures differ from run to run; all else is the same every time.
"""
import json, pathlib, sys, threading
from importlib.metadata import version

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from chain_metadata import Metadata, Reader

SDK = version("bittensor")
VERSION_AS_INT = 9012002
GENESIS, BLOCK, NUMBER = "0x" + "11" * 32, "0x" + "22" * 32, 7_000_000
NONCE, PERIOD = 5, 32
CASES = [
    (72, "1.2.3.4", 8091), (72, "203.0.113.255", 1), (1, "255.255.255.254", 65535),
    (65535, "10.0.0.1", 9000), (72, "2001:db8::1", 8091),
    (72, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 443), (72, "0.0.0.0", 1),
]
SEED = "0x" + "07" * 32


def params(netuid, ip, port):
    import netaddr
    address = netaddr.IPAddress(ip)
    return dict(
        netuid=netuid, version=VERSION_AS_INT, ip=int(address), port=port,
        ip_type=address.version, protocol=4, placeholder1=0, placeholder2=0,
    )


class Node:
    """Enough of a node for the SDK's client."""

    def __init__(self, metadata, spec, transaction):
        v14, v15 = metadata.v14(), metadata.v15()
        wrapped = Metadata_option(v15)
        runtime = {"specName": "node-subtensor", "implName": "node-subtensor", "authoringVersion": 1,
                   "specVersion": spec, "implVersion": 1, "apis": [],
                   "transactionVersion": transaction, "stateVersion": 1}
        header = {"parentHash": GENESIS, "number": hex(NUMBER), "stateRoot": GENESIS,
                  "extrinsicsRoot": GENESIS, "digest": {"logs": []}}

        def block_hash(number=None):
            return GENESIS if number in (0, "0x0") else BLOCK

        self.methods = {
            "state_getMetadata": lambda *_: "0x" + v14.hex(),
            "state_getRuntimeVersion": lambda *_: runtime,
            "chain_getRuntimeVersion": lambda *_: runtime,
            "chain_getBlockHash": block_hash,
            "chain_getHead": lambda *_: BLOCK,
            "chain_getFinalizedHead": lambda *_: BLOCK,
            "chain_getFinalisedHead": lambda *_: BLOCK,
            "chain_getHeader": lambda *_: header,
            "system_chain": lambda *_: "recorded",
            "system_name": lambda *_: "recorded",
            "system_properties": lambda *_: {"ss58Format": 42},
            "rpc_methods": lambda *_: {"methods": list(self.methods)},
            "state_call": lambda name, *_: wrapped if name == "Metadata_metadata_at_version" else None,
            "state_getStorageAt": lambda *_: None,
            "state_getStorage": lambda *_: None,
        }

    def answer(self, request):
        method, arguments = request["method"], request.get("params") or []
        reply = {"jsonrpc": "2.0", "id": request["id"]}
        if method not in self.methods:
            print("not played:", method, arguments, file=sys.stderr)
            return {**reply, "error": {"code": -32601, "message": "Method not found"}}
        return {**reply, "result": self.methods[method](*arguments)}

    def start(self):
        from websockets.sync.server import serve

        def talk(connection):
            for message in connection:
                connection.send(json.dumps(self.answer(json.loads(message))))

        server = serve(talk, "127.0.0.1", 0, max_size=1 << 26)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return "ws://127.0.0.1:%d" % server.socket.getsockname()[1]


def Metadata_option(metadata):
    from chain_metadata import compact
    return "0x01" + (compact(len(metadata)) + metadata).hex()


def by_client(metadata, spec, transaction):
    """SDK 9 and 10: the substrate client that they use, against the node that we play."""
    from async_substrate_interface.sync_substrate import SubstrateInterface
    from bittensor.utils import networking
    from bittensor_wallet import Keypair

    substrate = SubstrateInterface(url=Node(metadata, spec, transaction).start(), ss58_format=42)
    substrate.init_runtime()
    keys = Keypair.create_from_seed(SEED)
    cases = []
    for netuid, ip, port in CASES:
        arguments = params(netuid, ip, port)
        assert arguments["ip"] == networking.ip_to_int(ip)
        assert arguments["ip_type"] == networking.ip_version(ip)
        call = substrate.compose_call("SubtensorModule", "serve_axon", arguments)
        era = lambda: {"period": PERIOD, "current": NUMBER}
        payload = substrate.generate_signature_payload(call=call, era=era(), nonce=NONCE)
        signed = substrate.create_signed_extrinsic(call=call, keypair=keys, era=era(), nonce=NONCE)
        raw = lambda scale: bytes(scale.data if hasattr(scale, "data") else scale)
        cases.append(case(netuid, ip, port, raw(call.data), raw(payload), raw(signed.data)))
    account = keys.ss58_address
    key = lambda name, parts: substrate.create_storage_key("SubtensorModule", name, parts).to_hex()
    return cases, storage(key, account), None


def by_core(metadata, spec, transaction):
    """SDK 11: its core library."""
    import bittensor_core

    runtime = bittensor_core.Runtime(metadata.v15(), spec, transaction)
    keys = bittensor_core.Keypair.from_seed(bytes.fromhex(SEED[2:]))
    era = {"period": PERIOD, "current": NUMBER}
    unhex = lambda text: bytes.fromhex(text[2:])
    cases = []
    for netuid, ip, port in CASES:
        call = bytes(runtime.compose_call("SubtensorModule", "serve_axon", params11(netuid, ip, port)))
        payload = bytes(runtime.signature_payload(
            call, era=era, nonce=NONCE, tip=0, tip_asset_id=None,
            genesis_hash=unhex(GENESIS), era_block_hash=unhex(BLOCK)))
        signed, _ = runtime.encode_signed_extrinsic(
            call, public_key=bytes(keys.public_key), signature=bytes(keys.sign(payload)),
            signature_version=1, era=era, nonce=NONCE, tip=0, tip_asset_id=None)
        cases.append(case(netuid, ip, port, call, payload, bytes(signed)))
    key = lambda name, parts: "0x" + bytes(
        runtime.storage_key("SubtensorModule", name, parts)).hex()
    return cases, storage(key, keys.ss58_address), reply(runtime, keys)


def params11(netuid, ip, port):
    import ipaddress
    address = ipaddress.ip_address(ip)
    return dict(
        netuid=netuid, version=VERSION_AS_INT, ip=int(address), port=port,
        ip_type=address.version, protocol=4, placeholder1=0, placeholder2=0,
    )


def case(netuid, ip, port, call, payload, extrinsic):
    return {"netuid": netuid, "ip": ip, "port": port, "call": call.hex(),
            "payload": payload.hex(), "extrinsic": extrinsic.hex()}


def storage(key, account):
    return {
        "Keys": key("Keys", [72, 3]), "Uids": key("Uids", [72, account]),
        "ValidatorPermit": key("ValidatorPermit", [72]), "Axons": key("Axons", [72, account]),
        "ServingRateLimit": key("ServingRateLimit", [72]),
        "TotalHotkeyAlpha": key("TotalHotkeyAlpha", [account, 72]),
    }


def reply(runtime, keys):
    """A selective metagraph and a subnet state as SDK 11 encodes them."""
    methods = runtime.runtime_api_map()["SubnetInfoRuntimeApi"]
    registry = json.loads(runtime.registry_json())["types"]
    by_id = {entry["id"]: entry["type"] for entry in registry}

    def fields(method):
        option = by_id[int(methods[method]["output"].split("::")[1])]
        some = next(v for v in option["def"]["variant"]["variants"] if v["name"] == "Some")
        return [f["name"] for f in by_id[some["fields"][0]["type"]]["def"]["composite"]["fields"]]

    hotkeys = [keys.ss58_address, "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"]
    columns = {"hotkeys": hotkeys, "validator_permit": [True, False],
               "total_stake": [40_096_000_000_001, 0], "netuid": 72}
    known = {"get_selective_metagraph": dict.fromkeys(fields("get_selective_metagraph")) | columns}
    state = {name: [] for name in fields("get_subnet_state")} | columns
    known["get_subnet_state"] = state
    encode = lambda method: bytes(runtime.encode(methods[method]["output"], known[method])).hex()
    return {"hotkeys": hotkeys, **{method: encode(method) for method in known}}


def main():
    folder = pathlib.Path(sys.argv[1])
    metadata = Metadata((folder / "finney.scale").read_bytes())
    r = Reader(metadata.constants["System"]["Version"])
    r.text(), r.text(), r.take(4)
    spec = int.from_bytes(r.take(4), "little")
    r.take(4), r.take(12 * r.compact())
    transaction = int.from_bytes(r.take(4), "little")
    make = by_core if SDK.startswith("11.") else by_client
    cases, keys, replies = make(metadata, spec, transaction)
    out = {"sdk": SDK, "spec_version": spec, "transaction_version": transaction,
           "genesis": GENESIS, "block": BLOCK, "number": NUMBER, "nonce": NONCE, "seed": SEED,
           "cases": cases, "storage": keys}
    if replies:
        out["replies"] = replies
    path = folder / f"sdk-{SDK}.json"
    path.write_text(json.dumps(out, indent=1) + "\n")
    print(path)


main()
