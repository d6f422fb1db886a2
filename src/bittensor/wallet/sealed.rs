//! Encrypted hotkey files: btcli's `$NACL` format, and those that are only recognised.

use std::path::Path;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use crypto_secretbox::aead::{AeadInPlace as _, KeyInit as _};
use crypto_secretbox::{Key, Nonce, Tag, XSalsa20Poly1305};
use zeroize::{Zeroize as _, Zeroizing};

use super::error::WalletError;
use super::secret::{Password, Secret};

const NACL: &[u8] = b"$NACL";
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = NACL.len() + NONCE_BYTES + TAG_BYTES;
/// The salt that `bittensor_wallet` uses for everybody.
const SALT: [u8; 16] = *b"\x13q\x83\xdf\xf1Z\t\xbc\x9c\x90\xb5Q\x879\xe9\xb1";
/// What libsodium calls "sensitive".
const PASSES: u32 = 8;
const MEMORY_KIB: u32 = 512 << 10;

/// How a file is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seal {
    /// Not at all.
    None,
    /// As btcli does it.
    Nacl,
    /// As it did years ago; refused.
    Old(&'static str),
}

/// How a file that begins so is encrypted.
pub(super) fn seal_of(bytes: &[u8]) -> Seal {
    const OLD: [(&[u8], &str); 2] = [(b"$ANSIBLE_VAULT", "Ansible Vault"), (b"gAAAAA", "Fernet")];
    if bytes.starts_with(NACL) {
        return Seal::Nacl;
    }
    let old = OLD.iter().find(|(start, _)| bytes.starts_with(start));
    old.map_or(Seal::None, |(_, scheme)| Seal::Old(scheme))
}

/// What a `$NACL` file holds. Takes 512 MiB of memory and a second or so.
///
/// # Errors
/// The password is wrong or the file damaged, which look the same; or there is not so much memory.
pub(super) fn open(
    file: &Path,
    mut sealed: Secret,
    password: &Password,
) -> Result<Secret, WalletError> {
    let own = || file.to_owned();
    let Some((head, text)) = sealed.split_at_mut_checked(HEAD_BYTES) else {
        return Err(WalletError::CutShort { file: own() });
    };
    let (nonce, tag) = head[NACL.len()..].split_at(NONCE_BYTES);
    let key = stretch(password).ok_or_else(|| WalletError::NoMemory { file: own() })?;
    let secretbox = XSalsa20Poly1305::new(Key::from_slice(&*key));
    secretbox
        .decrypt_in_place_detached(Nonce::from_slice(nonce), b"", text, Tag::from_slice(tag))
        .map_err(|_| WalletError::WrongPassword { file: own() })?;
    sealed.copy_within(HEAD_BYTES.., 0);
    let length = sealed.len() - HEAD_BYTES;
    sealed.cut(length);
    Ok(sealed)
}

/// The key that a password stands for; `None` if the memory for it cannot be had.
fn stretch(password: &Password) -> Option<Zeroizing<[u8; 32]>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2i, Version::V0x13, params);
    let mut memory = Vec::new();
    memory.try_reserve_exact(MEMORY_KIB as usize).ok()?;
    memory.resize(MEMORY_KIB as usize, Block::default());
    let mut key = Zeroizing::new([0; 32]);
    let done =
        argon2.hash_password_into_with_memory(password.bytes(), &SALT, &mut *key, &mut memory);
    memory.zeroize();
    done.ok().map(|()| key)
}
