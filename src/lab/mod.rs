//! Offline work on labelled images: scenes, training, evaluation, calibration.
//!
//! Uses the engine as `http` does: there is one engine, offline too. Nothing that serves may use
//! this.

pub mod answers;
pub mod calibrate;
pub mod dataset;
pub mod evaluate;
pub mod files;
pub mod plot;
pub mod scenes;
pub mod scores;
pub mod train;
pub mod validator;
