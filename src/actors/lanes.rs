//! The lanes of a stage: which instance works, which stands by, which rests. Pure; time is an
//! argument.
//!
//! A lane is a place for one instance; the instances that succeed each other in it have rising
//! epochs, and the words of earlier ones are ignored. There are as many lanes as instances and
//! spares; whoever has loaded works if hands are wanted, and stands by otherwise. When one falls, a
//! spare is called at once.

use std::time::{Duration, Instant};

use super::board::StageState;
use super::restart::{During, Plan, RestartSpec, Restarts};

/// How many lanes, and how they are treated.
#[derive(Clone, Debug)]
pub struct LaneSpec {
    /// Instances that work.
    pub instances: usize,
    /// Instances that are loaded and wait.
    pub spares: usize,
    /// A load that takes longer counts as hung.
    pub load_timeout: Duration,
    /// When a fallen instance is started again.
    pub restart: RestartSpec,
}

/// One place for an instance.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lane {
    Resting {
        until: Instant,
        down: bool,
    },
    Loading {
        epoch: u64,
        since: Instant,
    },
    Standby {
        epoch: u64,
    },
    Working {
        epoch: u64,
    },
    /// It takes no more batches, and has not quite ended.
    Leaving {
        epoch: u64,
    },
    Closed,
}

/// What an instance does that has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It takes batches.
    Work,
    /// It waits until another falls.
    Standby,
}

/// What follows from a fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallen {
    /// What happens to the lane.
    pub plan: Plan,
    /// The spare that takes over.
    pub called: Option<usize>,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Lanes {
    spec: LaneSpec,
    lanes: Vec<Lane>,
    /// The history of each lane: an instance that cannot live beside its neighbour must not be
    /// forgiven for what the neighbour does.
    restarts: Vec<Restarts>,
    has_fallen: bool,
    down: bool,
    stopped: bool,
}

impl Lanes {
    /// Lanes whose first instances are due at once. `seed` makes the jitter repeatable.
    pub fn new(spec: LaneSpec, seed: u64, now: Instant) -> Self {
        let count = spec.instances + spec.spares;
        let history = |lane| Restarts::new(spec.restart.clone(), seed + lane as u64);
        let restarts = (0..count).map(history).collect();
        let lanes = vec![Lane::Resting { until: now, down: false }; count];
        Self { spec, lanes, restarts, has_fallen: false, down: false, stopped: false }
    }

    /// How many lanes there are.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The lanes in which an instance is to be started.
    pub fn due(&self, now: Instant) -> Vec<usize> {
        self.which(|lane| matches!(lane, Lane::Resting { until, .. } if now >= *until))
    }

    /// The lanes whose instances have been loading for too long.
    pub fn overdue(&self, now: Instant) -> Vec<usize> {
        let limit = self.spec.load_timeout;
        self.which(|lane| match lane {
            Lane::Loading { since, .. } => now.saturating_duration_since(*since) > limit,
            _ => false,
        })
    }

    /// The lanes whose instances work.
    pub fn working(&self) -> Vec<usize> {
        self.which(|lane| matches!(lane, Lane::Working { .. }))
    }

    /// The lanes whose instances have something to finish.
    pub fn watched(&self) -> Vec<usize> {
        self.which(|lane| matches!(lane, Lane::Working { .. } | Lane::Leaving { .. }))
    }

    /// How many instances stand by.
    pub fn spares(&self) -> usize {
        self.which(|lane| matches!(lane, Lane::Standby { .. })).len()
    }

    /// An instance is being loaded.
    pub fn started(&mut self, lane: usize, epoch: u64, now: Instant) {
        self.lanes[lane] = Lane::Loading { epoch, since: now };
    }

    /// An instance has loaded. `None` if it is not the lane's any more.
    pub fn loaded(&mut self, lane: usize, epoch: u64) -> Option<Duty> {
        if !self.is_current(lane, epoch) {
            return None;
        }
        let wanted = self.working().len() < self.spec.instances;
        self.lanes[lane] = if wanted { Lane::Working { epoch } } else { Lane::Standby { epoch } };
        if wanted {
            self.down = false;
        }
        self.restarts[lane].on_load();
        Some(if wanted { Duty::Work } else { Duty::Standby })
    }

    /// An instance takes no more batches. The spare that takes over, if one does.
    pub fn left(&mut self, lane: usize, epoch: u64) -> Option<usize> {
        if self.lanes.get(lane) != Some(&Lane::Working { epoch }) {
            return None;
        }
        self.lanes[lane] = Lane::Leaving { epoch };
        self.call_spare()
    }

    /// An instance is over. `progressed` tells whether the lane has finished a batch since its last
    /// fall.
    pub fn fell(&mut self, lane: usize, during: During, progressed: bool, now: Instant) -> Fallen {
        if progressed {
            self.restarts[lane].on_progress(now);
        }
        let plan = self.restarts[lane].on_fall(during, now);
        self.lanes[lane] = match plan {
            _ if self.stopped => Lane::Closed,
            Plan::Restart(pause) => Lane::Resting { until: now + pause, down: false },
            Plan::Down(pause) => Lane::Resting { until: now + pause, down: true },
        };
        self.has_fallen = true;
        let called = self.call_spare();
        self.note_down();
        Fallen { plan, called }
    }

    /// No instance is started any more; those that live go on.
    pub fn stop(&mut self) {
        self.stopped = true;
        for lane in &mut self.lanes {
            if matches!(lane, Lane::Resting { .. }) {
                *lane = Lane::Closed;
            }
        }
        self.note_down();
    }

