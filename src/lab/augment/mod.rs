//! Variations of a picture, for training and for evaluation: pure functions of the picture and of a
//! seeded generator.

pub mod colour;
pub mod geometry;
pub mod subnet;
#[cfg(test)]
mod tests;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::image::Image;
use colour::Tone;
use geometry::Frame;
use subnet::Level;

/// How pictures vary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentSpec {
    /// How often each way of framing a picture is taken.
    pub views: Views,
    /// Share of pictures that are mirrored.
    pub flip: f64,
    /// Least share of the area that a random crop keeps, 0 to 1; 1 crops nothing. Native size only:
    /// the levels of the subnet have crops of their own.
    pub crop: f64,
    /// Brightness varies by up to this share.
    pub brightness: f64,
    /// Contrast varies by up to this share.
    pub contrast: f64,
    /// Saturation varies by up to this share.
    pub saturation: f64,
    /// Share of pictures that are blurred a little.
    pub blur: f64,
}

/// Weights of the ways to frame a picture; they need not sum to one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    /// As it is.
    pub native: f64,
    /// Letter-boxed into a square.
    pub letter_box: f64,
    /// Each transform level of the subnet.
    pub levels: [f64; 4],
}

/// One way to frame a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As it is.
    Native,
    /// Letter-boxed into a square.
    LetterBox,
    /// A transform level of the subnet.
    Subnet(Level),
}

impl Default for Views {
    fn default() -> Self {
        Self { native: 1.0, letter_box: 0.0, levels: [0.0; 4] }
    }
}

impl Default for AugmentSpec {
    /// Nothing varies.
    fn default() -> Self {
        Self {
            views: Views::default(),
            flip: 0.0,
            crop: 1.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            blur: 0.0,
        }
    }
}

impl Views {
    fn weighted(&self) -> [(View, f64); 6] {
        let levels = [0, 1, 2, 3].map(|i| (View::Subnet(Level::ALL[i]), self.levels[i]));
        let [a, b, c, d] = levels;
        [(View::Native, self.native), (View::LetterBox, self.letter_box), a, b, c, d]
    }

    /// Draws one; the native one if all weights are zero.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> View {
        let weighted = self.weighted();
        let mut at = rng.random::<f64>() * weighted.iter().map(|(_, weight)| weight).sum::<f64>();
        for (view, weight) in weighted {
            if at < weight {
                return view;
            }
            at -= weight;
        }
        View::Native
    }
}

impl View {
    /// The picture, framed.
    ///
    /// # Errors
    /// As [`subnet::to_jpeg`].
    pub fn of(self, image: &Image, rng: &mut ChaCha8Rng) -> anyhow::Result<Image> {
        match self {
            Self::Native => Ok(image.clone()),
            Self::LetterBox => subnet::through_jpeg(&geometry::letter_box(image, subnet::SIDE)),
            Self::Subnet(level) => subnet::through_jpeg(&subnet::transform(image, level, rng)),
        }
    }
}

impl AugmentSpec {
    /// What is wrong with the settings, if anything.
    ///
    /// # Errors
    /// Names the key and says what it may be.
    pub fn check(&self) -> anyhow::Result<()> {
        for (view, weight) in self.views.weighted() {
            let fits = weight.is_finite() && weight >= 0.0;
            anyhow::ensure!(fits, "augment.views: the weight of {view:?} is {weight}; 0 or more");
        }
        let shares = [
            ("flip", self.flip),
            ("crop", self.crop),
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("saturation", self.saturation),
            ("blur", self.blur),
        ];
        for (key, share) in shares {
            anyhow::ensure!((0.0..=1.0).contains(&share), "augment.{key} is {share}; 0 to 1");
        }
        anyhow::ensure!(self.crop > 0.0, "augment.crop is 0; more than 0, and 1 crops nothing");
        Ok(())
    }

    /// Whether the same picture always comes out as it went in.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// A variation of the picture.
    ///
    /// # Errors
    /// As [`View::of`].
    pub fn apply(&self, image: &Image, rng: &mut ChaCha8Rng) -> anyhow::Result<Image> {
        let view = self.views.draw(rng);
        let mut varied = image.clone();
        if rng.random::<f64>() < self.flip {
            varied = geometry::mirror(&varied);
        }
        if view == View::Native && self.crop < 1.0 {
            varied = geometry::crop(&varied, self.frame(&varied, rng));
        }
        varied = view.of(&varied, rng)?;
        let mut around_one = |share: f64| 1.0 + rng.random_range(-share..=share) as f32;
        let tone = Tone {
            brightness: around_one(self.brightness),
            contrast: around_one(self.contrast),
            saturation: around_one(self.saturation),
        };
        if self.brightness + self.contrast + self.saturation > 0.0 {
            varied = colour::tone(&varied, tone);
        }
        if rng.random::<f64>() < self.blur {
            varied = colour::blur(&varied, 5, rng.random_range(0.3..1.2));
        }
        Ok(varied)
    }

    /// A frame of the picture's own shape that keeps at least `crop` of the area.
    fn frame(&self, image: &Image, rng: &mut ChaCha8Rng) -> Frame {
        let scale = rng.random_range(self.crop..=1.0).sqrt();
        let part = |length: u32| ((f64::from(length) * scale).round() as u32).clamp(1, length);
        let (width, height) = (part(image.width()), part(image.height()));
        let x = rng.random_range(0..=image.width() - width);
        let y = rng.random_range(0..=image.height() - height);
        Frame { x, y, width, height }
    }
}
