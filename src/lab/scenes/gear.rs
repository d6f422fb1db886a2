//! What marks off a work zone: cones, drums, barriers, and the ground dug up behind them.

use super::canvas::{Paint, Rgb, scale};
use super::dice::Dice;
use super::palette::{self, BLACK, WHITE};
use super::view::{Brush, Solid};

/// One upright traffic cone, white-banded, on its square foot.
pub(super) fn cone(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let tall = dice.span(0.78, 1.0);
    let wide = tall * dice.span(0.19, 0.23);
    brush.lean = dice.span(-0.05, 0.05);
    brush.shadow(0.6, 0.5);
    let foot = if dice.chance(0.35) { BLACK } else { scale(colour, 0.7) };
    brush.rect([-wide * 1.45, 0.0], [wide * 1.45, tall * 0.06], &Paint::flat(foot));
    body(brush, tall, wide, colour);
    let bands: &[[f32; 2]] =
        if dice.chance(0.75) { &[[0.40, 0.56], [0.68, 0.80]] } else { &[[0.46, 0.72]] };
    for band in bands {
        slice(brush, (tall, wide), *band, WHITE);
    }
}

fn body(brush: &mut Brush, tall: f32, wide: f32, colour: Rgb) {
    slice(brush, (tall, wide), [0.05, 1.0], colour);
}

/// The part of a cone between two heights, each a share of the whole.
fn slice(brush: &mut Brush, cone: (f32, f32), part: [f32; 2], colour: Rgb) {
    let (tall, wide) = cone;
    let half = |share: f32| wide * (1.0 - share * 0.8);
    let (low, high) = (part[0] * tall, part[1] * tall);
    let (below, above) = (half(part[0]), half(part[1]));
    brush.shape(
        &[[-below, low], [below, low], [above, high], [-above, high]],
        &Paint::round(colour),
    );
}

/// A pile of nested cones: one cone's top over a column of rims.
pub(super) fn stack(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let (tall, wide) = (dice.span(0.72, 0.85), dice.span(0.17, 0.2));
    let rims = dice.count(4, 8);
    let step = dice.span(0.085, 0.11);
    brush.lean = dice.span(-0.04, 0.04);
    brush.shadow(0.6, 0.5);
    for rim in 0..rims {
        let low = rim as f32 * step;
        let shade = if rim % 2 == 0 { 0.9 } else { 0.78 };
        let half = wide * 1.5;
        brush.rect([-half, low], [half, low + step * 0.52], &Paint::round(scale(colour, shade)));
        let inner = wide * 1.02;
        let gap = Paint::round(scale(colour, 0.42));
        brush.rect([-inner, low + step * 0.52], [inner, low + step], &gap);
    }
    let foot = rims as f32 * step;
    brush.rect([-wide * 1.5, foot], [wide * 1.5, foot + 0.05], &Paint::round(colour));
    let narrow = |share: f32| wide * (1.0 - share * 0.8);
    for (from, to, paint) in [(0.0, 1.0, colour), (0.42, 0.6, WHITE), (0.7, 0.8, WHITE)] {
        let (low, high) = (foot + from * tall, foot + to * tall);
        let (below, above) = (narrow(from), narrow(to));
        brush.shape(
            &[[-below, low], [below, low], [above, high], [-above, high]],
            &Paint::round(paint),
        );
    }
}

/// A traffic drum: a fat upright barrel in alternating bands.
pub(super) fn drum(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let (tall, half) = (dice.span(0.95, 1.1), dice.span(0.25, 0.3));
    brush.shadow(0.75, 0.6);
    brush.rect([-half * 1.25, 0.0], [half * 1.25, 0.08], &Paint::flat(BLACK));
    let bands = 5;
    for band in 0..bands {
        let (low, high) = (0.08 + band as f32 * tall / 5.4, 0.08 + (band + 1) as f32 * tall / 5.4);
        let paint = if band % 2 == 0 { colour } else { WHITE };
        let shrink = |y: f32| half * (1.0 - 0.12 * y / tall);
        let (below, above) = (shrink(low), shrink(high));
        brush.shape(
            &[[-below, low], [below, low], [above, high], [-above, high]],
            &Paint::round(paint),
        );
    }
    let top = 0.08 + 5.0 * tall / 5.4;
    brush.oval([0.0, top], [half * 0.88, half * 0.16], &Paint::flat(scale(colour, 1.1)));
    brush.rect([-0.1, top], [0.1, top + 0.09], &Paint::flat(scale(colour, 0.7)));
}

