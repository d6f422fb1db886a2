//! roadcrew
pub mod actors;
pub mod backends;
pub mod calibration;
pub mod cascade;
pub mod clock;
pub mod config;
pub mod http;
pub mod image;
pub mod logging;
pub mod metrics;
pub mod prediction;
pub mod video;
