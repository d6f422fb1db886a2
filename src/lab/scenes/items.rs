//! The things that stand in a scene: what each is, where, and how it is painted and reported.

use super::canvas::{Canvas, Rgb};
use super::dice::Dice;
use super::vehicles::Make;
use super::view::{Brush, View};
use super::{gear, people, signs, street, vehicles};

/// What a thing is.
#[derive(Clone, Copy)]
pub(super) enum Look {
    /// An upright traffic cone.
    Cone(Rgb),
    /// A nested pile of cones.
    Stack(Rgb),
    /// A traffic drum.
    Drum(Rgb),
    /// A folding barrier of striped boards.
    Board(Rgb),
    /// A jersey barrier.
    Jersey(Rgb),
    /// A dug-up stretch this wide to either side.
    Trench(f32),
    /// A diamond warning of roadwork.
    Diamond(Rgb),
    /// A ROAD CLOSED board.
    Closed(Rgb),
    /// An END ROAD WORK sign.
    End(Rgb),
    /// A worker in a vest.
    Worker(Rgb),
    /// An excavator.
    Excavator(Rgb),
    /// A road roller.
    Roller(Rgb),
    /// A paver.
    Paver(Rgb),
    /// A passer-by in a jacket.
    Walker(Rgb),
    /// A vehicle, and whether it comes towards the camera.
    Vehicle(Make, Rgb, bool),
    /// An ordinary sign.
    Sign,
    /// A billboard or shop sign.
    Billboard,
    /// A building.
    Building,
    /// A tree.
    Tree(Rgb),
    /// A bush or flower bed.
    Bush(Rgb),
    /// A lamp post or, if false, a wooden pole.
    Pole(bool),
    /// A litter bin.
    Bin(Rgb),
    /// A bollard.
    Bollard,
    /// A kiosk or container.
    Kiosk(Rgb),
}

/// A thing and its place.
#[derive(Clone, Copy)]
pub(super) struct Item {
    /// What it is.
    pub look: Look,
    /// Metres right of the lane.
    pub x: f32,
    /// Metres ahead.
    pub z: f32,
    /// Its class in the label, and whether it belongs to active roadwork.
    pub tag: Option<(&'static str, bool)>,
    /// Seeds the draws of its own shape.
    pub seed: u64,
}

impl Item {
    /// Whether headlights come back from it strongly.
    pub(super) fn reflects(&self) -> bool {
        !matches!(
            self.look,
            Look::Building
                | Look::Tree(_)
                | Look::Bush(_)
                | Look::Walker(_)
                | Look::Trench(_)
                | Look::Pole(_)
        )
    }

    /// The height in pixels, at 180 rows, from which a person reads it at a glance, posts
    /// included; trenches never count.
    pub(super) fn readable(&self) -> f32 {
        match self.look {
            Look::Cone(_) | Look::Drum(_) | Look::Stack(_) => 12.0,
            Look::Board(_) | Look::Jersey(_) => 10.0,
            Look::Vehicle(..) => 16.0,
            Look::Diamond(_) | Look::Closed(_) | Look::End(_) => 25.0,
            Look::Worker(_) | Look::Walker(_) => 20.0,
            Look::Excavator(_) | Look::Roller(_) | Look::Paver(_) => 22.0,
            _ => f32::MAX,
        }
    }

    /// Paints it.
    pub(super) fn paint(&self, canvas: &mut Canvas, view: &View) {
        let mut dice = Dice::new(&[self.seed]);
        let mut brush = Brush { canvas, view: *view, x: self.x, z: self.z, lean: 0.0 };
        let (brush, dice) = (&mut brush, &mut dice);
        match self.look {
            Look::Cone(colour) => gear::cone(brush, dice, colour),
            Look::Stack(colour) => gear::stack(brush, dice, colour),
            Look::Drum(colour) => gear::drum(brush, dice, colour),
            Look::Board(colour) => gear::board(brush, dice, colour),
            Look::Jersey(colour) => gear::jersey(brush, dice, colour),
            Look::Trench(half) => gear::trench(brush, dice, half),
            Look::Diamond(colour) => signs::diamond(brush, dice, colour),
            Look::Closed(colour) => signs::closed(brush, dice, colour),
            Look::End(colour) => signs::end(brush, dice, colour),
            Look::Worker(vest) => people::worker(brush, dice, vest),
            Look::Excavator(colour) => vehicles::excavator(brush, dice, colour),
            Look::Roller(colour) => vehicles::roller(brush, dice, colour),
            Look::Paver(colour) => vehicles::paver(brush, dice, colour),
            Look::Walker(jacket) => people::walker(brush, dice, jacket),
            Look::Vehicle(make, colour, oncoming) => {
                vehicles::traffic(brush, dice, make, (colour, oncoming));
            }
            Look::Sign => signs::ordinary(brush, dice),
            Look::Billboard => signs::billboard(brush, dice),
            Look::Building => street::building(brush, dice),
            Look::Tree(colour) => street::tree(brush, dice, colour),
            Look::Bush(colour) => street::bush(brush, dice, colour),
            Look::Pole(lamp) => street::pole(brush, dice, lamp),
            Look::Bin(colour) => street::bin(brush, dice, colour),
            Look::Bollard => street::bollard(brush, dice),
            Look::Kiosk(colour) => street::kiosk(brush, dice, colour),
        }
    }
}
