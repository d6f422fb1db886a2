//! The colours things come in. Whatever roadwork is painted with also occurs on ordinary things.

use super::canvas::{Rgb, scale};
use super::dice::Dice;

/// Sign and gear black.
pub(super) const BLACK: Rgb = [0.06, 0.06, 0.07];
/// Reflective white.
pub(super) const WHITE: Rgb = [0.93, 0.93, 0.92];
/// Rubber and tyres.
pub(super) const RUBBER: Rgb = [0.09, 0.09, 0.10];
/// Galvanised posts.
pub(super) const STEEL: Rgb = [0.55, 0.56, 0.58];

/// An orange, from amber to nearly red, of varying brightness.
pub(super) fn orange(dice: &mut Dice) -> Rgb {
    scale(
        [dice.span(0.88, 1.0), dice.span(0.33, 0.52), dice.span(0.02, 0.14)],
        dice.span(0.82, 1.0),
    )
}

/// A yellow.
pub(super) fn yellow(dice: &mut Dice) -> Rgb {
    scale([dice.span(0.92, 1.0), dice.span(0.70, 0.84), dice.span(0.05, 0.2)], dice.span(0.85, 1.0))
}

/// The fluorescent lime of safety clothing and of some jackets.
pub(super) fn lime(dice: &mut Dice) -> Rgb {
    [dice.span(0.72, 0.85), dice.span(0.9, 1.0), dice.span(0.1, 0.25)]
}

/// A body colour of a vehicle that is not orange.
pub(super) fn car(dice: &mut Dice) -> Rgb {
    const USUAL: [Rgb; 12] = [
        [0.88, 0.88, 0.88],
        [0.62, 0.63, 0.65],
        [0.12, 0.12, 0.13],
        [0.28, 0.29, 0.31],
        [0.62, 0.10, 0.10],
        [0.14, 0.22, 0.48],
        [0.20, 0.38, 0.62],
        [0.15, 0.32, 0.22],
        [0.70, 0.62, 0.48],
        [0.42, 0.12, 0.16],
        [0.92, 0.76, 0.12],
        [0.40, 0.30, 0.22],
    ];
    let colour = dice.pick(&USUAL);
    scale(colour, dice.span(0.85, 1.1))
}

/// Everyday clothing that is not orange.
pub(super) fn cloth(dice: &mut Dice) -> Rgb {
    const USUAL: [Rgb; 9] = [
        [0.15, 0.16, 0.20],
        [0.30, 0.30, 0.33],
        [0.18, 0.25, 0.45],
        [0.50, 0.12, 0.14],
        [0.70, 0.68, 0.64],
        [0.16, 0.34, 0.24],
        [0.52, 0.44, 0.34],
        [0.80, 0.75, 0.20],
        [0.45, 0.25, 0.50],
    ];
    dice.pick(&USUAL)
}

/// A wall.
pub(super) fn wall(dice: &mut Dice) -> Rgb {
    const USUAL: [Rgb; 8] = [
        [0.62, 0.36, 0.27],
        [0.72, 0.66, 0.56],
        [0.55, 0.55, 0.56],
        [0.80, 0.78, 0.72],
        [0.48, 0.42, 0.38],
        [0.70, 0.52, 0.34],
        [0.40, 0.44, 0.50],
        [0.76, 0.60, 0.42],
    ];
    let colour = dice.pick(&USUAL);
    scale(colour, dice.span(0.8, 1.1))
}

/// A shop sign, a poster, a container: anything, orange as often as not.
pub(super) fn advert(dice: &mut Dice) -> Rgb {
    if dice.chance(0.45) {
        return orange(dice);
    }
    [dice.span(0.1, 0.95), dice.span(0.1, 0.9), dice.span(0.1, 0.9)]
}

/// Leaves: green, or the yellows, oranges and rusts of autumn.
pub(super) fn leaves(dice: &mut Dice, autumn: bool) -> Rgb {
    if autumn {
        let warm = dice.unit();
        [dice.span(0.62, 0.92), 0.22 + 0.4 * warm, dice.span(0.04, 0.14)]
    } else {
        [dice.span(0.12, 0.32), dice.span(0.30, 0.48), dice.span(0.08, 0.2)]
    }
}

/// Skin.
pub(super) fn skin(dice: &mut Dice) -> Rgb {
    scale([0.86, 0.64, 0.50], dice.span(0.4, 1.05))
}
