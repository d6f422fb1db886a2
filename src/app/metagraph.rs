//! Keeps the metagraph supplied: from a file that is watched, or from the chain, whose last good answer
//! is kept on disk for the times when it is away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::bittensor::{FileWatch, Metagraph, MetagraphSpec, Snapshot, SnapshotError};
use crate::clock;
use crate::metrics;

/// How often the file is looked at, and the age told.
const LOOK: Duration = Duration::from_secs(1);

/// What keeps a metagraph up to date.
pub(super) struct Supply {
    intake: Intake,
    source: Source,
}

enum Source {
    Nowhere,
    File(FileWatch),
    Chain {
        endpoint: String,
        refresh: Duration,
        /// Where its last good answer is kept.
        kept: PathBuf,
    },
}

/// Where snapshots go.
#[derive(Clone)]
struct Intake {
    metagraph: Arc<Metagraph>,
    netuid: u16,
}

impl Supply {
    /// Begins with what is on disk: the file that the settings name, or what the chain said last.
    pub(super) fn new(spec: &MetagraphSpec, metagraph: Arc<Metagraph>, kept: PathBuf) -> Self {
        let intake = Intake { metagraph, netuid: spec.netuid };
        let source = if !spec.file.is_empty() {
            let mut watch = FileWatch::new(&spec.file);
            intake.take_seen(watch.poll());
            Source::File(watch)
        } else if !spec.endpoint.is_empty() {
            // There is none before the first start.
            if kept.exists() {
                intake.take_seen(FileWatch::new(&kept).poll());
            }
            let refresh = Duration::from_secs(spec.refresh_s);
            Source::Chain { endpoint: spec.endpoint.clone(), refresh, kept }
        } else {
            Source::Nowhere
        };
        Self { intake, source }
    }

    /// Keeps the metagraph up to date, for as long as it is polled.
    pub(super) async fn keep(self) {
        let Self { intake, source } = self;
        metrics::metagraph(0.0, 0);
        let mut watch = match source {
            Source::Nowhere => return,
            Source::File(watch) => Some(watch),
            Source::Chain { endpoint, refresh, kept } => {
                intake.clone().follow_chain(&endpoint, refresh, kept);
                None
            }
        };
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            watch = match watch {
                Some(watch) => intake.look(watch).await,
                None => None,
            };
            intake.tell();
        }
    }
}

impl Intake {
    /// Looks at the file, off the arbiter.
    async fn look(&self, mut watch: FileWatch) -> Option<FileWatch> {
        let looked = spawn_blocking(move || (watch.poll(), watch)).await;
        let (seen, watch) = looked
            .inspect_err(|error| tracing::error!(%error, "the metagraph's file is watched no more"))
            .ok()?;
        self.take_seen(seen);
        Some(watch)
    }

    fn take_seen(&self, seen: Option<Result<Snapshot, SnapshotError>>) {
        match seen {
            Some(Ok(snapshot)) => {
                self.take(snapshot);
            }
            Some(Err(error)) => tracing::error!(%error, "the metagraph stays as it was"),
            None => {}
        }
    }

    /// Puts a snapshot in use, if it is of our subnet. True if so.
    fn take(&self, snapshot: Snapshot) -> bool {
        let (found, wanted) = (snapshot.netuid, self.netuid);
        if found != wanted {
            tracing::error!(
                found,
                wanted,
                "the metagraph is of another subnet and is not used: see metagraph.netuid"
            );
            return false;
        }
        let (neurons, block) = (snapshot.neurons.len(), snapshot.block);
        tracing::info!(neurons, block, "a new metagraph");
        self.metagraph.put(snapshot);
        true
    }

    fn tell(&self) {
        let age = self.metagraph.age(clock::wall());
        if let (Some(snapshot), Some(age)) = (self.metagraph.get(), age) {
            metrics::metagraph(age.as_secs_f64(), snapshot.neurons.len());
        }
    }

    #[cfg(not(feature = "chain"))]
    fn follow_chain(self, endpoint: &str, _: Duration, _: PathBuf) {
        tracing::error!(
            endpoint,
            "this build cannot ask a chain: use one with the feature `chain`"
        );
    }

    /// Asks the chain now and then, and keeps what it says.
    #[cfg(feature = "chain")]
    fn follow_chain(self, endpoint: &str, refresh: Duration, kept: PathBuf) {
        use crate::bittensor::chain::{ChainError, Node, Pace, Refresher};

        /// How long one look at the chain may take.
        const WITHIN: Duration = Duration::from_secs(30);

        let node = match Node::new(endpoint) {
            Ok(node) => node,
            Err(error) => return tracing::error!(%error, "metagraph.endpoint"),
        };
        let (pace, netuid) = (Pace::new(refresh), self.netuid);
        let put = move |snapshot: Snapshot| {
            if !self.take(snapshot.clone()) {
                return;
            }
            let kept = kept.clone();
            drop(spawn_blocking(move || {
                if let Err(error) = snapshot.save(&kept) {
                    tracing::warn!(%error, "the metagraph is not kept for the next start");
                }
            }));
        };
        let failed = |error: &ChainError, pause: Duration| {
            tracing::warn!(%error, again_in_s = pause.as_secs(), "the chain was not read");
        };
        actix::spawn(Refresher { node, netuid, pace, within: WITHIN }.run(put, failed));
    }
}
