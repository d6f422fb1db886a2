//! `roadcrew simulate-validator`

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::evaluate::{Asking, load};
use super::failure::Failure;
use super::outputs::{new_folder, unwritten};
use super::session::{Session, Usually, progress};
use crate::app::Exit;
use crate::lab::challenges::{Cost, Curve, Faults, Plan, Pool, costs, simulate, usual};
use crate::lab::plot::{Kind, Plot, Series};
use crate::lab::records::{read, records};

/// Play the subnet's challenges and show what score to expect, and what each failure costs
///
/// The cascade answers every image of --data once, or --answers gives them: lines of JSON with label
/// (0 or 1) and probability (null where there was no answer), as `evaluate --out` writes them.
/// Then validators are simulated: label drawn with one half, an image of that label, windows of 100
/// and 10 answers, reward (0.5 MCC + 0.5 accuracy) cubed, moving average of 5 %.
///
/// Failures given as options happen in every simulation; the table adds one more to each, if there is
/// room for it. Origins and levels are mixed as in the data: mix the data as the subnet does.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct SimulateValidator {
    /// Folder of labelled images
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "answers",
        conflicts_with = "answers"
    )]
    data: Option<PathBuf>,
    /// File of answers, instead of images and a cascade
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
    /// Write the score's curve, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Take a sample of so many images of --data, drawn by --seed, each class in its share
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Challenges of each run
    #[arg(long, value_name = "N", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(201..=100_000))]
    challenges: u32,
    /// Runs to take the mean of
    #[arg(long, value_name = "N", default_value_t = 400,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Minutes between two challenges of one validator
    #[arg(long, value_name = "MIN", default_value_t = 20.0, value_parser = minutes)]
    minutes: f64,
    /// Share of challenges without an answer in time
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    miss_rate: f64,
    /// Share of challenges answered with 0.5 instead
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    prior_rate: f64,
    /// Share of challenges answered with no number
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    nan_rate: f64,
    /// Share of challenges answered with 1.7
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    out_of_range_rate: f64,
    /// Length of the outage in the table
    #[arg(long, value_name = "HOURS", default_value_t = 1.0, value_parser = minutes)]
    outage_hours: f64,
    #[command(flatten)]
    asking: Asking,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it must be from 0 to 1".into())
}

fn minutes(text: &str) -> Result<f64, String> {
    let time = text.parse().ok().filter(|time| *time > 0.0 && *time <= 1e6);
    time.ok_or_else(|| "it must be above 0".into())
}

/// What came out.
#[derive(Debug, Serialize)]
struct Outcome {
    plan: Plan,
    faults: Faults,
    minutes_per_challenge: f64,
    /// Of the answers, both labels equally often.
    accuracy: f64,
    steady: f64,
    steady_error: f64,
    /// Challenges until the mean is at 95 % of the steady score.
    challenges_to_steady: Option<usize>,
    hours_to_steady: Option<f64>,
    costs: Vec<Cost>,
    curve: Curve,
}

