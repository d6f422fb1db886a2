#!/usr/bin/env python3
"""Hotkey files as the real bittensor_wallet writes them, for the tests of the wallets.

  pip install bittensor-wallet==4.1.1
  python tools/make_wallet_fixtures.py --out tests/fixtures/bittensor/wallets

The keys are those of phrases that everybody knows: never send anything to them. Writes
<out>/fixture/hotkeys/* and <out>/expected.json, which has the address of each and a signature that
the real wallet made. `old` is written by hand, in the order and with the keys of wallets from
before 2024; the rest is what the package wrote. Nonces and signatures differ from run to run.
"""
import argparse
import json
import pathlib
import shutil

from bittensor_wallet import Keypair, Wallet
from bittensor_wallet.keyfile import legacy_encrypt_keyfile_data, serialized_keypair_to_keyfile_data

PASSWORD = "correct horse battery staple"
MESSAGE = b"signed by the real wallet"
# The entropies 7f7f... and 8080... of BIP-39's own test vectors.
PHRASE = "legal winner thank year wave sausage worth useful legal winner thank yellow"
LONG_PHRASE = (
    "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd "
    "amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic bless"
)
SEED = bytes(range(224, 256)).hex()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)

    def wallet(hotkey):
        return Wallet(name="fixture", hotkey=hotkey, path=str(out))

    quiet = {"overwrite": True, "suppress": True}
    wallet("plain").regenerate_hotkey(mnemonic=PHRASE, **quiet)
    wallet("long").regenerate_hotkey(mnemonic=LONG_PHRASE, **quiet)
    wallet("seed").regenerate_hotkey(seed=SEED, **quiet)
    wallet("private").create_hotkey_from_uri("//Alice", **quiet)
    wallet("sealed").regenerate_hotkey(
        mnemonic=PHRASE, use_password=True, hotkey_password=PASSWORD, **quiet
    )
    wallet("ed25519").regenerate_hotkey(mnemonic=PHRASE, crypto_type=0, **quiet)

    folder = out / "fixture" / "hotkeys"
    keys = Keypair.create_from_mnemonic(PHRASE)
    public = "0x" + keys.public_key.hex()
    old = {
        "accountId": public,
        "publicKey": public,
        "secretPhrase": None,
        "secretSeed": json.loads((folder / "plain").read_text())["secretSeed"],
        "ss58Address": keys.ss58_address,
    }
    (folder / "old").write_text(json.dumps(old))
    vault = legacy_encrypt_keyfile_data(serialized_keypair_to_keyfile_data(keys), PASSWORD)
    (folder / "vault").write_bytes(vault)

    expected = {"password": PASSWORD, "message": MESSAGE.decode(), "hotkeys": {}}
    for name in ["plain", "long", "seed", "private", "sealed", "old"]:
        password = PASSWORD if name == "sealed" else None
        real = wallet(name).get_hotkey(password=password)
        expected["hotkeys"][name] = {
            "address": real.ss58_address,
            "signature": real.sign(MESSAGE).hex(),
        }
    (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
