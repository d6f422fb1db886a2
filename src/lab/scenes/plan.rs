//! What a scene is going to be, decided before anything is drawn: its label, its misleading
//! subject and its weather. Cheap, so that shares can be counted over thousands of scenes.

use super::SceneSpec;
use super::dice::Dice;
use super::labels::{HardNegative, Weather};

/// Separates the draws of a plan from those of the drawing with the same seed and index.
const STREAM: u64 = 1;

/// The outline of one scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether it shows active roadwork.
    pub roadwork: bool,
    /// The misleading subject of a scene without roadwork.
    pub hard_negative: Option<HardNegative>,
    /// The light and air.
    pub weather: Weather,
}

/// The outline of scene `index`.
pub fn plan(spec: &SceneSpec, index: u64) -> Plan {
    let mut dice = Dice::new(&[STREAM, spec.seed, u64::from(spec.level), index]);
    let roadwork = dice.chance(0.5);
    let draw = dice.unit();
    let share = hard_share(spec.level);
    let kind = HardNegative::ALL.get((draw / share) as usize).copied();
    let hard_negative = if roadwork { None } else { kind };
    Plan { roadwork, hard_negative, weather: weather(&mut dice, spec.level) }
}

/// The share of the scenes without roadwork that goes to each misleading subject. Never so near
/// 8 % that a draw of a few thousand scenes would often fall below it.
fn hard_share(level: u8) -> f32 {
    match level {
        0 => 0.095,
        1 => 0.105,
        2 => 0.13,
        _ => 0.17,
    }
}

fn weather(dice: &mut Dice, level: u8) -> Weather {
    const ORDER: [Weather; 6] = [
        Weather::Clear,
        Weather::Overcast,
        Weather::Dusk,
        Weather::Night,
        Weather::Rain,
        Weather::Fog,
    ];
    let shares: [f32; 6] = match level {
        0 => [0.70, 0.30, 0.0, 0.0, 0.0, 0.0],
        1 => [0.46, 0.24, 0.10, 0.06, 0.08, 0.06],
        2 => [0.28, 0.20, 0.14, 0.12, 0.14, 0.12],
        _ => [0.14, 0.14, 0.18, 0.22, 0.16, 0.16],
    };
    let mut left = dice.unit();
    for (kind, share) in ORDER.into_iter().zip(shares) {
        if left < share {
            return kind;
        }
        left -= share;
    }
    Weather::Clear
}
