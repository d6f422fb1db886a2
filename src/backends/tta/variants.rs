//! Variants of a picture, each of the picture's own size.

use anyhow::Context as _;
use image::imageops::{self, FilterType};
use image::{GenericImageView as _, ImageBuffer, Rgb, RgbImage};

use crate::image::Image;

/// One way of looking at a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Variant {
    /// As it is.
    Original,
    /// Left and right exchanged.
    Mirrored,
    /// About its centre: below 1 with black around it, above 1 cut at the edges.
    Scaled(f64),
}

impl Variant {
    /// The picture seen this way.
    pub(super) fn of(self, image: &Image) -> anyhow::Result<Image> {
        let (width, height) = (image.width(), image.height());
        let view = ImageBuffer::<Rgb<u8>, &[u8]>::from_raw(width, height, image.pixels());
        let view = view.context("a picture without pixels")?;
        let varied: RgbImage = match self {
            Self::Original => ImageBuffer::from_fn(width, height, |x, y| *view.get_pixel(x, y)),
            Self::Mirrored => imageops::flip_horizontal(&view),
            Self::Scaled(scale) if scale < 1.0 => {
                let (w, h) = (scaled(width, scale), scaled(height, scale));
                let small = imageops::resize(&view, w, h, FilterType::Triangle);
                let mut framed = RgbImage::new(width, height);
                let (left, top) = (i64::from((width - w) / 2), i64::from((height - h) / 2));
                imageops::replace(&mut framed, &small, left, top);
                framed
            }
            Self::Scaled(scale) => {
                let (w, h) = (scaled(width, 1.0 / scale), scaled(height, 1.0 / scale));
                let centre = view.view((width - w) / 2, (height - h) / 2, w, h);
                imageops::resize(&*centre, width, height, FilterType::Triangle)
            }
        };
        Image::from_rgb(width, height, varied.into_raw()).context("a picture changed its size")
    }
}

/// A side made smaller, at least one pixel of it.
fn scaled(side: u32, scale: f64) -> u32 {
    ((f64::from(side) * scale).round() as u32).clamp(1, side.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A white block in the middle of black, one red pixel at the top left.
    fn picture() -> Image {
        let at = |x: u32, y: u32| match (x, y) {
            (0, 0) => [255, 0, 0],
            (8..12, 8..12) => [255; 3],
            _ => [0; 3],
        };
        let pixels = (0..400).flat_map(|i| at(i % 20, i / 20)).collect();
        Image::from_rgb(20, 20, pixels).unwrap()
    }

    fn pixel(image: &Image, x: usize, y: usize) -> &[u8] {
        let at = 3 * (y * image.width() as usize + x);
        &image.pixels()[at..at + 3]
    }

    fn white(image: &Image) -> usize {
        image.pixels().chunks(3).filter(|rgb| rgb.iter().all(|c| *c > 127)).count()
    }

    #[test]
    fn mirroring_exchanges_left_and_right() {
        let mirrored = Variant::Mirrored.of(&picture()).unwrap();
        assert_eq!(pixel(&mirrored, 19, 0), [255, 0, 0]);
        assert_eq!(pixel(&mirrored, 0, 0), [0; 3]);
        assert_eq!(Variant::Mirrored.of(&mirrored).unwrap(), picture());
    }

    #[test]
    fn scaling_keeps_the_size_and_the_centre() {
        let small = Variant::Scaled(0.5).of(&picture()).unwrap();
        assert_eq!((small.width(), small.height()), (20, 20));
        assert!((2..=6).contains(&white(&small)), "{}", white(&small));
        assert_eq!(pixel(&small, 0, 0), [0; 3]);
        let large = Variant::Scaled(2.0).of(&picture()).unwrap();
        assert!((56..=72).contains(&white(&large)), "{}", white(&large));
        for image in [small, large] {
            assert!(pixel(&image, 10, 10).iter().all(|c| *c > 180), "{image:?}");
        }
        assert_eq!(Variant::Scaled(1.0).of(&picture()).unwrap(), picture());
    }

    #[test]
    fn the_smallest_picture_has_every_variant() {
        let dot = Image::from_rgb(1, 1, vec![9, 8, 7]).unwrap();
        for variant in
            [Variant::Original, Variant::Mirrored, Variant::Scaled(0.25), Variant::Scaled(4.0)]
        {
            assert_eq!(variant.of(&dot).unwrap(), dot, "{variant:?}");
        }
    }
}
