//! The one integration binary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod engine;
mod layers;
mod parity;
