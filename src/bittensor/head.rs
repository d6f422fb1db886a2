//! What the headers of a dendrite's request claim. Reading only: nothing here is believed yet.
//!
//! Every part that goes into the signed message is of a shape that holds no dot, except the uuid, so
//! that one message is one set of claims: a signature cannot be moved to another uuid or nonce by
//! reading its text apart differently.

use std::time::Duration;

use super::unverified::{Field, Unverified};
use super::{Hotkey, Signature};

const HOTKEY: &str = "bt_header_dendrite_hotkey";
const UUID: &str = "bt_header_dendrite_uuid";
const NONCE: &str = "bt_header_dendrite_nonce";
const SIGNATURE: &str = "bt_header_dendrite_signature";
const AXON_HOTKEY: &str = "bt_header_axon_hotkey";
const BODY_HASH: &str = "computed_body_hash";
const TIMEOUT: &str = "timeout";

/// Of a uuid, which has 36 characters.
const UUID_MAX: usize = 128;
/// Of any other value that is read here.
const VALUE_MAX: usize = 256;
/// What a larger timeout is read as.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// A request's headers: the value of a header by its name, which is given in lower case.
pub type Headers<'f, 'a> = dyn Fn(&str) -> Option<&'a [u8]> + 'f;

/// Who a dendrite's request says it is from.
///
/// # Errors
/// If it does not say, or not as an address.
pub fn caller(get: &Headers<'_, '_>) -> Result<Hotkey, Unverified> {
    hotkey(get, HOTKEY).map(|(key, _)| key)
}

/// What a dendrite's headers claim.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// Who says to have sent the request.
    pub caller: Hotkey,
    /// The same as the header wrote it, which is how it was signed.
    pub caller_text: &'a str,
    /// Whom it says to be for. Not signed as such.
    pub axon_text: Option<&'a str>,
    /// The name of the dendrite.
    pub uuid: &'a str,
    /// When it was signed, in nanoseconds since 1970.
    pub nonce: u64,
    /// The hash of the fields that the class signs, in hexadecimal.
    pub body_hash: &'a str,
    /// The signature over all of these.
    pub signature: Signature,
    /// How long the caller waits, where it says so readably. Not signed.
    pub timeout: Option<Duration>,
}

impl<'a> Head<'a> {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// If one that is needed is missing or not of its shape.
    pub fn read(get: &Headers<'_, 'a>) -> Result<Self, Unverified> {
        let (caller, caller_text) = hotkey(get, HOTKEY)?;
        let uuid = required(get, UUID, Field::Uuid)?;
        if uuid.len() > UUID_MAX {
            return Err(Unverified::Malformed(Field::Uuid));
        }
        let nonce = nonce(required(get, NONCE, Field::Nonce)?)?;
        let signature = required(get, SIGNATURE, Field::Signature)?;
        let digits = signature.strip_prefix("0x").unwrap_or_default();
        let body_hash = required(get, BODY_HASH, Field::BodyHash)?;
        if !is_hash(body_hash) {
            return Err(Unverified::Malformed(Field::BodyHash));
        }
        Ok(Self {
            caller,
            caller_text,
            axon_text: get(AXON_HOTKEY).and_then(visible),
            uuid,
            nonce,
            body_hash,
            signature: signature_of(digits)?,
            timeout: get(TIMEOUT).and_then(visible).and_then(timeout),
        })
    }

    /// Whether the header's hash is that of the fields which the body has, in the order in which the
    /// class signs them; `ImageSynapse` signs none.
    ///
    /// # Errors
    /// If it is another.
    pub fn check_body(&self, fields: &[&str]) -> Result<(), Unverified> {
        let same = if fields.is_empty() {
            self.body_hash == super::EMPTY_BODY_HASH
        } else {
            self.body_hash == super::body_hash(fields)
        };
        if same { Ok(()) } else { Err(Unverified::BodyHash) }
    }
}

/// A hotkey, and how the header wrote it.
pub(super) fn hotkey<'a>(
    get: &Headers<'_, 'a>,
    name: &str,
) -> Result<(Hotkey, &'a str), Unverified> {
    let text = required(get, name, Field::Hotkey)?;
    let key = text.parse().map_err(|_| Unverified::Malformed(Field::Hotkey))?;
    Ok((key, text))
}

/// The value of a header that must be there.
pub(super) fn required<'a>(
    get: &Headers<'_, 'a>,
    name: &str,
    field: Field,
) -> Result<&'a str, Unverified> {
    let value = get(name).ok_or(Unverified::Missing(field))?;
    visible(value).ok_or(Unverified::Malformed(field))
}

/// A value as text, if all of it can be seen.
pub(super) fn visible(value: &[u8]) -> Option<&str> {
    // The whole of it, which is quicker than to leave early.
    let graphic = |value: &[u8]| value.iter().fold(true, |all, byte| all & byte.is_ascii_graphic());
    let plain = (1..=VALUE_MAX).contains(&value.len()) && graphic(value);
    if plain { str::from_utf8(value).ok() } else { None }
}

/// A nonce, written in the one way in which it can have been signed.
pub(super) fn nonce(text: &str) -> Result<u64, Unverified> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let number = if canonical { text.parse().ok() } else { None };
    number.ok_or(Unverified::Malformed(Field::Nonce))
}

/// A signature out of its hexadecimal digits.
pub(super) fn signature_of(digits: &str) -> Result<Signature, Unverified> {
    let malformed = Unverified::Malformed(Field::Signature);
    let mut signature: Signature = [0; 64];
    if digits.len() != 2 * signature.len() {
        return Err(malformed);
    }
    for (out, pair) in signature.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
            return Err(malformed);
        };
        *out = high << 4 | low;
    }
    Ok(signature)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A number of seconds, if it is one that time can have.
fn timeout(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    if seconds >= TIMEOUT_MAX.as_secs_f64() {
        return Some(TIMEOUT_MAX);
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
