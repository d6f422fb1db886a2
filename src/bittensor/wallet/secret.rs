//! Bytes that nobody may see: zeroed when dropped, never shown.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use zeroize::Zeroizing;

use super::WalletError;
use super::error::FileKind;
use super::file;

/// Where the password is looked for when no file is configured.
pub const PASSWORD_VARIABLE: &str = "ROADCREW_WALLET_PASSWORD";

/// More than anybody types.
const PASSWORD_MAX: usize = 4096;

/// Bytes that are zeroed when dropped. They keep their place: nothing here grows, because what a
/// growing buffer leaves behind is not zeroed.
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// So many zeros, to be written over.
    pub(super) fn zeros(length: usize) -> Self {
        Self(Zeroizing::new(vec![0; length]))
    }

    /// Keeps what comes first. The rest is zeroed with it, which takes in all of its memory.
    pub(super) fn cut(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What an encrypted hotkey file is opened with.
pub struct Password(Secret);

impl Password {
    /// Takes a password as it is.
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Self(Secret(Zeroizing::new(text.into())))
    }

    /// What a file holds, without the ends of lines after it; and the file's mode.
    pub(super) fn from_file(path: &Path) -> Result<(Self, u32), WalletError> {
        let (mut text, mode) = file::read(path, FileKind::Password, PASSWORD_MAX)?;
        let end = text.iter().rposition(|byte| !b"\r\n".contains(byte));
        text.cut(end.map_or(0, |last| last + 1));
        if text.is_empty() {
            return Err(WalletError::EmptyPassword { file: path.to_owned() });
        }
        Ok((Self(text), mode))
    }

    /// What the environment says, unless that is nothing.
    pub(super) fn from_environment() -> Option<Self> {
        let text = std::env::var_os(PASSWORD_VARIABLE)?.into_encoded_bytes();
        (!text.is_empty()).then(|| Self::new(text))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}
