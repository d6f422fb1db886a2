//! Wallets as btcli lays them out: where the hotkey's files are, its address, and the key itself.
//!
//! ```text
//! <wallet.path>/<wallet.name>/hotkeys/<wallet.hotkey>          the key, plain or encrypted
//!                                    /<wallet.hotkey>pub.txt   its public half; newer wallets have it
//! ```
//!
//! The private half is read only to sign; its bytes are zeroed after use and never shown. The coldkey
//! is never looked at. Must not know: what is signed.

mod error;
mod file;
mod keyfile;
mod phrase;
mod place;
mod sealed;
mod secret;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Hotkey, Keypair};
use keyfile::KeyFile;
use place::{at_home, misnamed};
use sealed::Seal;
use secret::Secret;

pub use error::{FileKind, FileProblem, WalletError};
pub use secret::{PASSWORD_VARIABLE, Password};

/// Longer than any hotkey file.
const FILE_MAX: usize = 64 << 10;

/// Settings: `[wallet]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletSpec {
    /// The folder of all wallets; `~` is the home folder.
    pub path: String,
    /// The wallet's name; with an empty `hotkey`, none is used.
    pub name: String,
    /// The hotkey's name within it.
    pub hotkey: String,
    /// A file that holds the password of an encrypted hotkey; empty for none.
    pub password_file: String,
}

impl Default for WalletSpec {
    fn default() -> Self {
        let none = String::new;
        let path = "~/.bittensor/wallets".to_owned();
        Self { path, name: none(), hotkey: none(), password_file: none() }
    }
}

/// How a hotkey is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalletKind {
    /// The whole key, readable by whoever can read the file.
    Plain,
    /// The whole key, encrypted with a password.
    Encrypted,
    /// Only the public half.
    Public,
}

impl WalletKind {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Encrypted => "encrypted",
            Self::Public => "public",
        }
    }
}

/// A wallet, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletSummary {
    /// The file that was read.
    pub file: PathBuf,
    /// How the key is kept there.
    pub kind: WalletKind,
    /// Whose it is.
    pub hotkey: Hotkey,
    /// Whether the private half was found to belong to that address.
    pub is_checked: bool,
    /// What is odd, and not wrong.
    pub warnings: Vec<String>,
}

/// What there is of a wallet.
struct Found {
    /// Where the hotkey file should be.
    path: PathBuf,
    /// The hotkey file; the reason if it cannot be had.
    key: Result<Key, WalletError>,
    /// Whose the public file is, if there is one.
    public: Option<Public>,
    warnings: Vec<String>,
}

enum Key {
    Plain(KeyFile),
    Encrypted(Secret),
}

struct Public {
    path: PathBuf,
    hotkey: Hotkey,
}

impl WalletSpec {
    /// The hotkey's address, from its public half: no password is asked for, unless the file is
    /// encrypted and has no public file beside it. `None` if no wallet is named.
    ///
    /// # Errors
    /// A file is missing or makes no sense, or the public file is that of another key.
    pub fn address(&self) -> Result<Option<Hotkey>, WalletError> {
        let Some(found) = self.find()? else { return Ok(None) };
        match (&found.key, &found.public) {
            (Ok(Key::Plain(key)), _) => {
                let stated = match key.stated()? {
                    Some(stated) => stated,
                    None => match key.keypair()? {
                        Some(keys) => keys.hotkey(),
                        None => return Err(WalletError::Empty { file: found.path }),
                    },
                };
                agree(&found.path, stated, found.public.as_ref()).map(|()| Some(stated))
            }
            (_, Some(public)) => Ok(Some(public.hotkey)),
            (_, None) => self.open(found, None).map(|(_, summary)| Some(summary.hotkey)),
        }
    }

    /// The key, checked against its address and against the public file. Without a password, that of
    /// `password_file` or else of the environment is used, if one is needed at all.
    ///
    /// # Errors
    /// No wallet is named, a file is missing or makes no sense, the password is missing or wrong, or
    /// the address is not that of the key.
    pub fn unlock(&self, password: Option<Password>) -> Result<Keypair, WalletError> {
        let found = self.find()?.ok_or(WalletError::Unnamed)?;
        let (keys, WalletSummary { file, kind, warnings, .. }) = self.open(found, password)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        keys.ok_or(match kind {
            WalletKind::Encrypted => WalletError::NoPassword { file },
            WalletKind::Plain | WalletKind::Public => WalletError::PublicOnly { file },
        })
    }

    /// The wallet as its owner may see it: with the key checked if it can be opened, and with its
    /// public half alone if that is all there is or there is no password.
    ///
    /// # Errors
    /// As [`WalletSpec::unlock`], except that the private half is not demanded.
    pub fn summary(&self, password: Option<Password>) -> Result<WalletSummary, WalletError> {
        let found = self.find()?.ok_or(WalletError::Unnamed)?;
        self.open(found, password).map(|(_, summary)| summary)
    }