/// A folding barrier: one to three boards of slanted stripes between two legs.
pub(super) fn board(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let half = dice.span(0.75, 1.25);
    let boards = dice.count(1, 3);
    brush.shadow(half * 1.8, 0.4);
    let leg = if dice.chance(0.5) { WHITE } else { [0.4, 0.4, 0.42] };
    for side in [-half * 0.82, half * 0.82] {
        brush.rect([side - 0.04, 0.0], [side + 0.04, 1.25], &Paint::flat(leg));
        brush.line([side - 0.25, 0.02], [side + 0.25, 0.02], 0.06, &Paint::flat(leg));
    }
    for board in 0..boards {
        let top = 1.3 - board as f32 * 0.42;
        stripes(brush, half, [top - 0.27, top], colour);
    }
    if dice.chance(0.3) {
        let lamp = palette::orange(dice);
        brush.oval([half * 0.82, 1.42], [0.1, 0.11], &Paint::flat(scale(lamp, 1.1)));
    }
}

/// Slanted stripes over a board `2 * half` wide between two heights.
pub(super) fn stripes(brush: &mut Brush, half: f32, y: [f32; 2], colour: Rgb) {
    brush.rect([-half, y[0]], [half, y[1]], &Paint::flat(WHITE));
    let (slant, step) = ((y[1] - y[0]) * 0.8, 0.19);
    let mut left = -half - slant;
    while left < half {
        let clip = |x: f32| x.clamp(-half, half);
        brush.shape(
            &[
                [clip(left), y[0]],
                [clip(left + step), y[0]],
                [clip(left + step + slant), y[1]],
                [clip(left + slant), y[1]],
            ],
            &Paint::flat(colour),
        );
        left += step * 2.0;
    }
}

/// A jersey barrier along the road, water-filled plastic or concrete with marker strips.
pub(super) fn jersey(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let long = dice.span(1.8, 2.6);
    brush.shadow(0.7, long);
    brush.solid(Solid { x: [-0.28, 0.28], y: [0.0, 0.3], z: [0.0, long] }, scale(colour, 0.9));
    brush.solid(Solid { x: [-0.14, 0.14], y: [0.3, 0.85], z: [0.0, long] }, colour);
    let mark = if colour[1] > 0.6 { palette::orange(dice) } else { WHITE };
    brush.rect([-0.13, 0.5], [0.13, 0.74], &Paint::flat(mark));
}

/// A dug-up stretch of road with spoil beside it.
pub(super) fn trench(brush: &mut Brush, dice: &mut Dice, half: f32) {
    let long = dice.span(4.0, 9.0);
    let dirt = scale([0.45, 0.33, 0.22], dice.span(0.7, 1.2));
    brush.ground([-half, half], [0.0, long], &Paint::flat(dirt).grain(0.35));
    let hole = Paint::flat(scale(dirt, 0.35)).grain(0.3);
    brush.ground([-half * 0.6, half * 0.35], [long * 0.12, long * 0.85], &hole);
    let heaps = dice.count(1, 3);
    for _ in 0..heaps {
        heap(brush, dice, dirt, half);
    }
}

fn heap(brush: &mut Brush, dice: &mut Dice, dirt: Rgb, half: f32) {
    let (wide, tall) = (dice.span(0.5, 1.0), dice.span(0.3, 0.8));
    let x = half * dice.span(0.2, 0.8);
    brush.shape(
        &[
            [x - wide, 0.0],
            [x + wide, 0.0],
            [x + wide * 0.5, tall * 0.7],
            [x + wide * 0.05, tall],
            [x - wide * 0.55, tall * 0.6],
        ],
        &Paint::down(scale(dirt, 1.15), scale(dirt, 0.75)).grain(0.3),
    );
}
