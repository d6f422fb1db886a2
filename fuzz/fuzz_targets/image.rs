//! Any bytes as an image file: decoding keeps the limits, what it said it would allocate, and the
//! memory that `roadcrew::image` promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use roadcrew::image::{Image, ImageError, ImageLimits};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Small, so that a picture that got past them would show.
const LIMITS: ImageLimits =
    ImageLimits { max_bytes: 64 << 10, max_pixels: 40_000, max_dimension: 400 };

/// What a decoder may ask for whatever the picture: the largest partition that a WebP can claim, and
/// the tables that so many bytes can describe.
const TABLES: usize = 24 << 20;

fuzz_target!(|bytes: &[u8]| {
    let declared = Image::decoded_bytes(bytes, &LIMITS);
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let decoded = Image::decode(bytes, &LIMITS);
    let held = MEMORY.peak_usage() - before;

    let pixels = declared.as_ref().map_or(0, |bytes| bytes / 3);
    let promised = 12 * pixels + 2 * bytes.len() + TABLES;
    assert!(held <= promised, "{held} bytes were held, {promised} are promised: {decoded:?}");
    match decoded {
        Ok(image) => {
            let (width, height) = (image.width(), image.height());
            assert!(width.max(height) <= LIMITS.max_dimension, "{width}x{height}");
            assert!(u64::from(width) * u64::from(height) <= LIMITS.max_pixels, "{width}x{height}");
            assert_eq!(image.pixels().len(), (width * height * 3) as usize);
            assert!(image.pixels().len() <= declared.expect("the header was read before"));
        }
        Err(ImageError::TooManyBytes { .. }) => assert!(bytes.len() as u64 > LIMITS.max_bytes),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
