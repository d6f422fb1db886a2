//! How a model is trained: the recipe, as a TOML file says it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::curriculum::Curriculum;
use super::loss::Distillation;
use crate::lab::augment::AugmentSpec;
use crate::lab::dataset::mix::Mixture;
use crate::models::Pooling;

/// The recipe that is used where none is named; also the manual of every key.
pub const DEFAULT: &str = include_str!("../../../config/train/default.toml");

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The head; the backbone stays as it is and its features are computed once.
    Head,
    /// Backbone and head together.
    All,
}

/// Which head a run begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadStart {
    /// A new one, of the recipe's pooling and width.
    New,
    /// The one in the model's folder.
    Keep,
}

/// Which features a new head looks at: [`Pooling`], by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Features {
    /// The class token.
    Cls,
    /// The class token and the mean of the patches.
    ClsMean,
    /// The class token, the mean and the maximum of the patches.
    ClsMeanMax,
}

impl From<Features> for Pooling {
    fn from(features: Features) -> Self {
        match features {
            Features::Cls => Self::Cls,
            Features::ClsMean => Self::ClsMean,
            Features::ClsMeanMax => Self::ClsMeanMax,
        }
    }
}

/// How much each class counts in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// Every image counts the same.
    None,
    /// Both classes count the same: an image counts `n / (2 n_class)`.
    Balanced,
}

/// The recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is trained.
    pub scope: Scope,
    /// Which head the run begins with.
    pub head: HeadStart,
    /// Which features a new head looks at.
    pub pooling: Features,
    /// Width of a new head.
    pub hidden: usize,
    /// Share of the hidden values dropped while training.
    pub dropout: f32,
    /// Most passes over the data.
    pub epochs: usize,
    /// Images of an epoch; 0 is as many as there are.
    pub epoch_images: usize,
    /// Images per step.
    pub batch: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Share of the run during which the learning rate rises; then it falls along a cosine.
    pub warm_up: f64,
    /// Decoupled weight decay of matrices; biases and norms have none.
    pub weight_decay: f64,
    /// Stop after so many epochs without a better MCC.
    pub patience: usize,
    /// Labels become `1 - smoothing / 2` and `smoothing / 2`.
    pub label_smoothing: f64,
    /// How much each class counts.
    pub class_weights: ClassWeights,
    /// Decay of the moving average of the weights; the average is what is judged and kept. 0 is off.
    pub ema: f64,
    /// Seeds of everything random; with several, the best run is kept.
    pub seeds: Vec<u64>,
    /// With a frozen backbone: variations of each image whose features are computed.
    pub variants: usize,
    /// How images vary.
    #[serde(default)]
    pub augment: AugmentSpec,
    /// The shares of an epoch.
    #[serde(default)]
    pub mix: Mixture,
    /// Share of the images without roadwork that are hard ones, 0 to 1; see `scores`. Left out: as they
    /// come.
    #[serde(default)]
    pub hard_negatives: Option<f64>,
    /// What a model says of the training images, by `roadcrew evaluate --out`: an image is as difficult
    /// as the model was wrong. Empty: by the data's own `difficulty`, or a scene's level.
    #[serde(default)]
    pub scores: PathBuf,
    /// From easy to hard.
    #[serde(default)]
    pub curriculum: Option<Curriculum>,
    /// Learning from a teacher.
    #[serde(default)]
    pub distillation: Option<Distillation>,
}

