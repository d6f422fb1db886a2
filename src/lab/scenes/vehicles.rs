//! Everything on wheels and tracks: traffic in any colour, and the machines of a work zone.

use super::canvas::{Paint, Rgb, mix, scale};
use super::dice::Dice;
use super::palette::{self, BLACK, RUBBER, WHITE};
use super::view::{Brush, Solid};

/// The make of a vehicle in traffic.
#[derive(Clone, Copy)]
pub(super) enum Make {
    /// A saloon or hatchback.
    Car,
    /// A van.
    Van,
    /// A lorry with a box body.
    Truck,
}

/// A vehicle seen from behind, or from the front where it comes towards the camera.
pub(super) fn traffic(brush: &mut Brush, dice: &mut Dice, make: Make, body: (Rgb, bool)) {
    let (colour, oncoming) = body;
    match make {
        Make::Car => car(brush, dice, colour, oncoming),
        Make::Van => van(brush, dice, colour, oncoming),
        Make::Truck => truck(brush, dice, colour, oncoming),
    }
}

fn wheels(brush: &mut Brush, half: f32, long: f32) {
    brush.shadow(half * 2.3, long);
    for (x0, x1) in [(-half, -half + 0.24), (half - 0.24, half)] {
        brush.solid(Solid { x: [x0, x1], y: [0.0, 0.5], z: [0.05, long * 0.95] }, RUBBER);
    }
}

/// Lamps, number plate and bumper of the face turned to the camera.
fn face(brush: &mut Brush, half: f32, y: f32, oncoming: bool) {
    let lamp = if oncoming { [0.98, 0.97, 0.86] } else { [0.75, 0.05, 0.05] };
    for side in [-1.0, 1.0] {
        let (inner, outer) = (side * (half - 0.3), side * (half - 0.05));
        brush.rect([inner, y], [outer, y + 0.16], &Paint::flat(lamp));
    }
    let plate = Paint::flat([0.85, 0.85, 0.78]);
    brush.rect([-0.24, y - 0.22], [0.24, y - 0.1], &plate);
    brush.rect([-half, 0.28], [half, 0.42], &Paint::flat([0.16, 0.16, 0.17]));
}

fn car(brush: &mut Brush, dice: &mut Dice, colour: Rgb, oncoming: bool) {
    let (half, long) = (dice.span(0.84, 0.95), dice.span(3.8, 4.8));
    let (waist, roof) = (dice.span(0.85, 1.0), dice.span(1.4, 1.65));
    wheels(brush, half, long);
    brush.solid(Solid { x: [-half, half], y: [0.28, waist], z: [0.0, long] }, colour);
    let glass = mix([0.12, 0.15, 0.18], [0.5, 0.58, 0.66], dice.span(0.0, 0.6));
    let (low, high) = (half * 0.94, half * 0.76);
    let (front, back) = (0.25, long * 0.68);
    let corner = |b: &Brush, x: f32, y: f32, z: f32| b.spot(x, y, z);
    for side in [-1.0, 1.0] {
        let panel = [
            corner(brush, side * low, waist, front),
            corner(brush, side * high, roof, front + 0.45),
            corner(brush, side * high, roof, back - 0.5),
            corner(brush, side * low, waist, back),
        ];
        brush.canvas.polygon(&panel, &Paint::flat(scale(glass, 0.7)));
    }
    let window = [
        corner(brush, -low, waist, front),
        corner(brush, low, waist, front),
        corner(brush, high, roof, front + 0.45),
        corner(brush, -high, roof, front + 0.45),
    ];
    brush.canvas.polygon(&window, &Paint::flat(scale(colour, 0.9)));
    let inset = [
        corner(brush, -low * 0.88, waist + 0.03, front),
        corner(brush, low * 0.88, waist + 0.03, front),
        corner(brush, high * 0.9, roof - 0.1, front + 0.4),
        corner(brush, -high * 0.9, roof - 0.1, front + 0.4),
    ];
    brush.canvas.polygon(&inset, &Paint::down(scale(glass, 1.3), glass));
    let top = [
        corner(brush, -high, roof, front + 0.45),
        corner(brush, high, roof, front + 0.45),
        corner(brush, high, roof + 0.03, front + 1.2),
        corner(brush, -high, roof + 0.03, front + 1.2),
    ];
    brush.canvas.polygon(&top, &Paint::flat(scale(colour, 1.1)));
    face(brush, half, waist - 0.25, oncoming);
}

fn van(brush: &mut Brush, dice: &mut Dice, colour: Rgb, oncoming: bool) {
    let (half, long, roof) = (dice.span(0.92, 1.0), dice.span(4.6, 5.6), dice.span(1.95, 2.4));
    wheels(brush, half, long);
    brush.solid(Solid { x: [-half, half], y: [0.3, roof], z: [0.0, long] }, colour);
    let glass = Paint::down([0.3, 0.35, 0.4], [0.14, 0.17, 0.2]);
    brush.rect([-half * 0.86, roof * 0.56], [half * 0.86, roof * 0.86], &glass);
    if !oncoming {
        brush.line([0.0, 0.4], [0.0, roof * 0.9], 0.03, &Paint::flat(scale(colour, 0.5)));
    }
    face(brush, half, 0.75, oncoming);
}

