//! From easy to hard: how much of the data an epoch sees. Pure.

use serde::{Deserialize, Serialize};

/// A pacing function: epoch `e`, from 0, sees the easiest `1 - (1 - start) exp(-e / pace)` of the data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Curriculum {
    /// Share of the data that the first epoch sees.
    pub start: f64,
    /// Epochs after which the share that is still left out has fallen by a factor of e.
    pub pace: f64,
}

impl Default for Curriculum {
    fn default() -> Self {
        Self { start: 0.5, pace: 2.0 }
    }
}

impl Curriculum {
    /// What is wrong with the settings, if anything.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> anyhow::Result<()> {
        let Self { start, pace } = self;
        let fits = *start > 0.0 && *start <= 1.0;
        anyhow::ensure!(fits, "curriculum.start is {start}; more than 0, at most 1");
        let fits = pace.is_finite() && *pace > 0.0;
        anyhow::ensure!(fits, "curriculum.pace is {pace}; more than 0");
        Ok(())
    }

    /// The share of the data that an epoch sees; epochs are counted from 0.
    pub fn share(&self, epoch: usize) -> f64 {
        1.0 - (1.0 - self.start) * (-(epoch as f64) / self.pace).exp()
    }

    /// Whom an epoch sees: the easiest, each label by itself, so that the labels keep their balance.
    /// Indices into `difficulty`, in order.
    pub fn admitted(&self, epoch: usize, difficulty: &[f64], labels: &[bool]) -> Vec<usize> {
        let mut all = Vec::new();
        for label in [true, false] {
            let mut of_label: Vec<usize> =
                (0..labels.len()).filter(|index| labels[*index] == label).collect();
            of_label.sort_by(|a, b| difficulty[*a].total_cmp(&difficulty[*b]));
            let count = (of_label.len() as f64 * self.share(epoch)).ceil() as usize;
            all.extend(of_label.into_iter().take(count));
        }
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_pacing_gives_what_it_really_gives() {
        let plan = Curriculum::default();
        for (epoch, share) in [(0, 0.5), (5, 0.959), (9, 0.9944)] {
            assert!((plan.share(epoch) - share).abs() < 1e-3, "{epoch}: {}", plan.share(epoch));
        }
    }

    #[test]
    fn the_easiest_of_each_label_come_first() {
        let curriculum = Curriculum { start: 0.5, pace: 2.0 };
        let difficulty = [0.9, 0.1, 0.5, 0.2, 0.3, 0.8];
        let labels = [true, true, true, true, false, false];
        assert_eq!(curriculum.admitted(0, &difficulty, &labels), [1, 3, 4]);
        let everybody: Vec<usize> = (0..6).collect();
        assert_eq!(curriculum.admitted(50, &difficulty, &labels), everybody);
    }
}
