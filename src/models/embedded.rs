//! The checkpoints that are compiled in, so that the program alone can serve. What they are and how
//! they were made is told in `models/default/README.md`.

use super::ModelFiles;
use super::weights::EmbeddedFile;

/// The names of the embedded models.
pub const NAMES: [&str; 2] = ["screen", "confirm"];

macro_rules! files {
    ($name:literal: $($file:literal),*) => {
        &[$((
            $file,
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/models/default/",
                $name,
                "/",
                $file
            )),
        )),*]
    };
}

const SCREEN: &[EmbeddedFile] = files!("screen":
    "config.json", "preprocessor_config.json", "model.safetensors", "head.safetensors");
const CONFIRM: &[EmbeddedFile] = files!("confirm":
    "config.json", "preprocessor_config.json", "model.safetensors", "head.safetensors",
    "calibration.json");

/// The files of the embedded model of that name.
pub fn find(name: &str) -> Option<ModelFiles> {
    match name {
        "screen" => Some(ModelFiles::embedded("screen", SCREEN)),
        "confirm" => Some(ModelFiles::embedded("confirm", CONFIRM)),
        _ => None,
    }
}
