//! Reads the metagraph of a subnet: everything at one finalized block.
//!
//! Three sources are tried in turn, until one is there and understood: the runtime's selective
//! metagraph, its older subnet state, and what lies in storage. Each is decoded by the runtime's own
//! description of its types, by the names of the fields, so that fields which are added, moved or
//! made wider do no harm.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::utils::AccountId32;

use super::error::{ChainError, Fault};
use super::limits::{CONCURRENT_READS, MAX_NEURONS};
use super::node::Node;
use super::shape;
use super::view::{PALLET, View};
use crate::bittensor::{Hotkey, Neuron, Snapshot};

const API: &str = "SubnetInfoRuntimeApi";
/// What the selective metagraph is asked for, by the numbers that the runtime gives the parts:
/// the hotkeys, the validator permits, the total stake.
const PARTS: [u16; 3] = [52, 57, 69];
const RAO_PER_TAO: f64 = 1e9;

/// What `get_selective_metagraph` answers, as far as it matters here.
#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct Selective {
    hotkeys: Option<Vec<AccountId32>>,
    validator_permit: Option<Vec<bool>>,
    total_stake: Option<Vec<u64>>,
}

/// What `get_subnet_state` answers, as far as it matters here.
#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct State {
    hotkeys: Vec<AccountId32>,
    validator_permit: Vec<bool>,
    total_stake: Vec<u64>,
}

/// Columns by uid; the stake in rao.
struct Columns {
    hotkeys: Vec<AccountId32>,
    permits: Vec<bool>,
    stakes: Vec<u64>,
}

impl Node {
    /// Reads who is registered on a subnet, at the newest finalized block.
    ///
    /// Where neither of the runtime's two calls can be used, the stake is what is staked on this
    /// subnet alone, without the share that stake on the root subnet adds.
    ///
    /// # Errors
    /// Whatever is wrong with the node, its reply or the subnet, or that it took longer than
    /// `within`. An empty subnet is an error: taken at its word it would lock everybody out.
    pub async fn metagraph(&self, netuid: u16, within: Duration) -> Result<Snapshot, ChainError> {
        self.within(within, async {
            let view = self.view(within).await?;
            let neurons = read(&view, netuid).await?;
            let block = Some(view.at.block_number());
            Ok(Snapshot { netuid, block, taken_at: SystemTime::now(), neurons })
        })
        .await
    }
}

async fn read(view: &View, netuid: u16) -> Result<HashMap<Hotkey, Neuron>, ChainError> {
    let selective = match by_selective(view, netuid).await {
        Err(error) if is_worth_another_source(&error) => error,
        other => return neurons(other?, netuid),
    };
    let state = match by_state(view, netuid).await {
        Err(error) if is_worth_another_source(&error) => error,
        other => return neurons(other?, netuid),
    };
    tracing::warn!(
        node = view.node(),
        selective_metagraph = selective.what(),
        subnet_state = state.what(),
        "the metagraph is read from storage: stake on the root subnet is not counted"
    );
    // Who asks is told why the best source was of no use; why the last one was not is in the log.
    let columns = by_storage(view, netuid).await.map_err(|error| match error.fault {
        Fault::Reply | Fault::Refused => {
            tracing::warn!(storage = error.what(), "nor could storage be read");
            selective
        }
        _ => error,
    })?;
    neurons(columns, netuid)
}

/// Whether a node that failed so may do better when asked in another way.
fn is_worth_another_source(error: &ChainError) -> bool {
    matches!(error.fault, Fault::Reply | Fault::Refused)
}

/// From columns to neurons.
fn neurons(columns: Columns, netuid: u16) -> Result<HashMap<Hotkey, Neuron>, ChainError> {
    let Columns { hotkeys, permits, stakes } = columns;
    if hotkeys.is_empty() {
        return Err(ChainError::no_subnet(netuid));
    }
    if hotkeys.len() > MAX_NEURONS {
        return Err(ChainError::too_many());
    }
    let rows = hotkeys.into_iter().zip(permits).zip(stakes).zip(0..);
    let neuron = |(((hotkey, validator_permit), rao), uid): (((AccountId32, _), u64), _)| {
        let stake = rao as f64 / RAO_PER_TAO;
        (Hotkey::new(hotkey.0), Neuron { uid, validator_permit, stake })
    };
    Ok(rows.map(neuron).collect())
}

