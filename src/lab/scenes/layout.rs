//! Decides what stands where: scenery and traffic in every scene, a work zone in those with
//! roadwork, and the misleading subject in those given one.

use super::backdrop::Road;
use super::canvas::Rgb;
use super::dice::Dice;
use super::items::{Item, Look};
use super::labels::HardNegative;
use super::palette;
use super::plan::Plan;
use super::vehicles::Make;
use super::zone;

/// A scene being furnished.
pub(super) struct Stage<'a> {
    /// The road it is on.
    pub road: &'a Road,
    /// Draws for places and colours.
    pub dice: &'a mut Dice,
    /// Difficulty, 0 to 3.
    pub level: u8,
    /// Half the picture's width over the focal length: how far to the side is still in view.
    pub reach: f32,
    /// Everything placed so far.
    pub items: Vec<Item>,
}

/// Everything that stands in the planned scene, in no order.
pub(super) fn furnish(stage: &mut Stage, plan: &Plan) {
    let closed = if plan.roadwork { zone::build(stage) } else { None };
    if let Some(kind) = plan.hard_negative {
        stage.subject(kind);
    }
    stage.scenery();
    stage.traffic(closed, plan);
    stage.kerbside(plan);
}

impl Stage<'_> {
    /// Places a thing.
    pub(super) fn put(&mut self, look: Look, x: f32, z: f32, tag: Option<(&'static str, bool)>) {
        let seed = self.dice.long();
        self.items.push(Item { look, x, z, tag, seed });
    }

    /// The distance of a subject of this level, pushed on until `x` is inside the picture.
    pub(super) fn distance(&mut self, x: f32) -> f32 {
        let (near, far) = self.depths();
        let z = self.dice.span(near, far);
        self.in_view(x, z)
    }

    /// The least distance from `z` on at which a point `x` to the side is inside the picture.
    pub(super) fn in_view(&self, x: f32, z: f32) -> f32 {
        z.max(x.abs() / (self.reach * 0.86))
    }

    /// Where the subjects of this level begin and end.
    pub(super) fn depths(&self) -> (f32, f32) {
        match self.level {
            0 => (5.5, 9.0),
            1 => (7.0, 15.0),
            2 => (10.0, 24.0),
            _ => (14.0, 34.0),
        }
    }

    fn subject(&mut self, kind: HardNegative) {
        let tag = Some((kind.class(), false));
        let side = self.dice.sign();
        let beside = self.road.edge(side) + side * self.dice.span(0.5, 1.6);
        match kind {
            HardNegative::OrangeCar => {
                for _ in 0..self.dice.pick(&[1, 1, 2, 3]) {
                    self.orange_vehicle(tag);
                }
            }
            HardNegative::OrangeJacket => {
                for step in 0..self.dice.pick(&[1, 1, 1, 2]) {
                    let jacket = palette::orange(self.dice);
                    let x = beside + side * step as f32 * 0.7;
                    let z = self.distance(x);
                    self.put(Look::Walker(jacket), x, z, tag);
                }
            }
            HardNegative::StackedCones => {
                let colour = palette::orange(self.dice);
                let z = self.distance(beside);
                for step in 0..self.dice.pick(&[1, 1, 2, 3]) {
                    self.put(Look::Stack(colour), beside + side * step as f32 * 0.62, z, tag);
                }
            }
            HardNegative::EndSign => {
                let x = beside + side * 0.3;
                let z = self.distance(x);
                let colour = palette::orange(self.dice);
                self.put(Look::End(colour), x, z, tag);
            }
        }
    }

    fn orange_vehicle(&mut self, tag: Option<(&'static str, bool)>) {
        let colour = palette::orange(self.dice);
        let make = self.make();
        let (x, oncoming) = self.dice.pick(&self.road.lanes);
        let z = self.distance(x) + if x == 0.0 { 2.0 } else { 0.0 };
        let z = self.clear_of_vehicles(x, z);
        self.put(Look::Vehicle(make, colour, oncoming), x, z, tag);
    }

    fn make(&mut self) -> Make {
        self.dice.pick(&[Make::Car, Make::Car, Make::Car, Make::Van, Make::Truck])
    }

    /// The distance from `z` on at which nothing on wheels in the same lane is run into.
    fn clear_of_vehicles(&self, x: f32, z: f32) -> f32 {
        let mut z = z;
        for item in &self.items {
            let vehicle = matches!(item.look, Look::Vehicle(..));
            if vehicle && (item.x - x).abs() < 1.5 && (item.z - z).abs() < 9.0 {
                z = item.z + 9.5;
            }
        }
        z
    }

    fn scenery(&mut self) {
        let town = self.dice.chance(0.55);
        for side in [-1.0, 1.0] {
            let outer = self.road.edge(side) + side * (self.road.pavement + 0.6);
            let mut z = self.dice.span(9.0, 22.0);
            while z < 95.0 {
                let x = outer + side * self.dice.span(0.3, 4.0);
                if town && self.dice.chance(0.6) {
                    self.put(Look::Building, x + side * 1.0, z, None);
                    z += 9.0;
                } else {
                    let turned = self.road.autumn && self.dice.chance(0.75);
                    let leaves = palette::leaves(self.dice, turned);
                    self.put(Look::Tree(leaves), x, z, None);
                }
                z += self.dice.span(2.5, 14.0);
            }
            self.street_line(side, town);
        }
    }

    /// Poles, signs and billboards along one side.
    fn street_line(&mut self, side: f32, town: bool) {
        let x = self.road.edge(side) + side * 0.7;
        let mut z = self.dice.span(8.0, 30.0);
        let (lamp, every) = (self.dice.chance(0.6), self.dice.span(16.0, 32.0));
        while z < 90.0 && self.dice.chance(0.85) {
            self.put(Look::Pole(lamp), x, z, None);
            z += every;
        }
        for _ in 0..self.dice.count(0, 1) {
            let z = self.dice.span(9.0, 35.0);
            let z = self.in_view(x, z);
            self.put(Look::Sign, x + side * 0.2, z, Some(("traffic_sign", false)));
        }
        if self.dice.chance(if town { 0.6 } else { 0.35 }) {
            let x = x + side * self.dice.span(1.5, 5.0);
            let z = self.dice.span(12.0, 45.0);
            let z = self.in_view(x, z);
            self.put(Look::Billboard, x, z, Some(("billboard", false)));
        }
    }

    /// Vehicles in the lanes that are open.
    fn traffic(&mut self, closed: Option<zone::Closed>, plan: &Plan) {
        let subject = plan.hard_negative == Some(HardNegative::OrangeCar);
        let orange = if subject { 0.1 } else { 0.16 };
        for (x, oncoming) in self.road.lanes.clone() {
            let mut z = self.dice.span(7.0, 45.0) + if x == 0.0 { 5.0 } else { 0.0 };
            while z < 90.0 && self.dice.chance(0.7) {
                let shut = closed.is_some_and(|closed| closed.covers(x, z));
                let free = self.clear_of_vehicles(x, z) == z;
                if free && !shut {
                    self.vehicle(x, z, oncoming, orange);
                }
                z += self.dice.span(9.0, 40.0);
            }
        }
    }

    fn vehicle(&mut self, x: f32, z: f32, oncoming: bool, orange: f32) {
        let make = self.make();
        let x = x + self.dice.span(-0.25, 0.25);
        if self.dice.chance(orange) {
            let colour = palette::orange(self.dice);
            self.put(Look::Vehicle(make, colour, oncoming), x, z, Some(("orange_car", false)));
        } else {
            let colour = palette::car(self.dice);
            self.put(Look::Vehicle(make, colour, oncoming), x, z, Some(("vehicle", false)));
        }
    }

    /// Passers-by, bins, bollards, kiosks and beds beside the road, many of them orange. A scene
    /// without roadwork gets more of them, to hold about as much orange low beside the road.
    fn kerbside(&mut self, plan: &Plan) {
        if plan.roadwork && self.dice.chance(0.05) {
            self.subject(HardNegative::StackedCones);
        }
        let plain = !plan.roadwork && plan.hard_negative.is_none();
        let few = if plan.roadwork { 0 } else { 1 };
        for _ in 0..self.dice.count(few, if plain { 6 } else { 4 }) {
            let side = self.dice.sign();
            let x = self.road.edge(side) + side * self.dice.span(0.4, 3.2);
            let z = self.distance(x) + self.dice.span(-1.0, 12.0);
            let z = self.in_view(x, z);
            let warm = self.dice.chance(if plain { 0.6 } else { 0.5 });
            let colour = self.any(warm);
            match self.dice.count(0, 9) {
                0..=2 => {
                    let orange = warm && self.dice.chance(0.5);
                    self.passer(x, z, orange);
                }
                3..=5 => self.put(Look::Bin(colour), x, z, Some(("bin", false))),
                6 => self.put(Look::Bollard, x, z, Some(("bollard", false))),
                7 => self.put(Look::Kiosk(colour), x + side * 1.5, z + 3.0, Some(("kiosk", false))),
                _ => self.put(Look::Bush(colour), x, z, None),
            }
        }
    }

    fn passer(&mut self, x: f32, z: f32, orange: bool) {
        if orange {
            let jacket = palette::orange(self.dice);
            self.put(Look::Walker(jacket), x, z, Some(("orange_jacket", false)));
        } else {
            let jacket = palette::cloth(self.dice);
            self.put(Look::Walker(jacket), x, z, Some(("pedestrian", false)));
        }
    }

    fn any(&mut self, warm: bool) -> Rgb {
        if warm {
            return palette::orange(self.dice);
        }
        let turned = self.dice.chance(0.3);
        if self.dice.chance(0.5) {
            palette::leaves(self.dice, turned)
        } else {
            palette::car(self.dice)
        }
    }
}
