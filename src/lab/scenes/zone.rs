//! An active work zone: part of the road or its shoulder marked off, with what works inside it.

use super::canvas::Rgb;
use super::items::Look;
use super::layout::Stage;
use super::palette;

/// The part of the road that traffic keeps out of.
#[derive(Clone, Copy)]
pub(super) struct Closed {
    /// Left and right end.
    pub x: [f32; 2],
    /// Where it begins.
    pub z: f32,
}

impl Closed {
    /// Whether a vehicle standing there would be in the way.
    pub(super) fn covers(&self, x: f32, z: f32) -> bool {
        x > self.x[0] - 1.1 && x < self.x[1] + 1.1 && z > self.z - 9.0
    }
}

/// The lines a zone is built on.
struct Zone {
    /// -1 on the left of the road, 1 on the right.
    side: f32,
    /// The outer edge of the carriageway there.
    edge: f32,
    /// Where the part in use begins.
    inner: f32,
    /// Distance to its first marker.
    start: f32,
    /// The orange of its gear.
    colour: Rgb,
}

/// Which parts a zone has.
struct Parts {
    chain: bool,
    barrier: bool,
    sign: bool,
    crew: bool,
    machine: bool,
    dug: bool,
}

/// Builds a zone on the stage; returns what it closes.
pub(super) fn build(stage: &mut Stage) -> Option<Closed> {
    let side = stage.dice.sign();
    let edge = stage.road.edge(side);
    let taken = if stage.dice.chance(0.65) { stage.road.lane * 0.95 } else { 0.7 };
    let (near, far) = stage.depths();
    let start = stage.dice.span(near, near + (far - near) * 0.45);
    let colour = palette::orange(stage.dice);
    let zone = Zone { side, edge, inner: edge - side * taken, start, colour };
    let parts = parts(stage);
    if parts.dug {
        let (x, half) = zone.lot(stage, 0.2);
        let z = zone.start + stage.dice.span(2.0, 6.0);
        let z = stage.in_view(x, z);
        stage.put(Look::Trench(half), x, z, Some(("trench", true)));
    }
    if parts.chain {
        zone.chain(stage);
    }
    if parts.barrier {
        zone.barrier(stage);
    }
    if parts.sign {
        zone.sign(stage);
    }
    if parts.crew {
        zone.crew(stage);
    }
    if parts.machine {
        zone.machine(stage);
    }
    let reach = [zone.inner, zone.edge + side * 4.0];
    Some(Closed { x: [reach[0].min(reach[1]), reach[0].max(reach[1])], z: zone.start })
}

/// One to four kinds, never a sign or a worker alone.
fn parts(stage: &mut Stage) -> Parts {
    let dice = &mut *stage.dice;
    let mut parts = Parts {
        chain: dice.chance(0.78),
        barrier: dice.chance(0.34),
        sign: dice.chance(0.5),
        crew: dice.chance(0.42),
        machine: dice.chance(0.2),
        dug: dice.chance(0.25),
    };
    if !(parts.chain || parts.barrier || parts.crew && parts.sign) {
        parts.chain = true;
    }
    parts
}

impl Zone {
    /// A place inside the zone and how much room it has to either side.
    fn lot(&self, stage: &mut Stage, margin: f32) -> (f32, f32) {
        let out = self.edge + self.side * 1.6;
        let middle = (self.inner + out) * 0.5;
        let half = (out - self.inner).abs() * 0.5 - margin;
        (middle + stage.dice.span(-0.3, 0.3) * half, half)
    }

