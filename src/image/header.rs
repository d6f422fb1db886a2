//! What a file says of itself before it is decoded: its format, its sizes, whether it is whole.
//!
//! Every size found is handed to the caller's check, so a limit holds before a decoder exists. A
//! file that ends too early is refused, though a decoder may be content with less. Reads each byte
//! at most once and allocates nothing.
//!
//! Must not know: what a pixel is.

use super::ImageError;

/// A file format that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Baseline or progressive; grey, YCbCr, RGB, CMYK or YCCK.
    Jpeg,
    /// Any colour type and depth.
    Png,
    /// Lossy, lossless, or the first frame of an animation.
    WebP,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
        })
    }
}

/// Judges a width and a height.
pub(super) type Check<'a> = &'a mut dyn FnMut(u32, u32) -> Result<(), ImageError>;

/// A progressive JPEG pays with a few bytes for one more pass over all its pixels. Encoders write
/// about ten scans; a file with many more is there to burn our time.
const JPEG_SCANS_MAX: usize = 100;

/// The chunks that a decoder reads, and allocates by the length that they claim. What follows the
/// end of a file is not of these.
const WEBP_CHUNKS: [&[u8]; 9] =
    [b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "];

/// Finds the format and checks every size in the headers. `bytes` is not empty.
pub(super) fn scan(bytes: &[u8], check: Check<'_>) -> Result<Format, ImageError> {
    if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        jpeg(bytes, check).map(|()| Format::Jpeg)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png(bytes, check).map(|()| Format::Png)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        webp(bytes, check).map(|()| Format::WebP)
    } else {
        Err(ImageError::UnsupportedFormat { found: guess(bytes) })
    }
}

/// Walks from marker to marker until the end-of-image marker.
fn jpeg(bytes: &[u8], check: Check<'_>) -> Result<(), ImageError> {
    let broken = |cause: &str| broken(Format::Jpeg, cause);
    let mut rest = &bytes[2..];
    let mut frames = 0;
    let mut scans = 0;
    loop {
        let marker = next_marker(&mut rest)
            .ok_or_else(|| broken("it is truncated (no end-of-image marker)"))?;
        match marker {
            0x01 | 0xD0..=0xD8 => continue,
            0xD9 if frames == 0 || scans == 0 => return Err(broken("it holds no picture")),
            0xD9 => return Ok(()),
            _ => {}
        }
        let length = rest.first_chunk().map_or(0, |&b| usize::from(u16::from_be_bytes(b)));
        let segment =
            rest.get(2..length).ok_or_else(|| broken("it is truncated inside a segment"))?;
        match marker {
            0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                let [_, h0, h1, w0, w1, ..] = *segment else {
                    return Err(broken("its frame header is too short"));
                };
                let (width, height) =
                    (u16::from_be_bytes([w0, w1]).into(), u16::from_be_bytes([h0, h1]).into());
                size(Format::Jpeg, width, height, check)?;
                frames += 1;
            }
            0xDA => scans += 1,
            _ => {}
        }
        if scans > JPEG_SCANS_MAX {
            return Err(broken("it has more scans than any encoder writes"));
        }
        rest = &rest[length..];
    }
}

/// The next marker's code; skips entropy-coded data, stuffed zeros and fill bytes.
fn next_marker(rest: &mut &[u8]) -> Option<u8> {
    loop {
        *rest = &rest[memchr::memchr(0xFF, rest)?..];
        let fill = rest.iter().take_while(|&&byte| byte == 0xFF).count();
        let code = *rest.get(fill)?;
        *rest = &rest[fill + 1..];
        if code != 0 {
            return Some(code);
        }
    }
}

