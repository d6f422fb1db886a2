//! What a calibration found, for people and programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::choose::Chosen;
use super::walk::Walk;
use super::{Cost, Options, Sample, exact};
use crate::lab::plot::{Kind, Plot, Series};
use crate::lab::scores::Confusion;

/// Intervals are given at this confidence.
const CONFIDENCE: f64 = 0.95;

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked for.
    pub options: Options,
    /// Groups in the sample, equal files being one; an image without one counts as one.
    pub units: usize,
    /// Images in part A.
    pub fitted: usize,
    /// Images of part B that test, one of each group; all figures are of these.
    pub tested: usize,
    /// Images of part B that do not, since another of their group does.
    pub aside: usize,
    /// The stages, in order.
    pub stages: Vec<StageReport>,
    /// The cascade as it was configured.
    pub before: Figures,
    /// The calibrated cascade without early exits.
    pub full: Figures,
    /// The calibrated cascade with the certified exits, if there are any.
    pub after: Option<Figures>,
    /// The settings that were tested, from the safest to the cheapest.
    pub settings: Vec<Setting>,
    /// Which of them is the outcome: the cheapest that is certified.
    pub chosen: Option<usize>,
}

/// What was measured of a stage, and chosen for it.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// What an image costs.
    pub cost: Cost,
    /// Its calibration.
    #[serde(flatten)]
    pub chosen: Chosen,
}

/// Exits, and what part B says of them.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// `exit_below` and `exit_above` of every stage but the last.
    pub exits: Vec<[f32; 2]>,
    /// Images that the full cascade gets right and this one wrong.
    pub harms: u64,
    /// The probability of so few if the true rate were epsilon.
    pub p_value: f64,
    /// Whether it has the guarantee.
    pub certified: bool,
    /// How good and how expensive it is.
    pub figures: Figures,
}

/// How good and how expensive a cascade is.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Right and wrong; an image without an answer counts as wrong.
    pub confusion: Confusion,
    /// Share of right answers.
    pub accuracy: f64,
    /// Its interval of Clopper and Pearson at 95 %.
    pub interval: [f64; 2],
    /// Matthews' correlation coefficient.
    pub mcc: f64,
    /// The subnet's reward.
    pub reward: f64,
    /// Mean cost of an image.
    pub cost: Cost,
    /// Share of images that each stage is asked about.
    pub asked: Vec<f64>,
    /// Share of images that each stage answers.
    pub answered: Vec<f64>,
}

impl Figures {
    /// Counts how walks went.
    pub fn of(sample: &Sample, images: &[usize], went: impl Fn(usize) -> Walk) -> Self {
        let (mut confusion, mut cost) = (Confusion::default(), Cost::default());
        let mut asked = vec![0.0; sample.stages.len()];
        let mut answered = asked.clone();
        let one = 1.0 / images.len().max(1) as f64;
        for image in images {
            let (walk, label) = (went(*image), sample.labels[*image]);
            confusion.add(label, walk.is_right(label) == label);
            if walk.probability.is_some() {
                answered[walk.stage] += one;
            }
            for (stage, of) in sample.stages.iter().enumerate() {
                if walk.has_asked(stage) {
                    asked[stage] += one;
                    cost.device_ms += of.cost.device_ms * one;
                    cost.latency_ms += of.cost.latency_ms * one;
                }
            }
        }
        let right = confusion.true_positives + confusion.true_negatives;
        Self {
            confusion,
            accuracy: confusion.accuracy(),
            interval: exact::interval(right, images.len() as u64, 1.0 - CONFIDENCE),
            mcc: confusion.mcc(),
            reward: confusion.reward(),
            cost,
            asked,
            answered,
        }
    }
}

impl Report {
    /// Images in the sample.
    pub fn images(&self) -> usize {
        self.fitted + self.tested + self.aside
    }

    /// The setting that came out.
    pub fn outcome(&self) -> Option<&Setting> {
        self.settings.get(self.chosen?)
    }

    /// The bound on the harm of the outcome at confidence 1 - delta, as if no other setting had been
    /// looked at: not corrected for the choice, so no guarantee. That is epsilon.
    pub fn bound(&self) -> Option<f64> {
        let harms = self.outcome()?.harms;
        Some(exact::upper(harms, self.tested as u64, self.options.delta))
    }

