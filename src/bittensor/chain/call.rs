//! The call `serve_axon` as bytes, written and read back by the runtime's own description.

use std::sync::Arc;

use subxt::client::OfflineClientAtBlockT;
use subxt::config::SubstrateConfig;
use subxt::config::substrate::SpecVersionForRange;
use subxt::ext::codec::Decode as _;
use subxt::ext::scale_value::{Composite, Primitive, Value, ValueDef};
use subxt::metadata::Metadata;
use subxt::tx::{DynamicPayload, TransactionsClient};
use subxt::{OfflineClient, OfflineClientAtBlock};

use super::config::Subtensor;
use super::endpoint::Endpoint;
use super::error::{ChainError, Fault};
use super::view::PALLET;

/// Pallet and call as numbers, the same in every runtime. Whoever describes another call under our
/// name would have us sign that one.
const KNOWN: [u8; 2] = [7, 4];

/// A call that could be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is signed and submitted.
    pub bytes: Vec<u8>,
    /// What the chain will read in it: each argument with its name, in its order.
    pub arguments: Vec<(String, u128)>,
}

/// What is submitted, before it is encoded.
pub(super) type Payload = DynamicPayload<Composite<()>>;

impl Call {
    /// The call as a runtime reads it whose metadata is in a file, without a node.
    ///
    /// # Errors
    /// What is not metadata, and a runtime whose `serve_axon` is not the one we know.
    pub fn offline(metadata: &[u8], netuid: u16, wanted: &Endpoint) -> Result<Self, ChainError> {
        let at = offline(metadata, SubstrateConfig::builder(), (0, 0))?;
        Self::encode(&at.tx(), &payload(netuid, wanted))
    }

    pub(super) fn encode<Client: OfflineClientAtBlockT<Subtensor>>(
        tx: &TransactionsClient<Subtensor, Client>,
        payload: &Payload,
    ) -> Result<Self, ChainError> {
        let unknown = |why: String| {
            ChainError::new(Fault::Runtime, format!("the runtime has another serve_axon: {why}"))
        };
        let bytes = tx.call_data(payload).map_err(|error| unknown(error.to_string()))?;
        if !bytes.starts_with(&KNOWN) {
            return Err(unknown(format!("it is call {:?} and not {KNOWN:?}", &bytes[..2])));
        }
        let read = tx.from_call_data_bytes(&bytes).map_err(|error| unknown(error.to_string()))?;
        let arguments = numbers(read.call_data());
        let sorted = |mut arguments: Vec<_>| {
            arguments.sort();
            arguments
        };
        if sorted(arguments.clone()) != sorted(numbers(payload.call_data())) {
            return Err(unknown("it reads other arguments than we write".to_owned()));
        }
        Ok(Self { bytes, arguments })
    }
}

/// The call with its arguments, not encoded yet.
pub(super) fn payload(netuid: u16, wanted: &Endpoint) -> Payload {
    let arguments = std::iter::once(("netuid", u128::from(netuid))).chain(wanted.arguments());
    let named = arguments.map(|(name, number)| (name, Value::u128(number)));
    subxt::tx::dynamic(PALLET, "serve_axon", Composite::named(named))
}

/// A view of a chain that consists of its metadata.
pub(super) fn offline(
    metadata: &[u8],
    config: subxt::config::substrate::SubstrateConfigBuilder,
    (spec_version, transaction_version): (u32, u32),
) -> Result<OfflineClientAtBlock<Subtensor>, ChainError> {
    let wrong = |why: String| ChainError::new(Fault::Runtime, format!("not metadata: {why}"));
    let metadata = Metadata::decode(&mut &*metadata).map_err(|error| wrong(error.to_string()))?;
    let versions =
        SpecVersionForRange { block_range: 0..u64::MAX, spec_version, transaction_version };
    let config = config
        .set_metadata_for_spec_versions([(spec_version, Arc::new(metadata))])
        .set_spec_version_for_block_ranges([versions])
        .build();
    let client = OfflineClient::new_with_config(Subtensor::offline(config));
    client.at_block(0u64).map_err(|error| wrong(error.to_string()))
}

/// The arguments by name, where each is a number, in whatever it is wrapped.
fn numbers(arguments: &Composite<()>) -> Vec<(String, u128)> {
    let Composite::Named(arguments) = arguments else { return Vec::new() };
    arguments.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?))).collect()
}

fn number(value: &Value) -> Option<u128> {
    match &value.value {
        ValueDef::Primitive(Primitive::U128(number)) => Some(*number),
        ValueDef::Composite(inner) => {
            let mut inner = inner.values();
            let (Some(only), None) = (inner.next(), inner.next()) else { return None };
            number(only)
        }
        _ => None,
    }
}
