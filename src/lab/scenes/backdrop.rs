//! The stage before anything stands on it: sky, skyline, verges, pavements, carriageway, markings.

use super::canvas::{Canvas, Paint, Rgb, mix, scale};
use super::dice::Dice;
use super::labels::Weather;
use super::view::{View, haze};

/// The cross-section of a road, in metres right of the camera's lane.
#[derive(Clone)]
pub(super) struct Road {
    /// Outer edges of the carriageway, shoulders included.
    pub edges: [f32; 2],
    /// Lane centres from left to right, and whether traffic there comes towards the camera.
    pub lanes: Vec<(f32, bool)>,
    /// Width of a lane.
    pub lane: f32,
    /// Width of the pavement on either side; 0 for none.
    pub pavement: f32,
    /// Whether the trees beside it have turned.
    pub autumn: bool,
}

impl Road {
    /// A road drawn at random, for driving on either side.
    pub(super) fn new(dice: &mut Dice) -> Self {
        let lane = dice.span(3.1, 3.7);
        let (beside, oncoming) = (dice.count(0, 1), dice.count(0, 2));
        let (inner, shoulder) = (dice.count(0, 1), dice.span(0.2, 1.2));
        let drive = if dice.chance(0.75) { 1.0 } else { -1.0 };
        let mut lanes = Vec::new();
        for step in -((inner + oncoming) as i32)..=beside as i32 {
            lanes.push((drive * step as f32 * lane, step < -(inner as i32)));
        }
        let far = (inner + oncoming) as f32 * lane + lane * 0.5 + shoulder;
        let near = beside as f32 * lane + lane * 0.5 + shoulder;
        if drive < 0.0 {
            lanes.reverse();
        }
        let edges = if drive > 0.0 { [-far, near] } else { [-near, far] };
        let pavement = if dice.chance(0.65) { dice.span(1.6, 3.2) } else { 0.0 };
        Self { edges, lanes, lane, pavement, autumn: dice.chance(0.4) }
    }

    /// The outer edge on one side, -1 for left or 1 for right.
    pub(super) fn edge(&self, side: f32) -> f32 {
        if side < 0.0 { self.edges[0] } else { self.edges[1] }
    }
}

/// Paints everything that nothing stands in front of; returns the colour distance fades to.
pub(super) fn paint(
    canvas: &mut Canvas,
    view: &View,
    road: &Road,
    weather: Weather,
    dice: &mut Dice,
) -> Rgb {
    let air = sky(canvas, view, weather, dice);
    skyline(canvas, view, road, air, dice);
    ground(canvas, view, road, weather, dice);
    air
}

fn sky(canvas: &mut Canvas, view: &View, weather: Weather, dice: &mut Dice) -> Rgb {
    let tint = dice.span(0.9, 1.06);
    let (zenith, low): (Rgb, Rgb) = match weather {
        Weather::Clear | Weather::Night => ([0.30, 0.50, 0.80], [0.74, 0.83, 0.90]),
        Weather::Overcast => ([0.62, 0.65, 0.69], [0.80, 0.81, 0.82]),
        Weather::Dusk => ([0.36, 0.40, 0.58], [0.95, 0.66, 0.42]),
        Weather::Rain => ([0.48, 0.50, 0.54], [0.66, 0.68, 0.70]),
        Weather::Fog => ([0.72, 0.73, 0.74], [0.78, 0.79, 0.79]),
    };
    let (zenith, low) = (scale(zenith, tint), scale(low, tint));
    let rows = (view.horizon.max(1.0) as usize + 2).min(canvas.height);
    for y in 0..rows {
        let colour = mix(zenith, low, y as f32 / rows as f32);
        canvas.pixels[y * canvas.width..(y + 1) * canvas.width].fill(colour);
    }
    let (wide, tall) = (canvas.width as f32, view.horizon);
    let clouds = if weather == Weather::Fog { 0 } else { dice.count(0, 9) };
    let cloud = mix(low, [0.96, 0.95, 0.94], if weather == Weather::Clear { 0.8 } else { 0.2 });
    for _ in 0..clouds {
        let at = [dice.span(0.0, wide), dice.span(-0.1, 0.85) * tall];
        let size = dice.span(0.06, 0.2) * wide;
        canvas.spot(at, [size, size * dice.span(0.2, 0.45)], cloud, dice.span(0.4, 0.9), false);
    }
    scale(low, if weather == Weather::Fog { 1.0 } else { 0.95 })
}