/// Walks from chunk to chunk until the end chunk.
fn png(bytes: &[u8], check: Check<'_>) -> Result<(), ImageError> {
    let broken = |cause: &str| broken(Format::Png, cause);
    match bytes.get(8..24) {
        Some(&[0, 0, 0, 13, b'I', b'H', b'D', b'R', w0, w1, w2, w3, h0, h1, h2, h3]) => {
            let (width, height) =
                (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
            size(Format::Png, width, height, check)?;
        }
        _ => return Err(broken("it does not begin with a whole IHDR chunk")),
    }
    let mut rest = &bytes[8..];
    while let Some((&[l0, l1, l2, l3, ref kind @ ..], after)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        // A checksum follows the content.
        let next = after.get(length.saturating_add(4)..);
        rest = next.ok_or_else(|| broken("it is truncated inside a chunk"))?;
        if kind == b"IEND" {
            return Ok(());
        }
    }
    Err(broken("it is truncated (no IEND chunk)"))
}

fn webp(bytes: &[u8], check: Check<'_>) -> Result<(), ImageError> {
    webp_chunks(bytes.get(12..).unwrap_or_default(), true, check)?;
    let declared = bytes.get(4..).and_then(<[u8]>::first_chunk);
    let declared = declared.map_or(0, |&length| u32::from_le_bytes(length).into());
    // The length is of what follows it.
    if declared > bytes.len() as u64 - 8 {
        return Err(broken(Format::WebP, "it is truncated"));
    }
    Ok(())
}

/// Checks the canvas and the size of every bit stream; `outer` is false inside an animation frame.
fn webp_chunks(mut rest: &[u8], outer: bool, check: Check<'_>) -> Result<(), ImageError> {
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [kind @ .., s0, s1, s2, s3] = head;
        let length =
            usize::try_from(u32::from_le_bytes([*s0, *s1, *s2, *s3])).unwrap_or(usize::MAX);
        let body = &after[..length.min(after.len())];
        match (kind, body) {
            (b"VP8X", [_, _, _, _, canvas @ ..]) => size24(canvas, check)?,
            (b"VP8 ", [_, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1, ..]) => {
                let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
                size(Format::WebP, side(*w0, *w1), side(*h0, *h1), check)?;
            }
            (b"VP8L", [0x2F, b0, b1, b2, b3, ..]) => {
                let bits = u32::from_le_bytes([*b0, *b1, *b2, *b3]);
                size(Format::WebP, (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1, check)?;
            }
            (b"ANMF", [_, _, _, _, _, _, frame @ ..]) if outer => {
                size24(frame, check)?;
                webp_chunks(frame.get(10..).unwrap_or_default(), false, check)?;
            }
            _ => {}
        }
        if length > after.len() && WEBP_CHUNKS.contains(&kind.as_slice()) {
            return Err(broken(Format::WebP, "it is truncated inside a chunk"));
        }
        rest = after.get(length.saturating_add(length & 1)..).unwrap_or_default();
    }
    Ok(())
}

/// Width and height as 24-bit numbers less one.
fn size24(bytes: &[u8], check: Check<'_>) -> Result<(), ImageError> {
    let [w0, w1, w2, h0, h1, h2, ..] = *bytes else {
        return Err(broken(Format::WebP, "it is truncated inside a header"));
    };
    let side = |bytes: [u8; 3]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) + 1;
    size(Format::WebP, side([w0, w1, w2]), side([h0, h1, h2]), check)
}

fn size(format: Format, width: u32, height: u32, check: Check<'_>) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(broken(format, &format!("its size is {width}x{height}")));
    }
    check(width, height)
}

fn broken(format: Format, cause: &str) -> ImageError {
    ImageError::Corrupt { format, cause: cause.to_owned() }
}

/// Names what people send by mistake.
fn guess(bytes: &[u8]) -> String {
    let known: [(&[u8], &str); 8] = [
        (b"GIF8", "a GIF"),
        (b"BM", "a BMP"),
        (b"II*\0", "a TIFF"),
        (b"MM\0*", "a TIFF"),
        (b"%PDF", "a PDF"),
        (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
        (b"{", "JSON text"),
        (b"<", "HTML, XML or SVG text"),
    ];
    if let Some((_, name)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*name).to_owned();
    }
    match bytes.get(4..12) {
        Some([b'f', b't', b'y', b'p', brand @ ..]) => {
            let brand = String::from_utf8_lossy(brand).trim_end().to_owned();
            format!("an ISO media file of brand `{}` (HEIC, AVIF, MP4, ..)", brand.escape_debug())
        }
        _ => {
            let first = &bytes[..bytes.len().min(8)];
            format!("of no format we know (first bytes {first:02x?})")
        }
    }
}
