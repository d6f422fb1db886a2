//! Telling the chain where an axon is.

use super::*;
use crate::bittensor::Keypair;
use crate::bittensor::chain::standin::{
    Chain, Fate, GENESIS, HEAD, HEAD_NUMBER, Mischief, StandIn, VERSIONS, hex, without_length,
};
use crate::bittensor::chain::{
    ChainError, Decision, Endpoint, Fault, Inclusion, Node, Plan, Rejection,
};
use subxt::ext::scale_value::Value;

fn keys() -> Keypair {
    Keypair::from_seed(&[9; 32])
}

fn endpoint(ip: &str) -> Endpoint {
    Endpoint::new(ip.parse().unwrap(), 8091).unwrap()
}

/// A chain on which our hotkey is registered and has said nothing yet.
fn registered() -> Chain {
    let (hotkey, mut neuron) = (keys().hotkey(), neurons(1)[0].1);
    neuron.validator_permit = false;
    let subnet = [Value::u128(NETUID.into())];
    Chain::new().with_keys(NETUID, &[(hotkey, neuron)]).with(
        "SubtensorModule",
        "ServingRateLimit",
        &subnet,
        Value::u128(50),
    )
}

fn serve(node: &StandIn, ip: &str) -> Result<(Plan, Option<Inclusion>), ChainError> {
    let client = Node::new(&node.address).unwrap();
    run(client.serve_axon(NETUID, &keys(), &endpoint(ip), WITHIN))
}

fn plan(node: &StandIn, ip: &str) -> Plan {
    let client = Node::new(&node.address).unwrap();
    run(client.plan(NETUID, keys().hotkey(), &endpoint(ip), WITHIN)).unwrap()
}

#[test]
fn chain_a_new_endpoint_is_signed_submitted_and_seen_in_a_block() {
    let node = StandIn::start(registered(), Mischief::None);
    let (plan, inclusion) = serve(&node, "1.2.3.4").unwrap();
    assert_eq!(plan.decision, Decision::Submit);
    assert_eq!((plan.block, plan.spec_version), (HEAD_NUMBER, VERSIONS.0));
    assert_eq!(inclusion.unwrap().block, format!("0x{}", "33".repeat(32)));
    let [extrinsic] = &node.submitted()[..] else { panic!("one is submitted") };
    // Taken apart by hand, and the signature checked over what the chain puts together itself.
    let rest = without_length(extrinsic);
    let (head, rest) = rest.split_at(2);
    assert_eq!(head, [0x84, 0], "a signed transaction of version 4, by a key");
    let (signer, rest) = rest.split_at(32);
    assert_eq!(signer, keys().hotkey().bytes());
    assert_eq!(rest[0], 1, "sr25519");
    let (signature, rest) = rest[1..].split_at(64);
    let (extra, call) = rest.split_at(5);
    assert_eq!(call, plan.call.bytes);
    assert_eq!(extra[2..], [5 << 2, 0, 0], "the nonce, no tip, no metadata hash");
    let mut signs = [call, extra].concat();
    signs.extend(VERSIONS.0.to_le_bytes());
    signs.extend(VERSIONS.1.to_le_bytes());
    signs.extend(GENESIS.0);
    signs.extend(HEAD.0);
    signs.push(0);
    let signature = signature.try_into().unwrap();
    assert!(keys().hotkey().verifies(&signs, &signature), "{}", hex(&signs));
}

#[test]
fn chain_what_it_has_already_is_not_submitted_again() {
    let axon = endpoint("1.2.3.4").info(HEAD_NUMBER - 3);
    let chain = || registered().with_axon(NETUID, &keys().hotkey(), axon);
    let node = StandIn::start(chain(), Mischief::None);
    let (decided, inclusion) = serve(&node, "1.2.3.4").unwrap();
    assert_eq!((decided.decision, inclusion), (Decision::Unchanged, None));
    assert_eq!(plan(&node, "1.2.3.4").decision, Decision::Unchanged);
    let waits = Decision::Wait { blocks: 47 };
    assert_eq!(plan(&node, "1.2.3.5").decision, waits);
    let error = serve(&node, "1.2.3.5").unwrap_err();
    assert_eq!(error.fault, Fault::TooSoon);
    assert!(error.to_string().contains("in 47 blocks, about 10 minutes"), "{error}");
    assert_eq!(node.submitted(), Vec::<Vec<u8>>::new());
}

#[test]
fn chain_a_stranger_is_told_so_before_anything_is_submitted() {
    let node = StandIn::start(Chain::new(), Mischief::None);
    assert_eq!(plan(&node, "1.2.3.4").decision, Decision::NotRegistered);
    let error = serve(&node, "1.2.3.4").unwrap_err();
    assert_eq!(error.fault, Fault::NotRegistered);
    assert!(error.to_string().contains(&keys().hotkey().to_string()), "{error}");
    assert_eq!(node.submitted(), Vec::<Vec<u8>>::new());
}

#[test]
fn chain_what_it_says_against_a_call_becomes_advice() {
    let cases = [
        (Fate::Failed("ServingRateLimitExceeded"), Fault::TooSoon),
        (Fate::Failed("HotKeyNotRegisteredInNetwork"), Fault::NotRegistered),
        (Fate::Failed("InvalidIpAddress"), Fault::Endpoint),
        (Fate::Failed("InvalidPort"), Fault::Endpoint),
        (Fate::Failed("SubnetNotExists"), Fault::NoSubnet),
        (Fate::Failed("NotEnoughStake"), Fault::Rejected(Rejection::Other)),
        (Fate::Refused("Custom error: 12"), Fault::TooSoon),
        (Fate::Refused("Custom error: 10"), Fault::NotRegistered),
        (Fate::Refused("Transaction is outdated"), Fault::Rejected(Rejection::Stale)),
        (Fate::Refused("Transaction has a bad signature"), Fault::Rejected(Rejection::BadProof)),
        (Fate::Refused("Exhausted"), Fault::Rejected(Rejection::Other)),
        (Fate::Dropped, Fault::Unsure),
    ];
    for (fate, fault) in cases {
        let what = format!("{fate:?}");
        let node = StandIn::start(registered().fated(fate), Mischief::None);
        let error = serve(&node, "1.2.3.4").unwrap_err();
        assert_eq!(error.fault, fault, "{what}: {error}");
        assert_eq!(node.submitted().len(), 1, "{what}");
    }
}

#[test]
fn chain_a_call_that_nothing_is_heard_of_is_not_called_a_success() {
    let unsure = |fate, mischief| {
        let node = StandIn::start(registered().fated(fate), mischief);
        let client = Node::new(&node.address).unwrap();
        let within = Duration::from_secs(4);
        let outcome = run(client.serve_axon(NETUID, &keys(), &endpoint("1.2.3.4"), within));
        outcome.unwrap_err().fault
    };
    assert_eq!(unsure(Fate::Silence, Mischief::None), Fault::Unsure);
    let cut = Mischief::Cuts("author_submitAndWatchExtrinsic");
    assert_eq!(unsure(Fate::Done, cut), Fault::Unsure, "it may have arrived");
    let cut = Mischief::Cuts("chain_getBlock");
    assert_eq!(unsure(Fate::Done, cut), Fault::Unsure, "it is in a block, and did it work?");
}