    /// Cones, drums or striped boards: a taper, then a row along the open lane.
    fn chain(&self, stage: &mut Stage) {
        let kind = stage.dice.count(0, 9);
        let wanted = stage.dice.count(3, 7);
        let step = stage.dice.span(1.3, 2.8) * if stage.level > 1 { 1.3 } else { 1.0 };
        let taper = stage.dice.span(2.0, 8.0);
        let red = palette_red(stage);
        for place in 0..wanted {
            let along = place as f32 * step;
            let share = (along / taper).min(1.0);
            let x = self.edge + (self.inner - self.edge) * share + stage.dice.span(-0.12, 0.12);
            let z = stage.in_view(x, self.start) + along;
            match kind {
                0..=5 => stage.put(Look::Cone(self.colour), x, z, Some(("cone", true))),
                6 | 7 => stage.put(Look::Drum(self.colour), x, z, Some(("drum", true))),
                _ if place % 2 == 0 => {
                    let colour = if kind == 8 { red } else { self.colour };
                    stage.put(Look::Board(colour), x, z, Some(("barrier", true)));
                }
                _ => stage.put(Look::Cone(self.colour), x, z, Some(("cone", true))),
            }
        }
    }

    /// Boards or a ROAD CLOSED across the zone, or jersey barriers along it.
    fn barrier(&self, stage: &mut Stage) {
        let z = self.start + stage.dice.span(0.5, 4.0);
        let (x, _) = self.lot(stage, 0.5);
        let z = stage.in_view(x, z);
        let red = palette_red(stage);
        let colour = if stage.dice.chance(0.5) { self.colour } else { red };
        match stage.dice.count(0, 5) {
            0 => stage.put(Look::Closed(colour), x, z, Some(("sign", true))),
            1 | 2 => {
                let grey = stage.dice.span(0.55, 0.75);
                let body = stage.dice.pick(&[self.colour, [0.9; 3], [grey, grey, grey * 0.96]]);
                for place in 0..stage.dice.count(2, 4) {
                    let z = z + place as f32 * 2.7;
                    stage.put(Look::Jersey(body), self.inner, z, Some(("jersey", true)));
                }
            }
            _ => {
                for place in 0..stage.dice.count(1, 2) {
                    let x = x + self.side * place as f32 * 2.3;
                    stage.put(Look::Board(colour), x, z, Some(("barrier", true)));
                }
            }
        }
    }

    /// One or two diamonds before the zone or at its edge.
    fn sign(&self, stage: &mut Stage) {
        for place in 0..stage.dice.pick(&[1, 1, 1, 2]) {
            let side = if place == 0 { self.side } else { -self.side };
            let x = stage.road.edge(side) + side * stage.dice.span(0.4, 1.6);
            let z = stage.distance(x) + place as f32 * 2.0;
            stage.put(Look::Diamond(self.colour), x, z, Some(("sign", true)));
        }
    }

    fn crew(&self, stage: &mut Stage) {
        for _ in 0..stage.dice.count(1, 3) {
            let (x, half) = self.lot(stage, 0.4);
            let x = x + stage.dice.span(-0.5, 0.5) * half;
            let z = self.start + stage.dice.span(1.0, 7.0);
            let z = stage.in_view(x, z);
            let lime = palette::lime(stage.dice);
            let orange = palette::orange(stage.dice);
            let vest = if stage.dice.chance(0.5) { orange } else { lime };
            stage.put(Look::Worker(vest), x, z, Some(("worker", true)));
        }
    }

    fn machine(&self, stage: &mut Stage) {
        let (x, _) = self.lot(stage, 0.5);
        let x = x + self.side * 0.8;
        let z = self.start + stage.dice.span(4.0, 11.0);
        let z = stage.in_view(x, z);
        let yellow = palette::yellow(stage.dice);
        let colour = if stage.dice.chance(0.3) { self.colour } else { yellow };
        match stage.dice.count(0, 3) {
            0 | 1 => stage.put(Look::Excavator(colour), x, z, Some(("excavator", true))),
            2 => stage.put(Look::Roller(colour), x, z, Some(("roller", true))),
            _ => stage.put(Look::Paver(colour), x, z, Some(("paver", true))),
        }
    }
}

/// The red of red-and-white barriers.
fn palette_red(stage: &mut Stage) -> Rgb {
    [stage.dice.span(0.72, 0.85), stage.dice.span(0.06, 0.14), stage.dice.span(0.06, 0.12)]
}
