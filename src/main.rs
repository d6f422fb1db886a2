//! The roadcrew program.

use std::process::ExitCode;

use roadcrew::app::Parts;

fn main() -> ExitCode {
    roadcrew::cli::run(Parts::default())
}
