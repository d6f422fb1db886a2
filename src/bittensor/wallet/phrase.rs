//! From the words of a phrase to the seed, as Substrate does it: unlike BIP-39's own way it stretches
//! the entropy behind the words, not the words.

use bip39::{Error, Language, Mnemonic};
use sha2::Sha512;
use zeroize::Zeroizing;

const ROUNDS: u32 = 2048;

/// The seed of an English phrase.
///
/// # Errors
/// What is wrong with the phrase, without any word of it.
pub(super) fn seed(phrase: &str) -> Result<Zeroizing<[u8; 32]>, String> {
    let words = Mnemonic::parse_in_normalized(Language::English, phrase).map_err(describe)?;
    let (entropy, length) = words.to_entropy_array();
    let entropy = Zeroizing::new(entropy);
    let mut stretched = Zeroizing::new([0; 64]);
    pbkdf2::pbkdf2_hmac::<Sha512>(&entropy[..length], b"mnemonic", ROUNDS, &mut *stretched);
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(&stretched[..32]);
    Ok(seed)
}

fn describe(error: Error) -> String {
    match error {
        Error::BadWordCount(found) => format!("has {found} words, and phrases have 12 to 24"),
        Error::UnknownWord(index) => {
            format!("is no phrase: word {} is none of the 2048", index + 1)
        }
        Error::InvalidChecksum => "has a typing error: its checksum is wrong".into(),
        _ => "is no English phrase".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Substrate's development phrase.
    #[test]
    fn a_known_phrase() {
        let phrase = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
        let known = "fac7959dbfe72f052e5a0c3c8d6530f202b02fd8f9f5ca3580ec8deb7797479e";
        let mut expected = [0; 32];
        hex::decode_to_slice(known, &mut expected).unwrap();
        assert_eq!(*seed(phrase).unwrap(), expected);
        assert_eq!(*seed(&phrase.replace(' ', "  ")).unwrap(), *seed(phrase).unwrap());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_words() {
        let base = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";
        for (wrong, said) in [
            (base.replace("obey", "zzyzx"), "word 3 "),
            (base.replace("walk", "drive"), "checksum"),
            (base.replace(" walk", ""), "11 words"),
            (String::new(), "0 words"),
            (base.to_uppercase(), "word 1 "),
        ] {
            let error = seed(&wrong).unwrap_err();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("drive") && !error.contains("zzyzx"), "{error}");
        }
    }
}
