use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

#[derive(Deserialize)]
struct Expected {
    file: String,
    width: u32,
    height: u32,
    tolerance: u8,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

fn index() -> Vec<Expected> {
    serde_json::from_slice(&fs_err::read(folder().join("index.json")).unwrap()).unwrap()
}

fn file(name: &str) -> Vec<u8> {
    fs_err::read(folder().join(name)).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Image, ImageError> {
    Image::decode(bytes, &ImageLimits::default())
}

#[test]
fn every_kind_decodes_as_pillow_decodes_it() {
    let mut wrong = Vec::new();
    for expected in index() {
        let name = &expected.file;
        let image = decode(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((image.width(), image.height()), (expected.width, expected.height), "{name}");
        let reference = file(&format!("{name}.rgb"));
        let differences = image.pixels().iter().zip(&reference).map(|(a, b)| a.abs_diff(*b));
        let (at, worst) = differences.enumerate().max_by_key(|(_, d)| *d).unwrap();
        if worst > expected.tolerance {
            wrong.push(format!("{name}: byte {at} is off by {worst} (> {})", expected.tolerance));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn limits_name_their_key_and_hold_before_decoding() {
    let jpeg = file("baseline_444.jpg");
    let limits = ImageLimits { max_bytes: 10, ..Default::default() };
    let error = Image::decode(&jpeg, &limits).unwrap_err();
    assert_eq!(error, ImageError::TooManyBytes { found: jpeg.len() as u64, limit: 10 });
    for name in
        ["baseline_444.jpg", "rgb.png", "lossy.webp", "lossless.webp", "animated_lossy.webp"]
    {
        // Cut to the headers: nothing but the size can have been read. (A JPEG is only cut after
        // its frame header, which must be seen before the end of the file is missed.)
        let bytes = file(name);
        let few = ImageLimits { max_pixels: 100, ..Default::default() };
        let error = Image::decode(&bytes, &few).unwrap_err();
        assert_eq!(error, ImageError::TooManyPixels { width: 45, height: 29, limit: 100 });
        assert!(error.to_string().contains("45x29 = 1305 pixels"), "{error}");
        assert!(error.to_string().contains("`image.max_pixels`"), "{error}");
        let narrow = ImageLimits { max_dimension: 44, ..Default::default() };
        let error = Image::decode(&bytes, &narrow).unwrap_err();
        assert_eq!(error, ImageError::TooLargeDimension { width: 45, height: 29, limit: 44 });
    }
}

#[test]
fn a_bomb_is_refused_from_its_header() {
    // A PNG of 50000x50000 in a few hundred bytes, its data cut off.
    let mut png = file("rgb.png");
    png[16..24].copy_from_slice(&[0, 0, 0xC3, 0x50, 0, 0, 0xC3, 0x50]);
    png.truncate(200);
    assert!(matches!(
        decode(&png),
        Err(ImageError::TooLargeDimension { width: 50_000, height: 50_000, .. })
    ));
    // A JPEG of 65535x65535.
    let mut jpeg = file("baseline_420.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xFF);
    jpeg.truncate(frame + 40);
    assert!(matches!(
        decode(&jpeg),
        Err(ImageError::TooLargeDimension { width: 65_535, height: 65_535, .. })
    ));
    // Sides within the limit, area not.
    png[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
    assert!(matches!(decode(&png), Err(ImageError::TooManyPixels { .. })));
    // The frame of an animation, larger than the canvas.
    let mut webp = file("animated_lossy.webp");
    let frame = webp.windows(4).position(|four| four == b"VP8 ").unwrap();
    webp[frame + 14..frame + 18].fill(0x3F);
    assert!(matches!(decode(&webp), Err(ImageError::TooManyPixels { .. })));
}

#[test]
fn a_jpeg_with_endless_scans_is_refused() {
    let jpeg = file("progressive_444.jpg");
    let scan = jpeg.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    let mut bytes = jpeg[..scan].to_vec();
    for _ in 0..200 {
        bytes.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0]);
    }
    bytes.extend([0xFF, 0xD9]);
    let error = decode(&bytes).unwrap_err();
    assert!(error.to_string().contains("more scans"), "{error}");
}

#[test]
fn broken_files_are_named() {
    assert_eq!(decode(b""), Err(ImageError::Empty));
    for (bytes, found) in [
        (&b"GIF89a...."[..], "a GIF"),
        (b"<html>", "HTML, XML or SVG text"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "brand `avif`"),
        (b"\x01", "first bytes [01]"),
    ] {
        let error = decode(bytes).unwrap_err();
        assert!(matches!(error, ImageError::UnsupportedFormat { .. }));
        let text = error.to_string();
        assert!(text.contains(found) && text.contains("accepted are JPEG, PNG, WebP"), "{text}");
    }
    for name in
        ["baseline_420.jpg", "progressive_444.jpg", "rgb.png", "lossy.webp", "lossless.webp"]
    {
        let bytes = file(name);
        for keep in [bytes.len() / 2, bytes.len() - bytes.len() / 8] {
            let result = decode(&bytes[..keep]);
            assert!(matches!(result, Err(ImageError::Corrupt { .. })), "{name}: {result:?}");
        }
    }
    let jpeg = file("baseline_420.jpg");
    let error = decode(&jpeg[..jpeg.len() - 2]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the JPEG image is broken: it is truncated (no end-of-image marker)"
    );
    let mut padded = jpeg.clone();
    padded.extend([0; 100]);
    assert_eq!(decode(&padded).unwrap(), decode(&jpeg).unwrap());
}

#[test]
fn a_file_is_refused_wherever_it_is_cut() {
    for name in [
        "progressive_420.jpg",
        "palette_4bit.png",
        "orientation_6.png",
        "lossy_alpha.webp",
        "lossless.webp",
        "animated_lossy.webp",
    ] {
        let bytes = file(name);
        for end in 1..bytes.len() {
            let result = decode(&bytes[..end]);
            assert!(result.is_err(), "{name} cut at {end} of {}", bytes.len());
        }
    }
}

#[test]
fn a_webp_chunk_claims_no_more_than_there_is() {
    let mut bytes = file("orientation_8.webp");
    let exif = bytes.windows(4).position(|four| four == b"EXIF").unwrap();
    bytes[exif + 4..exif + 8].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0x7F]);
    let error = decode(&bytes).unwrap_err();
    assert!(error.to_string().contains("inside a chunk"), "{error}");
}

#[test]
fn limits_are_checked_when_read() {
    let read = serde_json::from_str::<ImageLimits>;
    assert_eq!(read("{}").unwrap(), ImageLimits::default());
    assert_eq!(read(r#"{"max_bytes": 7}"#).unwrap().max_bytes, 7);
    assert!(read(r#"{"max_byte": 7}"#).unwrap_err().to_string().contains("unknown field"));
}

#[test]
fn an_image_is_never_empty() {
    assert!(Image::from_rgb(0, 5, vec![]).is_none());
    assert!(Image::from_rgb(2, 2, vec![0; 11]).is_none());
    let image = Image::from_rgb(2, 2, vec![7; 12]).unwrap();
    assert_eq!(format!("{image:?}"), "Image(2x2)");
    assert_eq!(image.into_pixels(), vec![7; 12]);
}

/// Small limits, so that a case that got past them would show in its size.
const SMALL: ImageLimits = ImageLimits { max_bytes: 1 << 20, max_pixels: 4000, max_dimension: 80 };

fn holds(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(image) = Image::decode(bytes, &SMALL) {
        prop_assert!(image.width() <= 80 && image.height() <= 80);
        prop_assert!(image.pixels().len() <= 3 * 4000);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(
        magic in prop::sample::select(vec![
            &b""[..], b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"RIFF\0\0\0\0WEBPVP8 ",
            b"RIFF\xFF\0\0\0WEBPVP8X\x0a\0\0\0", b"RIFF\xFF\0\0\0WEBPVP8L",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        holds(&[magic, &rest].concat())?;
    }

    #[test]
    fn mutated_files_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let index = index();
        let mut bytes = file(&which.get(&index).file);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        holds(&bytes)?;
    }
}
