//! Reading the metagraph.

use std::time::SystemTime;

use scale_info::TypeDef;
use subxt::ext::frame_metadata::v16::RuntimeMetadataV16;

use super::*;
use crate::bittensor::Snapshot;
use crate::bittensor::chain::standin::{Chain, HEAD, HEAD_NUMBER, Mischief, StandIn, columns};
use crate::bittensor::chain::{ChainError, Fault, Node, Pace, Refresher};

const SELECTIVE: &str = "SubnetInfoRuntimeApi_get_selective_metagraph";
const STATE: &str = "SubnetInfoRuntimeApi_get_subnet_state";

fn read(node: &StandIn) -> Result<Snapshot, ChainError> {
    run(Node::new(&node.address).unwrap().metagraph(NETUID, WITHIN))
}

/// The chain that everything is right with: each source knows the same neurons.
fn whole(chain: Chain) -> Chain {
    let all = neurons(5);
    chain
        .answering("get_selective_metagraph", Some(columns(&all, true)))
        .answering("get_subnet_state", Some(columns(&all, false)))
        .with_keys(NETUID, &all)
}

fn expect_neurons(read: Result<Snapshot, ChainError>, what: &str) {
    let snapshot = read.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(snapshot.neurons, neurons(5).into_iter().collect(), "{what}");
    assert_eq!((snapshot.netuid, snapshot.block), (NETUID, Some(HEAD_NUMBER)), "{what}");
    assert!(snapshot.taken_at <= SystemTime::now(), "{what}");
}

fn fault(read: Result<Snapshot, ChainError>) -> Fault {
    read.unwrap_err().fault
}

#[test]
fn chain_metagraph_is_read_in_one_call_at_one_finalized_block() {
    let node = StandIn::start(whole(Chain::new()), Mischief::None);
    expect_neurons(read(&node), "as recorded");
    assert_eq!(node.count(SELECTIVE), 1);
    assert_eq!(node.count(STATE), 0, "one source is enough");
    assert!(node.blocks().len() >= 4);
    assert!(node.blocks().iter().all(|block| *block == serde_json::json!(HEAD)));
}

#[test]
fn chain_metadata_is_fetched_once_for_many_readings() {
    let node = StandIn::start(whole(Chain::new()), Mischief::None);
    let client = Node::new(&node.address).unwrap();
    for round in 1..=3 {
        expect_neurons(run(client.clone().metagraph(NETUID, WITHIN)), "again");
        assert_eq!(node.count(SELECTIVE), round);
    }
    assert_eq!(node.count("Metadata_metadata_at_version"), 1);
}

/// The fields of the type that ends with this name.
fn fields<'a>(
    metadata: &'a mut RuntimeMetadataV16,
    name: &str,
) -> &'a mut Vec<scale_info::Field<scale_info::form::PortableForm>> {
    let types = metadata.types.types.iter_mut();
    let mut found = types.filter(|ty| ty.ty.path.segments.last().is_some_and(|last| last == name));
    let TypeDef::Composite(composite) = &mut found.next().unwrap().ty.type_def else {
        panic!("{name} has no fields")
    };
    &mut composite.fields
}

#[test]
fn chain_fields_may_be_added_and_moved() {
    let added = |metadata: &mut RuntimeMetadataV16| {
        let fields = fields(metadata, "SelectiveMetagraph");
        let mut new = fields[7].clone();
        new.name = Some("new_in_front".into());
        fields.insert(0, new);
    };
    let reversed =
        |metadata: &mut RuntimeMetadataV16| fields(metadata, "SelectiveMetagraph").reverse();
    for (what, chain) in [("added", Chain::altered(added)), ("moved", Chain::altered(reversed))] {
        let node = StandIn::start(whole(chain), Mischief::None);
        expect_neurons(read(&node), what);
        assert_eq!(node.count(STATE), 0, "{what}: it was understood at once");
    }
}

