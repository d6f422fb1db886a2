//! The search for a verdict on one image: remembered, in flight with somebody else, or computed.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use actix_web::web;

use super::Door;
use super::answers::{Due, Follow, Key, Landing, Lead, Turn};
use super::outcome::Refusal;
use super::synapse::{Asked, Synapse, SynapseError};
use crate::actors::{Admission, Request};
use crate::backends::Input;
use crate::bittensor::Unverified;
use crate::clock;
use crate::http::body::Body;
use crate::http::budget::Held;
use crate::http::input::Decoder;
use crate::http::reply::Failure;
use crate::http::server::Limits;
use crate::prediction::{Rejection, Verdict};

/// Where a verdict came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From the cascade, for this call.
    Computed,
    /// From another call that was in flight with the same image.
    Shared,
    /// From a call of some time ago.
    Remembered,
}

impl Source {
    /// The label used in metrics and logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Shared => "shared",
            Self::Remembered => "remembered",
        }
    }
}

/// An image as it came, and its share of the budget, which covers its pixels once there are any.
pub(super) struct Picture {
    synapse: Synapse,
    /// Under which its answer is shared, and the version of the cascade in it.
    key: Option<(Key, Vec<String>)>,
    held: Held,
}

impl Picture {
    /// What the caller wants to be told.
    pub(super) fn asked(&self) -> Asked {
        self.synapse.asked
    }

    /// Decodes the image, within the limits and the budget.
    fn decode(&mut self, limits: &Limits) -> Result<Input, Failure> {
        let kept = self.synapse.held_bytes();
        let held = RefCell::new(&mut self.held);
        let room = |pixels: usize| held.borrow_mut().make_room(kept.saturating_add(pixels));
        Decoder { limits, room: &room }.picture(self.synapse.image())
    }
}

/// Why a body is not an image to be judged.
pub(super) enum Unfit {
    NoSynapse(Refusal),
    NoImage(Asked),
    Failed(Failure),
}

/// The next step towards a verdict.
enum Step {
    Known(Arc<Verdict>),
    Follow(Follow),
    Compute(Input, Option<Lead>),
}

/// The search for one call.
pub(super) struct Search<'a> {
    pub(super) door: &'a Door,
    pub(super) due: Due,
    pub(super) admission: &'a Admission,
}

