//! An encoder's outputs as features, under a head of ours.
//!
//! The names and shapes are those of the community's exports of DINOv3: `last_hidden_state`
//! `[batch, prefix + patches, hidden]`, its first token CLS, and `pooler_output` `[batch, hidden]`, the
//! same token again.

use candle_core::{Device, Tensor};

use super::model::Model;
use super::spec::OnnxSpec;
use crate::models::{Features, Head, Pooling};
use crate::onnx::graph::{POOLED, TOKENS};
use crate::onnx::ports::{Dim, floats};
use crate::onnx::{Graph, Port, View};

/// A head over an encoder's outputs.
#[derive(Debug)]
pub(super) struct Encoder {
    head: Head,
    hidden_size: usize,
    reads: Reads,
}

/// What the head wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// `[batch, hidden]`.
    Pooled,
    /// `[batch, prefix + patches, hidden]`, with so many tokens before the patches.
    Tokens { prefix: usize },
}

impl Encoder {
    /// The head of a graph with these outputs, and the output it reads.
    ///
    /// # Errors
    /// If the outputs are not those of an encoder, or the head does not fit them.
    pub(super) fn new<'a>(
        spec: &OnnxSpec,
        model: &Model,
        graph: &'a Graph,
    ) -> anyhow::Result<(Self, &'a Port)> {
        let ports = graph.ports();
        let known = ports.output(&spec.output, &[TOKENS, POOLED])?;
        let hidden_size = hidden(known)?;
        let head = Head::load(model.head()?, hidden_size)?;
        let has_pooled = ports.outputs.iter().find(|port| port.name == POOLED);
        let port = match has_pooled.filter(|_| spec.output.is_empty()) {
            Some(pooled) if head.pooling() == Pooling::Cls => pooled,
            _ => known,
        };
        anyhow::ensure!(
            hidden(port)? == hidden_size,
            "the outputs {known} and {port} differ in their last dimension"
        );
        let reads = match floats(port, "output")?.len() {
            2 => Reads::Pooled,
            3 => Reads::Tokens { prefix: spec.prefix_tokens(graph)? },
            _ => anyhow::bail!(
                "the output {port} is neither [batch, hidden] nor [batch, tokens, hidden]"
            ),
        };
        anyhow::ensure!(
            reads != Reads::Pooled || head.pooling() == Pooling::Cls,
            "the head looks at the patches as well, and {port} has none; export the graph with \
             `{TOKENS}`, or set output to the one that has [batch, tokens, hidden]"
        );
        if let (Reads::Tokens { prefix }, Some(Dim::Fixed(tokens))) =
            (reads, floats(port, "output")?.get(1))
        {
            check_prefix(prefix, *tokens)?;
        }
        Ok((Self { head, hidden_size, reads }, port))
    }

    /// One logit per picture.
    pub(super) fn logits(&self, views: &[View<'_>]) -> anyhow::Result<Vec<f32>> {
        let [view] = views else { anyhow::bail!("one output was asked for") };
        Ok(self.head.forward(&self.features(view)?)?.to_vec1()?)
    }

    fn features(&self, view: &View<'_>) -> anyhow::Result<Features> {
        let dims: Vec<usize> =
            view.dims.iter().map(|dim| usize::try_from(*dim)).collect::<Result<_, _>>()?;
        let all = Tensor::from_slice(view.values, &*dims, &Device::Cpu)?;
        match (self.reads, &*dims) {
            (Reads::Pooled, [batch, hidden]) if *hidden == self.hidden_size => {
                let patches = Tensor::zeros((*batch, 1, *hidden), all.dtype(), all.device())?;
                Ok(Features { cls: all, patches })
            }
            (Reads::Tokens { prefix }, [_, tokens, hidden]) if *hidden == self.hidden_size => {
                check_prefix(prefix, *tokens)?;
                let cls = all.narrow(1, 0, 1)?.squeeze(1)?;
                Ok(Features { cls, patches: all.narrow(1, prefix, tokens - prefix)? })
            }
            _ => anyhow::bail!("the encoder's output has the dimensions {dims:?}"),
        }
    }
}

fn check_prefix(prefix: usize, tokens: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        (1..tokens).contains(&prefix),
        "prefix_tokens = {prefix}, and there are {tokens} tokens: CLS at least comes before the \
         patches, and one patch after it"
    );
    Ok(())
}

/// The width of the features.
fn hidden(port: &Port) -> anyhow::Result<usize> {
    let last = floats(port, "output")?.last().and_then(Dim::length);
    last.ok_or_else(|| {
        anyhow::anyhow!(
            "the output {port} leaves its last dimension open; export the graph with the hidden size \
             fixed"
        )
    })
}
