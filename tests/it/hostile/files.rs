//! Files that are not what they say.

use std::path::Path;

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{beside_a_client, predict};
use crate::support::{Setup, form, grey_png};

pub(super) fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images");
    fs_err::read(folder.join(name)).unwrap()
}

fn position(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).unwrap()
}

/// A PNG's chunk: length, kind, content, checksum.
fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let checked = [&kind[..], content].concat();
    [&length[..], &checked, &crc32(&checked).to_be_bytes()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// The header of a PNG file: 8-bit grey.
fn png_head(width: u32, height: u32) -> Vec<u8> {
    let sizes = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [&sizes[..], &[8, 0, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..]].concat()
}

/// A zlib stream that holds `side * (side + 1)` zeros, by way of a picture's.
fn zeros(side: u32) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let picture = image::GrayImage::new(side, side);
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    let file = file.into_inner();
    let mut stream = Vec::new();
    let mut rest = &file[8..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if after.starts_with(b"IDAT") {
            stream.extend_from_slice(&after[4..4 + length]);
        }
        rest = &after[4 + length + 4..];
    }
    stream
}

/// A picture of 2x2 whose stream inflates to 36 MB.
pub(super) fn overfull_png() -> Vec<u8> {
    let end = chunk(b"IEND", b"");
    [png_head(2, 2), chunk(b"IDAT", &zeros(6_000)), end].concat()
}

/// A picture of 2x2 with a colour profile that inflates to 144 MB.
pub(super) fn profile_png() -> Vec<u8> {
    let profile = [b"p\0\0", &zeros(12_000)[..]].concat();
    let rest = &grey_png(9, 2, 2)[8 + 25..];
    let head = grey_png(9, 2, 2)[..8 + 25].to_vec();
    [&head[..], &chunk(b"iCCP", &profile), rest].concat()
}

/// Numbers of a few bits each, the lowest first, as a lossless WebP has them.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, value: u32, count: usize) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// A code of one symbol.
    fn symbol(&mut self, symbol: u32) {
        self.put(0b101, 3);
        self.put(symbol, 8);
    }

    /// A code of eleven symbols, whose table has 1024 entries.
    fn table(&mut self) {
        // Lengths 1 to 10 are told by codes of 3 bits, the last four of them by codes of 4.
        self.put(0, 1);
        self.put(14 - 4, 4);
        for length in [0, 0, 0, 3, 3, 3, 3, 3, 0, 3, 4, 4, 4, 4] {
            self.put(length, 3);
        }
        // Eleven lengths follow.
        self.put(1, 1);
        self.put(1, 3);
        self.put(11 - 2, 4);
        for length in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10_u32] {
            let (code, bits) = if length < 7 { (length - 1, 3) } else { (length + 5, 4) };
            // Codes begin with their highest bit.
            (0..bits).rev().for_each(|bit| self.put(code >> bit, 1));
        }
    }
}

/// A lossless WebP of 64x64 with so many groups of tables, and no pixels.
pub(super) fn tables_webp(groups: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0x2F, 8);
    bits.put(63, 14);
    bits.put(63, 14);
    // No alpha, version, no transform, no colour cache; groups chosen by tiles of four pixels.
    bits.put(0, 1 + 3 + 1 + 1);
    bits.put(1, 1);
    bits.put(0, 3);
    // Every tile chooses the last group: green and red are its number.
    bits.put(0, 1);
    let last = groups - 1;
    for symbol in [last & 0xFF, last >> 8, 0, 0, 0] {
        bits.symbol(symbol);
    }
    (0..groups * 5).for_each(|_| bits.table());
    bits.bytes.resize(bits.bytes.len().next_multiple_of(2), 0);
    let length = u32::try_from(bits.bytes.len()).unwrap();
    let sizes = [(length + 12).to_le_bytes(), length.to_le_bytes()];
    [b"RIFF", &sizes[0][..], b"WEBPVP8L", &sizes[1], &bits.bytes].concat()
}