impl SimulateValidator {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        self.plots.as_deref().map_or(Ok(()), new_folder)?;
        let pool = self.pool(&session)?;
        let outcome = self.simulate(&pool)?;
        if let Some(dir) = &self.plots {
            outcome.plot().write(&dir.join("score.svg")).map_err(unwritten)?;
        }
        let out = session.out;
        if self.json {
            serde_json::to_writer(&mut *out, &outcome)?;
            writeln!(out)?;
        } else {
            outcome.print(out)?;
        }
        Ok(Exit::Ok)
    }

    /// The answers to draw from.
    fn pool(&self, session: &Session<'_>) -> Result<Pool, Failure> {
        let answers: Vec<(bool, Option<f64>)> = if let Some(path) = &self.answers {
            let next =
                "name a file that `roadcrew evaluate --out` has written, or correct the line";
            let logged = read(path).map_err(|error| Failure::new(error, next))?;
            logged.iter().map(|logged| (logged.label, logged.answer)).collect()
        } else {
            let app = session.app(Usually::Quiet)?;
            let examples =
                load(self.data.as_deref().unwrap_or(".".as_ref()), self.limit, self.seed)?;
            let answers = self.asking.ask("cascade", &app, &examples)?;
            let records = records(&examples, &answers);
            records.iter().map(|record| (record.label == 1, record.probability)).collect()
        };
        let next = "name images of both kinds";
        Pool::new(answers).map_err(|error| Failure::new(error, next))
    }

    fn simulate(&self, pool: &Pool) -> Result<Outcome, Failure> {
        let (challenges, runs) = (self.challenges as usize, self.runs as usize);
        let plan = Plan { challenges, runs, seed: self.seed };
        let faults = Faults {
            miss: self.miss_rate,
            prior: self.prior_rate,
            nan: self.nan_rate,
            out_of_range: self.out_of_range_rate,
            ..Faults::default()
        };
        let failed = |error| Failure::new(error, "correct the options named above");
        let outage = (self.outage_hours * 60.0 / self.minutes).ceil() as usize;
        let kinds = usual(faults, outage);
        let bar = progress(kinds.len() as u64).with_message("simulating");
        let curve = simulate(pool, &faults, &plan).map_err(failed)?;
        let done = |done| bar.set_position(done);
        let costs = costs(pool, &curve, kinds, &plan, &done).map_err(failed)?;
        bar.finish_and_clear();
        let challenges_to_steady = curve.reaches(0.95);
        Ok(Outcome {
            plan,
            faults,
            minutes_per_challenge: self.minutes,
            accuracy: pool.accuracy(),
            steady: curve.steady(),
            steady_error: curve.error(),
            challenges_to_steady,
            hours_to_steady: challenges_to_steady.map(|n| n as f64 * self.minutes / 60.0),
            costs,
            curve,
        })
    }
}

impl Outcome {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Plan { challenges, runs, .. } = self.plan;
        writeln!(out, "accuracy of the answers, both labels equally often: {:.4}", self.accuracy)?;
        writeln!(out, "\nscore over {challenges} challenges, {runs} runs:")?;
        writeln!(
            out,
            "{:>10} {:>9} {:>9} {:>9} {:>9}",
            "challenge", "hours", "mean", "10 %", "90 %"
        )?;
        let shown =
            [1, 10, 20, 50, 100, 150, 200, challenges].into_iter().filter(|n| *n <= challenges);
        for n in shown {
            let Curve { mean, low, high, .. } = &self.curve;
            let (hours, at) = (self.hours(n), n - 1);
            writeln!(
                out,
                "{n:>10} {hours:>9.1} {:>9.4} {:>9.4} {:>9.4}",
                mean[at], low[at], high[at]
            )?;
        }
        writeln!(out, "steady at {:.4} (standard error {:.4})", self.steady, self.steady_error)?;
        if let (Some(n), Some(hours)) = (self.challenges_to_steady, self.hours_to_steady) {
            writeln!(out, "95 % of that after {n} challenges, {hours:.1} hours")?;
        }
        writeln!(
            out,
            "\n{:<28} {:>9} {:>9} {:>7} {:>9}",
            "what if", "score", "change", "+-", "deepest"
        )?;
        for cost in &self.costs {
            let Cost { what, steady, deepest, error, .. } = cost;
            let is_outage = cost.faults.outage > 0;
            let what = if is_outage {
                format!("{what} of {:.1} h", self.hours(cost.faults.outage))
            } else {
                what.clone()
            };
            write!(out, "{what:<28} {steady:>9.4} {:>+9.4} {error:>7.4}", -cost.cost)?;
            match cost.recovers {
                Some(n) => {
                    writeln!(out, " {:>+9.4}, made good after {:.1} h", -deepest, self.hours(n))?;
                }
                None if is_outage => {
                    writeln!(out, " {:>+9.4}, not made good within the simulation", -deepest)?;
                }
                None => writeln!(out)?,
            }
        }
        Ok(())
    }

    fn hours(&self, challenges: usize) -> f64 {
        challenges as f64 * self.minutes_per_challenge / 60.0
    }

    fn plot(&self) -> Plot {
        let series = |name: &str, values: &[f64]| {
            let points = values.iter().enumerate().map(|(i, score)| (self.hours(i + 1), *score));
            Series { name: name.to_owned(), kind: Kind::Line, points: points.collect() }
        };
        Plot {
            title: "Score that a validator keeps".to_owned(),
            x: "hours since the first challenge".to_owned(),
            y: "score".to_owned(),
            series: vec![
                series("a tenth is above", &self.curve.high),
                series("mean", &self.curve.mean),
                series("a tenth is below", &self.curve.low),
            ],
        }
    }
}
