//! A supervised, batching cascade engine for one question about a dashcam image: does it show
//! roadwork?
//!
//! The way in: README.md says what it does, ARCHITECTURE.md how it is built, and the modules below
//! stand in the order in which they may use each other (a test holds that order):
//!
//! - plain data and pure decisions: [`prediction`], [`calibration`], [`cascade`]
//! - pictures: [`image`], [`video`]; numbers about ourselves: [`metrics`], [`logging`]
//! - computing: [`kernels`], [`models`], [`onnx`], and what a researcher writes, [`backends`]
//! - the engine: [`actors`]; what validators and the chain agree on: [`bittensor`]
//! - doors: [`http`], [`config`], [`app`], [`parent`], [`lab`], [`cli`]
//!
//! A researcher's own backend is about forty lines: see `examples/own_backend.rs`.

pub mod actors;
pub mod app;
pub mod backends;
pub mod bittensor;
pub mod calibration;
pub mod cascade;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod image;
pub mod kernels;
pub mod lab;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod models;
pub mod onnx;
pub mod parent;
pub mod prediction;
pub mod video;
