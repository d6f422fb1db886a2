//! The chain's client against a node that replays the recorded runtime over a real socket.

mod metagraph;
mod serve;
mod vectors;

use std::time::Duration;

use crate::bittensor::{Hotkey, Neuron};

/// Long enough for anything that is going to happen.
const WITHIN: Duration = Duration::from_secs(20);
const NETUID: u16 = 72;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Some neurons; the stakes are whole numbers of rao.
fn neurons(count: u16) -> Vec<(Hotkey, Neuron)> {
    let neuron = |uid: u16| {
        let mut key = [7; 32];
        key[..2].copy_from_slice(&uid.to_be_bytes());
        let stake = f64::from(uid) * 1000.0 + 0.5;
        (Hotkey::new(key), Neuron { uid, validator_permit: uid.is_multiple_of(3), stake })
    };
    (0..count).map(neuron).collect()
}