impl Recipe {
    /// The recipe of a file; keys that it leaves out are as in [`DEFAULT`].
    ///
    /// # Errors
    /// Unreadable files, unknown keys, values out of range: the message names the key.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let mut table: toml::Table = DEFAULT.parse()?;
        if let Some(path) = path {
            let text = fs_err::read_to_string(path)?;
            let own = text.parse().with_context(|| format!("recipe {}", path.display()))?;
            overlay(&mut table, own);
        }
        let name = path.map_or_else(|| "the default".into(), |path| path.display().to_string());
        Self::deserialize(table).with_context(|| format!("recipe {name}"))
    }

    /// What cannot work is said before anything is computed.
    ///
    /// # Errors
    /// Names the key and says what it may be.
    pub fn check(&self) -> anyhow::Result<()> {
        let shares = [
            ("dropout", f64::from(self.dropout)),
            ("warm_up", self.warm_up),
            ("label_smoothing", self.label_smoothing),
            ("ema", self.ema),
        ];
        for (key, share) in shares {
            anyhow::ensure!((0.0..1.0).contains(&share), "{key} is {share}; from 0 to below 1");
        }
        for (key, rate) in
            [("learning_rate", self.learning_rate), ("weight_decay", self.weight_decay)]
        {
            anyhow::ensure!((0.0..=1.0).contains(&rate), "{key} is {rate}; 0 to 1");
        }
        if let Some(share) = self.hard_negatives {
            anyhow::ensure!((0.0..=1.0).contains(&share), "hard_negatives is {share}; 0 to 1");
        }
        if let Some(problem) = self.mix.problem() {
            anyhow::bail!("mix: {problem}");
        }
        let counts = [
            ("hidden", self.hidden),
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("patience", self.patience),
            ("variants", self.variants),
            ("seeds", self.seeds.len()),
        ];
        for (key, count) in counts {
            anyhow::ensure!(count >= 1, "{key} is {count}; at least 1");
        }
        let distinct: std::collections::BTreeSet<_> = self.seeds.iter().collect();
        anyhow::ensure!(distinct.len() == self.seeds.len(), "seeds holds one of them twice");
        self.check_for_idle_keys()?;
        self.augment.check()?;
        self.curriculum.iter().try_for_each(Curriculum::check)?;
        self.distillation.iter().try_for_each(Distillation::check)
    }
}

impl Recipe {
    /// Whether it matters how difficult an image is.
    pub fn needs_difficulty(&self) -> bool {
        self.curriculum.is_some() || self.mix.hard.is_some() || self.hard_negatives.is_some()
    }

    /// The recipe by which validation images are seen: framed by the same views, and nothing else.
    pub(super) fn judging(&self) -> Self {
        Self {
            distillation: None,
            class_weights: ClassWeights::None,
            curriculum: None,
            mix: Mixture::default(),
            hard_negatives: None,
            scores: PathBuf::new(),
            ..self.clone()
        }
    }

    /// A key that would do nothing is more likely a mistake than meant.
    fn check_for_idle_keys(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.needs_difficulty() || self.scores.as_os_str().is_empty(),
            "scores does nothing without [curriculum], mix.hard or hard_negatives"
        );
        Ok(())
    }
}

/// Puts the values of one table over those of another.
fn overlay(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => overlay(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> anyhow::Result<Recipe> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), text).unwrap();
        let recipe = Recipe::load(Some(file.path()))?;
        recipe.check()?;
        Ok(recipe)
    }

    #[test]
    fn every_recipe_that_comes_with_roadcrew_is_sound() {
        Recipe::load(None).unwrap().check().unwrap();
        for entry in fs_err::read_dir("config/train").unwrap() {
            let path = entry.unwrap().path();
            Recipe::load(Some(&path)).unwrap().check().unwrap();
        }
    }

    #[test]
    fn a_recipe_says_only_what_differs() {
        let recipe =
            load("epochs = 3\n[augment]\nflip = 0.25\n[augment.views]\nnative = 2\n").unwrap();
        assert_eq!(
            (recipe.epochs, recipe.augment.flip, recipe.augment.views.native),
            (3, 0.25, 2.0)
        );
        assert_eq!(recipe.batch, Recipe::load(None).unwrap().batch);
    }

    #[test]
    fn mistakes_name_the_key() {
        for (text, part) in [
            ("epoch = 3", "epoch"),
            ("dropout = 1.0", "dropout"),
            ("batch = 0", "batch"),
            ("scores = \"x\"", "scores does nothing"),
            ("hard_negatives = 2", "hard_negatives"),
            ("seeds = [1, 1]", "seeds"),
            ("[mix]\nhard = 1.5", "hard images is 1.5"),
            ("[augment]\ncrop = 0", "augment.crop"),
            ("[augment.views]\nlevels = [1, 1, 1, -1]", "augment.views"),
            ("[curriculum]\nstart = 0", "curriculum.start"),
            ("[distillation]\nteacher = \"t.jsonl\"\ntemperature = 0", "distillation.temperature"),
            ("[distillation]\nalpha = 0.5", "distillation.teacher"),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
