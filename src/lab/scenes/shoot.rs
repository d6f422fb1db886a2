//! Renders one scene: draws it, photographs it, reads off what can be seen, and draws it anew
//! where the picture does not show what its plan promises.

use super::backdrop::{self, Road};
use super::canvas::Canvas;
use super::dice::Dice;
use super::film::{self, Frame, Lamp};
use super::items::{Item, Look};
use super::labels::{ObjectLabel, SceneLabel, Weather};
use super::layout::{self, Stage};
use super::plan::{Plan, plan};
use super::view::{View, haze};
use super::{Scene, SceneSpec};

/// Separates the draws of a drawing from those of its plan.
const STREAM: u64 = 2;
/// Drawings tried before the last is taken as it is. One in four fails at most, so that at usual
/// sizes this is never reached.
const ATTEMPTS: u64 = 60;

/// Renders scene `index` of a series; the same arguments give the same bytes.
pub fn render(spec: &SceneSpec, index: u64) -> Scene {
    let plan = plan(spec, index);
    let mut attempt = 0;
    loop {
        let key = [STREAM, spec.seed, u64::from(spec.level), index, attempt];
        let mut dice = Dice::new(&key);
        let mut shot = shoot(spec, &plan, &mut dice);
        attempt += 1;
        if attempt == ATTEMPTS || shows(spec, &plan, &shot.seen) {
            let image = film::expose(&mut shot.canvas, &shot.frame, &mut dice, spec.level);
            let objects = shot.seen.iter().filter_map(label);
            return Scene { image, label: describe(spec, &plan, index, objects.collect()) };
        }
    }
}

/// A scene drawn and framed, not yet photographed.
struct Shot {
    canvas: Canvas,
    frame: Frame,
    seen: Vec<Seen>,
}

/// A thing in the picture.
struct Seen {
    item: Item,
    /// The visible part: left, top, right, bottom, the last two exclusive.
    bounds: [u32; 4],
    /// How much of what the frame holds of it nothing hides, 0 to 1.
    bare: f32,
}

fn describe(spec: &SceneSpec, plan: &Plan, index: u64, objects: Vec<ObjectLabel>) -> SceneLabel {
    SceneLabel {
        file: format!("images/{index:06}.jpg"),
        label: u8::from(plan.roadwork),
        level: spec.level,
        width: spec.width,
        height: spec.height,
        hard_negative: plan.hard_negative,
        weather: plan.weather,
        objects,
    }
}

fn label(seen: &Seen) -> Option<ObjectLabel> {
    let (class, roadwork) = seen.item.tag?;
    Some(ObjectLabel { class: class.to_owned(), roadwork, bounds: seen.bounds })
}

/// Whether the picture shows what its plan promises, large and bare enough for its level.
fn shows(spec: &SceneSpec, plan: &Plan, seen: &[Seen]) -> bool {
    let level = usize::from(spec.level.min(3));
    let unit = [1.3, 1.0, 0.6, 0.4][level] * spec.height as f32 / 180.0;
    let bare = [0.8, 0.7, 0.55, 0.45][level];
    let readable = |seen: &&Seen| {
        let [x0, y0, x1, y1] = seen.bounds;
        let least = seen.item.readable() * unit;
        let whole = x0 > 0 && x1 < spec.width || (x1 - x0) as f32 > least * 1.2;
        let large = (y1 - y0) as f32 >= least && (x1 - x0) as f32 >= least * 0.3;
        large && whole && seen.bare >= bare
    };
    let count = |wanted: &dyn Fn((&str, bool)) -> bool| {
        let wanted = |seen: &&Seen| seen.item.tag.is_some_and(wanted);
        seen.iter().filter(wanted).filter(readable).count()
    };
    if plan.roadwork {
        return count(&|(_, roadwork)| roadwork) >= if level < 3 { 2 } else { 1 };
    }
    plan.hard_negative.is_none_or(|kind| count(&|(class, _)| class == kind.class()) >= 1)
}

