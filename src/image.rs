//! Bytes from outside become pixels, within limits.
//!
//! A size is always read from the file's header first (see `header`), so what is too large is
//! refused before any decoder is built. JPEG, PNG and WebP are read as Pillow's
//! `exif_transpose(open(..)).convert("RGB")` reads them: first frame, orientation applied, alpha
//! dropped (not composited), colour profiles ignored. One difference: 16-bit samples keep their
//! high byte in every PNG, where Pillow clips 16-bit greyscale.
//!
//! A truncated file is an error, as it is for Pillow: half a grey picture would get an answer
//! that nobody asked for.
//!
//! Memory: whatever the bytes say, decoding holds at most about 12 bytes per pixel (the
//! coefficients of a progressive four-channel JPEG, or a 16-bit RGBA PNG, plus the result), one
//! copy of the file, and a few MiB of tables. The exception is lossless WebP: its decoder builds up to
//! 65536 groups of tables, however small the picture, which a file of 4 MB can drive to 1.3 GB. So
//! the large ones are decoded one at a time.
//!
//! Panics: none of our own. The decoders (`zune-jpeg`, `png`, `image-webp`) are fuzzed upstream,
//! but `zune-jpeg` has had panics on hostile files, so a server decodes where a panic costs one
//! request and nothing else.
//!
//! Must not know: models, requests, or where the bytes came from.

mod file;
mod header;

use std::io::Cursor;
use std::panic::resume_unwind;

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, RgbImage};
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use file::ImageFile;
pub use header::Format;

/// The formats we read, as messages name them.
const ACCEPTED: &str = "JPEG, PNG, WebP";

/// A picture: 8-bit RGB, rows from the top, pixels interleaved. Never empty.
#[derive(Clone)]
pub struct Image {
    pixels: Vec<u8>,
    width: u32,
    height: u32,
    file_digest: Option<[u8; 32]>,
}

/// A profile that is larger than any camera's or screen's is there to fill our memory.
const PROFILE_MAX: u64 = 4 << 20;

/// What we are willing to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageLimits {
    /// Largest file, in bytes.
    pub max_bytes: u64,
    /// Largest picture, in pixels (width times height).
    pub max_pixels: u64,
    /// Largest width and largest height, in pixels.
    pub max_dimension: u32,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { max_bytes: 20 << 20, max_pixels: 50_000_000, max_dimension: 16_384 }
    }
}

/// Why bytes did not become an [`Image`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// There were no bytes at all.
    #[error("the image is empty (0 bytes)")]
    Empty,
    /// The file is larger than `image.max_bytes`.
    #[error("the image is {found} bytes, more than the {limit} that `image.max_bytes` allows")]
    TooManyBytes {
        /// Bytes in the file.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The picture has more pixels than `image.max_pixels`.
    #[error(
        "the image is {width}x{height} = {} pixels, more than the {limit} that `image.max_pixels` \
         allows", u64::from(*.width) * u64::from(*.height)
    )]
    TooManyPixels {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit.
        limit: u64,
    },
    /// Width or height is larger than `image.max_dimension`.
    #[error(
        "the image is {width}x{height}, and `image.max_dimension` allows no side longer than \
         {limit}"
    )]
    TooLargeDimension {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit.
        limit: u32,
    },
    /// The bytes are not one of the formats we read.
    #[error("the image is {found}; accepted are {ACCEPTED}")]
    UnsupportedFormat {
        /// What the bytes look like.
        found: String,
    },
    /// The format is known, but the file is broken.
    #[error("the {format} image is broken: {cause}")]
    Corrupt {
        /// The format the file claims to be.
        format: Format,
        /// What the decoder said.
        cause: String,
    },
}

impl ImageLimits {
    /// Checks the length of a file.
    pub fn check_bytes(&self, found: u64) -> Result<(), ImageError> {
        let limit = self.max_bytes;
        if found > limit { Err(ImageError::TooManyBytes { found, limit }) } else { Ok(()) }
    }

