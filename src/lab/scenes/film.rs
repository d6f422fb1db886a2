//! From the painted scene to the photograph: night, rain, a tilted crop, blur, exposure, noise.

use image::RgbImage;

use super::canvas::{Canvas, Paint, Point, Rgb, mix};
use super::dice::Dice;
use super::view::View;

/// A source of light that shows at night.
pub(super) struct Lamp {
    /// Where.
    pub at: Point,
    /// Radius of its glow in pixels.
    pub radius: f32,
    /// Its colour.
    pub colour: Rgb,
}

/// Darkens a night scene to what headlights and lamps reach; `reflects` tells by owner.
pub(super) fn darken(
    canvas: &mut Canvas,
    view: &View,
    lamps: &[Lamp],
    reflects: &[bool],
    ambient: f32,
) {
    let (wide, tall) = (canvas.width as f32, canvas.height as f32);
    for y in 0..canvas.height {
        let down = (y as f32 - view.horizon) / (tall - view.horizon);
        let v = (down - 0.22) / if down < 0.22 { 0.62 } else { 1.1 };
        for x in 0..canvas.width {
            let at = y * canvas.width + x;
            let u = (x as f32 - view.middle) / (wide * 0.62);
            let beam = (1.0 - u * u - v * v).max(0.0);
            let back = if reflects[canvas.owner[at] as usize] { 0.22 + 0.35 * beam } else { 0.0 };
            let light = ambient + beam * 0.55 + back;
            let [r, g, b] = canvas.pixels[at];
            canvas.pixels[at] =
                [r * light * 1.02, g * light * 0.98, b * (light * 0.86 + ambient * 0.25)];
        }
    }
    for lamp in lamps {
        let radius = lamp.radius.max(1.2);
        canvas.spot(lamp.at, [radius, radius], lamp.colour, 0.95, true);
        canvas.spot(lamp.at, [radius * 4.0, radius * 4.0], lamp.colour, 0.16, true);
    }
}

/// Lays the streaks and specks of rain over a scene.
pub(super) fn rain(canvas: &mut Canvas, dice: &mut Dice, level: u8) {
    let (wide, tall) = (canvas.width as f32, canvas.height as f32);
    let slant = dice.span(-0.3, 0.3);
    canvas.haze.1 = 0.0;
    canvas.current = 0;
    for _ in 0..dice.count(40, 70 + 40 * u32::from(level)) {
        let from = [dice.span(0.0, wide), dice.span(0.0, tall)];
        let long = dice.span(0.03, 0.1) * tall;
        let paint = Paint::flat([0.82, 0.84, 0.87]).alpha(dice.span(0.1, 0.32));
        canvas.line(from, [from[0] + slant * long, from[1] + long], 0.7, &paint);
    }
    for _ in 0..dice.count(0, 12) {
        let at = [dice.span(0.0, wide), dice.span(0.0, tall)];
        let size = dice.span(1.5, 4.0);
        canvas.spot(at, [size, size * 1.2], [0.7, 0.72, 0.74], dice.span(0.2, 0.5), false);
    }
}

/// The bonnet or dashboard of the car that carries the camera.
pub(super) fn bonnet(canvas: &mut Canvas, dice: &mut Dice) {
    let (wide, tall) = (canvas.width as f32, canvas.height as f32);
    let rise = dice.span(0.03, 0.11) * tall;
    let shade = super::canvas::scale(super::palette::car(dice), 0.4);
    canvas.haze.1 = 0.0;
    canvas.current = 0;
    canvas.polygon(
        &[
            [-1.0, tall + 1.0],
            [-1.0, tall - rise * 0.5],
            [wide * 0.25, tall - rise * 0.95],
            [wide * 0.5, tall - rise * 1.05],
            [wide * 0.75, tall - rise * 0.95],
            [wide + 1.0, tall - rise * 0.5],
            [wide + 1.0, tall + 1.0],
        ],
        &Paint::down(shade, super::canvas::scale(shade, 0.5)),
    );
}

/// How a photograph is cut out of the canvas.
pub(super) struct Frame {
    sin: f32,
    cos: f32,
    middle: Point,
    shift: Point,
}

impl Frame {
    /// A slight tilt and crop.
    pub(super) fn new(canvas: &Canvas, dice: &mut Dice, level: u8) -> Self {
        let tilt = dice.span(-0.01, 0.01) * (1.0 + f32::from(level));
        let zoom = 1.0 / dice.span(1.02, 1.08);
        let (wide, tall) = (canvas.width as f32, canvas.height as f32);
        let slack = (1.0 - zoom) * 0.5;
        let shift = [dice.span(-slack, slack) * wide, dice.span(-slack, slack) * tall];
        Self { sin: tilt * zoom, cos: zoom, middle: [wide * 0.5, tall * 0.5], shift }
    }

    /// The point of the canvas under the middle of a pixel of the photograph, and the step from
    /// there to the next pixel of its row.
    fn source(&self, y: usize) -> (Point, Point) {
        let (u, v) = (0.5 - self.middle[0], y as f32 + 0.5 - self.middle[1]);
        let x = self.middle[0] + self.shift[0] + u * self.cos - v * self.sin - 0.5;
        let y = self.middle[1] + self.shift[1] + u * self.sin + v * self.cos - 0.5;
        ([x, y], [self.cos, self.sin])
    }

