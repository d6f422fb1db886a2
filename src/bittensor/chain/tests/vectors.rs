//! Our bytes against those of the Python SDKs, which read the same recorded metadata.

use serde_json::Value as Json;
use subxt::client::OfflineClientAtBlock;
use subxt::config::SubstrateConfig;
use subxt::config::transaction_extensions::Params as _;
use subxt::ext::scale_value::Value;
use subxt::tx::DefaultParams;
use subxt::utils::H256;

use crate::bittensor::Keypair;
use crate::bittensor::chain::call::{offline, payload};
use crate::bittensor::chain::config::{HotkeySigner, Subtensor};
use crate::bittensor::chain::standin::{Chain, RECORDED, VERSIONS, hex, without_length};
use crate::bittensor::chain::{Call, Endpoint, Fault};

const SDKS: [&str; 3] = [
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/chain/sdk-9.12.2.json")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/chain/sdk-10.5.0.json")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/chain/sdk-11.3.0.json")),
];

fn sdks() -> impl Iterator<Item = Json> {
    SDKS.iter().map(|text| serde_json::from_str(text).unwrap())
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap()
}

fn block_hash(json: &Json) -> H256 {
    json.as_str().unwrap().parse().unwrap()
}

fn bytes(json: &Json) -> Vec<u8> {
    super::super::standin::unhex(&format!("0x{}", json.as_str().unwrap()))
}

fn endpoint(case: &Json) -> Endpoint {
    match case["ip"].as_str().unwrap() {
        "0.0.0.0" => Endpoint::nowhere(),
        ip => Endpoint::new(ip.parse().unwrap(), number(&case["port"]) as u16).unwrap(),
    }
}

fn keys() -> Keypair {
    Keypair::from_seed(&[7; 32])
}

#[test]
fn chain_call_is_what_every_sdk_writes() {
    let mut seen = 0;
    for sdk in sdks() {
        for case in sdk["cases"].as_array().unwrap() {
            let netuid = number(&case["netuid"]) as u16;
            let call = Call::offline(RECORDED, netuid, &endpoint(case)).unwrap();
            assert_eq!(call.bytes, bytes(&case["call"]), "{} {}", sdk["sdk"], case["ip"]);
            assert_eq!(call.arguments[0], ("netuid".to_owned(), netuid.into()));
            assert_eq!(call.arguments.len(), 8);
            seen += 1;
        }
    }
    assert_eq!(seen, 3 * 7);
}

/// What would be signed, and the extrinsic, at the block of the vectors.
fn signed(at: &OfflineClientAtBlock<Subtensor>, sdk: &Json, case: &Json) -> (Vec<u8>, Vec<u8>) {
    let mut parameters: subxt::config::ParamsFor<Subtensor> = DefaultParams::default_params();
    parameters.inject_account_nonce(number(&sdk["nonce"]));
    parameters.inject_block(number(&sdk["number"]), block_hash(&sdk["block"]));
    let call = payload(number(&case["netuid"]) as u16, &endpoint(case));
    let mut signable = at.tx().create_signable_offline(&call, parameters).unwrap();
    let signs = signable.signer_payload().unwrap();
    let signed = signable.sign(&HotkeySigner(&keys())).unwrap();
    (signs, signed.encoded().to_vec())
}

/// An extrinsic without its signature, and the signature.
fn split(extrinsic: &[u8]) -> (Vec<u8>, [u8; 64]) {
    let mut rest = without_length(extrinsic).to_vec();
    // The version, how the address is written, the key, how the signature is.
    let signature: Vec<u8> = rest.drain(1 + 1 + 32 + 1..).take(64).collect();
    let tail = &without_length(extrinsic)[99..];
    rest.extend(tail);
    (rest, signature.try_into().unwrap())
}

#[test]
fn chain_extrinsic_is_what_every_sdk_signs() {
    for sdk in sdks() {
        let versions = (number(&sdk["spec_version"]), number(&sdk["transaction_version"]));
        assert_eq!(versions, (VERSIONS.0.into(), VERSIONS.1.into()));
        let genesis = block_hash(&sdk["genesis"]);
        let config = SubstrateConfig::builder().set_genesis_hash(genesis);
        let at = offline(RECORDED, config, VERSIONS).unwrap();
        for case in sdk["cases"].as_array().unwrap() {
            let what = format!("{} {}", sdk["sdk"], case["ip"]);
            let (signs, extrinsic) = signed(&at, &sdk, case);
            assert_eq!(hex(&signs), hex(&bytes(&case["payload"])), "{what}");
            let (ours, signature) = split(&extrinsic);
            let (theirs, signed_by_them) = split(&bytes(&case["extrinsic"]));
            assert_eq!(hex(&ours), hex(&theirs), "{what}");
            assert!(keys().hotkey().verifies(&signs, &signature), "{what}");
            assert!(keys().hotkey().verifies(&signs, &signed_by_them), "{what}");
        }
    }
}

