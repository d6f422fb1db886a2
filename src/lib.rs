//! Roadcrew.

pub mod image;
pub mod kernels;
pub mod video;
