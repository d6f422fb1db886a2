//! The tensors of a checkpoint below a name, for a graph: their shapes are checked, their values are
//! not read.

use candle_core::Device;
use candle_nn::VarBuilder;

use crate::models::Checkpoint;

/// A place in a checkpoint.
#[derive(Clone)]
pub(super) struct Weights {
    checkpoint: Checkpoint,
    place: VarBuilder<'static>,
    /// Before every name in the graph.
    owner: &'static str,
}

impl Weights {
    /// All of a checkpoint; `owner` tells the checkpoints of one graph apart.
    pub(super) fn new(checkpoint: Checkpoint, owner: &'static str) -> Self {
        let place = checkpoint.var_builder(&Device::Cpu);
        Self { checkpoint, place, owner }
    }

    /// Where a network looks for its tensors.
    pub(super) fn place(&self) -> VarBuilder<'static> {
        self.place.clone()
    }

    /// The same checkpoint at another place.
    pub(super) fn at(&self, place: VarBuilder<'static>) -> Self {
        Self { place, ..self.clone() }
    }

    /// What is below a name.
    pub(super) fn pp(&self, name: impl ToString) -> Self {
        self.at(self.place.pp(name))
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.checkpoint.clone()
    }

    /// The name of a tensor in the graph.
    pub(super) fn graph_name(&self, leaf: &str) -> String {
        format!("{}.{}", self.owner, self.name(leaf))
    }

    /// The name of a tensor in the checkpoint, which is there and has that shape.
    ///
    /// # Errors
    /// If not.
    pub(super) fn expect(&self, leaf: &str, shape: &[usize]) -> anyhow::Result<String> {
        let name = self.name(leaf);
        if self.checkpoint.shape(&name) != Some(shape) {
            // It fails, and says how.
            self.checkpoint.tensor(&name, Some(shape), &Device::Cpu)?;
        }
        Ok(name)
    }

    fn name(&self, leaf: &str) -> String {
        let prefix = self.place.prefix();
        if prefix.is_empty() { leaf.to_owned() } else { format!("{prefix}.{leaf}") }
    }
}
