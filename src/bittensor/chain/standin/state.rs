//! The chain behind the stand-in: a recorded runtime, and what a test puts into its storage.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use scale_info::{PortableRegistry, TypeDef, TypeDefPrimitive};
use serde_json::{Value as Json, json};
use subxt::OfflineClientAtBlock;
use subxt::config::SubstrateConfig;
use subxt::ext::codec::{Compact, Decode as _, Encode as _};
use subxt::ext::frame_metadata::v16::RuntimeMetadataV16;
use subxt::ext::frame_metadata::{META_RESERVED, RuntimeMetadata, RuntimeMetadataPrefixed};
use subxt::ext::scale_value::{Composite, Value, ValueDef, scale};
use subxt::utils::H256;

use super::{hex, unhex};
use crate::bittensor::chain::call::offline;
use crate::bittensor::chain::config::Subtensor;
use crate::bittensor::chain::endpoint::AxonInfo;
use crate::bittensor::{Hotkey, Neuron};

/// The runtime's description of itself, as recorded from the main network.
pub(crate) const RECORDED: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/chain/finney.scale"));
pub(crate) const GENESIS: H256 = H256::repeat_byte(0x11);
pub(crate) const HEAD: H256 = H256::repeat_byte(0x22);
pub(crate) const HEAD_NUMBER: u64 = 7_000_000;
const BLOCK: H256 = H256::repeat_byte(0x33);
pub(crate) const VERSIONS: (u32, u32) = (365, 1);

