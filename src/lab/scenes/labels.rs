//! What is known about a rendered scene, as it stands in a data set's `labels.jsonl`.

use serde::{Deserialize, Serialize};

/// The subject of a scene that resembles roadwork and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardNegative {
    /// One or several orange vehicles on a clean road.
    OrangeCar,
    /// A pedestrian in a plain orange jacket, away from any gear.
    OrangeJacket,
    /// A nested pile of cones stowed on the pavement.
    StackedCones,
    /// A rectangular END ROAD WORK sign with a clean road behind it.
    EndSign,
}

impl HardNegative {
    /// Every kind, in the order in which their shares are drawn.
    pub const ALL: [Self; 4] =
        [Self::OrangeCar, Self::OrangeJacket, Self::StackedCones, Self::EndSign];

    /// The class name that its objects carry.
    pub fn class(self) -> &'static str {
        match self {
            Self::OrangeCar => "orange_car",
            Self::OrangeJacket => "orange_jacket",
            Self::StackedCones => "stacked_cones",
            Self::EndSign => "end_sign",
        }
    }
}

/// The light and air of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weather {
    /// Blue sky.
    Clear,
    /// Grey sky, flat light.
    Overcast,
    /// Low warm light.
    Dusk,
    /// Dark, with headlights.
    Night,
    /// Streaks and a wet road.
    Rain,
    /// Distance fades to grey.
    Fog,
}

/// One thing in the picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectLabel {
    /// What it is, such as `cone`.
    pub class: String,
    /// Whether it is part of active roadwork.
    pub roadwork: bool,
    /// The visible part in pixels: left, top, right, bottom, the last two exclusive.
    #[serde(rename = "box")]
    pub bounds: [u32; 4],
}

/// One line of `labels.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SceneLabel {
    /// Path of the image below the data set's folder.
    pub file: String,
    /// 1 where the scene shows active roadwork, else 0.
    pub label: u8,
    /// Difficulty, 0 to 3.
    pub level: u8,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The misleading subject of a scene without roadwork, if it was given one.
    pub hard_negative: Option<HardNegative>,
    /// The light and air.
    pub weather: Weather,
    /// What can be seen: roadwork gear, its look-alikes, traffic, people, signs and street furniture;
    /// not the scenery (buildings, trees, poles).
    pub objects: Vec<ObjectLabel>,
}