#[test]
fn chain_another_source_serves_where_one_is_not_there_or_not_understood() {
    let without = |names: &'static [&str]| {
        move |metadata: &mut RuntimeMetadataV16| {
            let apis = metadata.apis.iter_mut();
            for api in apis.filter(|api| api.name == "SubnetInfoRuntimeApi") {
                api.methods.retain(|method| !names.contains(&method.name.as_str()));
            }
        }
    };
    let all = neurons(5);
    let state = || Chain::altered(without(&["get_selective_metagraph"]));
    let state = state().answering("get_subnet_state", Some(columns(&all, false)));
    let storage = Chain::altered(without(&["get_selective_metagraph", "get_subnet_state"]));
    let storage = storage.with_keys(NETUID, &all);
    let none = Chain::altered(|metadata| metadata.apis.clear()).with_keys(NETUID, &all);
    let renamed = Chain::altered(|metadata| {
        let hotkeys = fields(metadata, "SelectiveMetagraph").iter_mut();
        let mut hotkeys = hotkeys.filter(|field| field.name.as_deref() == Some("hotkeys"));
        hotkeys.next().unwrap().name = Some("hot_keys".into());
    });
    let renamed = renamed.answering("get_subnet_state", Some(columns(&all, false)));
    let renamed = renamed.answering("get_selective_metagraph", Some(vec![]));
    // The numbers of the parts have changed: what was asked for is not in the answer.
    let renumbered = whole(Chain::new()).answering("get_selective_metagraph", Some(vec![]));
    // Every field of a metagraph is a metagraph.
    let endless = Chain::altered(|metadata| {
        let types = metadata.types.types.iter();
        let named = |name: &str| {
            let mut found = types
                .clone()
                .filter(|ty| ty.ty.path.segments.last().is_some_and(|last| last == name));
            found.next().unwrap().id
        };
        let own = named("SelectiveMetagraph");
        for field in fields(metadata, "SelectiveMetagraph") {
            field.ty = own.into();
        }
    });
    let endless = endless.answering("get_subnet_state", Some(columns(&all, false)));
    let chains = [
        ("the second", state),
        ("storage", storage),
        ("storage without any call", none),
        ("a renamed field", renamed),
        ("renumbered parts", renumbered),
        ("a type without end", endless),
    ];
    for (what, chain) in chains {
        expect_neurons(read(&StandIn::start(chain, Mischief::None)), what);
    }
    for mischief in [Mischief::Refuses(SELECTIVE), Mischief::Truncates(SELECTIVE)] {
        let what = format!("{mischief:?}");
        let node = StandIn::start(whole(Chain::new()), mischief);
        expect_neurons(read(&node), &what);
        assert_eq!((node.count(SELECTIVE), node.count(STATE)), (1, 1), "{what}");
    }
}

#[test]
fn chain_columns_that_differ_in_length_are_not_paired() {
    let all = neurons(5);
    let mut uneven = columns(&all, true);
    uneven[1] = columns(&all[..4], true).remove(1);
    let chain = Chain::new().answering("get_selective_metagraph", Some(uneven));
    let chain = chain.answering("get_subnet_state", Some(columns(&all, false)));
    expect_neurons(read(&StandIn::start(chain, Mischief::None)), "uneven");
}

#[test]
fn chain_subnets_that_do_not_exist_or_are_too_big_are_refused() {
    let none = Chain::new().answering("get_selective_metagraph", None);
    assert_eq!(fault(read(&StandIn::start(none, Mischief::None))), Fault::NoSubnet);
    let empty = Chain::new().answering("get_selective_metagraph", Some(columns(&[], true)));
    assert_eq!(fault(read(&StandIn::start(empty, Mischief::None))), Fault::NoSubnet);
    let nowhere = Chain::altered(|metadata| metadata.apis.clear());
    assert_eq!(fault(read(&StandIn::start(nowhere, Mischief::None))), Fault::NoSubnet);
    let many = columns(&neurons(4097), true);
    let many = Chain::new().answering("get_selective_metagraph", Some(many));
    assert_eq!(fault(read(&StandIn::start(many, Mischief::None))), Fault::TooMany);
}

#[test]
fn chain_nodes_that_fail_are_told_apart() {
    let met = |mischief: Mischief| fault(read(&StandIn::start(whole(Chain::new()), mischief)));
    assert_eq!(met(Mischief::Cuts("chain_getFinalizedHead")), Fault::Broken);
    assert_eq!(met(Mischief::Cuts(SELECTIVE)), Fault::Broken, "no other source helps");
    assert_eq!(met(Mischief::Floods("Metadata_metadata_at_version")), Fault::Broken);
    assert_eq!(met(Mischief::Refuses("chain_getFinalizedHead")), Fault::Refused);
    assert_eq!(met(Mischief::Truncates("Metadata_metadata_at_version")), Fault::Reply);
}

#[test]
fn chain_nodes_that_hang_are_given_up() {
    for (method, seconds) in [("chain_getBlockHash", 1), (SELECTIVE, 4)] {
        let node = StandIn::start(whole(Chain::new()), Mischief::Hangs(method));
        let within = Duration::from_secs(seconds);
        let outcome = run(Node::new(&node.address).unwrap().metagraph(NETUID, within));
        assert_eq!(fault(outcome), Fault::Slow, "{method}");
        assert!(node.count(method) <= 1, "{method} is not asked again");
    }
}

/// Replies as SDK 11 encodes them from the same metadata.
#[test]
fn chain_replies_are_read_as_the_sdk_writes_them() {
    let sdk: serde_json::Value = serde_json::from_str(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/chain/sdk-11.3.0.json"
    )))
    .unwrap();
    let replies = &sdk["replies"];
    let hotkey = |place: usize| replies["hotkeys"][place].as_str().unwrap().parse().unwrap();
    let neuron = |uid, validator_permit, stake| Neuron { uid, validator_permit, stake };
    let expected =
        [(hotkey(0), neuron(0, true, 40_096.000_000_001)), (hotkey(1), neuron(1, false, 0.0))];
    for method in ["get_selective_metagraph", "get_subnet_state"] {
        let mut chain = Chain::new();
        chain.reply(method, replies[method].as_str().unwrap());
        let node = StandIn::start(chain, Mischief::None);
        assert_eq!(read(&node).unwrap().neurons, expected.into_iter().collect(), "{method}");
        let last = node.methods().pop().unwrap();
        assert_eq!(last, format!("SubnetInfoRuntimeApi_{method}"));
    }
}

