//! The JSON of a snapshot. The format is described at [`Snapshot`].

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Neuron, Snapshot, SnapshotError};
use crate::bittensor::Hotkey;

/// More than any metagraph has.
pub(in crate::bittensor) const BYTES_MAX: usize = 32 << 20;
/// As many as there are uids.
const NEURONS_MAX: usize = 1 << 16;

#[derive(Serialize, Deserialize)]
struct File<'a> {
    netuid: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block: Option<u64>,
    #[serde(default)]
    taken_at: Value,
    #[serde(borrow)]
    neurons: Vec<Row<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    uid: u16,
    #[serde(borrow)]
    hotkey: Cow<'a, str>,
    validator_permit: bool,
    stake: f64,
}

pub(super) fn read(bytes: &[u8], written_at: SystemTime) -> Result<Snapshot, SnapshotError> {
    if bytes.len() > BYTES_MAX {
        return Err(SnapshotError::TooLarge);
    }
    let file: File<'_> = serde_json::from_slice(bytes)
        .map_err(|error| SnapshotError::Malformed(error.to_string()))?;
    let taken_at = match &file.taken_at {
        Value::Null => written_at,
        said => moment(said).ok_or(SnapshotError::Time)?,
    };
    Ok(Snapshot {
        netuid: file.netuid,
        block: file.block,
        taken_at,
        neurons: neurons(&file.neurons)?,
    })
}

fn neurons(rows: &[Row<'_>]) -> Result<HashMap<Hotkey, Neuron>, SnapshotError> {
    if rows.len() > NEURONS_MAX {
        return Err(SnapshotError::TooMany { found: rows.len() });
    }
    let (mut neurons, mut uids) = (HashMap::with_capacity(rows.len()), HashSet::new());
    for (index, row) in rows.iter().enumerate() {
        let Row { uid, validator_permit, stake, .. } = *row;
        let wrong = |cause| SnapshotError::Hotkey { index, cause };
        let hotkey: Hotkey = row.hotkey.parse().map_err(wrong)?;
        if !is_stake(stake) {
            return Err(SnapshotError::Stake { hotkey, stake });
        }
        if !uids.insert(uid) {
            return Err(SnapshotError::UidTwice { index, uid });
        }
        if neurons.insert(hotkey, Neuron { uid, validator_permit, stake }).is_some() {
            return Err(SnapshotError::HotkeyTwice { index, hotkey });
        }
    }
    Ok(neurons)
}

fn is_stake(stake: f64) -> bool {
    stake.is_finite() && stake >= 0.0
}

/// A time as text or in seconds; none before 1970.
fn moment(said: &Value) -> Option<SystemTime> {
    let since = match said {
        Value::String(text) => {
            let time = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?;
            Duration::new(u64::try_from(time.unix_timestamp()).ok()?, time.nanosecond())
        }
        Value::Number(seconds) => Duration::try_from_secs_f64(seconds.as_f64()?).ok()?,
        _ => return None,
    };
    UNIX_EPOCH.checked_add(since)
}

pub(super) fn write(snapshot: &Snapshot) -> Result<Vec<u8>, SnapshotError> {
    let mut rows = Vec::with_capacity(snapshot.neurons.len());
    for (&hotkey, &Neuron { uid, validator_permit, stake }) in &snapshot.neurons {
        if !is_stake(stake) {
            return Err(SnapshotError::Stake { hotkey, stake });
        }
        rows.push(Row { uid, hotkey: hotkey.to_string().into(), validator_permit, stake });
    }
    rows.sort_by_key(|row| row.uid);
    let taken_at = text(snapshot.taken_at).ok_or(SnapshotError::Time)?;
    let (netuid, block) = (snapshot.netuid, snapshot.block);
    let file = File { netuid, block, taken_at: taken_at.into(), neurons: rows };
    let mut bytes =
        serde_json::to_vec(&file).map_err(|error| SnapshotError::Malformed(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A time by RFC 3339.
fn text(moment: SystemTime) -> Option<String> {
    let since = moment.duration_since(UNIX_EPOCH).ok()?;
    let nanoseconds = i128::try_from(since.as_nanos()).ok()?;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
