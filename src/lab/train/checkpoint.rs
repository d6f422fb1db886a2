//! A run on disk: one file with weights, moments and history, written whole or not at all, so that a
//! kill at any moment leaves the last epoch or the one before it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::network::read_tensors;
use super::optimizer::AdamW;
use super::{History, TrainSpec};
use crate::lab::files::partial;

/// The name of the file.
pub(super) const NAME: &str = "checkpoint.safetensors";

/// Where a run's checkpoint is.
pub(super) struct Checkpoint<'a> {
    spec: &'a TrainSpec,
    /// A digest of what is learnt from.
    material: String,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct State {
    spec: TrainSpec,
    material: String,
    steps: usize,
    history: History,
}

impl<'a> Checkpoint<'a> {
    pub(super) fn of(spec: &'a TrainSpec, material: String, out: &Path) -> Self {
        Self { spec, material, path: out.join(NAME) }
    }

    pub(super) fn exists(&self) -> bool {
        self.path.exists()
    }

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
        let state = State {
            spec: self.spec.clone(),
            material: self.material.clone(),
            steps: optimizer.steps(),
            history: history.clone(),
        };
        tensors.insert("state".into(), Tensor::new(serde_json::to_vec(&state)?, &Device::Cpu)?);
        let partial = partial(&self.path);
        candle_core::safetensors::save(&tensors, &partial)?;
        Ok(fs_err::rename(partial, &self.path)?)
    }

    /// Puts the optimizer where the run left it.
    pub(super) fn load(&self, optimizer: &mut AdamW) -> anyhow::Result<History> {
        let name = self.path.display();
        let mut tensors = read_tensors(&self.path)?;
        let mut take =
            |key: &str| tensors.remove(key).with_context(|| format!("{name} lacks {key}"));
        let state: State = serde_json::from_slice(&take("state")?.to_vec1::<u8>()?)
            .with_context(|| format!("checkpoint {name}"))?;
        let cache = self.spec.cache.clone();
        let (resume, limits) = (self.spec.resume, self.spec.limits);
        let same = TrainSpec { resume, cache, limits, ..state.spec };
        let differing = differing(&same, self.spec)?;
        anyhow::ensure!(
            differing.is_empty(),
            "{name} is of another run: {differing}; resume it with its own settings, or name another \
             folder"
        );
        anyhow::ensure!(
            state.material == self.material,
            "the images, labels, scores or model of {name} have changed since; name another folder"
        );
        for slot in &mut optimizer.slots {
            slot.var.set(&take(&format!("value.{}", slot.name))?)?;
            slot.first = take(&format!("first.{}", slot.name))?;
            slot.second = take(&format!("second.{}", slot.name))?;
            if let Some(average) = &mut slot.average {
                *average = take(&format!("average.{}", slot.name))?;
            }
        }
        optimizer.taken = state.steps;
        Ok(state.history)
    }
}

/// The settings in which two runs differ, in words.
fn differing(theirs: &TrainSpec, ours: &TrainSpec) -> anyhow::Result<String> {
    let flat = |spec: &TrainSpec| -> anyhow::Result<Vec<(String, String)>> {
        let value = serde_json::to_value(spec)?;
        let mut flat = Vec::new();
        for (key, value) in value.as_object().into_iter().flatten() {
            match value.as_object() {
                Some(inner) => {
                    flat.extend(
                        inner.iter().map(|(name, v)| (format!("{key}.{name}"), v.to_string())),
                    );
                }
                None => flat.push((key.clone(), value.to_string())),
            }
        }
        Ok(flat)
    };
    let (theirs, ours) = (flat(theirs)?, flat(ours)?);
    let differ = theirs.iter().filter(|entry| !ours.contains(entry));
    let words = differ.map(|(key, value)| format!("its {key} is {value}"));
    Ok(words.collect::<Vec<_>>().join(", "))
}