/// The columns of one reply, which must be equally long.
fn columns(
    hotkeys: Option<Vec<AccountId32>>,
    permits: Option<Vec<bool>>,
    stakes: Option<Vec<u64>>,
) -> Result<Columns, String> {
    let (Some(hotkeys), Some(permits), Some(stakes)) = (hotkeys, permits, stakes) else {
        return Err("it lacks hotkeys, permits or stakes".to_owned());
    };
    let lengths = [hotkeys.len(), permits.len(), stakes.len()];
    if lengths.iter().any(|length| *length != lengths[0]) {
        return Err(format!("its columns differ in length: {lengths:?}"));
    }
    Ok(Columns { hotkeys, permits, stakes })
}

async fn by_selective(view: &View, netuid: u16) -> Result<Columns, ChainError> {
    let answer: Option<Selective> =
        call(view, "get_selective_metagraph", (netuid, PARTS.to_vec())).await?;
    let Some(Selective { hotkeys, validator_permit, total_stake }) = answer else {
        return Err(ChainError::no_subnet(netuid));
    };
    columns(hotkeys, validator_permit, total_stake).map_err(|why| view.explain(&why))
}

async fn by_state(view: &View, netuid: u16) -> Result<Columns, ChainError> {
    let answer: Option<State> = call(view, "get_subnet_state", (netuid,)).await?;
    let Some(State { hotkeys, validator_permit, total_stake }) = answer else {
        return Err(ChainError::no_subnet(netuid));
    };
    columns(Some(hotkeys), Some(validator_permit), Some(total_stake))
        .map_err(|why| view.explain(&why))
}

/// Calls the runtime, once its answer's type is known to be of a kind that can be decoded safely.
async fn call<Arguments, Answer>(
    view: &View,
    method: &str,
    arguments: Arguments,
) -> Result<Answer, ChainError>
where
    Arguments: subxt::ext::frame_decode::runtime_apis::IntoEncodableValues,
    Answer: DecodeAsType,
{
    let metadata = view.at.metadata_ref();
    let described = metadata.runtime_api_trait_by_name(API);
    let Some(described) = described.and_then(|api| api.method_by_name(method)) else {
        return Err(view.explain(&format!("its runtime has no {method}")));
    };
    if !shape::is_tame(metadata.types(), described.output_ty()) {
        return Err(view.explain(&format!("the type that {method} answers is out of bounds")));
    }
    let payload = subxt::runtime_apis::dynamic::<Arguments, Answer>(API, method, arguments);
    view.at.runtime_apis().call(payload).await.map_err(|error| view.explain(&error))
}

async fn by_storage(view: &View, netuid: u16) -> Result<Columns, ChainError> {
    let hotkeys = keys(view, netuid).await?;
    let permits = view.stored(PALLET, "ValidatorPermit", (netuid,)).await?;
    let mut permits: Vec<bool> = permits.unwrap_or_default();
    // A neuron that was registered after the last epoch has no entry yet, and no permit.
    permits.resize(hotkeys.len(), false);
    let stakes = futures_util::stream::iter(hotkeys.clone())
        .map(|hotkey| stake(view, netuid, hotkey))
        .buffered(CONCURRENT_READS)
        .try_collect()
        .await?;
    Ok(Columns { hotkeys, permits, stakes })
}

/// The hotkeys by uid.
async fn keys(view: &View, netuid: u16) -> Result<Vec<AccountId32>, ChainError> {
    let keys = view.address::<(u16, u16), AccountId32>(PALLET, "Keys")?;
    let entries = view.at.storage().iter(keys, (netuid,)).await;
    let mut entries = entries.map_err(|error| view.explain(&error))?;
    let mut found = Vec::new();
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(|error| view.explain(&error))?;
        let key = entry.key().and_then(|key| key.decode());
        let (_, uid) = key.map_err(|error| view.explain(&error))?;
        let hotkey = entry.value().decode().map_err(|error| view.explain(&error))?;
        found.push((uid, hotkey));
        if found.len() > MAX_NEURONS {
            return Err(ChainError::too_many());
        }
    }
    found.sort_by_key(|(uid, _)| *uid);
    let is_whole = found.iter().zip(0..).all(|((uid, _), place)| *uid == place);
    if !is_whole {
        return Err(view.explain(&"the uids in storage have gaps or occur twice"));
    }
    Ok(found.into_iter().map(|(_, hotkey)| hotkey).collect())
}

/// What is staked to a hotkey on the subnet, in rao.
async fn stake(view: &View, netuid: u16, hotkey: AccountId32) -> Result<u64, ChainError> {
    let stake = view.stored(PALLET, "TotalHotkeyAlpha", (hotkey, netuid)).await?;
    Ok(stake.unwrap_or_default())
}
