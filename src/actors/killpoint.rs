//! Places in the engine where its tests make a thread panic. In every other build, nothing.

/// Every place where a death costs nobody an answer, for the test that visits them all. The
/// supervisor has one more, "supervisor.routing": its death ends the process.
#[cfg(test)]
pub(crate) const POINTS: [&str; 8] = [
    "instance.loading",
    "instance.taken",
    "instance.aboard",
    "instance.computed",
    "instance.finished",
    "stage.ready",
    "stage.fall",
    "stage.round",
];

/// The engine comes by a place.
#[inline]
pub(crate) fn reach(_point: &'static str, _stage: &str) {
    #[cfg(test)]
    armed::reach(_point, _stage);
}

#[cfg(test)]
pub(crate) mod armed {
    use std::collections::HashMap;

    use parking_lot::Mutex;

    /// Visits left until the panic, by place and stage.
    static ARMED: Mutex<Option<HashMap<(&'static str, String), usize>>> = Mutex::new(None);

    /// The `nth` visit of a stage to a place from now on, counted from 1, is a panic; once.
    pub(crate) fn arm(point: &'static str, stage: &str, nth: usize) {
        ARMED.lock().get_or_insert_default().insert((point, stage.to_owned()), nth);
    }

    /// Whether the panic is still to come.
    pub(crate) fn is_armed(point: &'static str, stage: &str) -> bool {
        let armed = ARMED.lock();
        armed.as_ref().is_some_and(|armed| armed.contains_key(&(point, stage.to_owned())))
    }

    pub(super) fn reach(point: &'static str, stage: &str) {
        let mut armed = ARMED.lock();
        let Some(places) = armed.as_mut() else { return };
        let place = (point, stage.to_owned());
        let Some(left) = places.get_mut(&place) else { return };
        *left -= 1;
        if *left == 0 {
            places.remove(&place);
            drop(armed);
            panic!("kill point {point} of {stage}");
        }
    }
}