fn shoot(spec: &SceneSpec, plan: &Plan, dice: &mut Dice) -> Shot {
    let (wide, tall) = (spec.width as usize, spec.height as usize);
    let mut canvas = Canvas::new(wide, tall, dice);
    let view = aim(spec, dice);
    let road = Road::new(dice);
    let air = backdrop::paint(&mut canvas, &view, &road, plan.weather, dice);
    let clear = sight(plan.weather, spec.level, dice);
    backdrop::veil(&mut canvas, &view, air, clear);
    let reach = spec.width as f32 * 0.5 / view.focal;
    let mut stage = Stage { road: &road, dice, level: spec.level, reach, items: Vec::new() };
    layout::furnish(&mut stage, plan);
    let mut items = stage.items;
    items.sort_by(|a, b| b.z.total_cmp(&a.z));
    let mut painted = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        canvas.current = place as u16 + 1;
        canvas.painted = 0;
        canvas.haze = (air, haze(item.z, clear));
        item.paint(&mut canvas, &view);
        painted.push(canvas.painted);
    }
    canvas.haze.1 = 0.0;
    if plan.weather == Weather::Night {
        night(&mut canvas, &view, &items, dice, spec.level);
    }
    if plan.weather == Weather::Dusk {
        film::dim(&mut canvas, dice, spec.level);
    }
    if plan.weather == Weather::Rain {
        film::rain(&mut canvas, dice, spec.level);
    }
    if dice.chance(0.25) {
        film::bonnet(&mut canvas, dice);
    }
    let frame = Frame::new(&canvas, dice, spec.level);
    let seen = look(&items, &painted, &frame.owners(&canvas), spec.width);
    Shot { canvas, frame, seen }
}

fn aim(spec: &SceneSpec, dice: &mut Dice) -> View {
    let (wide, tall) = (spec.width as f32, spec.height as f32);
    View {
        focal: tall * dice.span(1.3, 1.65),
        middle: wide * dice.span(0.42, 0.58),
        horizon: tall * dice.span(0.36, 0.5),
        eye: dice.span(1.2, 1.75),
        curve: dice.span(-1.0, 1.0) * dice.span(0.0, 0.006),
    }
}

/// The distance in metres over which the air takes about two thirds of the view.
fn sight(weather: Weather, level: u8, dice: &mut Dice) -> f32 {
    match weather {
        Weather::Fog => [60.0, 38.0, 30.0, 24.0][usize::from(level.min(3))] * dice.span(0.8, 1.3),
        Weather::Rain => dice.span(90.0, 180.0),
        _ => dice.span(250.0, 700.0),
    }
}

fn night(canvas: &mut Canvas, view: &View, items: &[Item], dice: &mut Dice, level: u8) {
    let mut lamps = Vec::new();
    for item in items {
        let size = view.size(item.z);
        match item.look {
            Look::Vehicle(_, _, oncoming) => {
                let colour = if oncoming { [1.0, 0.96, 0.85] } else { [0.9, 0.08, 0.06] };
                let radius = size * if oncoming { 0.2 } else { 0.11 };
                for side in [-0.75, 0.75] {
                    let at = view.project(item.x + side, 0.72, item.z);
                    lamps.push(Lamp { at, radius, colour });
                }
            }
            Look::Pole(true) => {
                let arm = if item.x < 0.0 { 1.6 } else { -1.6 };
                let at = view.project(item.x + arm, 7.5, item.z);
                lamps.push(Lamp { at, radius: size * 0.35, colour: [1.0, 0.82, 0.5] });
            }
            _ => {}
        }
    }
    let reflects: Vec<bool> =
        std::iter::once(false).chain(items.iter().map(Item::reflects)).collect();
    let ambient = dice.span(0.2, 0.32) - 0.03 * f32::from(level);
    film::darken(canvas, view, &lamps, &reflects, ambient);
}

/// What can be seen of every tagged item, nearest last, those under two pixels left out.
fn look(items: &[Item], painted: &[u32], owner: &[u16], wide: u32) -> Vec<Seen> {
    let mut found = vec![([u32::MAX, u32::MAX, 0, 0], 0_u32); items.len() + 1];
    for (at, &id) in owner.iter().enumerate() {
        if id > 0 {
            let (x, y) = (at as u32 % wide, at as u32 / wide);
            let (bounds, pixels) = &mut found[usize::from(id)];
            let [x0, y0, x1, y1] = *bounds;
            *bounds = [x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1)];
            *pixels += 1;
        }
    }
    let mut seen = Vec::new();
    for ((item, (bounds, pixels)), painted) in items.iter().zip(&found[1..]).zip(painted) {
        let wide = bounds[2].saturating_sub(bounds[0]);
        let tall = bounds[3].saturating_sub(bounds[1]);
        if item.tag.is_some() && wide >= 2 && tall >= 2 {
            let bare = *pixels as f32 / (*painted).max(1) as f32;
            seen.push(Seen { item: *item, bounds: *bounds, bare });
        }
    }
    seen
}
