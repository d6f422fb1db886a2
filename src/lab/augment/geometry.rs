//! Where pixels go: mirror, crop, rotate, resize, letter-box. Pure.

use crate::image::Image;
use crate::kernels::preprocess::{Filter, Plan, preprocess};

/// A rectangle of whole pixels, within the picture it is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Distance from the left edge.
    pub x: u32,
    /// Distance from the top edge.
    pub y: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

/// Left becomes right.
pub fn mirror(image: &Image) -> Image {
    let width = image.width();
    map(width, image.height(), |x, y| pixel(image, width - 1 - x, y))
}

/// The part within the frame, which is cut to the picture.
pub fn crop(image: &Image, frame: Frame) -> Image {
    let (x, y) = (frame.x.min(image.width() - 1), frame.y.min(image.height() - 1));
    let width = frame.width.clamp(1, image.width() - x);
    let height = frame.height.clamp(1, image.height() - y);
    map(width, height, |dx, dy| pixel(image, x + dx, y + dy))
}

/// The largest square in the middle.
pub fn centre_square(image: &Image) -> Image {
    let side = image.width().min(image.height());
    let (x, y) = ((image.width() - side) / 2, (image.height() - side) / 2);
    crop(image, Frame { x, y, width: side, height: side })
}

/// Turns counter-clockwise about the middle; each pixel is the nearest one, what comes from outside
/// is black.
pub fn rotate(image: &Image, degrees: f64) -> Image {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (width, height) = (image.width(), image.height());
    let (mx, my) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    map(width, height, |x, y| {
        let (dx, dy) = (f64::from(x) + 0.5 - mx, f64::from(y) + 0.5 - my);
        let (sx, sy) = (mx + cos * dx - sin * dy, my + sin * dx + cos * dy);
        let inside = sx >= 0.0 && sy >= 0.0 && sx < f64::from(width) && sy < f64::from(height);
        if inside { pixel(image, sx as u32, sy as u32) } else { [0; 3] }
    })
}

/// Antialiased bilinear, as Pillow and torchvision resize.
pub fn resize(image: &Image, width: u32, height: u32) -> Image {
    let plan = Plan {
        height: height.max(1) as usize,
        width: width.max(1) as usize,
        filter: Filter::Bilinear,
        rescale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let values = preprocess(&[image], &plan);
    let plane = plan.height * plan.width;
    map(width.max(1), height.max(1), |x, y| {
        let at = y as usize * plan.width + x as usize;
        [0, 1, 2].map(|channel| values[channel * plane + at].round().clamp(0.0, 255.0) as u8)
    })
}

/// Bilinear between the nearest four pixels, whatever the scale, as OpenCV resizes by default.
pub fn resize_by_neighbours(image: &Image, width: u32, height: u32) -> Image {
    let across: Vec<_> = (0..width).map(|x| neighbours(x, width, image.width())).collect();
    let down: Vec<_> = (0..height).map(|y| neighbours(y, height, image.height())).collect();
    map(width, height, |x, y| {
        let ((x0, x1, fx), (y0, y1, fy)) = (across[x as usize], down[y as usize]);
        let corners = [(x0, y0), (x1, y0), (x0, y1), (x1, y1)].map(|(x, y)| pixel(image, x, y));
        [0, 1, 2].map(|channel| {
            let [a, b, c, d] = corners.map(|corner| f32::from(corner[channel]));
            let (top, bottom) = (a + (b - a) * fx, c + (d - c) * fx);
            (top + (bottom - top) * fy).round() as u8
        })
    })
}

/// The whole picture in a square, black bars beside it.
pub fn letter_box(image: &Image, side: u32) -> Image {
    let scale = f64::from(side) / f64::from(image.width().max(image.height()));
    let fitted = |length: u32| ((f64::from(length) * scale).round() as u32).clamp(1, side);
    let inner = resize(image, fitted(image.width()), fitted(image.height()));
    let (left, top) = ((side - inner.width()) / 2, (side - inner.height()) / 2);
    map(side, side, |x, y| {
        let (x, y) = (x.wrapping_sub(left), y.wrapping_sub(top));
        if x < inner.width() && y < inner.height() { pixel(&inner, x, y) } else { [0; 3] }
    })
}

/// The two source pixels on either side of a target pixel's middle, and how far it is between them.
fn neighbours(at: u32, target: u32, source: u32) -> (u32, u32, f32) {
    let place = (f64::from(at) + 0.5) * f64::from(source) / f64::from(target) - 0.5;
    let place = place.clamp(0.0, f64::from(source - 1));
    let low = place.floor();
    (low as u32, (low as u32 + 1).min(source - 1), (place - low) as f32)
}

pub(super) fn pixel(image: &Image, x: u32, y: u32) -> [u8; 3] {
    let at = (y as usize * image.width() as usize + x as usize) * 3;
    let pixels = image.pixels();
    [pixels[at], pixels[at + 1], pixels[at + 2]]
}

/// A picture whose pixels are a function of their place.
pub(super) fn map(width: u32, height: u32, at: impl Fn(u32, u32) -> [u8; 3]) -> Image {
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        for x in 0..width {
            pixels.extend(at(x, y));
        }
    }
    picture(width, height, pixels)
}

/// The picture of these bytes, of which there must be `width * height * 3`, and some.
#[expect(clippy::expect_used, reason = "every caller makes as many bytes as it says")]
pub(super) fn picture(width: u32, height: u32, pixels: Vec<u8>) -> Image {
    Image::from_rgb(width, height, pixels).expect("three bytes for each pixel")
}
