//! Any bytes as a request for a verdict: see `roadcrew::http::fuzzing`, which says how they are
//! read and what must hold.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| roadcrew::http::fuzzing::request(bytes));
