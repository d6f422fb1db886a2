//! Signs on posts: the diamonds and boards of roadwork, the one that ends it, and ordinary ones.

use super::canvas::{Paint, Point, Rgb, scale};
use super::dice::Dice;
use super::gear;
use super::lettering;
use super::palette::{self, BLACK, STEEL, WHITE};
use super::view::Brush;

/// What the diamonds of a work zone say.
const WARNINGS: [&[&str]; 9] = [
    &["ROAD", "WORK", "AHEAD"],
    &["MEN", "WORKING"],
    &["DETOUR", "AHEAD"],
    &["LANE", "CLOSED"],
    &["ROAD", "WORK"],
    &["ONE LANE", "ROAD", "AHEAD"],
    &["FLAGGER", "AHEAD"],
    &["UTILITY", "WORK", "AHEAD"],
    &["RIGHT", "LANE", "CLOSED"],
];

/// An orange diamond with a warning or the digging man, on a post or a folding stand.
pub(super) fn diamond(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let half = dice.span(0.72, 0.88);
    let low = if dice.chance(0.45) { dice.span(0.35, 0.6) } else { dice.span(1.2, 1.7) };
    stand(brush, low + half * 0.4, low < 0.8);
    let middle = low + half;
    let corner =
        |size: f32| [[0.0, middle + size], [size, middle], [0.0, middle - size], [-size, middle]];
    brush.shape(&corner(half), &Paint::flat(BLACK));
    brush.shape(&corner(half * 0.95), &Paint::down(colour, scale(colour, 0.92)));
    if dice.chance(0.25) {
        return digger(brush, [0.0, middle], half * 0.5);
    }
    let lines = dice.pick(&WARNINGS);
    let size = if lines.len() > 2 { [half * 1.05, half * 0.95] } else { [half * 1.2, half * 0.6] };
    lettering::write(brush, [0.0, middle], size, lines, BLACK);
}

/// The pictogram of a man at a heap.
fn digger(brush: &mut Brush, at: Point, size: f32) {
    let ink = Paint::flat(BLACK);
    let p = |x: f32, y: f32| [at[0] + x * size, at[1] + y * size];
    brush.oval(p(-0.15, 0.75), [size * 0.17, size * 0.17], &ink);
    brush.line(p(-0.2, 0.5), p(-0.4, -0.1), size * 0.3, &ink);
    brush.line(p(-0.4, -0.1), p(-0.15, -0.8), size * 0.16, &ink);
    brush.line(p(-0.4, -0.1), p(-0.75, -0.8), size * 0.16, &ink);
    brush.line(p(-0.2, 0.4), p(0.3, 0.0), size * 0.13, &ink);
    brush.line(p(-0.1, 0.35), p(0.45, -0.5), size * 0.09, &ink);
    brush.shape(&[p(0.2, -0.8), p(0.95, -0.8), p(0.6, -0.3)], &ink);
}

/// ROAD CLOSED in black on a white board over striped rails.
pub(super) fn closed(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    const TEXTS: [&[&str]; 3] =
        [&["ROAD", "CLOSED"], &["ROAD CLOSED", "AHEAD"], &["ROAD CLOSED", "LOCAL ONLY"]];
    let half = dice.span(0.7, 0.95);
    brush.shadow(half * 2.0, 0.4);
    for side in [-half * 0.8, half * 0.8] {
        brush.rect([side - 0.04, 0.0], [side + 0.04, 1.6], &Paint::flat(STEEL));
    }
    gear::stripes(brush, half * 1.25, [0.35, 0.6], colour);
    brush.rect([-half, 0.85], [half, 1.7], &Paint::flat(BLACK));
    brush.rect([-half + 0.04, 0.89], [half - 0.04, 1.66], &Paint::flat(WHITE));
    let lines = dice.pick(&TEXTS);
    lettering::write(brush, [0.0, 1.275], [half * 1.7, 0.58], lines, BLACK);
}

/// END / ROAD WORK in black on an orange rectangle.
pub(super) fn end(brush: &mut Brush, dice: &mut Dice, colour: Rgb) {
    let half = dice.span(0.75, 0.95);
    let low = dice.span(1.0, 1.6);
    let tall = half * dice.span(1.05, 1.25);
    stand(brush, low + 0.2, false);
    brush.rect([-half, low], [half, low + tall], &Paint::flat(BLACK));
    let edge = 0.035;
    brush.rect(
        [-half + edge, low + edge],
        [half - edge, low + tall - edge],
        &Paint::down(colour, scale(colour, 0.92)),
    );
    let big = [half * 0.95, tall * 0.36];
    lettering::write(brush, [0.0, low + tall * 0.71], big, &["END"], BLACK);
    let small = [half * 1.75, tall * 0.34];
    lettering::write(brush, [0.0, low + tall * 0.29], small, &["ROAD WORK"], BLACK);
}

/// Posts up to `top`, or the folding stand of a sign set out for a day.
fn stand(brush: &mut Brush, top: f32, folding: bool) {
    brush.shadow(0.5, 0.3);
    let steel = Paint::flat(STEEL);
    if folding {
        brush.line([-0.5, 0.0], [0.0, top * 0.7], 0.05, &steel);
        brush.line([0.5, 0.0], [0.0, top * 0.7], 0.05, &steel);
    }
    brush.rect([-0.04, 0.0], [0.04, top], &steel);
}