    /// Checks the size of a picture.
    pub fn check_size(&self, width: u32, height: u32) -> Result<(), ImageError> {
        if width.max(height) > self.max_dimension {
            return Err(ImageError::TooLargeDimension { width, height, limit: self.max_dimension });
        }
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(ImageError::TooManyPixels { width, height, limit: self.max_pixels });
        }
        Ok(())
    }
}

impl Image {
    /// Takes interleaved RGB bytes; `None` if the picture is empty or the length does not fit.
    pub fn from_rgb(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let expected = u64::from(width) * u64::from(height) * 3;
        let fits = expected > 0 && pixels.len() as u64 == expected;
        fits.then_some(Self { pixels, width, height, file_digest: None })
    }

    /// Reads a JPEG, PNG or WebP file.
    pub fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<Self, ImageError> {
        let survey = survey(bytes, limits)?;
        let decode = || Self::decode_surveyed(bytes, limits, survey);
        if may_hold_many_tables(survey.format, bytes) { alone(decode) } else { decode() }
    }

    fn decode_surveyed(
        bytes: &[u8],
        limits: &ImageLimits,
        survey: Survey,
    ) -> Result<Self, ImageError> {
        let file = Cursor::new(bytes);
        let failed = |error| failure(survey.format, error);
        let allowed = decoder_limits(limits, survey.pixels, bytes.len());
        let decoded = match survey.format {
            Format::Jpeg => read(JpegDecoder::new(file).map_err(failed)?, survey, allowed),
            Format::Png => {
                let decoder = PngDecoder::with_limits(file, allowed.clone());
                read(decoder.map_err(failed)?, survey, allowed)
            }
            Format::WebP => read(WebPDecoder::new(file).map_err(failed)?, survey, allowed),
        }?;
        Ok(Self { file_digest: Some(Sha256::digest(bytes).into()), ..decoded })
    }

    /// Bytes of pixels that [`decode`](Self::decode) would allocate for this file, read from its
    /// headers.
    pub fn decoded_bytes(bytes: &[u8], limits: &ImageLimits) -> Result<usize, ImageError> {
        let pixels = survey(bytes, limits)?.pixels;
        Ok(usize::try_from(pixels.saturating_mul(3)).unwrap_or(usize::MAX))
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes, `width * height * 3` of them: RGB, row by row from the top left.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// SHA-256 of the file this was decoded from, or of the pixels if it never was a file: the name
    /// by which identical images are recognised. Lower-case hex, as `sha256sum` prints it.
    pub fn digest_hex(&self) -> String {
        let digest = self.file_digest.unwrap_or_else(|| Sha256::digest(&self.pixels).into());
        file::hex(&digest)
    }

    /// Gives the bytes away.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

impl PartialEq for Image {
    /// The same picture, wherever it came from.
    fn eq(&self, other: &Self) -> bool {
        (self.width, self.height, &self.pixels) == (other.width, other.height, &other.pixels)
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{})", self.width, self.height)
    }
}

/// What a file says of itself.
#[derive(Clone, Copy)]
struct Survey {
    format: Format,
    /// Of the largest picture in it.
    pixels: u64,
}

/// Reads the headers, within the limits.
fn survey(bytes: &[u8], limits: &ImageLimits) -> Result<Survey, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    limits.check_bytes(bytes.len() as u64)?;
    let mut pixels = 0;
    let format = header::scan(bytes, &mut |width, height| {
        pixels = pixels.max(u64::from(width) * u64::from(height));
        limits.check_size(width, height)
    })?;
    Ok(Survey { format, pixels })
}

/// One at a time, whoever calls, and on a thread that ends with it: an allocator keeps what a thread
/// has freed for that thread, and every thread that ever decodes would come to hold as much.
fn alone<T: Send>(work: impl Fn() -> T + Sync) -> T {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("decode".into());
        match thread.spawn_scoped(scope, &work) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => work(),
        }
    })
}

