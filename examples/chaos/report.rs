//! The one line at the end, and whether the books balance.

use roadcrew::metrics;
use serde::Serialize;

use super::ledger::Ledger;

/// The keys are a contract, their order included; `meanings.md` says what each is.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    sent: u64,
    accepted: u64,
    answered: u64,
    client_gone: u64,
    lost: u64,
    duplicated: u64,
    late: u64,
    degraded: u64,
    rejected: u64,
    poison: usize,
    poison_isolated: usize,
    batchmates_hurt: u64,
    hung_instances: u64,
    restarts: u64,
    goodput_ratio: f64,
    panic_to_next_answer_ms_p50: Option<f64>,
    panic_to_next_answer_ms_max: Option<f64>,
    batchmates_p99_ms: Option<f64>,
    p99_ms: Option<f64>,
    mixed_up: u64,
}

impl Report {
    /// Balances the books. Beside the report, what is wrong with them.
    pub(crate) fn of(ledger: &Ledger) -> (Self, Vec<String>) {
        let engine = Engine::read();
        let timeouts = ledger.timeouts.min(engine.timeouts);
        let answered = ledger.ok + ledger.unavailable + ledger.internal + timeouts;
        let (poison, poison_isolated) = ledger.poisons();
        let report = Self {
            sent: ledger.sent,
            accepted: engine.accepted,
            answered,
            client_gone: engine.accepted.saturating_sub(answered),
            lost: ledger.lost + engine.lost,
            duplicated: ledger.duplicated,
            late: ledger.late,
            degraded: ledger.degraded,
            rejected: ledger.refused + ledger.timeouts - timeouts,
            poison,
            poison_isolated,
            batchmates_hurt: ledger.hurt,
            hung_instances: engine.hung,
            restarts: engine.restarts,
            goodput_ratio: (ledger.goodput_ratio() * 1e4).round() / 1e4,
            panic_to_next_answer_ms_p50: ledger.recovery_ms(0.5),
            panic_to_next_answer_ms_max: ledger.recovery_ms(1.0),
            batchmates_p99_ms: ledger.batchmates_p99_ms(),
            p99_ms: ledger.p99_ms(),
            mixed_up: ledger.mixed_up,
        };
        let wrong = engine.compare(ledger, &report);
        (report, wrong)
    }

    /// The counts that must be 0 and are not.
    pub(crate) fn offences(&self) -> Vec<String> {
        let musts = [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("late", self.late),
            ("batchmates_hurt", self.batchmates_hurt),
            ("mixed_up", self.mixed_up),
        ];
        let broken = musts.iter().filter(|(_, count)| *count > 0);
        broken.map(|(name, count)| format!("{name} is {count}")).collect()
    }
}

/// What the engine's metrics say.
struct Engine {
    accepted: u64,
    in_flight: u64,
    ok: u64,
    unavailable: u64,
    internal: u64,
    /// Accepted, and over at the deadline with nothing said.
    timeouts: u64,
    client_gone: u64,
    lost: u64,
    hung: u64,
    restarts: u64,
}

impl Engine {
    fn read() -> Self {
        let text = metrics::render();
        let sum = |name: &str, label: &str| sum(&text, name, label);
        let ended = |outcome: &str| sum("roadcrew_jobs_total", &format!("outcome=\"{outcome}\""));
        let in_flight = sum("roadcrew_jobs_in_flight", "");
        // Only jobs that were accepted are timed; those refused at the door are merely counted.
        let over = sum("roadcrew_job_seconds_count", "");
        let ok = ended("answered") + ended("degraded");
        let (unavailable, internal) = (ended("unavailable"), ended("internal"));
        let client_gone = ended("client_gone");
        Self {
            accepted: over + in_flight,
            in_flight,
            ok,
            unavailable,
            internal,
            timeouts: over.saturating_sub(ok + unavailable + internal + client_gone),
            client_gone,
            lost: sum("roadcrew_jobs_lost_total", ""),
            hung: sum("roadcrew_stage_restarts_total", "cause=\"hang\""),
            restarts: sum("roadcrew_stage_restarts_total", ""),
        }
    }

    /// Sets the engine's figures against the clients'. An answer may cross its client's leaving;
    /// nothing else may make a difference.
    fn compare(&self, ledger: &Ledger, report: &Report) -> Vec<String> {
        let pairs = [
            ("200", self.ok, ledger.ok),
            ("503", self.unavailable, ledger.unavailable),
            ("500", self.internal, ledger.internal),
        ];
        let mut wrong = Vec::new();
        for (status, engine, clients) in pairs {
            if clients > engine {
                wrong.push(format!("clients read {clients} x {status}, the engine gave {engine}"));
            }
        }
        let Report { accepted, answered, client_gone, .. } = report;
        if accepted != &(answered + client_gone)
            || !(self.client_gone..=ledger.left).contains(client_gone)
        {
            wrong.push(format!(
                "{accepted} accepted, {answered} answered; by the engine {} clients left, by \
                 themselves {}",
                self.client_gone, ledger.left,
            ));
        }
        if self.in_flight > 0 {
            wrong.push(format!("{} jobs are in flight and nobody waits", self.in_flight));
        }
        wrong
    }
}

/// The sum of a metric's series that have this label.
fn sum(text: &str, name: &str, label: &str) -> u64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let fits = labels.is_empty() || labels.starts_with('{');
        (fits && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    };
    text.lines().filter_map(value).sum::<f64>() as u64
}