/// A sign of everyday traffic: speed limit, stop, yellow warning, no entry, parking, way.
pub(super) fn ordinary(brush: &mut Brush, dice: &mut Dice) {
    let low = dice.span(1.5, 2.1);
    stand(brush, low + 0.2, false);
    match dice.count(0, 6) {
        0 => speed_round(brush, dice, low),
        1 => speed_board(brush, dice, low),
        2 => stop(brush, low),
        3 | 4 => warning(brush, dice, low),
        5 => plate(brush, dice, low),
        _ => give_way(brush, low),
    }
}

fn speed_round(brush: &mut Brush, dice: &mut Dice, low: f32) {
    let at = [0.0, low + 0.4];
    brush.oval(at, [0.42, 0.42], &Paint::flat([0.78, 0.08, 0.10]));
    brush.oval(at, [0.31, 0.31], &Paint::flat(WHITE));
    let text = dice.pick(&["30", "50", "60", "80"]);
    lettering::write(brush, at, [0.36, 0.3], &[text], BLACK);
}

fn speed_board(brush: &mut Brush, dice: &mut Dice, low: f32) {
    brush.rect([-0.36, low], [0.36, low + 0.9], &Paint::flat(BLACK));
    brush.rect([-0.33, low + 0.03], [0.33, low + 0.87], &Paint::flat(WHITE));
    lettering::write(brush, [0.0, low + 0.68], [0.56, 0.3], &["SPEED", "LIMIT"], BLACK);
    let text = dice.pick(&["25", "35", "45", "55"]);
    lettering::write(brush, [0.0, low + 0.28], [0.5, 0.4], &[text], BLACK);
}

fn stop(brush: &mut Brush, low: f32) {
    let (half, cut, middle) = (0.42, 0.174, low + 0.42);
    let eight = [
        [-cut, middle + half],
        [cut, middle + half],
        [half, middle + cut],
        [half, middle - cut],
        [cut, middle - half],
        [-cut, middle - half],
        [-half, middle - cut],
        [-half, middle + cut],
    ];
    brush.shape(&eight, &Paint::flat([0.76, 0.07, 0.09]));
    lettering::write(brush, [0.0, middle], [0.66, 0.3], &["STOP"], WHITE);
}

/// The yellow diamond of permanent hazards: bends, crossings, animals.
fn warning(brush: &mut Brush, dice: &mut Dice, low: f32) {
    let (half, colour) = (dice.span(0.55, 0.75), [0.97, 0.80, 0.08]);
    let middle = low + half;
    let corner =
        |size: f32| [[0.0, middle + size], [size, middle], [0.0, middle - size], [-size, middle]];
    brush.shape(&corner(half), &Paint::flat(BLACK));
    brush.shape(&corner(half * 0.94), &Paint::flat(colour));
    let ink = Paint::flat(BLACK);
    match dice.count(0, 2) {
        0 => {
            brush.line([0.1, middle - 0.28], [0.1, middle + 0.05], 0.1, &ink);
            brush.line([0.1, middle + 0.02], [-0.15, middle + 0.24], 0.1, &ink);
        }
        1 => lettering::write(brush, [0.0, middle], [half, half * 0.55], &["SLOW"], BLACK),
        _ => {
            brush.line([-0.25, middle], [0.25, middle], 0.11, &ink);
            brush.line([0.0, middle - 0.25], [0.0, middle + 0.25], 0.11, &ink);
        }
    }
}

fn plate(brush: &mut Brush, dice: &mut Dice, low: f32) {
    const COLOURS: [Rgb; 4] =
        [[0.10, 0.28, 0.62], [0.05, 0.40, 0.25], [0.40, 0.26, 0.14], [0.9, 0.9, 0.9]];
    let colour = dice.pick(&COLOURS);
    let half = dice.span(0.35, 0.85);
    brush.rect([-half, low], [half, low + 0.6], &Paint::flat(colour));
    let ink = if colour[0] > 0.8 { BLACK } else { WHITE };
    let text: &[&str] =
        dice.pick(&[&["P"] as &[&str], &["EXIT 12"], &["CITY", "CENTRE"], &["PARK"]]);
    lettering::write(brush, [0.0, low + 0.3], [half * 1.6, 0.4], text, ink);
}

fn give_way(brush: &mut Brush, low: f32) {
    let top = low + 0.75;
    brush.shape(&[[-0.45, top], [0.45, top], [0.0, low]], &Paint::flat([0.78, 0.08, 0.10]));
    brush.shape(&[[-0.26, top - 0.1], [0.26, top - 0.1], [0.0, low + 0.22]], &Paint::flat(WHITE));
}

/// A billboard or shop sign in any colour, orange ones as often as not.
pub(super) fn billboard(brush: &mut Brush, dice: &mut Dice) {
    const TEXTS: [&[&str]; 8] = [
        &["SALE"],
        &["PIZZA"],
        &["HOTEL"],
        &["AUTO", "PARTS"],
        &["BANK"],
        &["OPEN 24"],
        &["FRESH", "JUICE"],
        &["CAFE"],
    ];
    let colour = palette::advert(dice);
    let (half, tall) = (dice.span(0.9, 2.8), dice.span(0.9, 2.2));
    let low = dice.span(1.2, 4.0);
    brush.rect([-0.09, 0.0], [0.09, low], &Paint::flat(scale(STEEL, 0.7)));
    brush.rect([-half, low], [half, low + tall], &Paint::down(colour, scale(colour, 0.85)));
    let ink = if dice.chance(0.5) { WHITE } else { BLACK };
    let lines = dice.pick(&TEXTS);
    let at = [0.0, low + tall * 0.5];
    lettering::write(brush, at, [half * 1.5, tall * 0.6], lines, ink);
}