/// True of a WebP that may hold a lossless stream, as a picture or as its alpha channel, and is large
/// enough for it to matter: tables take up to 400 times the bytes that describe them.
fn may_hold_many_tables(format: Format, bytes: &[u8]) -> bool {
    const SMALL: usize = 64 << 10;
    let is_lossless = |name: &[u8]| name == b"VP8L" || name == b"ALPH";
    format == Format::WebP && bytes.len() > SMALL && bytes.windows(4).any(is_lossless)
}

/// What a decoder may allocate for a file of `length` bytes: a 16-bit RGBA picture of that size, the
/// chunks of the file, and what its colour profile inflates to.
fn decoder_limits(limits: &ImageLimits, pixels: u64, length: usize) -> image::Limits {
    let mut allowed = image::Limits::default();
    allowed.max_image_width = Some(limits.max_dimension);
    allowed.max_image_height = Some(limits.max_dimension);
    let chunks = (length as u64).saturating_add(PROFILE_MAX);
    allowed.max_alloc = Some(pixels.saturating_mul(8).saturating_add(chunks));
    allowed
}

fn read(
    mut decoder: impl ImageDecoder,
    Survey { format, pixels }: Survey,
    allowed: image::Limits,
) -> Result<Image, ImageError> {
    let failed = |error| failure(format, error);
    let (width, height) = decoder.dimensions();
    // What was checked and counted is what the headers say; a decoder must not find more.
    if u64::from(width) * u64::from(height) > pixels {
        return Err(corrupt(format, "its headers contradict each other"));
    }
    decoder.set_limits(allowed).map_err(failed)?;
    // A broken EXIF block does not spoil the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let color = decoder.color_type();
    let size = usize::try_from(decoder.total_bytes())
        .map_err(|_| corrupt(format, "its size does not fit this machine's memory"))?;
    let mut raw = vec![0; size];
    decoder.read_image(&mut raw).map_err(failed)?;

    let pixels = to_rgb8(raw, color)
        .ok_or_else(|| corrupt(format, format!("unexpected samples {color:?}")))?;
    let picture = RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| corrupt(format, "the decoder returned too few pixels"))?;
    let mut picture = DynamicImage::ImageRgb8(picture);
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width(), picture.height());
    Image::from_rgb(width, height, picture.into_rgb8().into_raw())
        .ok_or_else(|| corrupt(format, "it has no pixels"))
}

/// Drops alpha, spreads grey over three channels, keeps the high byte of 16-bit samples (which the
/// decoders give in native byte order).
fn to_rgb8(mut raw: Vec<u8>, color: ColorType) -> Option<Vec<u8>> {
    if color == ColorType::Rgb8 {
        return Some(raw);
    }
    let high = if cfg!(target_endian = "little") { 1 } else { 0 };
    let (stride, samples): (usize, [usize; 3]) = match color {
        ColorType::L8 => (1, [0, 0, 0]),
        ColorType::La8 => (2, [0, 0, 0]),
        ColorType::Rgba8 => (4, [0, 1, 2]),
        ColorType::L16 => (2, [high; 3]),
        ColorType::La16 => (4, [high; 3]),
        ColorType::Rgb16 => (6, [high, 2 + high, 4 + high]),
        ColorType::Rgba16 => (8, [high, 2 + high, 4 + high]),
        _ => return None,
    };
    if stride >= 3 {
        // The result is not longer than the source: rewrite in place.
        let count = raw.len() / stride;
        for i in 0..count {
            let rgb = samples.map(|s| raw[i * stride + s]);
            raw[i * 3..i * 3 + 3].copy_from_slice(&rgb);
        }
        raw.truncate(count * 3);
        return Some(raw);
    }
    Some(raw.chunks_exact(stride).flat_map(|pixel| samples.map(|s| pixel[s])).collect())
}

fn corrupt(format: Format, cause: impl Into<String>) -> ImageError {
    ImageError::Corrupt { format, cause: cause.into() }
}

fn failure(format: Format, error: image::ImageError) -> ImageError {
    match error {
        image::ImageError::Unsupported(error) => ImageError::UnsupportedFormat {
            found: format!("a {format} of an unusual kind ({error})"),
        },
        error => corrupt(format, error.to_string()),
    }
}

#[cfg(test)]
mod tests;
