//! `roadcrew predict`: the cascade offline, through the engine that also serves.

mod input;
mod reply;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt as _, stream};

use super::failure::Failure;
use super::offline::{places, with_engine};
use super::session::{Session, Usually, tell};
use crate::actors::{Engine, Priority, Request};
use crate::app::{App, Exit};
use crate::backends::Input;
use crate::clock;
use crate::image::Image;
use crate::prediction::{Rejection, Verdict};
use reply::Reply;

/// Ask the cascade about images, offline
///
/// Prints one line per image, in the order given: file, label, probability, the stage that answered.
/// An image that cannot be read is reported, the others are answered all the same, and the exit code
/// is 1.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Predict {
    /// JPEG, PNG or WebP files; - reads one from standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Print one JSON object per image, with the fields of the HTTP API
    #[arg(long)]
    json: bool,
    /// Answer each image within so many milliseconds, as good as is possible by then
    #[arg(long, value_name = "MS", default_value_t = 600_000,
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    deadline_ms: u64,
}

/// What came of one image.
enum Outcome {
    Answered { verdict: Verdict, digest: String },
    Unreadable(String),
    Rejected(Rejection),
}

impl Predict {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        let out = session.out;
        with_engine(&app, async |engine: &Engine| self.ask(&app, engine, out).await)
    }

    async fn ask(&self, app: &App, engine: &Engine, out: &mut dyn Write) -> Result<Exit, Failure> {
        let outcomes = stream::iter(&self.images)
            .map(|path| async move { (path, self.ask_one(app, engine, path.clone()).await) });
        let mut outcomes = outcomes.buffered(places(app));
        let mut exit = Exit::Ok;
        while let Some((path, outcome)) = outcomes.next().await {
            exit = worse(exit, &outcome);
            self.print(&path.display().to_string(), outcome, out)?;
        }
        out.flush()?;
        Ok(exit)
    }

    async fn ask_one(&self, app: &App, engine: &Engine, path: PathBuf) -> Outcome {
        let limits = app.config().image;
        let decoding = tokio::task::spawn_blocking(move || input::read(&path, &limits));
        let image = match decoding.await {
            Ok(Ok(image)) => image,
            Ok(Err(error)) => return Outcome::Unreadable(format!("{error:#}")),
            Err(_) => return Outcome::Unreadable("the decoder panicked on this image".into()),
        };
        let digest = image.digest_hex();
        match self.submit(engine, image).await {
            Ok(verdict) => Outcome::Answered { verdict, digest },
            Err(rejection) => Outcome::Rejected(rejection),
        }
    }

    async fn submit(&self, engine: &Engine, image: Image) -> Result<Verdict, Rejection> {
        let deadline = clock::now() + Duration::from_millis(self.deadline_ms);
        let input = Input::Image(Arc::new(image));
        engine.submit(Request { input, deadline, priority: Priority::Normal })?.wait().await
    }

    fn print(&self, file: &str, outcome: Outcome, out: &mut dyn Write) -> Result<(), Failure> {
        let error = match outcome {
            Outcome::Answered { verdict, digest } => {
                let reply = Reply::new(file, &verdict, digest);
                if self.json {
                    serde_json::to_writer(&mut *out, &reply)?;
                    writeln!(out)?;
                } else {
                    writeln!(out, "{reply}")?;
                }
                return Ok(());
            }
            Outcome::Unreadable(error) => error,
            Outcome::Rejected(rejection) => rejection.to_string(),
        };
        if self.json {
            serde_json::to_writer(&mut *out, &serde_json::json!({ "file": file, "error": error }))?;
            writeln!(out)?;
        } else {
            tell(&format!("error: {file}: {error}"));
        }
        Ok(())
    }
}

/// How the process ends if one image ended so.
fn worse(exit: Exit, outcome: &Outcome) -> Exit {
    match (exit, outcome) {
        (exit, Outcome::Answered { .. }) => exit,
        (Exit::Internal, _) | (_, Outcome::Rejected(Rejection::Internal(_))) => Exit::Internal,
        _ => Exit::Failure,
    }
}