/// What becomes of a transaction.
#[derive(Clone, Debug, Default)]
pub(crate) enum Fate {
    /// It is in a block and has done its work.
    #[default]
    Done,
    /// It is in a block and failed with this error of the subnets' pallet.
    Failed(&'static str),
    /// The pool refuses it with these words.
    Refused(&'static str),
    /// The pool accepts it and drops it.
    Dropped,
    /// Nothing is heard of it again.
    Silence,
}

/// A chain at one block.
pub(crate) struct Chain {
    metadata: RuntimeMetadataV16,
    described: OfflineClientAtBlock<Subtensor>,
    /// Runtime calls with what they answer.
    calls: BTreeMap<String, Vec<u8>>,
    storage: BTreeMap<Vec<u8>, Vec<u8>>,
    fate: Fate,
    body: Vec<Vec<u8>>,
}

impl Chain {
    /// One whose runtime is the recorded one, at the present moment.
    pub(crate) fn new() -> Self {
        Self::altered(|_| {})
    }

    /// One whose runtime differs from the recorded one.
    pub(crate) fn altered(change: impl FnOnce(&mut RuntimeMetadataV16)) -> Self {
        let recorded = RuntimeMetadataPrefixed::decode(&mut &*RECORDED).unwrap();
        let RuntimeMetadata::V16(mut metadata) = recorded.1 else { panic!("not of version 16") };
        change(&mut metadata);
        let bytes = prefixed(&metadata);
        let config = SubstrateConfig::builder().set_genesis_hash(GENESIS);
        let mut chain = Self {
            metadata,
            described: offline(&bytes, config, VERSIONS).unwrap(),
            calls: BTreeMap::new(),
            storage: BTreeMap::new(),
            fate: Fate::Done,
            body: Vec::new(),
        };
        chain.calls.insert("Metadata_metadata_at_version".into(), Some(bytes).encode());
        let version = ("node-subtensor", "node-subtensor", 1u32, VERSIONS.0, 1u32);
        let rest = (Vec::<([u8; 8], u32)>::new(), VERSIONS.1, 1u8);
        chain.calls.insert("Core_version".into(), (version, rest).encode());
        chain.calls.insert("Metadata_metadata_versions".into(), vec![16u32].encode());
        chain.calls.insert("AccountNonceApi_account_nonce".into(), 5u32.encode());
        chain.at(SystemTime::now())
    }

    /// With metadata that is changed only now, when everything else has been made by the old one.
    pub(crate) fn lying(mut self, change: impl FnOnce(&mut RuntimeMetadataV16)) -> Self {
        change(&mut self.metadata);
        let bytes = prefixed(&self.metadata);
        self.calls.insert("Metadata_metadata_at_version".into(), Some(bytes).encode());
        self
    }

    /// With its block made at this time.
    pub(crate) fn at(self, time: SystemTime) -> Self {
        let millis = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.with("Timestamp", "Now", &[], Value::u128(millis.as_millis()))
    }

    /// With this fate for what is submitted.
    pub(crate) fn fated(self, fate: Fate) -> Self {
        Self { fate, ..self }
    }

    /// With something in storage.
    pub(crate) fn with(mut self, pallet: &str, entry: &str, key: &[Value], value: Value) -> Self {
        let at = &self.described;
        let entry = at.storage().entry((pallet, entry)).unwrap();
        let key = entry.fetch_key(key.to_vec()).unwrap();
        let metadata = at.metadata_ref();
        let storage = metadata.pallet_by_name(entry.pallet_name()).unwrap().storage().unwrap();
        let ty = storage.entry_by_name(entry.entry_name()).unwrap().value_ty();
        let value = encode(metadata.types(), ty, &value);
        self.storage.insert(key, value);
        self
    }

    /// With these neurons in storage, uid by uid.
    pub(crate) fn with_keys(mut self, netuid: u16, neurons: &[(Hotkey, Neuron)]) -> Self {
        let subnet = Value::u128(netuid.into());
        for (hotkey, neuron) in neurons {
            let (uid, account) = (Value::u128(neuron.uid.into()), account(hotkey));
            let rao = Value::u128((neuron.stake * 1e9) as u128);
            self = self
                .with("SubtensorModule", "Keys", &[subnet.clone(), uid.clone()], account.clone())
                .with("SubtensorModule", "Uids", &[subnet.clone(), account.clone()], uid)
                .with("SubtensorModule", "TotalHotkeyAlpha", &[account, subnet.clone()], rao);
        }
        let permits = neurons.iter().map(|(_, neuron)| Value::bool(neuron.validator_permit));
        let permits = Value::unnamed_composite(permits);
        self.with("SubtensorModule", "ValidatorPermit", &[subnet], permits)
    }

    /// With an axon in storage.
    pub(in crate::bittensor::chain) fn with_axon(
        self,
        netuid: u16,
        hotkey: &Hotkey,
        axon: AxonInfo,
    ) -> Self {
        let AxonInfo { block, version, ip, port, ip_type, protocol, placeholder1, placeholder2 } =
            axon;
        let value = Value::named_composite([
            ("block", Value::u128(block.into())),
            ("version", Value::u128(version.into())),
            ("ip", Value::u128(ip)),
            ("port", Value::u128(port.into())),
            ("ip_type", Value::u128(ip_type.into())),
            ("protocol", Value::u128(protocol.into())),
            ("placeholder1", Value::u128(placeholder1.into())),
            ("placeholder2", Value::u128(placeholder2.into())),
        ]);
        let key = [Value::u128(netuid.into()), account(hotkey)];
        self.with("SubtensorModule", "Axons", &key, value)
    }

    /// With an answer to a call of the subnets' runtime API, which may be nothing. Fields that are
    /// not named are as empty as they can be.
    pub(crate) fn answering(
        mut self,
        method: &str,
        fields: Option<Vec<(&'static str, Value)>>,
    ) -> Self {
        let api = self.metadata.apis.iter().find(|api| api.name == "SubnetInfoRuntimeApi").unwrap();
        let output = api.methods.iter().find(|found| found.name == method).unwrap().output.id;
        let types = &self.metadata.types;
        let TypeDef::Variant(option) = &types.resolve(output).unwrap().type_def else {
            panic!("{method} does not answer an option")
        };
        let inner = option.variants[1].fields[0].ty.id;
        let answer = fields.map(|fields| {
            let mut answer = blank(types, inner);
            let ValueDef::Composite(Composite::Named(all)) = &mut answer.value else {
                panic!("{method} does not answer named fields")
            };
            for (name, value) in fields {
                all.iter_mut().find(|(field, _)| field == name).unwrap().1 = value;
            }
            answer
        });
        let answer = match answer {
            Some(answer) => Value::unnamed_variant("Some", [answer]),
            None => Value::unnamed_variant("None", []),
        };
        let bytes = encode(types, output, &answer);
        self.calls.insert(format!("SubnetInfoRuntimeApi_{method}"), bytes);
        self
    }

    /// With these bytes, as hex, as the answer to a call of the subnets' runtime API.
    pub(crate) fn reply(&mut self, method: &str, bytes: &str) {
        self.calls.insert(format!("SubnetInfoRuntimeApi_{method}"), unhex(&format!("0x{bytes}")));
    }

    /// The chain as its metadata describes it.
    pub(in crate::bittensor::chain) fn described(&self) -> &OfflineClientAtBlock<Subtensor> {
        &self.described
    }

    /// What the chain answers; nothing if there is no such method or call.
    pub(super) fn answer(&self, method: &str, params: &Json) -> Option<Json> {
        let header = json!({
            "parentHash": GENESIS,
            "number": format!("{HEAD_NUMBER:#x}"),
            "stateRoot": GENESIS,
            "extrinsicsRoot": GENESIS,
            "digest": { "logs": [] },
        });
        let text = |place: usize| params[place].as_str();
        let found = |key: &str| self.storage.get(&unhex(key)).map(|value| hex(value));
        Some(match method {
            "chain_getBlockHash" if params[0] == json!(0) => json!(GENESIS),
            "chain_getFinalizedHead" => json!(HEAD),
            "chain_getHeader" => header,
            "chain_getBlock" => {
                let body: Vec<_> = self.body.iter().map(|extrinsic| hex(extrinsic)).collect();
                json!({ "block": { "header": header, "extrinsics": body }, "justifications": null })
            }
            "state_call" => json!(hex(self.calls.get(text(0)?)?)),
            "state_getStorage" => json!(found(text(0)?)),
            "state_getKeysPaged" => {
                let (prefix, start) = (unhex(text(0)?), text(2).map(unhex));
                let count = usize::try_from(params[1].as_u64()?).ok()?;
                let keys = self.storage.keys().filter(|key| key.starts_with(&prefix));
                let keys = keys.filter(|key| start.as_ref().is_none_or(|start| *key > start));
                json!(keys.take(count).map(|key| hex(key)).collect::<Vec<_>>())
            }
            "state_queryStorageAt" => {
                let keys = params[0].as_array()?.iter().filter_map(Json::as_str);
                let changes: Vec<_> = keys.map(|key| json!([key, found(key)])).collect();
                json!([{ "block": HEAD, "changes": changes }])
            }
            _ => return None,
        })
    }

    /// Takes a transaction; what is heard of it, or why it is refused.
    pub(super) fn submit(&mut self, extrinsic: Vec<u8>) -> Result<Vec<Json>, &'static str> {
        let failed = match self.fate {
            Fate::Refused(why) => return Err(why),
            Fate::Dropped => return Ok(vec![json!("ready"), json!("dropped")]),
            Fate::Silence => return Ok(vec![json!("ready"), json!({ "broadcast": ["peer"] })]),
            Fate::Done => None,
            Fate::Failed(error) => Some(error),
        };
        // The first transaction of a block tells the time; ours is the second.
        self.body = vec![vec![4, 5, 3, 0], extrinsic];
        let event = self.event(failed);
        let bytes = {
            let at = &self.described;
            let metadata = at.metadata_ref();
            let system = metadata.pallet_by_name("System").unwrap().storage().unwrap();
            let ty = system.entry_by_name("Events").unwrap().value_ty();
            let record = Value::named_composite([
                ("phase", Value::unnamed_variant("ApplyExtrinsic", [Value::u128(1)])),
                ("event", event),
                ("topics", Value::unnamed_composite([])),
            ]);
            let key = at.storage().entry(("System", "Events")).unwrap().fetch_key(vec![]).unwrap();
            (key, encode(metadata.types(), ty, &Value::unnamed_composite([record])))
        };
        self.storage.insert(bytes.0, bytes.1);
        Ok(vec![json!("ready"), json!({ "inBlock": BLOCK })])
    }

    /// The event that tells how a transaction ended.
    fn event(&self, failed: Option<&str>) -> Value {
        let types = &self.metadata.types;
        let ty = |path: &[&str]| {
            let found = types.types.iter().find(|ty| ty.ty.path.segments == path);
            blank(types, found.unwrap().id)
        };
        let info = ("dispatch_info", ty(&["frame_system", "DispatchEventInfo"]));
        let event = match failed {
            None => Value::named_variant("ExtrinsicSuccess", [info]),
            Some(name) => {
                let at = &self.described;
                let pallet = at.metadata_ref().pallet_by_name("SubtensorModule").unwrap();
                let mut errors = pallet.error_variants().unwrap().iter();
                let error = errors.find(|error| error.name == name).unwrap().index;
                let index = Value::u128(pallet.error_index().into());
                let module = [("index", index), ("error", Value::from_bytes([error, 0, 0, 0]))];
                let module = Value::unnamed_variant("Module", [Value::named_composite(module)]);
                Value::named_variant("ExtrinsicFailed", [("dispatch_error", module), info])
            }
        };
        Value::unnamed_variant("System", [event])
    }
}

fn prefixed(metadata: &RuntimeMetadataV16) -> Vec<u8> {
    RuntimeMetadataPrefixed(META_RESERVED, RuntimeMetadata::V16(metadata.clone())).encode()
}

/// The columns of the neurons as both of the runtime's calls answer them.
pub(crate) fn columns(
    neurons: &[(Hotkey, Neuron)],
    is_optional: bool,
) -> Vec<(&'static str, Value)> {
    let column = |values: Vec<Value>| match Value::unnamed_composite(values) {
        values if is_optional => Value::unnamed_variant("Some", [values]),
        values => values,
    };
    let each = |value: &dyn Fn(&(Hotkey, Neuron)) -> Value| neurons.iter().map(value).collect();
    vec![
        ("hotkeys", column(each(&|(hotkey, _)| account(hotkey)))),
        ("validator_permit", column(each(&|(_, neuron)| Value::bool(neuron.validator_permit)))),
        ("total_stake", column(each(&|(_, neuron)| Value::u128((neuron.stake * 1e9) as u128)))),
    ]
}

fn account(hotkey: &Hotkey) -> Value {
    Value::from_bytes(hotkey.bytes())
}

fn encode(types: &PortableRegistry, ty: u32, value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    scale::encode_as_type(value, ty, types, &mut bytes).unwrap();
    bytes
}

/// As empty a value of a type as there is.
fn blank(types: &PortableRegistry, id: u32) -> Value {
    let all = |ids: Vec<u32>| ids.into_iter().map(|id| blank(types, id)).collect::<Vec<_>>();
    match &types.resolve(id).unwrap().type_def {
        TypeDef::Composite(inner) if inner.fields.iter().all(|field| field.name.is_some()) => {
            let fields = inner.fields.iter();
            Value::named_composite(
                fields.map(|field| (field.name.clone().unwrap(), blank(types, field.ty.id))),
            )
        }
        TypeDef::Composite(inner) => {
            Value::unnamed_composite(all(inner.fields.iter().map(|field| field.ty.id).collect()))
        }
        TypeDef::Variant(inner) => {
            let first = inner.variants.iter().min_by_key(|variant| variant.index).unwrap();
            let fields = all(first.fields.iter().map(|field| field.ty.id).collect());
            Value::unnamed_variant(first.name.clone(), fields)
        }
        TypeDef::Tuple(inner) => {
            Value::unnamed_composite(all(inner.fields.iter().map(|field| field.id).collect()))
        }
        TypeDef::Array(inner) => {
            Value::unnamed_composite(all(vec![inner.type_param.id; inner.len as usize]))
        }
        TypeDef::Compact(inner) => blank(types, inner.type_param.id),
        TypeDef::Primitive(TypeDefPrimitive::Bool) => Value::bool(false),
        TypeDef::Primitive(_) => Value::u128(0),
        TypeDef::Sequence(_) | TypeDef::BitSequence(_) => Value::unnamed_composite([]),
    }
}

/// The length of a transaction, which stands before it.
pub(crate) fn without_length(extrinsic: &[u8]) -> &[u8] {
    let mut rest = extrinsic;
    let length = Compact::<u32>::decode(&mut rest).unwrap().0;
    assert_eq!(length as usize, rest.len());
    rest
}
