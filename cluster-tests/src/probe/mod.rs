//! What a client sees: one connection every 2 ms on an absolute schedule, each with a request and a deadline, and some
//! long-lived sessions beside them.
//!
//! The *gap* is the time from the start of the last request that succeeded before, to the start of the first one that
//! succeeded after. It is computed over all requests, so that a prober that was late itself makes it longer, never
//! shorter; how late it was stands beside it.

mod handle;
mod hold;
mod record;
mod request;
mod run;
mod session;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use handle::{Probe, ask};
pub use hold::{Held, hold};
pub use record::{Quantiles, quantiles};
pub use request::{Answer, Failure, request};
pub use run::run;

/// Milliseconds since 1970: the clock that all processes of the lab share.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// What the prober is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it connects.
    pub target: SocketAddr,
    /// One request every so often.
    pub interval: Duration,
    /// A request without its answer after this time has failed. Below the kernel's first retransmission of a SYN
    /// (1 s), so that an attempt that was lost and repeated does not count as a success at its start.
    pub deadline: Duration,
    /// How many long-lived sessions run beside the requests.
    pub sessions: usize,
    /// Each session exchanges a line every so often.
    pub session_interval: Duration,
}

impl Settings {
    /// The settings of the published figures: every 2 ms, 250 ms deadline, 5 sessions, a line every 50 ms.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            interval: Duration::from_millis(2),
            deadline: Duration::from_millis(250),
            sessions: 5,
            session_interval: Duration::from_millis(50),
        }
    }
}

/// The state of a running prober, ten times a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// When, ms since 1970.
    pub unix_ms: u64,
    /// Requests that succeeded so far.
    pub succeeded: u64,
    /// Requests that failed so far.
    pub failed: u64,
    /// Start of the newest request that succeeded, ms since 1970.
    pub last_success_ms: u64,
    /// Start of the newest request that failed, ms since 1970; 0 if none has.
    pub last_failure_ms: u64,
    /// Who answered last.
    pub server: String,
}

/// A run of failures without a success between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Start of the last success before it, ms since 1970 (start of the run if there was none).
    pub after_ms: u64,
    /// Up to the start of the first success after it (end of the run if there was none), ms.
    pub length_ms: f64,
    /// Requests that failed in it.
    pub failed: u64,
}

/// What became of one long-lived session, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFate {
    /// Its name; the server's report has the same.
    pub session: String,
    /// The server that it got.
    pub server: String,
    /// `up`, `silent` (no answer for over a second at the end of the run), `reset`, `eof`, `timeout` or another error.
    pub fate: String,
    /// Lines that came back.
    pub exchanges: u64,
    /// When it ended (or the prober did), ms since 1970.
    pub unix_ms: u64,
}

/// The prober's report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it started, ms since 1970.
    pub started_ms: u64,
    /// How long it ran, ms.
    pub duration_ms: f64,
    /// Requests started.
    pub requests: u64,
    /// Of them answered in time.
    pub succeeded: u64,
    /// Failures by kind.
    pub failed: BTreeMap<String, u64>,
    /// Answered requests per second over the whole run.
    pub per_second: f64,
    /// The longest gap, ms. At least the interval; infinite runs of failures end with the run.
    pub longest_gap_ms: f64,
    /// Start of the last success before the longest gap, ms since 1970.
    pub longest_gap_after_ms: u64,
    /// How late the prober itself was at most inside the longest gap, ms: noise of the machine, contained in the gap.
    pub late_in_gap_ms: f64,
    /// Runs of failures.
    pub windows: Vec<Window>,
    /// From start to answer of the requests that succeeded, µs.
    pub latency_us: Quantiles,
    /// How late requests were started against the schedule, µs.
    pub late_us: Quantiles,
    /// Answers by server.
    pub servers: BTreeMap<String, u64>,
    /// The long-lived sessions.
    pub sessions: Vec<SessionFate>,
}

impl Report {
    /// All failures.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The fates of the long-lived sessions with their number: `reset 5`.
    #[must_use]
    pub fn fates(&self) -> String {
        let mut fates: BTreeMap<&str, u64> = BTreeMap::new();
        for session in &self.sessions {
            *fates.entry(&session.fate).or_default() += 1;
        }
        let fates: Vec<String> = fates.iter().map(|(fate, count)| format!("{fate} {count}")).collect();
        if fates.is_empty() { "none".to_owned() } else { fates.join(", ") }
    }
}
