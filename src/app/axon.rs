//! The public port from its settings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::metagraph::Supply;
use crate::bittensor::{Callers, Hotkey, Metagraph, Moment, NonceLimits, Nonces, Verifier};
use crate::config::Config;
use crate::http::axon::Axon;

/// The public port and what keeps it supplied, if there is a hotkey to answer for.
///
/// # Errors
/// If the wallet cannot be read, or another process uses the same nonces.
pub(super) fn build(config: &Config) -> anyhow::Result<Option<(Axon, Supply)>> {
    let own = own_hotkeys(config)?;
    let Some(first) = own.first() else { return Ok(None) };
    let folder = state_dir(config);
    let nonces = nonces(&folder, *first)?;
    let callers = Callers::new(&config.callers).context("[callers]")?;
    let (verifier, metagraph) = (Verifier::new(own, nonces), Arc::<Metagraph>::default());
    let kept = folder.join(format!("metagraph-{}.json", config.metagraph.netuid));
    let supply = Supply::new(&config.metagraph, metagraph.clone(), kept);
    Ok(Some((Axon { spec: config.axon.clone(), verifier, callers, metagraph }, supply)))
}

/// Whether there is a hotkey to answer for, and so a public port.
///
/// # Errors
/// If the wallet cannot be read.
pub(super) fn is_open(config: &Config) -> anyhow::Result<bool> {
    Ok(!own_hotkeys(config)?.is_empty())
}

/// The wallet's hotkey first: it is meant where a caller names none of ours.
fn own_hotkeys(config: &Config) -> anyhow::Result<Vec<Hotkey>> {
    let mut own: Vec<Hotkey> = config.wallet.address()?.into_iter().collect();
    for text in &config.axon.hotkeys {
        let hotkey = text.parse().with_context(|| format!("axon.hotkeys: \"{text}\""))?;
        if !own.contains(&hotkey) {
            own.push(hotkey);
        }
    }
    Ok(own)
}

/// What must survive a restart is kept here.
fn state_dir(config: &Config) -> PathBuf {
    if !config.axon.state_dir.is_empty() {
        return PathBuf::from(&config.axon.state_dir);
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let home = || set("HOME").unwrap_or_else(|| ".".into()).join(".local/state");
    state.unwrap_or_else(home).join("roadcrew")
}

/// The memory of nonces, on disk if that can be. If not, whatever was signed before this moment is
/// refused: it may have been accepted by the process before.
fn nonces(folder: &Path, own: Hotkey) -> anyhow::Result<Nonces> {
    let (limits, now) = (NonceLimits::default(), Moment::now());
    let nonces = Nonces::open(&folder.join(format!("nonces-{own}")), limits, now)?;
    // Only after damage: until then even a fresh call would be refused.
    std::thread::sleep(nonces.settles_in(now));
    Ok(nonces)
}
