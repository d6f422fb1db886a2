//! A hotkey's public key and its SS58 text.

use std::fmt;
use std::str::FromStr;

use blake2::{Blake2b512, Digest as _};

/// What the chain's addresses begin with: 42, the generic Substrate prefix.
const PREFIX: u8 = 42;
const CHECKSUM_BYTES: usize = 2;
/// Longer than any address; what is longer is not looked at.
const TEXT_MAX: usize = 64;

/// A hotkey's public key: 32 bytes, a point of Ristretto. Two texts of one key are the same hotkey.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hotkey([u8; 32]);

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not base58, or not as long as an address is.
    #[error("not an SS58 address: 47 or 48 letters and digits that begin with 5 are expected")]
    Malformed,
    /// An address of another network.
    #[error("an address of another network: its prefix is {0} and not 42")]
    Prefix(u8),
    /// A letter is wrong.
    #[error("the address has a typing error: its checksum is wrong")]
    Checksum,
}

impl Hotkey {
    /// Takes the bytes of a public key.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public key.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Blake2b512::new().chain_update(b"SS58PRE").chain_update(payload).finalize();
    [hash[0], hash[1]]
}

impl FromStr for Hotkey {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut raw = [0; 1 + 32 + CHECKSUM_BYTES];
        if text.len() > TEXT_MAX {
            return Err(AddressError::Malformed);
        }
        let length = bs58::decode(text).onto(&mut raw).map_err(|_| AddressError::Malformed)?;
        if length != raw.len() {
            return Err(AddressError::Malformed);
        }
        let (payload, sum) = raw.split_at(1 + 32);
        if sum != checksum(payload) {
            return Err(AddressError::Checksum);
        }
        match payload {
            [PREFIX, key @ ..] => key.try_into().map(Self).map_err(|_| AddressError::Malformed),
            [other, ..] => Err(AddressError::Prefix(*other)),
            [] => Err(AddressError::Malformed),
        }
    }
}

impl fmt::Display for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = vec![PREFIX];
        raw.extend(self.0);
        raw.extend(checksum(&raw));
        f.write_str(&bs58::encode(raw).into_string())
    }
}

impl fmt::Debug for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

    #[test]
    fn a_known_address_is_read_and_written() {
        let alice: Hotkey = ALICE.parse().unwrap();
        assert_eq!(alice.bytes()[..4], [0xd4, 0x35, 0x93, 0xc7]);
        assert_eq!(alice.to_string(), ALICE);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let read = |text: &str| text.parse::<Hotkey>();
        let typo = ALICE.replace("utQY", "utQZ");
        assert_eq!(read(&typo), Err(AddressError::Checksum));
        for text in ["", "5", "0x00", "alice", &ALICE[1..], &"5".repeat(10_000)] {
            assert!(read(text).is_err(), "{text}");
        }
        // //Alice on Polkadot.
        let polkadot = "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5";
        assert_eq!(read(polkadot), Err(AddressError::Prefix(0)));
    }

    proptest! {
        #[test]
        fn every_key_has_one_text(bytes: [u8; 32]) {
            let key = Hotkey::new(bytes);
            prop_assert_eq!(key.to_string().parse::<Hotkey>(), Ok(key));
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,80}") {
            let _ = text.parse::<Hotkey>();
        }
    }
}