fn skyline(canvas: &mut Canvas, view: &View, road: &Road, air: Rgb, dice: &mut Dice) {
    let wide = canvas.width as f32;
    let layers = dice.count(1, 2);
    for layer in 0..layers {
        let turned = road.autumn && dice.chance(0.6);
        let base = super::palette::leaves(dice, turned);
        let colour = mix(base, air, if layer == 0 { 0.62 } else { 0.35 });
        let tall = dice.span(0.03, 0.14) * canvas.height as f32;
        let mut points = vec![[0.0, view.horizon + 3.0]];
        let steps = 24;
        for step in 0..=steps {
            let rise = tall * dice.span(0.35, 1.0);
            points.push([wide * step as f32 / steps as f32, view.horizon - rise]);
        }
        points.push([wide, view.horizon + 3.0]);
        canvas.polygon(&points, &Paint::flat(colour).grain(0.15));
    }
}

fn ground(canvas: &mut Canvas, view: &View, road: &Road, weather: Weather, dice: &mut Dice) {
    const VERGES: [Rgb; 5] = [
        [0.30, 0.42, 0.18],
        [0.38, 0.46, 0.24],
        [0.56, 0.50, 0.32],
        [0.50, 0.49, 0.47],
        [0.46, 0.36, 0.25],
    ];
    let verge = scale(dice.pick(&VERGES), dice.span(0.8, 1.15));
    let (wide, tall) = (canvas.width as f32, canvas.height as f32);
    let field = [[0.0, view.horizon], [wide, view.horizon], [wide, tall], [0.0, tall]];
    canvas.polygon(&field, &Paint::down(mix(verge, [0.6, 0.65, 0.66], 0.3), verge).grain(0.25));
    let [left, right] = road.edges;
    if road.pavement > 0.0 {
        let slab = scale([0.62, 0.60, 0.57], dice.span(0.8, 1.15));
        for (side, edge) in [(-1.0, left), (1.0, right)] {
            let outer = edge + side * road.pavement;
            let paint = Paint::flat(slab).grain(0.1);
            strip(canvas, view, [edge.min(outer), edge.max(outer)], [1.5, 160.0], &paint);
            let kerb = edge + side * 0.2;
            let paint = Paint::flat(scale(slab, 1.2));
            strip(canvas, view, [edge.min(kerb), edge.max(kerb)], [1.5, 60.0], &paint);
        }
    }
    let shine = if weather == Weather::Rain { 0.75 } else { 1.0 };
    let grey = dice.span(0.26, 0.46) * shine;
    let tar = [grey * dice.span(0.98, 1.05), grey, grey * dice.span(0.94, 1.06)];
    let paint = Paint::down(mix(tar, [0.6, 0.62, 0.64], 0.35), tar).grain(0.14);
    strip(canvas, view, [left, right], [1.5, 220.0], &paint);
    wear(canvas, view, road, tar, dice);
    markings(canvas, view, road, dice);
}

