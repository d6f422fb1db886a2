//! Any bytes as the body of a validator's call: nothing breaks the reader, and an image is never longer
//! than the body that it came in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadcrew::http::axon::Synapse;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(synapse) = Synapse::read(bytes.to_vec(), None) {
        assert!(synapse.image().len() <= bytes.len());
    }
    // With a signed hash that nothing has.
    assert!(Synapse::read(bytes.to_vec(), Some("0")).is_err());
});
