//! The pictures that are asked about: small, all different, some of them poison.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use roadcrew::image::{Image, ImageLimits};

/// How many pictures nothing is wrong with.
const INNOCENT: usize = 96;

/// What a picture does to a stage that looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Panic,
    Hang,
    WrongCount,
    Broken,
}

/// The poisons: what each does to the screen and to the confirm stage.
const POISON: [[Option<Fault>; 2]; 12] = [
    [Some(Fault::Panic), None],
    [Some(Fault::Panic), None],
    [Some(Fault::Hang), None],
    [Some(Fault::WrongCount), None],
    [Some(Fault::Broken), None],
    [None, Some(Fault::Panic)],
    [None, Some(Fault::Panic)],
    [None, Some(Fault::Hang)],
    [None, Some(Fault::WrongCount)],
    [None, Some(Fault::Broken)],
    [Some(Fault::Panic), Some(Fault::Panic)],
    [Some(Fault::Broken), Some(Fault::Panic)],
];

/// A file, and what is true of it.
pub(crate) struct Picture {
    pub(crate) file: Vec<u8>,
    pub(crate) media: &'static str,
    /// The mean brightness, which is what both stages say of it.
    pub(crate) score: f32,
    pub(crate) digest: String,
    /// By stage.
    pub(crate) faults: [Option<Fault>; 2],
}

impl Picture {
    pub(crate) fn is_poison(&self) -> bool {
        self.faults.iter().any(Option::is_some)
    }

    /// A word for people.
    pub(crate) fn kind(&self) -> String {
        let at = |stage: usize| {
            self.faults[stage].map(|fault| format!("{}: {fault:?}", ["screen", "confirm"][stage]))
        };
        let faults: Vec<_> = (0..2).filter_map(at).collect();
        if faults.is_empty() { "innocent".into() } else { faults.join(", ") }
    }

    fn draw(rng: &mut ChaCha8Rng, level: u8, faults: [Option<Fault>; 2]) -> Self {
        let side = rng.random_range(8..24);
        let mut canvas = RgbImage::from_pixel(side, side, Rgb([level; 3]));
        // Each file has a digest of its own, and its mean hardly moves.
        for pixel in canvas.pixels_mut() {
            let noise = rng.random_range(-6..=6);
            *pixel = Rgb([level.saturating_add_signed(noise); 3]);
        }
        let png = rng.random_bool(0.5);
        let format = if png { ImageFormat::Png } else { ImageFormat::Jpeg };
        let mut file = Cursor::new(Vec::new());
        canvas.write_to(&mut file, format).unwrap();
        let file = file.into_inner();
        let image = Image::decode(&file, &ImageLimits::default()).unwrap();
        let sum: u64 = image.pixels().iter().map(|byte| u64::from(*byte)).sum();
        let score = sum as f32 / (image.pixels().len() as f32 * 255.0);
        let media = if png { "image/png" } else { "image/jpeg" };
        Self { file, media, score, digest: image.digest_hex(), faults }
    }
}

/// All pictures of a run.
pub(crate) struct Album {
    pub(crate) innocent: Vec<Picture>,
    pub(crate) poison: Vec<Picture>,
}

impl Album {
    /// The same for the same state of the generator.
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let innocent = (0..INNOCENT).map(|_| {
            let level = match rng.random_range(0..10) {
                0..4 => rng.random_range(0..40),
                4..7 => rng.random_range(215..=255),
                _ => rng.random_range(40..215),
            };
            Picture::draw(rng, level, [None; 2])
        });
        let innocent = innocent.collect();
        let poison = POISON.iter().map(|faults| {
            // What is to harm the second stage must get past the first.
            let level = if faults[1].is_some() { 100..160 } else { 0..255 };
            let level = rng.random_range(level);
            Picture::draw(rng, level, *faults)
        });
        Self { poison: poison.collect(), innocent }
    }

    /// The digests of those that do this to that stage, as the items of a TOML array.
    pub(crate) fn listed(&self, stage: usize, fault: Fault) -> String {
        let does = |picture: &&Picture| picture.faults[stage] == Some(fault);
        let prefix = |picture: &Picture| format!("\"{}\"", &picture.digest[..16]);
        self.poison.iter().filter(does).map(prefix).collect::<Vec<_>>().join(", ")
    }
}
