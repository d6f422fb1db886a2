//! What stands in a hotkey file, and the key that comes of it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::WalletError;
use super::phrase;
use super::secret::Secret;
use crate::bittensor::{Hotkey, Keypair};

/// How btcli writes "sr25519" in `cryptoType`; older files do not say it.
const SR25519: u64 = 1;

/// A hotkey file's text, decrypted. What it says stays in memory that is zeroed.
#[derive(Debug)]
pub(super) struct KeyFile {
    file: PathBuf,
    text: Secret,
}

/// The JSON. Values are borrowed, so that no copy of a secret is left behind; `serde_json` can lend
/// a string only if nothing in it is escaped, and in none of these is there anything to escape.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow, default)]
    secret_phrase: Option<&'a str>,
    #[serde(borrow, default)]
    secret_seed: Option<&'a str>,
    #[serde(borrow, default)]
    private_key: Option<&'a str>,
    #[serde(borrow, default)]
    ss58_address: Option<&'a str>,
    #[serde(borrow, default)]
    public_key: Option<&'a str>,
    #[serde(borrow, default)]
    account_id: Option<&'a str>,
    #[serde(default)]
    crypto_type: Option<serde_json::Value>,
}

impl KeyFile {
    pub(super) fn new(file: &Path, text: Secret) -> Self {
        Self { file: file.to_owned(), text }
    }

    /// Whose key it says it is: its address, or else its public key. `None` if it does not say.
    ///
    /// # Errors
    /// It is no hotkey file, or what it says makes no sense.
    pub(super) fn stated(&self) -> Result<Option<Hotkey>, WalletError> {
        let fields = self.fields()?;
        if let Some(address) = fields.ss58_address {
            let wrong = |error| self.wrong("ss58Address", format!("cannot be read: {error}"));
            return address.parse().map(Some).map_err(wrong);
        }
        let key = fields.public_key.map(|text| ("publicKey", text));
        let Some((field, text)) = key.or(fields.account_id.map(|text| ("accountId", text))) else {
            return Ok(None);
        };
        self.hexadecimal::<32>(field, text).map(|bytes| Some(Hotkey::new(*bytes)))
    }

    /// The key, found in the order of the real loader: from the phrase, the seed, or the private key.
    /// `None` if only the public half is there.
    ///
    /// # Errors
    /// It is no hotkey file, or what it says makes no sense, or not of one key.
    pub(super) fn keypair(&self) -> Result<Option<Keypair>, WalletError> {
        let fields = self.fields()?;
        let keys = if let Some(words) = fields.secret_phrase {
            let seed = phrase::seed(words).map_err(|why| self.wrong("secretPhrase", why))?;
            Keypair::from_seed(&seed)
        } else if let Some(seed) = fields.secret_seed {
            Keypair::from_seed(&*self.hexadecimal("secretSeed", seed)?)
        } else if let Some(key) = fields.private_key {
            let bytes = self.hexadecimal("privateKey", key)?;
            let wrong = || self.wrong("privateKey", "is no private key of sr25519".into());
            Keypair::from_private_key(&bytes).ok_or_else(wrong)?
        } else {
            return Ok(None);
        };
        match self.stated()? {
            Some(stated) if stated != keys.hotkey() => {
                let (file, stating) = (self.file.clone(), self.file.clone());
                Err(WalletError::Mismatch { file, found: keys.hotkey(), stating, stated })
            }
            _ => Ok(Some(keys)),
        }
    }

    fn fields(&self) -> Result<Fields<'_>, WalletError> {
        let senseless =
            |line, column| WalletError::NotAKeyFile { file: self.file.clone(), line, column };
        // An array would do for serde.
        if !self.text.trim_ascii_start().starts_with(b"{") {
            return Err(senseless(1, 1));
        }
        // Its message may quote the file; its place does not.
        let fields: Fields<'_> = serde_json::from_slice(&self.text)
            .map_err(|error| senseless(error.line(), error.column()))?;
        match fields.crypto_type.as_ref().and_then(serde_json::Value::as_u64) {
            Some(other) if other != SR25519 => {
                Err(WalletError::KeyType { file: self.file.clone() })
            }
            _ => Ok(fields),
        }
    }

    /// So many bytes, written in hexadecimal, with `0x` or without.
    fn hexadecimal<const N: usize>(
        &self,
        field: &'static str,
        text: &str,
    ) -> Result<Zeroizing<[u8; N]>, WalletError> {
        let mut bytes = Zeroizing::new([0; N]);
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut *bytes)
            .map_err(|_| self.wrong(field, format!("is not {N} bytes in hexadecimal")))?;
        Ok(bytes)
    }

    fn wrong(&self, field: &'static str, reason: String) -> WalletError {
        WalletError::Field { file: self.file.clone(), field, reason }
    }
}