impl Search<'_> {
    /// Finds the image in the body.
    pub(super) async fn unwrap(
        &self,
        body: Body,
        body_hash: Option<String>,
    ) -> Result<Picture, Unfit> {
        let shares = self.door.answers.is_on();
        let version = shares.then(|| self.door.engine.board().version());
        let work = move || {
            let Body { bytes, held } = body;
            let synapse = Synapse::read(bytes, body_hash.as_deref())?;
            let key = version.map(|version| (Key::of(synapse.image(), &version), version));
            Ok(Picture { synapse, key, held })
        };
        let unwrapped = off_the_arbiter(self.door, self.due.deadline, work).await;
        unwrapped.map_err(Unfit::Failed)?.map_err(|error| match error {
            SynapseError::Base64(asked) => Unfit::NoImage(asked),
            SynapseError::Hash => Unfit::NoSynapse(Unverified::BodyHash.into()),
            SynapseError::Shape(_) => Unfit::NoSynapse(Refusal::BadBody(error.to_string())),
        })
    }

    /// Finds a verdict: remembers it, waits for somebody else's, or has it computed.
    pub(super) async fn verdict(
        &self,
        mut picture: Picture,
    ) -> Result<(Arc<Verdict>, Source), Failure> {
        // What a leader got that was less than a full verdict. It is better than none.
        let mut poorer = None;
        let found = loop {
            let (back, step) = match self.step(picture, poorer.is_some()).await {
                Ok(step) => step,
                Err(failure) => break Err(failure),
            };
            picture = back;
            match step {
                Step::Known(verdict) => break Ok((verdict, Source::Remembered)),
                Step::Compute(input, lead) => {
                    let computed = self.compute(&picture, input, lead).await;
                    break computed.map(|verdict| (verdict, Source::Computed));
                }
                Step::Follow(follow) => match in_time(self.due.latest(), follow.landing()).await {
                    Ok(Landing::Shared(verdict)) => break Ok((verdict, Source::Shared)),
                    Ok(Landing::Unfit(verdict)) => poorer = Some(verdict),
                    Ok(Landing::Left) => {}
                    Err(failure) => break Err(failure),
                },
            }
        };
        match (found, poorer.flatten()) {
            (Err(_), Some(verdict)) => Ok((verdict, Source::Shared)),
            (found, _) => found,
        }
    }

    /// Whose turn it is; if it is ours, the pixels.
    async fn step(&self, mut picture: Picture, alone: bool) -> Result<(Picture, Step), Failure> {
        let (answers, due, limits) = (self.door.answers.clone(), self.due, self.door.limits);
        let (decoders, engine) = (self.door.decoders.clone(), self.door.engine.clone());
        let welcome = move || engine.check(due.deadline, due.priority, decoders.service());
        let decoders = self.door.decoders.clone();
        let work = move || {
            let lead = match &picture.key {
                Some((key, _)) if !alone => match answers.turn(*key, due, clock::now()) {
                    Turn::Known(verdict) => return Ok((picture, Step::Known(verdict))),
                    Turn::Follow(follow) => return Ok((picture, Step::Follow(follow))),
                    Turn::Lead(lead) => Some(lead),
                    Turn::Alone => None,
                },
                _ => None,
            };
            welcome()?;
            let begun = clock::now();
            let input = picture.decode(&limits);
            decoders.learn(clock::now().saturating_duration_since(begun));
            match (input, lead) {
                (Ok(input), lead) => Ok((picture, Step::Compute(input, lead))),
                (Err(failure), lead) => {
                    // Not as one who leaves: or each follower would find out in turn.
                    lead.into_iter().for_each(|lead| lead.finish(None, false, clock::now()));
                    Err(failure)
                }
            }
        };
        off_the_arbiter(self.door, self.due.deadline, work).await?
    }

    /// Asks the engine, and tells whoever follows.
    async fn compute(
        &self,
        picture: &Picture,
        input: Input,
        lead: Option<Lead>,
    ) -> Result<Arc<Verdict>, Failure> {
        let Due { deadline, priority, .. } = self.due;
        let request = Request { input, deadline, priority };
        let outcome = match self.door.engine.submit_admitted(request, self.admission) {
            Ok(ticket) => ticket.wait().await,
            Err(rejection) => Err(rejection),
        };
        let verdict = outcome.map(Arc::new);
        if let (Some(lead), Some((_, version))) = (lead, &picture.key) {
            let is_current = *version == self.door.engine.board().version();
            lead.finish(verdict.as_ref().ok(), is_current, clock::now());
        }
        Ok(verdict?)
    }
}

/// Does what takes more than microseconds on a thread of its own, when a decoder is free, and before
/// the deadline. The decoder is free again only once the work is really over.
pub(super) async fn off_the_arbiter<T: Send + 'static>(
    door: &Door,
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let _pending = door.decoders.enter();
    let turn = async {
        let closed = || Failure::Internal("the decoders are closed".into());
        let permit = door.decoders.turn().await.ok_or_else(closed)?;
        let work = web::block(move || {
            let done = work();
            drop(permit);
            done
        });
        work.await.map_err(|_| Failure::Internal("the image decoder gave up".into()))
    };
    in_time(deadline, turn).await?
}

async fn in_time<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, Failure> {
    let remaining = deadline.saturating_duration_since(clock::now());
    let late = |_| Failure::Rejected(Rejection::Deadline);
    tokio::time::timeout(remaining, work).await.map_err(late)
}
