//! The checkpoints that are compiled in, so that the program alone can serve. What they are and how
//! they were made is told in `models/default/README.md`.

use super::ModelFiles;
use super::weights::EmbeddedFile;

/// The names of the embedded models.
pub const NAMES: [&str; 2] = ["screen", "confirm"];

macro_rules! files {
    ($name:literal) => {
        &[
            files!($name, "config.json"),
            files!($name, "preprocessor_config.json"),
            files!($name, "model.safetensors"),
            files!($name, "head.safetensors"),
        ]
    };
    ($name:literal, $file:literal) => {
        (
            $file,
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/models/default/",
                $name,
                "/",
                $file
            )),
        )
    };
}

const SCREEN: &[EmbeddedFile] = files!("screen");
const CONFIRM: &[EmbeddedFile] = files!("confirm");

/// The files of the embedded model of that name.
pub fn find(name: &str) -> Option<ModelFiles> {
    match name {
        "screen" => Some(ModelFiles::embedded("screen", SCREEN)),
        "confirm" => Some(ModelFiles::embedded("confirm", CONFIRM)),
        _ => None,
    }
}