    /// Whether this is the instance that the lane has now.
    pub fn is_current(&self, lane: usize, epoch: u64) -> bool {
        match self.lanes.get(lane) {
            Some(
                Lane::Loading { epoch: current, .. }
                | Lane::Standby { epoch: current }
                | Lane::Working { epoch: current }
                | Lane::Leaving { epoch: current },
            ) => *current == epoch,
            _ => false,
        }
    }

    /// How the stage is.
    pub fn state(&self) -> StageState {
        if self.lanes.iter().any(|lane| matches!(lane, Lane::Working { .. })) {
            StageState::Ready
        } else if self.down {
            // An attempt during the cool-off does not make a stage that is down look alive.
            StageState::Down
        } else if self.has_fallen {
            StageState::Restarting
        } else {
            StageState::Loading
        }
    }

    fn note_down(&mut self) {
        let is_out = |lane: &Lane| matches!(lane, Lane::Resting { down: true, .. } | Lane::Closed);
        self.down |= self.lanes.iter().all(is_out);
    }

    fn call_spare(&mut self) -> Option<usize> {
        if self.working().len() >= self.spec.instances {
            return None;
        }
        let standby = |lane: &Lane| match lane {
            Lane::Standby { epoch } => Some(*epoch),
            _ => None,
        };
        let (lane, epoch) =
            self.lanes.iter().enumerate().find_map(|(i, lane)| Some((i, standby(lane)?)))?;
        self.lanes[lane] = Lane::Working { epoch };
        Some(lane)
    }

    fn which(&self, test: impl Fn(&Lane) -> bool) -> Vec<usize> {
        (0..self.lanes.len()).filter(|lane| test(&self.lanes[*lane])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(instances: usize, spares: usize) -> (Lanes, Instant) {
        let load_timeout = Duration::from_secs(5);
        let spec = LaneSpec { instances, spares, load_timeout, restart: RestartSpec::default() };
        let now = crate::clock::now();
        (Lanes::new(spec, 1, now), now)
    }

    fn load(lanes: &mut Lanes, lane: usize, epoch: u64, now: Instant) -> Option<Duty> {
        lanes.started(lane, epoch, now);
        lanes.loaded(lane, epoch)
    }

    #[test]
    fn a_spare_takes_over_at_once_and_the_fallen_becomes_the_spare() {
        let (mut lanes, now) = lanes(1, 1);
        assert_eq!(lanes.due(now), [0, 1]);
        assert_eq!(load(&mut lanes, 0, 1, now), Some(Duty::Work));
        assert_eq!(load(&mut lanes, 1, 2, now), Some(Duty::Standby));
        let fallen = lanes.fell(0, During::Work, false, now);
        assert_eq!((fallen.called, lanes.state()), (Some(1), StageState::Ready));
        let later = now + Duration::from_secs(1);
        assert_eq!(lanes.due(later), [0]);
        assert_eq!(load(&mut lanes, 0, 3, later), Some(Duty::Standby));
    }

    #[test]
    fn a_fallen_spare_calls_nobody() {
        let (mut lanes, now) = lanes(1, 2);
        for lane in 0..3 {
            load(&mut lanes, lane, lane as u64, now);
        }
        assert_eq!(lanes.fell(1, During::Load, false, now).called, None);
        assert_eq!((lanes.working(), lanes.spares()), (vec![0], 1));
    }

    #[test]
    fn a_spare_is_called_before_the_fallen_has_quite_ended() {
        let (mut lanes, now) = lanes(1, 1);
        load(&mut lanes, 0, 1, now);
        load(&mut lanes, 1, 2, now);
        assert_eq!(lanes.left(0, 1), Some(1));
        assert_eq!((lanes.working(), lanes.watched()), (vec![1], vec![0, 1]));
        assert_eq!(lanes.fell(0, During::Work, false, now).called, None);
    }

    #[test]
    fn when_stopped_those_that_live_go_on_and_nothing_is_started() {
        let (mut lanes, now) = lanes(2, 0);
        load(&mut lanes, 0, 1, now);
        load(&mut lanes, 1, 2, now);
        lanes.stop();
        lanes.fell(0, During::Work, true, now);
        assert_eq!(
            (lanes.state(), lanes.due(now + Duration::from_secs(99))),
            (StageState::Ready, vec![])
        );
        lanes.fell(1, During::Work, true, now);
        assert_eq!(lanes.state(), StageState::Down);
        let (mut resting, now) = self::lanes(1, 0);
        load(&mut resting, 0, 1, now);
        resting.fell(0, During::Work, true, now);
        resting.stop();
        assert_eq!(resting.state(), StageState::Down);
    }

    #[test]
    fn the_words_of_earlier_incarnations_are_ignored() {
        let (mut lanes, now) = lanes(1, 0);
        lanes.started(0, 1, now);
        assert_eq!(lanes.overdue(now + Duration::from_secs(6)), [0]);
        lanes.fell(0, During::Load, false, now);
        assert_eq!(lanes.loaded(0, 1), None);
        lanes.started(0, 2, now);
        assert_eq!((lanes.loaded(0, 1), lanes.loaded(0, 2)), (None, Some(Duty::Work)));
    }

    #[test]
    fn a_stage_that_is_down_stays_so_until_an_instance_works() {
        let (mut lanes, mut now) = lanes(1, 0);
        assert_eq!(lanes.state(), StageState::Loading);
        for epoch in 0..6 {
            now += Duration::from_secs(1);
            lanes.started(0, epoch, now);
            lanes.fell(0, During::Load, false, now);
        }
        assert_eq!(lanes.state(), StageState::Down);
        lanes.started(0, 9, now);
        assert_eq!(lanes.state(), StageState::Down, "an attempt is not a success");
        lanes.loaded(0, 9);
        assert_eq!(lanes.state(), StageState::Ready);
    }
}
