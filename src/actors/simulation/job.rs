//! A job of the simulation: its page in the ledger.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use super::script::Arrival;
use crate::actors::Priority;
use crate::actors::former::Queued;
use crate::actors::job::JobId;

/// A job, and what has become of it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) spec: Arrival,
    pub(super) deadline: Instant,
    /// Answered, or its client has left.
    pub(super) closed: Cell<bool>,
    pub(super) answers: Cell<u8>,
    /// The router has answered it.
    pub(super) routed: Cell<bool>,
    pub(super) has_best: Cell<bool>,
    pub(super) has_score: Cell<bool>,
    pub(super) lends: RefCell<Vec<u8>>,
    pub(super) said: RefCell<Vec<bool>>,
    /// Falls that it caused, by stage.
    pub(super) falls: RefCell<Vec<u8>>,
}

impl Queued for Rc<Job> {
    fn id(&self) -> JobId {
        JobId(self.id)
    }
    fn priority(&self) -> Priority {
        self.spec.priority
    }
    fn deadline(&self) -> Instant {
        self.deadline
    }
    fn is_closed(&self) -> bool {
        self.closed.get()
    }
}

impl Job {
    pub(super) fn new(id: u64, spec: Arrival, deadline: Instant, stages: usize) -> Self {
        Self {
            id,
            spec,
            deadline,
            closed: Cell::new(false),
            answers: Cell::new(0),
            routed: Cell::new(false),
            has_best: Cell::new(false),
            has_score: Cell::new(false),
            lends: RefCell::new(vec![0; stages]),
            said: RefCell::new(vec![false; stages]),
            falls: RefCell::new(vec![0; stages]),
        }
    }
}
