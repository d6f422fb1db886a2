//! The raster under a scene: antialiased filled polygons on a float image, and beside every pixel
//! the number of the item that owns it, from which visible boxes are later read.

use super::dice::Dice;

/// A colour, each channel 0 to 1.
pub(super) type Rgb = [f32; 3];
/// A point in pixels, y downwards.
pub(super) type Point = [f32; 2];

/// How a fill runs from its first colour to its second over the shape's bounding box.
#[derive(Clone, Copy)]
pub(super) enum Ramp {
    /// First colour only.
    Flat,
    /// From the top edge to the bottom edge.
    Down,
    /// From the left edge to the right edge.
    Across,
}

/// What a shape is filled with.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    from: Rgb,
    to: Rgb,
    ramp: Ramp,
    alpha: f32,
    grain: f32,
}

impl Paint {
    /// One opaque colour.
    pub(super) fn flat(colour: Rgb) -> Self {
        Self { from: colour, to: colour, ramp: Ramp::Flat, alpha: 1.0, grain: 0.0 }
    }

    /// A vertical gradient.
    pub(super) fn down(from: Rgb, to: Rgb) -> Self {
        Self { from, to, ramp: Ramp::Down, alpha: 1.0, grain: 0.0 }
    }

    /// Light on the left, dark on the right: a round body under a side light.
    pub(super) fn round(colour: Rgb) -> Self {
        let (from, to) = (scale(colour, 1.12), scale(colour, 0.72));
        Self { from, to, ramp: Ramp::Across, alpha: 1.0, grain: 0.0 }
    }

    /// The same paint, see-through.
    pub(super) fn alpha(self, alpha: f32) -> Self {
        Self { alpha, ..self }
    }

    /// The same paint with pixel-to-pixel brightness noise of this relative size.
    pub(super) fn grain(self, grain: f32) -> Self {
        Self { grain, ..self }
    }
}

/// Multiplies a colour's brightness.
pub(super) fn scale(colour: Rgb, by: f32) -> Rgb {
    colour.map(|channel| (channel * by).min(1.0))
}

/// A colour between two others.
pub(super) fn mix(from: Rgb, to: Rgb, at: f32) -> Rgb {
    [0, 1, 2].map(|i| from[i] + (to[i] - from[i]) * at)
}

/// A picture being painted.
pub(super) struct Canvas {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Row-major pixels.
    pub pixels: Vec<Rgb>,
    /// The item that owns each pixel; 0 is the backdrop.
    pub owner: Vec<u16>,
    /// The item being painted.
    pub current: u16,
    /// Pixels it has come to own since this was last set to 0.
    pub painted: u32,
    /// What distance lays over the item being painted: a colour and how much of it.
    pub haze: (Rgb, f32),
    cover: Vec<f32>,
    noise: u32,
}

impl Canvas {
    /// A black canvas; the dice seed its grain.
    pub(super) fn new(width: usize, height: usize, dice: &mut Dice) -> Self {
        let size = width * height;
        Self {
            width,
            height,
            pixels: vec![[0.0; 3]; size],
            owner: vec![0; size],
            current: 0,
            painted: 0,
            haze: ([0.0; 3], 0.0),
            cover: Vec::new(),
            noise: dice.word() | 1,
        }
    }