    /// The report for people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write_stages(&mut out);
        let _ = self.write_cascades(&mut out);
        let _ = self.write_frontier(&mut out);
        out
    }

    fn write_stages(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{:<16} {:>10} {:>10} {:>12} {:>7}  held-out log-loss",
            "stage", "device ms", "latency ms", "calibration", "center"
        )?;
        for StageReport { name, cost, chosen } in &self.stages {
            let kind = format!("{:?}", chosen.kind).to_lowercase();
            let Cost { device_ms, latency_ms } = cost;
            write!(
                out,
                "{name:<16} {device_ms:>10.2} {latency_ms:>10.2} {kind:>12} {:>7.4} ",
                chosen.spec.center
            )?;
            for (kind, loss) in &chosen.losses {
                write!(out, " {} {loss:.4}", format!("{kind:?}").to_lowercase())?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn write_cascades(&self, out: &mut String) -> std::fmt::Result {
        let (tested, full) = (self.tested, self.full.cost.device_ms);
        if self.units < self.images() {
            let Self { units, fitted, aside, .. } = self;
            writeln!(
                out,
                "\n{} images in {units} groups: {fitted} images to fit, {tested} groups to test by one \
                 image each, {aside} other images of these left aside",
                self.images()
            )?;
        }
        writeln!(
            out,
            "\n{:<16} {:>8} {:>16} {:>7} {:>7} {:>10} {:>10} {:>6}",
            format!("on {tested} images"),
            "accuracy",
            "95 % interval",
            "MCC",
            "reward",
            "device ms",
            "latency ms",
            "cost"
        )?;
        let after = self.after.as_ref().map(|after| ("certified", after));
        for (name, f) in
            [("as configured", &self.before), ("full cascade", &self.full)].into_iter().chain(after)
        {
            let interval = format!("{:.4} to {:.4}", f.interval[0], f.interval[1]);
            let share = 100.0 * f.cost.device_ms / full.max(1e-12);
            let Figures { accuracy, mcc, reward, cost, .. } = f;
            writeln!(
                out,
                "{name:<16} {accuracy:>8.4} {interval:>16} {mcc:>7.4} {reward:>7.4} {:>10.2} {:>10.2} {share:>4.0} %",
                cost.device_ms, cost.latency_ms
            )?;
        }
        Ok(())
    }

    fn write_frontier(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n{:>2} {:>6} {:>9} {:>8} {:>10} {:>6}  exits below/above, share of answers",
            "", "harms", "p-value", "accuracy", "device ms", "cost"
        )?;
        for (place, setting) in self.settings.iter().enumerate() {
            let mark = match (Some(place) == self.chosen, setting.certified) {
                (true, _) => "=>",
                (false, true) => "ok",
                (false, false) => "",
            };
            let Setting { harms, p_value, figures, .. } = setting;
            let share = 100.0 * figures.cost.device_ms / self.full.cost.device_ms.max(1e-12);
            write!(
                out,
                "{mark:>2} {harms:>6} {p_value:>9.2e} {:>8.4} {:>10.2} {share:>4.0} % ",
                figures.accuracy, figures.cost.device_ms
            )?;
            for (stage, [below, above]) in self.stages.iter().zip(&setting.exits) {
                write!(out, " {} {below}/{above}", stage.name)?;
            }
            let shares: Vec<String> =
                figures.answered.iter().map(|share| format!("{:.0} %", 100.0 * share)).collect();
            writeln!(out, "  {}", shares.join(" "))?;
        }
        Ok(())
    }

    /// The frontier as a picture: accuracy over cost.
    pub fn plot(&self) -> Plot {
        let points = |is_in: &dyn Fn(usize, &Setting) -> bool| -> Vec<(f64, f64)> {
            let of =
                self.settings.iter().enumerate().filter(|(place, setting)| is_in(*place, setting));
            of.map(|(_, setting)| point(&setting.figures)).collect()
        };
        let mut all = vec![point(&self.full)];
        all.extend(points(&|_, _| true));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let dots = |name: &str, points| Series { name: name.to_owned(), kind: Kind::Dots, points };
        Plot {
            title: format!(
                "Accuracy and cost of early exits, {} images; epsilon {}, delta {}",
                self.tested, self.options.epsilon, self.options.delta
            ),
            x: "device ms per image".to_owned(),
            y: "accuracy".to_owned(),
            series: vec![
                Series { name: "tested".to_owned(), kind: Kind::Line, points: all },
                dots("certified", points(&|_, setting| setting.certified)),
                dots("chosen", points(&|place, _| Some(place) == self.chosen)),
                dots("full cascade", vec![point(&self.full)]),
                dots("as configured", vec![point(&self.before)]),
            ],
        }
    }
}

fn point(figures: &Figures) -> (f64, f64) {
    (figures.cost.device_ms, figures.accuracy)
}