    /// Whether the names can be used.
    ///
    /// # Errors
    /// One is empty and the other is not, or one would lead out of its folder.
    pub fn check_names(&self) -> Result<(), WalletError> {
        let half = |setting| Err(WalletError::HalfNamed { setting });
        match (self.name.is_empty(), self.hotkey.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => return half("name"),
            (false, true) => return half("hotkey"),
            (false, false) => {}
        }
        for (setting, name) in [("name", &self.name), ("hotkey", &self.hotkey)] {
            if let Some(reason) = misnamed(name) {
                return Err(WalletError::Name { setting, reason });
            }
        }
        Ok(())
    }

    /// What there is; `None` if no wallet is named.
    fn find(&self) -> Result<Option<Found>, WalletError> {
        self.check_names()?;
        if self.name.is_empty() {
            return Ok(None);
        }
        let folder = at_home(&self.path)?.join(&self.name).join("hotkeys");
        let path = folder.join(&self.hotkey);
        let public = public(folder.join(format!("{}pub.txt", self.hotkey)))?;
        let (key, warnings) = match file::read(&path, FileKind::Hotkey, FILE_MAX) {
            Ok((bytes, mode)) => (key(&path, bytes), file::warning(&path, mode)),
            Err(error) => (Err(error), None),
        };
        Ok(Some(Found { path, key, public, warnings: warnings.into_iter().collect() }))
    }

    /// The key, if the private half can be had, and what was seen on the way.
    fn open(
        &self,
        found: Found,
        password: Option<Password>,
    ) -> Result<(Option<Keypair>, WalletSummary), WalletError> {
        let Found { path, key, public, mut warnings } = found;
        let (file, inside) = match key {
            Ok(Key::Plain(key)) => (path, Inside::of(&key, WalletKind::Plain)?),
            Ok(Key::Encrypted(bytes)) => match self.password(password, &mut warnings)? {
                Some(password) => {
                    let key = KeyFile::new(&path, sealed::open(&path, bytes, &password)?);
                    (path, Inside::of(&key, WalletKind::Encrypted)?)
                }
                None => (path, Inside::unseen(WalletKind::Encrypted)),
            },
            Err(error) => match &public {
                Some(public) if error.is_missing() => {
                    (public.path.clone(), Inside::unseen(WalletKind::Public))
                }
                _ => return Err(error),
            },
        };
        let Inside { kind, keys, stated } = inside;
        let public_half = public.as_ref().map(|public| public.hotkey);
        let Some(hotkey) = keys.as_ref().map(Keypair::hotkey).or(stated).or(public_half) else {
            return Err(match kind {
                WalletKind::Encrypted => WalletError::NoPassword { file },
                WalletKind::Plain | WalletKind::Public => WalletError::Empty { file },
            });
        };
        agree(&file, hotkey, public.as_ref())?;
        let is_checked = keys.is_some();
        Ok((keys, WalletSummary { file, kind, hotkey, is_checked, warnings }))
    }

    /// The password that was given, or that of the file, or that of the environment.
    fn password(
        &self,
        given: Option<Password>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Password>, WalletError> {
        if given.is_some() {
            return Ok(given);
        }
        if self.password_file.is_empty() {
            return Ok(Password::from_environment());
        }
        let path = at_home(&self.password_file)?;
        let (password, mode) = Password::from_file(&path)?;
        warnings.extend(file::warning(&path, mode));
        Ok(Some(password))
    }
}

/// What a hotkey file says, as far as it can be read.
struct Inside {
    kind: WalletKind,
    keys: Option<Keypair>,
    stated: Option<Hotkey>,
}

impl Inside {
    fn of(key: &KeyFile, kind: WalletKind) -> Result<Self, WalletError> {
        let (keys, stated) = (key.keypair()?, key.stated()?);
        let kind = if keys.is_some() { kind } else { WalletKind::Public };
        Ok(Self { kind, keys, stated })
    }

    fn unseen(kind: WalletKind) -> Self {
        Self { kind, keys: None, stated: None }
    }
}

/// What the bytes at the place of the hotkey file are.
fn key(path: &Path, bytes: Secret) -> Result<Key, WalletError> {
    match sealed::seal_of(&bytes) {
        Seal::None => Ok(Key::Plain(KeyFile::new(path, bytes))),
        Seal::Nacl => Ok(Key::Encrypted(bytes)),
        Seal::Old(scheme) => Err(WalletError::OldEncryption { file: path.to_owned(), scheme }),
    }
}

/// Whose the public file is; `None` if there is no such file.
fn public(path: PathBuf) -> Result<Option<Public>, WalletError> {
    let text = match file::read(&path, FileKind::Public, FILE_MAX) {
        Ok((text, _)) => text,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    };
    match KeyFile::new(&path, text).stated()? {
        Some(hotkey) => Ok(Some(Public { path, hotkey })),
        None => Err(WalletError::Empty { file: path }),
    }
}

/// Demands that the public file, if there is one, is of the key that was found.
fn agree(path: &Path, found: Hotkey, public: Option<&Public>) -> Result<(), WalletError> {
    match public {
        Some(public) if public.hotkey != found => Err(WalletError::Mismatch {
            file: path.to_owned(),
            found,
            stating: public.path.clone(),
            stated: public.hotkey,
        }),
        _ => Ok(()),
    }
}
