//! Any bytes as the headers of a signed request, or as a file of nonces: see
//! `roadcrew::bittensor::fuzzing`, which says how they are read and what must hold.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| roadcrew::bittensor::fuzzing::axon(bytes));
