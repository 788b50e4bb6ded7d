//! One cell of the matrix, and what came of it.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Fault, word};

/// Whose pair it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// Two Cygnet nodes, VRRPv3.
    Cygnet,
    /// keepalived with HAProxy, VRRPv3, HAProxy's process tracked by nothing: what a first installation has.
    Keepalived,
    /// ucarp with Pen: the pair that Cygnet succeeds.
    Ucarp,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cygnet, Self::Keepalived, Self::Ucarp];

    /// Its name in the document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cygnet => "Cygnet",
            Self::Keepalived => "keepalived + HAProxy",
            Self::Ucarp => "ucarp + Pen",
        }
    }

    /// Whether it can advertise so often: ucarp counts whole seconds.
    #[must_use]
    pub fn speaks(self, interval_ms: u64) -> bool {
        self != Self::Ucarp || interval_ms.is_multiple_of(1000)
    }
}

/// A fault, how often the pair advertises, and whose pair it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// What is done.
    pub fault: Fault,
    /// Between two advertisements, ms.
    pub interval_ms: u64,
    /// To whom.
    pub contender: Contender,
    /// What came of it, a run each.
    pub trials: Vec<Trial>,
}

/// What a client saw of one fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The longest gap since the fault, ms: from the last request that succeeded before it to the first that did after.
    pub gap_ms: f64,
    /// How late the prober itself was at most in it, ms.
    pub late_ms: f64,
    /// Whether the service came back before the trial ended.
    pub recovered: bool,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were made.
    pub requests: u64,
    /// What became of the five long connections at the client: `reset 5`.
    pub sessions: String,
    /// Who has the address at the end.
    pub holders: Vec<String>,
}

impl Trial {
    /// In one line.
    pub(super) fn line(&self) -> String {
        let Self { gap_ms, late_ms, recovered, failed, requests, sessions, holders } = self;
        let end = if *recovered { "" } else { ", not recovered" };
        format!(
            "gap {gap_ms:.0} ms (late {late_ms:.0}){end}, {failed} of {requests} failed, sessions {sessions}, held by {}",
            holders.join("+")
        )
    }
}

impl Cell {
    /// Its name among the results; they sort by it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{:05}/{}", word(&self.fault), self.interval_ms, word(&self.contender))
    }
}