    /// 32 cheap random bits (Marsaglia's xorshift).
    pub(super) fn word(&mut self) -> u32 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 17;
        self.noise ^= self.noise << 5;
        self.noise
    }

    /// A cheap uniform number in -0.5..0.5.
    fn grain(&mut self) -> f32 {
        (self.word() >> 8) as f32 / 16_777_216.0 - 0.5
    }

    /// Fills a polygon (simple, either winding), clipped to the canvas.
    pub(super) fn polygon(&mut self, points: &[Point], paint: &Paint) {
        let Some(bounds) = self.bounds(points) else { return };
        let (x0, y0, wide, high) = bounds;
        let stride = wide + 2;
        self.cover.clear();
        self.cover.resize(stride * high, 0.0);
        let mut last = points[points.len() - 1];
        for &point in points {
            let from = [last[0] - x0 as f32, last[1] - y0 as f32];
            let to = [point[0] - x0 as f32, point[1] - y0 as f32];
            edge(&mut self.cover, (wide, high), from, to);
            last = point;
        }
        self.lay(bounds, &extent(points), paint);
    }

    /// An axis-aligned ellipse.
    pub(super) fn ellipse(&mut self, centre: Point, radii: Point, paint: &Paint) {
        // The cosine and sine of a step, turned on by multiplication: unlike the library's
        // functions that gives the same bits on every machine.
        let (corners, cos, sin) = if radii[0].max(radii[1]) < 4.0 {
            (12, 0.866_025_4, 0.5)
        } else {
            (28, 0.974_927_9, 0.222_520_93)
        };
        let mut points = [[0.0; 2]; 28];
        let (mut x, mut y) = (1.0_f32, 0.0_f32);
        for point in points.iter_mut().take(corners) {
            *point = [centre[0] + radii[0] * x, centre[1] + radii[1] * y];
            (x, y) = (x * cos - y * sin, x * sin + y * cos);
        }
        self.polygon(&points[..corners], paint);
    }

    /// A straight stroke.
    pub(super) fn line(&mut self, from: Point, to: Point, width: f32, paint: &Paint) {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let length = (dx * dx + dy * dy).sqrt().max(1e-3);
        let (nx, ny) = (-dy / length * width * 0.5, dx / length * width * 0.5);
        let quad = [
            [from[0] + nx, from[1] + ny],
            [to[0] + nx, to[1] + ny],
            [to[0] - nx, to[1] - ny],
            [from[0] - nx, from[1] - ny],
        ];
        self.polygon(&quad, paint);
    }

    /// A soft round spot; `add` says whether it lightens like a lamp or covers like a cloud.
    #[expect(clippy::too_many_arguments, reason = "a spot is these five things")]
    pub(super) fn spot(
        &mut self,
        centre: Point,
        radii: Point,
        colour: Rgb,
        strength: f32,
        add: bool,
    ) {
        let clamp = |value: f32, most: usize| (value.max(0.0) as usize).min(most);
        let (x0, x1) = (
            clamp(centre[0] - radii[0], self.width),
            clamp(centre[0] + radii[0] + 1.0, self.width),
        );
        let (y0, y1) = (
            clamp(centre[1] - radii[1], self.height),
            clamp(centre[1] + radii[1] + 1.0, self.height),
        );
        for y in y0..y1 {
            let v = (y as f32 + 0.5 - centre[1]) / radii[1];
            for x in x0..x1 {
                let u = (x as f32 + 0.5 - centre[0]) / radii[0];
                let fall = 1.0 - u * u - v * v;
                if fall <= 0.0 {
                    continue;
                }
                let amount = fall * fall * strength;
                let pixel = &mut self.pixels[y * self.width + x];
                for (channel, light) in pixel.iter_mut().zip(colour) {
                    *channel += if add { light * amount } else { (light - *channel) * amount };
                }
            }
        }
    }

    fn bounds(&self, points: &[Point]) -> Option<(usize, usize, usize, usize)> {
        if points.len() < 3 {
            return None;
        }
        let [left, top, right, bottom] = extent(points);
        let (x0, y0) = (left.floor().max(0.0), top.floor().max(0.0));
        let (x1, y1) = (right.ceil().min(self.width as f32), bottom.ceil().min(self.height as f32));
        let inside = x1 > x0 && y1 > y0;
        inside.then_some((x0 as usize, y0 as usize, (x1 - x0) as usize, (y1 - y0) as usize))
    }

    fn lay(&mut self, bounds: (usize, usize, usize, usize), extent: &[f32; 4], paint: &Paint) {
        let (x0, y0, wide, high) = bounds;
        let [left, top, right, bottom] = *extent;
        let (per_x, per_y) = (1.0 / (right - left).max(1e-3), 1.0 / (bottom - top).max(1e-3));
        for row in 0..high {
            let mut sum = 0.0;
            for column in 0..wide {
                sum += self.cover[row * (wide + 2) + column];
                let cover = sum.abs().min(1.0) * paint.alpha;
                if cover < 0.004 {
                    continue;
                }
                let (x, y) = (x0 + column, y0 + row);
                let mut colour = match paint.ramp {
                    Ramp::Flat => paint.from,
                    Ramp::Down => {
                        mix(paint.from, paint.to, ((y as f32 + 0.5 - top) * per_y).clamp(0.0, 1.0))
                    }
                    Ramp::Across => {
                        mix(paint.from, paint.to, ((x as f32 + 0.5 - left) * per_x).clamp(0.0, 1.0))
                    }
                };
                if paint.grain > 0.0 {
                    let light = 1.0 + paint.grain * self.grain();
                    colour = colour.map(|channel| channel * light);
                }
                let colour = mix(colour, self.haze.0, self.haze.1);
                let at = y * self.width + x;
                self.pixels[at] = mix(self.pixels[at], colour, cover);
                if cover > 0.45 {
                    self.painted += u32::from(self.owner[at] != self.current);
                    self.owner[at] = self.current;
                }
            }
        }
    }
}

fn extent(points: &[Point]) -> [f32; 4] {
    let mut found = [f32::MAX, f32::MAX, f32::MIN, f32::MIN];
    for point in points {
        found[0] = found[0].min(point[0]);
        found[1] = found[1].min(point[1]);
        found[2] = found[2].max(point[0]);
        found[3] = found[3].max(point[1]);
    }
    found
}

/// Adds one edge to a signed-area buffer whose running sum along a row is the coverage.
fn edge(cover: &mut [f32], size: (usize, usize), from: Point, to: Point) {
    if from[1] == to[1] {
        return;
    }
    let (wide, high) = size;
    let (sign, from, to) = if from[1] < to[1] { (1.0, from, to) } else { (-1.0, to, from) };
    let slope = (to[0] - from[0]) / (to[1] - from[1]);
    let first = from[1].max(0.0);
    let last = to[1].min(high as f32);
    if last <= first {
        return;
    }
    for row in first as usize..(last.ceil() as usize).min(high) {
        let (start, end) = (first.max(row as f32), last.min(row as f32 + 1.0));
        let enter = (from[0] + (start - from[1]) * slope).clamp(0.0, wide as f32);
        let leave = (from[0] + (end - from[1]) * slope).clamp(0.0, wide as f32);
        let line = &mut cover[row * (wide + 2)..(row + 1) * (wide + 2)];
        span(line, sign * (end - start), enter.min(leave), enter.max(leave));
    }
}

/// Spreads an edge's height `rise` within one row over the columns `left..right` it crosses.
fn span(line: &mut [f32], rise: f32, left: f32, right: f32) {
    let first = left as usize;
    let after = right.ceil() as usize;
    if after <= first + 1 {
        let inside = 0.5 * (left + right) - first as f32;
        line[first] += rise * (1.0 - inside);
        line[first + 1] += rise * inside;
        return;
    }
    let per = 1.0 / (right - left);
    let mut done = 0.0;
    for (column, cell) in line.iter_mut().enumerate().take(after).skip(first) {
        let (near, far) = (left.max(column as f32), right.min(column as f32 + 1.0));
        let share = (far - near) * per * rise;
        let inside = 0.5 * (near + far) - column as f32;
        *cell += share * (1.0 - inside) + done;
        done = share * inside;
    }
    line[after] += done;
}
