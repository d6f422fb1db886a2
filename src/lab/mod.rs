//! Offline work on labelled images: scenes, training, evaluation.
//!
//! Uses the engine as `http` does: there is one engine, offline too. Nothing that serves may use
//! this.

pub mod answers;
pub mod dataset;
pub mod evaluate;
pub mod export;
pub mod files;
pub mod scenes;
pub mod scores;
pub mod train;
