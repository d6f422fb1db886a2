//! Why a wallet cannot be used, and what to do about it. Nothing private is ever part of a message.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::secret::PASSWORD_VARIABLE;
use crate::bittensor::Hotkey;

/// A file that belongs to a wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The hotkey itself.
    Hotkey,
    /// Its public half.
    Public,
    /// The password of an encrypted hotkey.
    Password,
}

impl FileKind {
    fn name(self) -> &'static str {
        match self {
            Self::Hotkey => "hotkey file",
            Self::Public => "public hotkey file",
            Self::Password => "password file",
        }
    }

    /// Where to look when the file is not what it should be.
    fn settings(self) -> &'static str {
        match self {
            Self::Hotkey | Self::Public => "wallet.path, wallet.name and wallet.hotkey",
            Self::Password => "wallet.password_file",
        }
    }
}

/// What is wrong with a file before anybody looks into it.
#[derive(Debug)]
pub enum FileProblem {
    /// There is none.
    Missing,
    /// It is a folder, or a device.
    NotAFile,
    /// It is larger than any such file.
    TooLarge {
        /// How large it may be, in bytes.
        limit: usize,
    },
    /// The system does not let us read it.
    Unreadable(io::ErrorKind),
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::NotAFile => f.write_str("is a folder or a device, not a file"),
            Self::TooLarge { limit } => write!(f, "is larger than {limit} bytes, which none is"),
            Self::Unreadable(error) => write!(f, "cannot be read ({error})"),
        }
    }
}

/// Why a wallet cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// Neither a name nor a hotkey is configured.
    #[error(
        "no wallet is named: set wallet.name and wallet.hotkey, or the environment variables \
         WALLET_NAME and WALLET_HOTKEY"
    )]
    Unnamed,
    /// One of the two is configured.
    #[error("wallet.{setting} is empty while the other half of the wallet is named: set it too")]
    HalfNamed {
        /// The half that is empty: `name` or `hotkey`.
        setting: &'static str,
    },
    /// A name that would lead elsewhere.
    #[error("wallet.{setting} is {reason}: give the plain name that btcli shows")]
    Name {
        /// `name` or `hotkey`.
        setting: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `~` without a home folder.
    #[error(
        "{path} begins with ~, and there is no home folder (HOME is not set): write it in full"
    )]
    Homeless {
        /// The path as configured.
        path: String,
    },
    /// `~somebody`.
    #[error("{path} names somebody else's home folder: write it in full")]
    ForeignHome {
        /// The path as configured.
        path: String,
    },
    /// A file cannot be looked into.
    #[error("the {} {} {problem}: check {}", kind.name(), file.display(), kind.settings())]
    File {
        /// What it is for.
        kind: FileKind,
        /// Where it is.
        file: PathBuf,
        /// What is wrong.
        problem: FileProblem,
    },
    /// The file is encrypted as btcli did years ago.
    #[error(
        "{} is encrypted with {scheme}, which roadcrew does not read: make the file anew from its \
         phrase with `btcli wallet regen-hotkey`",
        file.display()
    )]
    OldEncryption {
        /// The file.
        file: PathBuf,
        /// What it is encrypted with.
        scheme: &'static str,
    },
    /// Neither JSON nor encrypted.
    #[error(
        "{} is no hotkey file (it stops making sense at line {line}, column {column}): copy it \
         again, or make it anew from its phrase with `btcli wallet regen-hotkey`",
        file.display()
    )]
    NotAKeyFile {
        /// The file.
        file: PathBuf,
        /// Where it stops being one.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// Encrypted, and shorter than anything encrypted is.
    #[error("{} is cut short: copy it again from where it was made", file.display())]
    CutShort {
        /// The file.
        file: PathBuf,
    },
    /// A value of the file makes no sense.
    #[error(
        "{}: `{field}` {reason}: copy the file again, or make it anew from its phrase with `btcli \
         wallet regen-hotkey`",
        file.display()
    )]
    Field {
        /// The file.
        file: PathBuf,
        /// The value.
        field: &'static str,
        /// What is wrong with it; without the value.
        reason: String,
    },
    /// A key of another kind.
    #[error(
        "{} holds an ed25519 key, and the protocol wants sr25519: make a hotkey with `btcli wallet \
         new-hotkey`",
        file.display()
    )]
    KeyType {
        /// The file.
        file: PathBuf,
    },
    /// A file with a public key only.
    #[error(
        "{} holds no private key, so nothing can be signed with it: copy the whole hotkey file here",
        file.display()
    )]
    PublicOnly {
        /// The file.
        file: PathBuf,
    },
    /// No address, and no private key to find it from.
    #[error("{} holds neither an address nor a key: check wallet.name and wallet.hotkey", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The key is another one than the file says.
    #[error(
        "the key in {} is that of {found}, but {} says {stated}: one of them is wrong or was swapped; \
         copy both again from where they were made",
        file.display(), stating.display()
    )]
    Mismatch {
        /// Where the key is.
        file: PathBuf,
        /// Whose it is.
        found: Hotkey,
        /// Where something else is said.
        stating: PathBuf,
        /// What is said there.
        stated: Hotkey,
    },
    /// An encrypted file, and no password.
    #[error(
        "{} is encrypted, and there is no password: put it into a file that only you can read and \
         name that in wallet.password_file, or set {PASSWORD_VARIABLE}",
        file.display()
    )]
    NoPassword {
        /// The file.
        file: PathBuf,
    },
    /// A password file without a password.
    #[error("the password file {} is empty: write the password into it", file.display())]
    EmptyPassword {
        /// The password file.
        file: PathBuf,
    },
    /// The password does not open the file, or the file is damaged: it is not known which.
    #[error(
        "the password does not open {}: check it (the ends of lines in wallet.password_file do not \
         count), or copy the hotkey file again if it was damaged",
        file.display()
    )]
    WrongPassword {
        /// The file.
        file: PathBuf,
    },
    /// The machine is too small to open the file.
    #[error(
        "opening {} takes 512 MiB of memory, which the system does not give: free some, or store the \
         hotkey unencrypted, readable by you alone",
        file.display()
    )]
    NoMemory {
        /// The file.
        file: PathBuf,
    },
}

impl WalletError {
    /// Whether there simply is no such file.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::File { problem: FileProblem::Missing, .. })
    }

    /// Whether the settings are wrong, and not what they point at.
    pub fn is_about_settings(&self) -> bool {
        matches!(
            self,
            Self::Unnamed
                | Self::HalfNamed { .. }
                | Self::Name { .. }
                | Self::Homeless { .. }
                | Self::ForeignHome { .. }
        )
    }
}