fn truck(brush: &mut Brush, dice: &mut Dice, colour: Rgb, oncoming: bool) {
    let (half, long, roof) = (dice.span(1.12, 1.25), dice.span(6.0, 9.0), dice.span(2.9, 3.6));
    wheels(brush, half, long);
    let load = if dice.chance(0.4) { [0.85, 0.85, 0.84] } else { colour };
    if oncoming {
        brush.solid(Solid { x: [-half, half], y: [0.8, roof], z: [1.8, long] }, load);
        brush.solid(Solid { x: [-half, half], y: [0.35, 2.6], z: [0.0, 1.7] }, colour);
        brush.rect([-half * 0.9, 1.45], [half * 0.9, 2.2], &Paint::flat([0.15, 0.18, 0.22]));
    } else {
        brush.solid(Solid { x: [-half, half], y: [0.75, roof], z: [0.0, long] }, load);
        brush.line([0.0, 0.8], [0.0, roof - 0.1], 0.04, &Paint::flat(scale(load, 0.6)));
        brush.rect([-half, 0.45], [half, 0.62], &Paint::flat(RUBBER));
    }
    face(brush, half, 0.62, oncoming);
}

/// A tracked excavator seen from the side.
pub(super) fn excavator(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let way = dice.sign();
    let dark = Paint::flat([0.14, 0.14, 0.15]);
    brush.shadow(3.4, 2.0);
    brush.rect([-1.5, 0.08], [1.5, 0.7], &dark);
    brush.oval([-1.5, 0.39], [0.33, 0.33], &dark);
    brush.oval([1.5, 0.39], [0.33, 0.33], &dark);
    for wheel in [-1.2, -0.6, 0.0, 0.6, 1.2] {
        brush.oval([wheel, 0.36], [0.17, 0.17], &Paint::flat([0.36, 0.35, 0.34]));
    }
    let paint = Paint::down(colour, scale(colour, 0.75));
    brush.rect([-way * 1.5, 0.78], [way * 1.2, 1.6], &paint);
    brush.rect([-way * 1.55, 0.8], [-way * 1.15, 1.8], &Paint::flat(scale(colour, 0.7)));
    brush.rect([way * 0.1, 1.55], [way * 1.15, 2.75], &paint);
    brush.rect([way * 0.25, 1.75], [way * 1.05, 2.6], &Paint::flat([0.25, 0.32, 0.38]));
    let raised = dice.span(3.1, 4.0);
    let elbow = [way * dice.span(2.0, 2.6), raised];
    let wrist = [elbow[0] + way * dice.span(0.6, 1.2), dice.span(0.9, 1.6)];
    brush.line([way * 0.9, 1.3], elbow, 0.36, &paint);
    brush.line(elbow, wrist, 0.27, &paint);
    let (x, y) = (wrist[0], wrist[1]);
    brush.shape(
        &[[x - 0.4, y + 0.1], [x + 0.3, y + 0.15], [x + 0.35, y - 0.35], [x - 0.2, y - 0.65]],
        &Paint::flat([0.2, 0.19, 0.18]),
    );
}

/// A road roller: steel drum ahead, cab roof on posts, seen from the side.
pub(super) fn roller(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let way = dice.sign();
    let paint = Paint::down(colour, scale(colour, 0.75));
    brush.shadow(3.6, 1.8);
    let steel = [0.5, 0.5, 0.52];
    brush.oval([way * 1.2, 0.68], [0.68, 0.68], &Paint::flat(scale(steel, 0.55)));
    brush.oval([way * 1.2, 0.68], [0.5, 0.5], &Paint::round(steel));
    brush.oval([-way * 1.1, 0.62], [0.62, 0.62], &Paint::flat(RUBBER));
    brush.oval([-way * 1.1, 0.62], [0.26, 0.26], &Paint::flat(WHITE));
    brush.rect([-way * 1.8, 0.85], [way * 0.35, 1.55], &paint);
    brush.line([way * 0.3, 1.0], [way * 1.3, 0.75], 0.25, &paint);
    for post in [-0.5, 0.3] {
        brush.rect([way * post - 0.04, 1.5], [way * post + 0.04, 2.6], &Paint::flat(BLACK));
    }
    brush.rect([-way * 0.75, 2.55], [way * 0.55, 2.72], &paint);
    if dice.chance(0.5) {
        let lamp = palette::orange(dice);
        brush.rect([-0.1, 2.72], [0.1, 2.92], &Paint::flat(lamp));
    }
}

/// A paver: a broad hopper and screed with a canopy, seen from behind.
pub(super) fn paver(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let half = dice.span(1.3, 1.6);
    brush.shadow(half * 2.2, 2.5);
    for side in [-1.0, 1.0] {
        brush.rect([side * half * 0.5, 0.0], [side * half * 0.8, 0.7], &Paint::flat(RUBBER));
    }
    brush.rect([-half * 1.15, 0.1], [half * 1.15, 0.4], &Paint::flat([0.2, 0.2, 0.21]));
    let hull = Solid { x: [-half, half], y: [0.45, 1.5], z: [0.3, 3.4] };
    brush.solid(hull, colour);
    brush.rect([-half * 0.7, 0.75], [half * 0.7, 1.25], &Paint::flat([0.18, 0.18, 0.19]));
    for side in [-0.8, 0.8] {
        brush.rect([side * half - 0.04, 1.4], [side * half + 0.04, 2.7], &Paint::flat(BLACK));
    }
    brush.rect([-half, 2.65], [half, 2.82], &Paint::flat(scale(colour, 0.95)));
}
