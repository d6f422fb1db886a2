//! A picture as it came: its header has been read, its pixels have not.
//!
//! For backends that look at no pixels, or decode or send on the file themselves.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Image, ImageError, ImageLimits, survey};

/// The bytes of a JPEG, PNG or WebP whose header is sound and within the limits. The rest of it may be
/// broken all the same.
#[derive(Clone)]
pub struct ImageFile {
    bytes: Bytes,
    limits: ImageLimits,
}

impl ImageFile {
    /// Takes the bytes of a file.
    ///
    /// # Errors
    /// As [`Image::decode`], as far as the header tells.
    pub fn new(bytes: Bytes, limits: &ImageLimits) -> Result<Self, ImageError> {
        survey(&bytes, limits)?;
        Ok(Self { bytes, limits: *limits })
    }

    /// The bytes, as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The pixels.
    ///
    /// # Errors
    /// If the file is broken behind its header.
    pub fn decode(&self) -> Result<Image, ImageError> {
        Image::decode(&self.bytes, &self.limits)
    }

    /// SHA-256 of the bytes; lower-case hex, as [`Image::digest_hex`].
    pub fn digest_hex(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }
}

impl fmt::Debug for ImageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageFile({} bytes)", self.bytes.len())
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
