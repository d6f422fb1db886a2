//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod axon;
mod calibrate;
mod embedded;
mod engine;
mod hostile;
mod http;
mod http_life;
mod layers;
mod parity;
mod reload;
mod supervised;
mod support;
mod wallet;
