//! A classifier as a graph that ONNX Runtime runs, made in memory from the checkpoint.

use std::collections::BTreeMap;

use crate::backends::BackendContext;
use crate::backends::onnx::{Frames, threads_of_one, usual_sharing};
use crate::models::ModelFiles;
use crate::onnx::graph::{self, Dtype, LOGITS};
use crate::onnx::ports::Wanted;
use crate::onnx::{Graph, Layout, Library, SessionSpec, Source, View};

/// The network, and what computes it.
pub(super) fn open(files: &ModelFiles, ctx: &BackendContext) -> anyhow::Result<(Frames, String)> {
    let library = Library::load(&ctx.onnx)?;
    let source = graph::Source::load(files)?;
    let model = source.model(Dtype::F32, None, &BTreeMap::new())?;
    let mut bytes = Vec::with_capacity(usize::try_from(model.length())?);
    model.write(&mut bytes)?;
    let spec = SessionSpec {
        threads: threads_of_one(ctx.instances),
        sharing: usual_sharing(ctx.instances),
        ..SessionSpec::default()
    };
    let graph = Graph::open(&library, Source::Memory(&bytes), &spec, None)?;
    let pictures = graph.ports().pictures(Wanted { name: "", layout: Layout::Nchw, size: None })?;
    let logits = graph.ports().output(LOGITS, &[])?.clone();
    let runner = graph.runner(pictures, &[&logits], ctx.max_batch);
    let version = format!("onnxruntime {}", library.version());
    Ok((Frames::new(runner, *source.plan()), version))
}

/// One logit per picture.
pub(super) fn logits(views: &[View<'_>]) -> anyhow::Result<Vec<f32>> {
    Ok(views.iter().flat_map(|view| view.values).copied().collect())
}
