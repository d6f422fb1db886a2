//! Roadcrew.

pub mod image;
pub mod video;
