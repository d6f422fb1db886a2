//! The dashcam: how metres on and above the road become pixels, and a brush that paints in metres.

use super::canvas::{Canvas, Paint, Point, Rgb, scale};

/// A camera above the road, looking along it.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// Focal length in pixels.
    pub focal: f32,
    /// Column of the vanishing point.
    pub middle: f32,
    /// Row of the horizon.
    pub horizon: f32,
    /// Height of the camera in metres.
    pub eye: f32,
    /// Curvature of the road, per metre.
    pub curve: f32,
}

impl View {
    /// The pixel of the point `x` metres right of the lane, `y` above the ground, `z` ahead.
    pub(super) fn project(&self, x: f32, y: f32, z: f32) -> Point {
        let bent = x + 0.5 * self.curve * z * z;
        let size = self.size(z);
        [self.middle + bent * size, self.horizon + (self.eye - y) * size]
    }

    /// Pixels per metre at this distance.
    pub(super) fn size(&self, z: f32) -> f32 {
        self.focal / z.max(0.5)
    }
}

/// The share of the view that the air takes over a distance: `1 - exp(-distance / clear)`, the
/// exponential cut to its first terms so that it gives the same bits on every machine.
pub(super) fn haze(distance: f32, clear: f32) -> f32 {
    let t = distance / clear;
    1.0 - 1.0 / (1.0 + t * (1.0 + t * (0.5 + t * (1.0 / 6.0 + t / 24.0))))
}

/// A box in metres: right of, above and behind the brush's foot.
#[derive(Clone, Copy)]
pub(super) struct Solid {
    /// Left and right.
    pub x: [f32; 2],
    /// Bottom and top.
    pub y: [f32; 2],
    /// Near and far.
    pub z: [f32; 2],
}

/// Paints one item in metres from the point where it stands.
pub(super) struct Brush<'a> {
    /// What it paints on.
    pub canvas: &'a mut Canvas,
    /// Through which camera.
    pub view: View,
    /// Metres right of the lane.
    pub x: f32,
    /// Metres ahead.
    pub z: f32,
    /// How much the item leans: metres sideways for each metre up.
    pub lean: f32,
}

impl Brush<'_> {
    /// The pixel of a point on the upright plane through the foot.
    pub(super) fn at(&self, x: f32, y: f32) -> Point {
        let foot = self.view.project(self.x, 0.0, self.z);
        let size = self.size();
        [foot[0] + (x + self.lean * y) * size, foot[1] - y * size]
    }

    /// Pixels per metre.
    pub(super) fn size(&self) -> f32 {
        self.view.size(self.z)
    }

    /// A filled polygon of up to 16 corners.
    pub(super) fn shape(&mut self, points: &[Point], paint: &Paint) {
        let mut pixels = [[0.0; 2]; 16];
        let used = points.len().min(16);
        for (pixel, point) in pixels.iter_mut().zip(points) {
            *pixel = self.at(point[0], point[1]);
        }
        self.canvas.polygon(&pixels[..used], paint);
    }

    /// An upright rectangle from one corner to the other.
    pub(super) fn rect(&mut self, from: Point, to: Point, paint: &Paint) {
        self.shape(&[from, [to[0], from[1]], to, [from[0], to[1]]], paint);
    }

    /// An ellipse.
    pub(super) fn oval(&mut self, centre: Point, radii: Point, paint: &Paint) {
        let (centre, size) = (self.at(centre[0], centre[1]), self.size());
        self.canvas.ellipse(centre, [radii[0] * size, radii[1] * size], paint);
    }

    /// A stroke at least about half a pixel wide.
    pub(super) fn line(&mut self, from: Point, to: Point, width: f32, paint: &Paint) {
        let wide = (width * self.size()).max(0.6);
        let (from, to) = (self.at(from[0], from[1]), self.at(to[0], to[1]));
        self.canvas.line(from, to, wide, paint);
    }

    /// The dark patch under something this wide and deep.
    pub(super) fn shadow(&mut self, wide: f32, deep: f32) {
        let foot = self.view.project(self.x, 0.0, self.z + deep * 0.4);
        let size = self.size();
        let tall = (deep * size * self.view.eye / self.z * 0.6).max(0.8);
        let owner = self.canvas.current;
        self.canvas.current = 0;
        let paint = Paint::flat([0.04, 0.04, 0.05]).alpha(0.4);
        self.canvas.ellipse(foot, [wide * size * 0.58, tall], &paint);
        self.canvas.current = owner;
    }

    /// A flat quadrilateral on the ground.
    pub(super) fn ground(&mut self, x: [f32; 2], z: [f32; 2], paint: &Paint) {
        let (left, right) = (self.x + x[0], self.x + x[1]);
        let (near, far) = (self.z + z[0], self.z + z[1]);
        let quad = [
            self.view.project(left, 0.0, near),
            self.view.project(right, 0.0, near),
            self.view.project(right, 0.0, far),
            self.view.project(left, 0.0, far),
        ];
        self.canvas.polygon(&quad, paint);
    }

    /// A pixel of a point given in three dimensions from the foot.
    pub(super) fn spot(&self, x: f32, y: f32, z: f32) -> Point {
        self.view.project(self.x + x, y, self.z + z)
    }

    /// A box with a lit near face, darker sides and, where it is seen from above, a light top.
    pub(super) fn solid(&mut self, solid: Solid, colour: Rgb) {
        let Solid { x, y, z } = solid;
        for (edge, outward) in [(x[0], 1.0), (x[1], -1.0)] {
            let far_side = self.spot(edge, y[0], z[1])[0] - self.spot(edge, y[0], z[0])[0];
            if far_side * outward < 0.0 {
                let face = [
                    self.spot(edge, y[0], z[0]),
                    self.spot(edge, y[1], z[0]),
                    self.spot(edge, y[1], z[1]),
                    self.spot(edge, y[0], z[1]),
                ];
                self.canvas.polygon(&face, &Paint::flat(scale(colour, 0.72)));
            }
        }
        if y[1] < self.view.eye {
            let face = [
                self.spot(x[0], y[1], z[0]),
                self.spot(x[1], y[1], z[0]),
                self.spot(x[1], y[1], z[1]),
                self.spot(x[0], y[1], z[1]),
            ];
            self.canvas.polygon(&face, &Paint::flat(scale(colour, 1.14)));
        }
        let face = [
            self.spot(x[0], y[0], z[0]),
            self.spot(x[1], y[0], z[0]),
            self.spot(x[1], y[1], z[0]),
            self.spot(x[0], y[1], z[0]),
        ];
        self.canvas.polygon(&face, &Paint::down(colour, scale(colour, 0.85)));
    }
}
