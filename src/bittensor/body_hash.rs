//! The hash that a dendrite signs in place of the body: of the fields that the class names, and of
//! nothing else. `ImageSynapse` names none, so its image is not signed.

use std::fmt::Write as _;

use sha3::{Digest as _, Sha3_256};

/// The hash of a class that signs no fields: SHA3-256 of nothing.
pub const EMPTY_BODY_HASH: &str =
    "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a";

/// The hash over fields in the class's order, each as Python's `str` writes it.
pub fn body_hash(fields: &[&str]) -> String {
    let each: String = fields.iter().map(|field| hex(&Sha3_256::digest(field))).collect();
    hex(&Sha3_256::digest(each))
}

/// In lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fields_have_the_hash_of_nothing() {
        assert_eq!(body_hash(&[]), EMPTY_BODY_HASH);
    }

    /// Computed with `bittensor.core.synapse` 9.12.2 for a class that signs two fields.
    #[test]
    fn fields_are_hashed_one_by_one() {
        assert_eq!(
            body_hash(&["abc", "1.0"]),
            "418bbc02342dbd6e208aec202f812f6a58f611fd56bfe0d6acde1b834937598f"
        );
    }
}
