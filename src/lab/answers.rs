//! What an engine says of many images: the one place where the lab asks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rayon::prelude::*;

use super::dataset::Picture;
use crate::actors::{Engine, Priority, Request};
use crate::backends::Input;
use crate::clock;
use crate::image::{Image, ImageLimits};
use crate::prediction::{Rejection, Verdict};

/// Images decoded and held at a time.
const CHUNK: usize = 256;

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Images in flight at the same time.
    pub concurrency: usize,
    /// Deadline of each image.
    pub deadline: Duration,
    /// What to decode.
    pub limits: ImageLimits,
}

/// What came of one image.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The verdict with its trace, or why there is none.
    pub outcome: Result<Verdict, Rejection>,
    /// From submission to the outcome, with `concurrency` images in flight.
    pub took: Duration,
}

/// The answers, and where the time went.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// One for each picture, in their order.
    pub answers: Vec<Answer>,
    /// Time in the engine, all images together.
    pub engine: Duration,
    /// Time spent on reading and decoding, all cores at work.
    pub decode: Duration,
}

/// Asks the engine about every picture. `progress` is told how many are done.
///
/// # Errors
/// If an image cannot be read or decoded; a set with holes would give figures that mean nothing.
pub async fn ask<'a>(
    engine: &Engine,
    pictures: impl IntoIterator<Item = &'a Picture>,
    options: Options,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Answers> {
    let pictures: Vec<&Picture> = pictures.into_iter().collect();
    let mut all = Answers::default();
    for chunk in pictures.chunks(CHUNK) {
        let begun = clock::now();
        let images = decode(chunk, &options.limits)?;
        all.decode += clock::now().saturating_duration_since(begun);
        let begun = clock::now();
        let asked = stream::iter(images).map(|image| one(engine, image, options.deadline));
        let mut answers = asked.buffered(options.concurrency.max(1));
        while let Some(answer) = answers.next().await {
            all.answers.push(answer);
        }
        all.engine += clock::now().saturating_duration_since(begun);
        progress(all.answers.len() as u64);
    }
    Ok(all)
}

fn decode(chunk: &[&Picture], limits: &ImageLimits) -> anyhow::Result<Vec<Arc<Image>>> {
    chunk.par_iter().map(|picture| Ok(Arc::new(picture.decode(limits)?))).collect()
}

async fn one(engine: &Engine, image: Arc<Image>, deadline: Duration) -> Answer {
    let begun = clock::now();
    let request = Request {
        input: Input::Image(image),
        deadline: begun + deadline,
        // Nobody else is in this engine, and others than validators may not fill it.
        priority: Priority::Validator,
    };
    let outcome = match engine.submit(request) {
        Ok(ticket) => ticket.wait().await,
        Err(rejection) => Err(rejection),
    };
    Answer { outcome, took: clock::now().saturating_duration_since(begun) }
}