#[test]
fn a_header_that_declares_too_much_is_refused_with_the_key() {
    let server = Setup::one("declares", "").start();
    let png = [png_head(65_535, 65_535), chunk(b"IDAT", &zeros(1_000))].concat();
    let mut jpeg = fixture("baseline_420.jpg");
    let frame = position(&jpeg, &[0xFF, 0xC0]);
    jpeg[frame + 5..frame + 9].fill(0xFF);
    // The canvas, as two 24-bit numbers less one.
    let mut canvas = fixture("lossy_alpha.webp");
    let at = position(&canvas, b"VP8X") + 12;
    canvas[at..at + 6].copy_from_slice(&[0xFE, 0xFF, 0, 0xFE, 0xFF, 0]);
    // The bit streams' own sizes: 14 bits each.
    let mut lossy = fixture("lossy.webp");
    let at = position(&lossy, &[0x9D, 0x01, 0x2A]) + 3;
    lossy[at..at + 4].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    let mut lossless = fixture("lossless.webp");
    let at = position(&lossless, b"VP8L") + 9;
    lossless[at..at + 4].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0x0F]);
    // Both sides are allowed, their product is not.
    let wide = [png_head(16_384, 16_384), chunk(b"IDAT", &zeros(1_000))].concat();
    let cases = [
        (&png, "65535x65535", "image.max_dimension"),
        (&jpeg, "65535x65535", "image.max_dimension"),
        (&canvas, "65535x65535", "image.max_dimension"),
        (&lossy, "16383x16383", "image.max_pixels"),
        (&lossless, "16384x16384", "image.max_pixels"),
        (&wide, "16384x16384", "image.max_pixels"),
    ];
    for (file, size, key) in cases {
        let reply = predict(server.address, file);
        assert_eq!(reply.problem(), (413, "too_large".into()), "{size}: {}", reply.text);
        assert!(reply.text.contains(size) && reply.text.contains(key), "{}", reply.text);
    }
}

#[test]
fn what_is_cut_short_is_the_clients_fault_wherever_it_is_cut() {
    let server = Setup::one("cut", "").start();
    let names = [
        "baseline_420.jpg",
        "progressive_444.jpg",
        "rgb.png",
        "interlaced.png",
        "lossy.webp",
        "lossless.webp",
        "lossy_alpha.webp",
    ];
    beside_a_client(server.address, || {
        for name in names {
            let file = fixture(name);
            assert_eq!(predict(server.address, &file).status, 200, "{name}");
            let step = (file.len() / 25).max(1);
            let ends = (1..file.len()).step_by(step).chain(file.len() - 16..file.len());
            for end in ends {
                let reply = predict(server.address, &file[..end]);
                let (status, code) = reply.problem();
                let known = matches!(
                    (status, code.as_str()),
                    (400, "corrupt_image") | (415, "unsupported_media_type")
                );
                assert!(known, "{name} cut at {end}: {}", reply.text);
            }
        }
    });
}

#[test]
fn garbage_is_answered_or_refused_and_never_our_fault() {
    let server = Setup::one("garbage", "").start();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let names = ["baseline_420.jpg", "progressive_444.jpg", "rgb16.png", "lossy.webp"];
    beside_a_client(server.address, || {
        for round in 0..120 {
            let mut file = fixture(names[round % names.len()]);
            // Past the header, or nothing but the header would be tested.
            let at = 16 + random.next_u32() as usize % (file.len() - 16);
            let end = (at + 1 + round / 4).min(file.len());
            random.fill_bytes(&mut file[at..end]);
            let reply = predict(server.address, &file);
            let fine = matches!(reply.status, 200 | 400 | 413 | 415);
            assert!(fine, "round {round}: {} {}", reply.status, reply.text);
        }
    });
}

#[test]
fn frames_that_together_never_fit_the_budget_are_refused_for_good() {
    let mut setup = Setup::one("frames", "");
    setup.http.body_budget_bytes = 4 << 20;
    let server = setup.start();
    // Three times 2.25 MB of pixels in a few hundred bytes.
    let frame = grey_png(0, 1_000, 750);
    let (form_type, body) = form(&[("frame", &frame), ("frame", &frame), ("frame", &frame)]);
    let reply = server.predict(&form_type, &body);
    assert_eq!(reply.problem(), (413, "too_large".into()), "{}", reply.text);
    assert!(reply.text.contains("http.body_budget_bytes"), "{}", reply.text);
    assert_eq!(server.predict("image/png", &frame).status, 200);
}
