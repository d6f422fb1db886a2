//! A run on disk: weights and moments in one file, the rest in another; written whole or not at
//! all.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::network::read_tensors;
use super::optimizer::AdamW;
use super::{History, TrainSpec};
use crate::lab::files::{partial, write_json};

/// Where a run's checkpoint is.
pub(super) struct Checkpoint<'a> {
    spec: &'a TrainSpec,
    tensors: PathBuf,
    state: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct State {
    spec: TrainSpec,
    steps: usize,
    history: History,
}

impl<'a> Checkpoint<'a> {
    pub(super) fn of(spec: &'a TrainSpec, out: &Path) -> Self {
        let at = |name: &str| out.join(name);
        Self { spec, tensors: at("checkpoint.safetensors"), state: at("checkpoint.json") }
    }

    pub(super) fn exists(&self) -> bool {
        self.state.exists()
    }

    pub(super) fn must_not_exist(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.exists(),
            "{} holds a run already; go on with --resume, or name another --out",
            self.spec.out.display()
        );
        Ok(())
    }

    /// The tensors first: a crash between the two leaves an older state that does not fit, and
    /// the step count says so.
    pub(super) fn save(&self, optimizer: &AdamW, history: &History) -> anyhow::Result<()> {
        let mut tensors = HashMap::new();
        for slot in &optimizer.slots {
            tensors.insert(format!("value.{}", slot.name), slot.var.as_detached_tensor());
            tensors.insert(format!("first.{}", slot.name), slot.first.clone());
            tensors.insert(format!("second.{}", slot.name), slot.second.clone());
            if let Some(average) = &slot.average {
                tensors.insert(format!("average.{}", slot.name), average.clone());
            }
        }
        let steps = optimizer.steps();
        let marker = candle_core::Tensor::new(&[steps as i64], &candle_core::Device::Cpu)?;
        tensors.insert("steps".into(), marker);
        let partial = partial(&self.tensors);
        candle_core::safetensors::save(&tensors, &partial)?;
        fs_err::rename(partial, &self.tensors)?;
        let state = State { spec: self.spec.clone(), steps, history: history.clone() };
        write_json(&self.state, &state)
    }

    /// Puts the optimizer where the run left it.
    pub(super) fn load(&self, optimizer: &mut AdamW) -> anyhow::Result<History> {
        let text = fs_err::read_to_string(&self.state).context("nothing to resume")?;
        let state: State = serde_json::from_str(&text)
            .with_context(|| format!("checkpoint {}", self.state.display()))?;
        let cache = self.spec.cache.clone();
        let same = TrainSpec { resume: self.spec.resume, cache, ..state.spec };
        anyhow::ensure!(
            same == *self.spec,
            "the checkpoint is of another run; its settings were {same:?}"
        );
        let mut tensors = read_tensors(&self.tensors)?;
        let mut take = |kind: &str, name: &str| {
            let key = format!("{kind}.{name}");
            tensors.remove(&key).with_context(|| format!("the checkpoint lacks {key}"))
        };
        for slot in &mut optimizer.slots {
            slot.var.set(&take("value", &slot.name)?)?;
            slot.first = take("first", &slot.name)?;
            slot.second = take("second", &slot.name)?;
            if let Some(average) = &mut slot.average {
                *average = take("average", &slot.name)?;
            }
        }
        let steps = tensors.remove("steps").map(|t| t.to_vec1::<i64>()).transpose()?;
        anyhow::ensure!(
            steps.as_deref() == Some(&[state.steps as i64]),
            "the two checkpoint files are of different epochs; the run must begin anew"
        );
        optimizer.taken = state.steps;
        Ok(state.history)
    }
}