    /// The owner of each pixel of the photograph.
    pub(super) fn owners(&self, canvas: &Canvas) -> Vec<u16> {
        let (last_x, last_y) = (canvas.width - 1, canvas.height - 1);
        let mut owner = vec![0; canvas.owner.len()];
        for (y, row) in owner.chunks_exact_mut(canvas.width).enumerate() {
            let (from, step) = self.source(y);
            for (x, out) in row.iter_mut().enumerate() {
                let sx = (from[0] + x as f32 * step[0] + 0.5) as usize;
                let sy = (from[1] + x as f32 * step[1] + 0.5) as usize;
                *out = canvas.owner[sy.min(last_y) * canvas.width + sx.min(last_x)];
            }
        }
        owner
    }

    /// The pixels of the photograph.
    fn pixels(&self, canvas: &Canvas) -> Vec<Rgb> {
        let (last_x, last_y) = (canvas.width as f32 - 1.001, canvas.height as f32 - 1.001);
        let source = &canvas.pixels;
        let mut pixels = vec![[0.0; 3]; source.len()];
        for (y, row) in pixels.chunks_exact_mut(canvas.width).enumerate() {
            let (from, step) = self.source(y);
            for (x, out) in row.iter_mut().enumerate() {
                let sx = (from[0] + x as f32 * step[0]).clamp(0.0, last_x);
                let sy = (from[1] + x as f32 * step[1]).clamp(0.0, last_y);
                let (cx, cy) = (sx as u32 as usize, sy as u32 as usize);
                let (fx, fy) = (sx - cx as f32, sy - cy as f32);
                let at = cy * canvas.width + cx;
                let below = at + canvas.width;
                let upper = mix(source[at], source[at + 1], fx);
                *out = mix(upper, mix(source[below], source[below + 1], fx), fy);
            }
        }
        pixels
    }
}

/// Takes the photograph.
pub(super) fn expose(canvas: &mut Canvas, frame: &Frame, dice: &mut Dice, level: u8) -> RgbImage {
    canvas.pixels = frame.pixels(canvas);
    let most = [0.10, 0.17, 0.21, 0.24][usize::from(level.min(3))];
    let amount = dice.span(0.0, most);
    if amount > 0.03 {
        blur(canvas, amount);
    }
    print(canvas, dice, level)
}

/// A three-tap blur along rows, then along columns.
fn blur(canvas: &mut Canvas, side: f32) {
    let (wide, high) = (canvas.width, canvas.height);
    let blend = |before: Rgb, here: Rgb, after: Rgb| {
        [0, 1, 2].map(|i| here[i] * (1.0 - 2.0 * side) + (before[i] + after[i]) * side)
    };
    for row in canvas.pixels.chunks_exact_mut(wide) {
        let mut before = row[0];
        for x in 0..wide {
            let (here, after) = (row[x], row[(x + 1).min(wide - 1)]);
            row[x] = blend(before, here, after);
            before = here;
        }
    }
    let mut above: Vec<Rgb> = canvas.pixels[..wide].to_vec();
    for y in 0..high {
        let below = (y + 1).min(high - 1) * wide;
        for (x, before) in above.iter_mut().enumerate() {
            let (here, after) = (canvas.pixels[y * wide + x], canvas.pixels[below + x]);
            canvas.pixels[y * wide + x] = blend(*before, here, after);
            *before = here;
        }
    }
}

fn print(canvas: &mut Canvas, dice: &mut Dice, level: u8) -> RgbImage {
    let gain = dice.span(0.78, 1.22);
    let contrast = dice.span(0.8, 1.2);
    let lift = dice.span(-0.03, 0.04);
    let warm = dice.span(-0.09, 0.09);
    let green = dice.span(-0.03, 0.03);
    let balance = [1.0 + warm, 1.0 + green, 1.0 - warm];
    let colour = dice.span(0.75, 1.12);
    let noise = dice.span(0.005, 0.018 + 0.016 * f32::from(level));
    let noise = noise / 128.0;
    let mut bytes = vec![0; canvas.pixels.len() * 3];
    for (at, out) in bytes.chunks_exact_mut(3).enumerate() {
        let pixel = canvas.pixels[at];
        let grey = 0.3 * pixel[0] + 0.59 * pixel[1] + 0.11 * pixel[2];
        let [shared, own @ ..] = canvas.word().to_le_bytes();
        for channel in 0..3 {
            let value = (grey + (pixel[channel] - grey) * colour) * balance[channel] * gain;
            let grain = (f32::from(shared) + f32::from(own[channel]) - 255.0) * noise;
            let value = (value - 0.45) * contrast + 0.45 + lift + grain;
            out[channel] = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
        }
    }
    let (wide, high) = (canvas.width as u32, canvas.height as u32);
    RgbImage::from_raw(wide, high, bytes).unwrap_or_else(|| RgbImage::new(wide, high))
}

/// Takes a dusk scene down to low, warm light.
pub(super) fn dim(canvas: &mut Canvas, dice: &mut Dice, level: u8) {
    let light = dice.span(0.68, 0.9) - 0.06 * f32::from(level);
    for pixel in &mut canvas.pixels {
        let [r, g, b] = *pixel;
        *pixel = [r * light * 1.1, g * light * 0.97, b * light * 0.9];
    }
}
