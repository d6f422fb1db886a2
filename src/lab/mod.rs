//! Offline work on labelled images: scenes, training, evaluation, calibration.
//!
//! Uses the engine as `http` does: there is one engine, offline too. Nothing that serves may use
//! this.

pub mod answers;
pub mod augment;
pub mod calibrate;
pub mod challenges;
pub mod dataset;
pub mod evaluate;
pub mod experiment;
pub mod export;
pub mod facets;
pub mod features;
pub mod files;
pub mod label_studio;
pub mod plot;
pub mod records;
pub mod scenes;
pub mod scores;
pub mod select;
pub mod train;
pub mod transform;
pub mod validator;
