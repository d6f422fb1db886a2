//! People: crew in safety clothing, and passers-by in their own.

use super::canvas::{Paint, Rgb, scale};
use super::dice::Dice;
use super::palette::{self, WHITE};
use super::view::Brush;

/// A worker: helmet, sleeveless high-visibility vest with reflective stripes, often a tool.
pub(super) fn worker(brush: &mut Brush, dice: &mut Dice, vest: Rgb) {
    let trousers = dice.pick(&[[0.12, 0.14, 0.22], [0.22, 0.22, 0.22], [0.16, 0.2, 0.32]]);
    let sleeve = palette::cloth(dice);
    figure(brush, dice, [vest, sleeve, trousers]);
    let stripe = Paint::flat([0.93, 0.94, 0.95]);
    brush.rect([-0.25, 0.98], [0.25, 1.06], &stripe);
    brush.rect([-0.26, 1.16], [0.26, 1.23], &stripe);
    for side in [-0.14, 0.14] {
        brush.rect([side - 0.035, 1.23], [side + 0.035, 1.48], &stripe);
    }
    let hat = match dice.count(0, 3) {
        0 => WHITE,
        1 => palette::orange(dice),
        _ => palette::yellow(dice),
    };
    brush.shape(
        &[[-0.15, 1.72], [-0.13, 1.83], [-0.05, 1.88], [0.05, 1.88], [0.13, 1.83], [0.15, 1.72]],
        &Paint::flat(hat),
    );
    brush.rect([-0.19, 1.69], [0.19, 1.735], &Paint::flat(scale(hat, 0.85)));
    if dice.chance(0.5) {
        let side = dice.sign() * 0.4;
        brush.line([side, 0.0], [side * 0.7, 1.3], 0.05, &Paint::flat([0.5, 0.38, 0.22]));
    }
}

/// A passer-by in a long-sleeved jacket: hair, no helmet, no stripes.
pub(super) fn walker(brush: &mut Brush, dice: &mut Dice, jacket: Rgb) {
    let trousers = dice.pick(&[[0.14, 0.16, 0.26], [0.1, 0.1, 0.11], [0.4, 0.36, 0.3]]);
    figure(brush, dice, [jacket, jacket, trousers]);
    let hair = dice.pick(&[[0.10, 0.08, 0.07], [0.32, 0.20, 0.12], [0.66, 0.52, 0.30]]);
    brush.shape(
        &[[-0.13, 1.62], [-0.12, 1.76], [-0.04, 1.8], [0.05, 1.8], [0.12, 1.75], [0.12, 1.64]],
        &Paint::flat(hair),
    );
    brush.line([0.0, 0.92], [0.0, 1.46], 0.02, &Paint::flat(scale(jacket, 0.6)));
    if dice.chance(0.4) {
        let bag = palette::cloth(dice);
        brush.rect([-0.42, 0.62], [-0.22, 0.92], &Paint::flat(bag));
    }
}

/// Legs, trunk, arms and head; colours of the trunk, the arms and the legs.
fn figure(brush: &mut Brush, dice: &mut Dice, colours: [Rgb; 3]) {
    let [trunk, arms, legs] = colours;
    brush.shadow(0.6, 0.4);
    let stride = dice.span(0.04, 0.2);
    let legs = Paint::round(legs);
    let shoe = Paint::flat([0.08, 0.07, 0.07]);
    for side in [-1.0, 1.0] {
        let foot = side * (0.07 + stride);
        brush.line([foot, 0.05], [side * 0.1, 0.92], 0.18, &legs);
        brush.rect([foot - 0.09, 0.0], [foot + 0.11, 0.09], &shoe);
    }
    let swing = dice.span(-0.12, 0.2);
    for side in [-1.0, 1.0] {
        let hand = [side * (0.34 + swing.abs() * 0.5), 0.86 + swing];
        brush.line([side * 0.25, 1.42], hand, 0.13, &Paint::flat(scale(arms, 0.85)));
    }
    brush.shape(
        &[[-0.24, 0.86], [0.24, 0.86], [0.28, 1.44], [0.12, 1.52], [-0.12, 1.52], [-0.28, 1.44]],
        &Paint::round(trunk),
    );
    let skin = palette::skin(dice);
    brush.rect([-0.05, 1.48], [0.05, 1.58], &Paint::flat(scale(skin, 0.8)));
    brush.oval([0.0, 1.66], [0.11, 0.14], &Paint::round(skin));
}
