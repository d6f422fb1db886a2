//! A researcher's own backend: how orange is the picture? Cones and barriers are.
//!
//! Registered under a name, it is named in the configuration like any other. Here it is the first
//! stage of the default cascade, and every command works as usual:
//!
//! ```text
//! cargo run --example own_backend -- predict image.jpg
//! cargo run --example own_backend -- predict image.jpg --set stages.screen.orange.even_at=0.1
//! ```

use std::process::ExitCode;

use roadcrew::app::Parts;
use roadcrew::backends::{Backend, BackendError, Input};
use roadcrew::prediction::Prediction;

/// Its settings: `[stages.NAME.orange]`.
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Orange {
    /// The share of orange pixels that means even odds.
    even_at: f32,
}

impl Default for Orange {
    fn default() -> Self {
        Self { even_at: 0.02 }
    }
}

impl Backend for Orange {
    fn infer(&mut self, inputs: &[Input]) -> Result<Vec<Prediction>, BackendError> {
        Ok(inputs.iter().map(|input| Prediction::from_raw(self.score(input))).collect())
    }
}

impl Orange {
    fn score(&self, input: &Input) -> f32 {
        let (mut orange, mut all) = (0.0, 0.0);
        for rgb in input.frames().iter().flat_map(|frame| frame.pixels().chunks_exact(3)) {
            let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f32::from);
            orange += f32::from(r > 150.0 && r > 1.5 * g && g > 1.2 * b);
            all += 1.0;
        }
        let share: f32 = orange / all;
        share / (share + self.even_at)
    }
}

fn main() -> ExitCode {
    let mut parts = Parts::default();
    parts.backends.add("orange", |context| Ok(Box::new(context.settings::<Orange>()?)));
    parts.settings = "stages.screen.backend = 'orange'".into();
    roadcrew::cli::run(parts)
}