#[test]
fn chain_nobody_there_is_said() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("ws://{}", free.local_addr().unwrap());
    drop(free);
    let error = run(Node::new(&address).unwrap().metagraph(NETUID, WITHIN)).unwrap_err();
    assert_eq!(error.fault, Fault::Unreachable);
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn chain_who_accepts_and_says_nothing_is_given_up_and_leaves_no_thread_behind() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("ws://{}", silent.local_addr().unwrap());
    // The runtime ends only when its threads have.
    let outcome = run(Node::new(&address).unwrap().metagraph(NETUID, Duration::from_millis(300)));
    assert_eq!(fault(outcome), Fault::Slow);
}

#[test]
fn chain_who_stops_in_the_middle_of_connecting_need_not_wait() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refresher = Refresher {
        node: Node::new(&format!("ws://{}", silent.local_addr().unwrap())).unwrap(),
        netuid: NETUID,
        pace: Pace::new(Duration::from_secs(1)),
        within: Duration::from_secs(3600),
    };
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let stop = move || {
        run(async {
            tokio::select! {
                () = refresher.run(|_| {}, |_, _| {}) => {}
                _ = tokio::task::spawn_blocking(move || silent.accept()) => {}
            }
        });
        tell.send(()).unwrap();
    };
    std::thread::Builder::new().spawn(stop).unwrap();
    told.recv_timeout(WITHIN).unwrap();
}

#[test]
fn chain_a_node_that_is_stuck_is_not_believed() {
    let minutes = |minutes: u64| SystemTime::now() - Duration::from_secs(60 * minutes);
    let stuck = StandIn::start(whole(Chain::new().at(minutes(21))), Mischief::None);
    assert_eq!(fault(read(&stuck)), Fault::Behind);
    let slow = StandIn::start(whole(Chain::new().at(minutes(19))), Mischief::None);
    expect_neurons(read(&slow), "late blocks");
}

#[test]
fn chain_refresher_reads_again_and_again_and_tells_of_failures() {
    let node = StandIn::start(whole(Chain::new()), Mischief::None);
    let every = Duration::from_millis(5);
    let refresher = |address: &str, netuid| Refresher {
        node: Node::new(address).unwrap(),
        netuid,
        pace: Pace::new(every),
        within: WITHIN,
    };
    let (tell, mut told) = tokio::sync::mpsc::channel(16);
    let put = move |snapshot| tell.try_send(snapshot).unwrap();
    let reading = refresher(&node.address, NETUID).run(put, |error, _| panic!("{error}"));
    run(async {
        tokio::select! {
            () = reading => unreachable!("it never ends by itself"),
            () = async {
                for round in 0..3 {
                    expect_neurons(Ok(told.recv().await.unwrap()), &format!("round {round}"));
                }
            } => {}
        }
    });
    let (tell, mut told) = tokio::sync::mpsc::channel(16);
    let node = StandIn::start(whole(Chain::new()), Mischief::Refuses("chain_getFinalizedHead"));
    let failing = refresher(&node.address, NETUID).run(
        |_| panic!("there is nothing to put"),
        move |error, pause| tell.try_send((error.fault, pause)).unwrap(),
    );
    run(async {
        tokio::select! {
            () = failing => unreachable!("it never ends by itself"),
            () = async {
                for _ in 0..3 {
                    let (fault, pause) = told.recv().await.unwrap();
                    assert_eq!(fault, Fault::Refused);
                    assert!(pause <= every, "{pause:?}");
                }
            } => {}
        }
    });
}

#[test]
fn chain_refresher_survives_a_decoder_that_panics() {
    // The client takes it for granted that this type is described.
    let chain = Chain::new().lying(|metadata| {
        let system = metadata.pallets.iter_mut().find(|pallet| pallet.name == "System").unwrap();
        let mut types = system.associated_types.iter_mut();
        types.find(|ty| ty.name == "Hashing").unwrap().ty = 1_000_000.into();
    });
    let node = StandIn::start(chain, Mischief::None);
    let (tell, mut told) = tokio::sync::mpsc::channel(16);
    let refresher = Refresher {
        node: Node::new(&node.address).unwrap(),
        netuid: NETUID,
        pace: Pace::new(Duration::from_millis(5)),
        within: WITHIN,
    };
    let failing = refresher.run(
        |_| panic!("nothing"),
        move |error, _| {
            tell.try_send(error.clone()).unwrap();
        },
    );
    run(async {
        tokio::select! {
            () = failing => unreachable!("it never ends by itself"),
            () = async {
                for _ in 0..2 {
                    let error = told.recv().await.unwrap();
                    assert!(error.what().contains("panicked"), "{error}");
                }
            } => {}
        }
    });
}