#[test]
fn chain_storage_keys_are_those_of_every_sdk() {
    let chain = Chain::new();
    let at = chain.described();
    let (subnet, account) = (Value::u128(72), Value::from_bytes(keys().hotkey().bytes()));
    for sdk in sdks() {
        let expect = |entry: &str, key: Vec<Value>| {
            let entry = at.storage().entry(("SubtensorModule", entry)).unwrap();
            let ours = hex(&entry.fetch_key(key).unwrap());
            assert_eq!(ours, sdk["storage"][entry.entry_name()], "{} {ours}", sdk["sdk"]);
        };
        expect("Keys", vec![subnet.clone(), Value::u128(3)]);
        expect("Uids", vec![subnet.clone(), account.clone()]);
        expect("Axons", vec![subnet.clone(), account.clone()]);
        expect("ValidatorPermit", vec![subnet.clone()]);
        expect("ServingRateLimit", vec![subnet.clone()]);
        expect("TotalHotkeyAlpha", vec![account.clone(), subnet.clone()]);
    }
}

#[test]
fn chain_runtimes_that_mean_something_else_are_not_called() {
    let recorded = |change: &dyn Fn(&mut scale_info::Variant<scale_info::form::PortableForm>)| {
        let chain = Chain::altered(|metadata| {
            let pallet = metadata.pallets.iter().find(|pallet| pallet.name == "SubtensorModule");
            let calls = pallet.unwrap().calls.as_ref().unwrap().ty.id as usize;
            let scale_info::TypeDef::Variant(calls) = &mut metadata.types.types[calls].ty.type_def
            else {
                panic!("calls are variants")
            };
            let mut found = calls.variants.iter_mut().filter(|call| call.name == "serve_axon");
            change(found.next().unwrap());
        });
        let endpoint = Endpoint::new("1.2.3.4".parse().unwrap(), 8091).unwrap();
        Call::encode(&chain.described().tx(), &payload(72, &endpoint))
    };
    assert!(recorded(&|_| {}).is_ok());
    let moved = recorded(&|call| call.fields.swap(0, 1)).unwrap();
    assert_ne!(moved, recorded(&|_| {}).unwrap(), "the order is the runtime's");
    let faults = [
        recorded(&|call| call.index = 5),
        recorded(&|call| call.fields[7].name = Some("placeholder3".into())),
        recorded(&|call| call.fields.push(call.fields[7].clone())),
        recorded(&|call| drop(call.fields.pop())),
        recorded(&|call| call.name = "serve".into()),
    ];
    for (place, fault) in faults.into_iter().enumerate() {
        assert_eq!(fault.unwrap_err().fault, Fault::Runtime, "{place}");
    }
    let nonsense = Call::offline(b"meta", 72, &Endpoint::nowhere());
    assert_eq!(nonsense.unwrap_err().fault, Fault::Runtime);
}

/// The newer runtime's list of extensions: one bears another name, one more carries nothing.
#[test]
fn chain_extensions_may_be_renamed_and_added_as_long_as_they_carry_what_we_know() {
    let sdk = sdks().next().unwrap();
    let case = &sdk["cases"][0];
    let signs = |chain: Chain| signed(chain.described(), &sdk, case).0;
    let newer = Chain::altered(|metadata| {
        let extensions = &mut metadata.extrinsic.transaction_extensions;
        for extension in extensions.iter_mut() {
            if extension.identifier == "ChargeTransactionPayment" {
                extension.identifier = "ChargeTransactionPaymentWrapper".into();
            }
        }
        let mut shielded =
            extensions.iter().find(|found| found.identifier == "DrandPriority").unwrap().clone();
        shielded.identifier = "CheckShieldedTxValidity".into();
        let place = extensions.len() as u32;
        extensions.push(shielded);
        for order in metadata.extrinsic.transaction_extensions_by_version.values_mut() {
            order.insert(9, place.into());
        }
    });
    assert_eq!(hex(&signs(newer)), hex(&bytes(&case["payload"])));
}
