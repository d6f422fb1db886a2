//! What stands beside any road: buildings, trees, lamps, poles, bins, bollards, hedges.

use super::canvas::{Paint, Rgb, scale};
use super::dice::Dice;
use super::palette::{self, STEEL, WHITE};
use super::view::{Brush, Solid};

/// A building whose near corner stands at the brush; it extends away from the road.
pub(super) fn building(brush: &mut Brush, dice: &mut Dice) {
    let side = if brush.x < 0.0 { -1.0 } else { 1.0 };
    let colour = palette::wall(dice);
    let (wide, deep) = (dice.span(7.0, 15.0), dice.span(7.0, 14.0));
    let floors = dice.count(1, 4);
    let tall = floors as f32 * dice.span(2.9, 3.4) + 0.6;
    let x = if side < 0.0 { [-wide, 0.0] } else { [0.0, wide] };
    brush.solid(Solid { x, y: [0.0, tall], z: [0.0, deep] }, colour);
    let glass = scale([0.35, 0.42, 0.5], dice.span(0.4, 1.2));
    let pane = Paint::flat(glass);
    let columns = dice.count(2, 4);
    for floor in 0..floors {
        let low = floor as f32 * tall / floors as f32 + 0.9;
        for column in 0..columns {
            let left = (column as f32 + 0.3) / columns as f32;
            let right = left + 0.42 / columns as f32;
            brush.rect([side * wide * left, low], [side * wide * right, low + 1.4], &pane);
            let flank = [
                brush.spot(0.0, low, deep * left),
                brush.spot(0.0, low + 1.4, deep * left),
                brush.spot(0.0, low + 1.4, deep * right),
                brush.spot(0.0, low, deep * right),
            ];
            brush.canvas.polygon(&flank, &pane);
        }
    }
    if dice.chance(0.45) {
        let awning = palette::advert(dice);
        let (low, high) = (2.3, 3.0);
        let out = -side * 0.7;
        let front = [
            brush.spot(out, low, 0.4),
            brush.spot(0.0, high, 0.4),
            brush.spot(0.0, high, deep * 0.9),
            brush.spot(out, low, deep * 0.9),
        ];
        brush.canvas.polygon(&front, &Paint::flat(awning));
        brush.rect([side * 0.4, low], [side * wide * 0.9, high], &Paint::flat(awning));
    }
    if floors < 3 && dice.chance(0.5) {
        let roof = scale(dice.pick(&[[0.55, 0.25, 0.18], [0.3, 0.3, 0.33]]), dice.span(0.8, 1.2));
        let (near, far) = (side * -0.3, side * (wide + 0.3));
        let ridge = side * wide * 0.5;
        brush.shape(&[[near, tall], [far, tall], [ridge, tall + 2.2]], &Paint::flat(roof));
    }
}

/// A tree: a trunk under clumps of leaves.
pub(super) fn tree(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let tall = dice.span(3.5, 8.0);
    let trunk = tall * dice.span(0.3, 0.45);
    brush.shadow(tall * 0.5, 1.5);
    let bark = Paint::round(scale([0.32, 0.25, 0.19], dice.span(0.7, 1.2)));
    brush.rect([-0.14, 0.0], [0.14, trunk * 1.2], &bark);
    let crown = (tall - trunk) * 0.5;
    for clump in 0..9 {
        let x = dice.span(-0.75, 0.75) * crown;
        let y = trunk + crown * dice.span(0.5, 1.6);
        let size = crown * dice.span(0.35, 0.6);
        let light = dice.span(0.72, 0.95) + clump as f32 * 0.03;
        brush.oval([x, y], [size, size * 0.85], &Paint::flat(scale(colour, light)).grain(0.3));
    }
}

/// A low hedge, bush or flower bed.
pub(super) fn bush(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    brush.shadow(1.2, 0.8);
    for _ in 0..5 {
        let size = dice.span(0.25, 0.5);
        let at = [dice.span(-0.7, 0.7), size * 0.8];
        let light = dice.span(0.75, 1.05);
        brush.oval(at, [size * 1.2, size], &Paint::flat(scale(colour, light)).grain(0.4));
    }
}

/// A street lamp or a wooden pole with a cross-arm.
pub(super) fn pole(brush: &mut Brush, dice: &mut Dice, lamp: bool) {
    let tall = dice.span(6.0, 9.0);
    let arm = if brush.x < 0.0 { 1.6 } else { -1.6 };
    if lamp {
        let paint = Paint::flat(scale(STEEL, 0.7));
        brush.rect([-0.07, 0.0], [0.07, tall], &paint);
        brush.line([0.0, tall], [arm, tall + 0.3], 0.1, &paint);
        brush.rect([arm - 0.3, tall + 0.18], [arm + 0.3, tall + 0.34], &Paint::flat(WHITE));
    } else {
        let paint = Paint::flat([0.32, 0.26, 0.2]);
        brush.rect([-0.12, 0.0], [0.12, tall], &paint);
        brush.line([-0.9, tall - 0.7], [0.9, tall - 0.7], 0.12, &paint);
    }
}

/// A litter bin, letter box or grit box, as likely in orange as in anything.
pub(super) fn bin(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let (half, tall) = (dice.span(0.22, 0.5), dice.span(0.7, 1.3));
    brush.shadow(half * 2.2, 0.5);
    brush.solid(Solid { x: [-half, half], y: [0.0, tall], z: [0.0, half * 1.6] }, colour);
    brush.rect([-half, tall], [half, tall + 0.08], &Paint::flat(scale(colour, 0.5)));
    if dice.chance(0.5) {
        let label = Paint::flat(scale(WHITE, 0.9));
        brush.rect([-half * 0.5, tall * 0.45], [half * 0.5, tall * 0.7], &label);
    }
}

/// A bollard or hydrant: a short post with a cap.
pub(super) fn bollard(brush: &mut Brush, dice: &mut Dice) {
    const COLOURS: [Rgb; 5] = [
        [0.13, 0.13, 0.14],
        [0.55, 0.55, 0.56],
        [0.78, 0.12, 0.1],
        [0.9, 0.75, 0.12],
        [0.14, 0.25, 0.2],
    ];
    let colour = dice.pick(&COLOURS);
    let tall = dice.span(0.65, 1.0);
    brush.shadow(0.35, 0.3);
    brush.rect([-0.1, 0.0], [0.1, tall], &Paint::round(colour));
    brush.oval([0.0, tall], [0.12, 0.08], &Paint::flat(scale(colour, 1.1)));
}

/// A shipping container, kiosk or shed, closed and in any colour.
pub(super) fn kiosk(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let side = if brush.x < 0.0 { -1.0 } else { 1.0 };
    let (wide, tall, deep) = (dice.span(2.0, 4.5), dice.span(2.1, 2.8), dice.span(2.2, 5.0));
    let x = if side < 0.0 { [-wide, 0.0] } else { [0.0, wide] };
    brush.solid(Solid { x, y: [0.0, tall], z: [0.0, deep] }, colour);
    if dice.chance(0.5) {
        let dark = Paint::flat([0.2, 0.22, 0.25]);
        brush.rect([side * wide * 0.15, tall * 0.45], [side * wide * 0.7, tall * 0.8], &dark);
    }
}