/// Patches, cracks, leaves and covers: nothing about a plain surface tells the class.
fn wear(canvas: &mut Canvas, view: &View, road: &Road, tar: Rgb, dice: &mut Dice) {
    let [left, right] = road.edges;
    for _ in 0..dice.count(0, 4) {
        let (x, z) = (dice.span(left, right), dice.span(4.0, 30.0));
        let patch = Paint::flat(scale(tar, dice.span(0.65, 1.25))).grain(0.15);
        let half = dice.span(0.3, 1.1);
        let x = [(x - half).max(left), (x + half).min(right)];
        strip(canvas, view, x, [z, z + dice.span(0.8, 7.0)], &patch);
    }
    if road.autumn && dice.chance(0.6) {
        let litter = dice.count(20, 90);
        for _ in 0..litter {
            let side = dice.sign();
            let x = road.edge(side) + side * dice.span(-1.2, 2.0);
            let at = view.project(x, 0.0, dice.span(3.0, 25.0));
            let size = dice.span(0.5, 1.3);
            let leaf = super::palette::leaves(dice, true);
            canvas.polygon(
                &[[at[0] - size, at[1]], [at[0] + size, at[1] - 0.4], [at[0] + 0.2, at[1] + size]],
                &Paint::flat(leaf),
            );
        }
    }
}

fn markings(canvas: &mut Canvas, view: &View, road: &Road, dice: &mut Dice) {
    let fade = dice.span(0.45, 0.95);
    let white = Paint::flat([0.88, 0.88, 0.86]).alpha(fade);
    let yellow = Paint::flat([0.86, 0.68, 0.16]).alpha(fade);
    let centre = if dice.chance(0.5) { &yellow } else { &white };
    let (dash, gap, phase) = (dice.span(2.0, 3.5), dice.span(3.0, 7.0), dice.span(0.0, 8.0));
    for pair in road.lanes.windows(2) {
        let x = (pair[0].0 + pair[1].0) * 0.5;
        if pair[0].1 != pair[1].1 {
            for side in [-0.14, 0.14] {
                strip(canvas, view, [x + side - 0.06, x + side + 0.06], [2.0, 90.0], centre);
            }
            continue;
        }
        let mut z = 2.0 + phase;
        while z < 70.0 {
            strip(canvas, view, [x - 0.07, x + 0.07], [z, z + dash], &white);
            z += dash + gap;
        }
    }
    if dice.chance(0.7) {
        for side in [-1.0, 1.0] {
            let x = road.edge(side) - side * 0.35;
            strip(canvas, view, [x - 0.07, x + 0.07], [2.0, 90.0], &white);
        }
    }
    if dice.chance(0.12) {
        let z = dice.span(8.0, 20.0);
        let mut x = road.edges[0] + 0.4;
        while x < road.edges[1] - 0.4 {
            strip(canvas, view, [x, x + 0.5], [z, z + 3.0], &white);
            x += 1.0;
        }
    }
}

/// A band of ground between two lateral and two forward distances, following the bend.
pub(super) fn strip(canvas: &mut Canvas, view: &View, x: [f32; 2], z: [f32; 2], paint: &Paint) {
    let steps = if z[1] / z[0] < 2.0 { 1 } else { 14 };
    let (near, far) = (1.0 / z[0], 1.0 / z[1]);
    let at = |step: usize| {
        let left = 1.0 - step as f32 / steps as f32;
        1.0 / (far + (near - far) * left * left)
    };
    let mut points = Vec::with_capacity(2 * steps + 2);
    points.extend((0..=steps).map(|step| view.project(x[0], 0.0, at(step))));
    points.extend((0..=steps).rev().map(|step| view.project(x[1], 0.0, at(step))));
    canvas.polygon(&points, paint);
}

/// Lays the air between the camera and the ground over the backdrop, `clear` as in
/// [`haze`]; above the horizon it thins out.
pub(super) fn veil(canvas: &mut Canvas, view: &View, air: Rgb, clear: f32) {
    for y in 0..canvas.height {
        let below = y as f32 + 0.5 - view.horizon;
        let amount = if below > 0.5 {
            let distance = (view.eye * view.focal / below).min(400.0);
            haze(distance, clear)
        } else {
            let share = 1.0 + below / view.horizon.max(1.0);
            share.max(0.0) * haze(120.0, clear)
        };
        for pixel in &mut canvas.pixels[y * canvas.width..(y + 1) * canvas.width] {
            *pixel = mix(*pixel, air, amount);
        }
    }
}
