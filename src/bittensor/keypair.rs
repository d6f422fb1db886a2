//! Signing and verifying: sr25519 in the signing context that Substrate uses.

use std::fmt;

use schnorrkel::{ExpansionMode, MiniSecretKey, PublicKey, SecretKey};

use super::Hotkey;

const CONTEXT: &[u8] = b"substrate";

/// A signature: 64 bytes.
pub type Signature = [u8; 64];

impl Hotkey {
    /// Whether this key signed the message.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let (Ok(key), Ok(signature)) =
            (PublicKey::from_bytes(self.bytes()), schnorrkel::Signature::from_bytes(signature))
        else {
            return false;
        };
        key.verify_simple(CONTEXT, message, &signature).is_ok()
    }
}

/// A hotkey with its private half, which is zeroed when dropped and never shown.
pub struct Keypair(schnorrkel::Keypair);

impl Keypair {
    /// From the 32 bytes that wallets call the secret seed. Every 32 bytes are one.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let Ok(mini) = MiniSecretKey::from_bytes(seed) else {
            unreachable!("schnorrkel asks nothing of a seed but its length");
        };
        Self(mini.expand_to_keypair(ExpansionMode::Ed25519))
    }

    /// From the 64 bytes that wallets call the private key: what a seed expands to, the scalar first
    /// and the seed of nonces after it. `None` if the scalar is not written canonically, as Substrate
    /// writes it; Ed25519's own form, which is eight times as large, is not.
    pub fn from_private_key(bytes: &[u8; 64]) -> Option<Self> {
        SecretKey::from_bytes(bytes).ok().map(|secret| Self(secret.to_keypair()))
    }

    /// The public half.
    pub fn hotkey(&self) -> Hotkey {
        Hotkey::new(self.0.public.to_bytes())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign_simple(CONTEXT, message).to_bytes()
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({})", self.hotkey())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_verifies_and_nothing_else_does() {
        let (keys, other) = (Keypair::from_seed(&[7; 32]), Keypair::from_seed(&[8; 32]));
        let signature = keys.sign(b"message");
        assert!(keys.hotkey().verifies(b"message", &signature));
        assert!(!keys.hotkey().verifies(b"massage", &signature));
        assert!(!other.hotkey().verifies(b"message", &signature));
        assert!(!keys.hotkey().verifies(b"message", &[0; 64]));
        assert!(!Hotkey::new([255; 32]).verifies(b"message", &signature), "not a point");
    }

    #[test]
    fn a_private_key_is_what_its_seed_expands_to() {
        let keys = Keypair::from_seed(&[7; 32]);
        let again = Keypair::from_private_key(&keys.0.secret.to_bytes()).unwrap();
        assert_eq!(again.hotkey(), keys.hotkey());
        assert!(keys.hotkey().verifies(b"message", &again.sign(b"message")));
        assert!(Keypair::from_private_key(&keys.0.secret.to_ed25519_bytes()).is_none());
        assert!(Keypair::from_private_key(&[255; 64]).is_none());
    }

    #[test]
    fn the_private_half_is_not_shown() {
        let keys = Keypair::from_seed(&[7; 32]);
        assert_eq!(format!("{keys:?}"), format!("Keypair({})", keys.hotkey()));
    }
}
