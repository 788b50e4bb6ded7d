//! The faults, and how one is measured.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::stage::Stage;
use super::{Contender, Trial};
use crate::command::Signal;
use crate::pair::{CLIENT, FRONT, SERVICE, VIP};
use crate::probe::{self, Probe, unix_ms};
use crate::wait;

/// After a fault the service must have worked for so long before the trial ends. keepalived's failures after a heal begin
/// within 210 ms of it.
const QUIET: Duration = Duration::from_secs(2);
/// A service that has not come back after this time is written down as such.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the other node may take to hold the address too while the holder is cut off.
const SPLIT_LIMIT: Duration = Duration::from_secs(20);
/// How long a holder is frozen.
const FROZEN: Duration = Duration::from_secs(5);

const SECOND: u64 = 1000;
const TENTH: u64 = 100;
const HUNDREDTH: u64 = 10;

/// What is done to the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The balancing process is killed with -9 (Cygnet: the node; else HAProxy or Pen).
    ProcessKilled,
    /// Everything on the node is killed with -9 at once.
    AllKilled,
    /// The port is cut in silence.
    PortCut,
    /// The interface goes down.
    LinkDown,
    /// The daemon that holds the address is stopped in order.
    Stopped,
    /// The address is moved on purpose: `cygnet switchover`, a lower priority for keepalived, SIGUSR2 for ucarp.
    Moved,
    /// Everything on the node is frozen for five seconds, then goes on.
    Frozen,
    /// A split is healed in which both nodes held the address.
    Healed,
}

impl Fault {
    /// All of them, in the order of the document.
    pub const ALL: [Self; 8] = [
        Self::ProcessKilled,
        Self::AllKilled,
        Self::PortCut,
        Self::LinkDown,
        Self::Stopped,
        Self::Moved,
        Self::Frozen,
        Self::Healed,
    ];

    /// In words.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::ProcessKilled => {
                "the balancer's process killed with -9 (Cygnet: the node, which is also the election)"
            }
            Self::AllKilled => "everything killed with -9 at once, the guard of Cygnet too",
            Self::PortCut => "the holder's port cut in silence, the carrier stays",
            Self::LinkDown => "the holder's interface down",
            Self::Stopped => "clean stop (SIGTERM) of what holds the address",
            Self::Moved => "moved on purpose",
            Self::Frozen => "everything frozen (SIGSTOP) for 5 s, then continued",
            Self::Healed => "split brain healed; measured from the heal on",
        }
    }

    /// Between how many milliseconds the pairs advertise.
    pub(super) const fn intervals_ms(self) -> &'static [u64] {
        match self {
            Self::PortCut => &[SECOND, TENTH, HUNDREDTH],
            Self::LinkDown | Self::Frozen => &[TENTH],
            Self::ProcessKilled | Self::AllKilled | Self::Stopped | Self::Moved | Self::Healed => {
                &[SECOND, TENTH]
            }
        }
    }

    /// What must be the case before the prober starts.
    fn prepare(self, stage: &Stage) -> Result<()> {
        if self != Self::Healed {
            return Ok(());
        }
        stage.pair.lab.cut_port("lb1", FRONT)?;
        wait::until(SPLIT_LIMIT, "both to hold the address", || {
            Ok((stage.pair.lab.holders(VIP)?.len() == 2).then_some(()))
        })
    }

    /// Makes it.
    fn make(self, stage: &mut Stage) -> Result<()> {
        match self {
            Self::ProcessKilled => stage.first().kill_process(),
            Self::AllKilled => stage.first().signal_all(Signal::Kill),
            Self::PortCut => stage.pair.lab.cut_port("lb1", FRONT),
            Self::LinkDown => stage.pair.lab.link_down("lb1", FRONT),
            Self::Stopped => stage.first().stop(),
            Self::Moved => stage.first().hand_over(),
            Self::Frozen => {
                stage.first().signal_all(Signal::Stop)?;
                // The length of the fault itself.
                sleep(FROZEN);
                stage.first().signal_all(Signal::Continue)
            }
            Self::Healed => stage.pair.lab.heal_port("lb1", FRONT),
        }
    }
}

/// Builds the pair, makes the fault under a prober, and says what it saw. Only inside a lab.
///
/// # Errors
/// If the pair does not come up, or the fault cannot be made.
pub fn measure(contender: Contender, fault: Fault, interval: Duration) -> Result<Trial> {
    let mut stage = Stage::start(contender, interval)?;
    fault.prepare(&stage)?;
    let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
    let since = unix_ms();
    fault.make(&mut stage).with_context(|| format!("{fault:?} on {contender:?}"))?;
    let made = unix_ms();
    let recovered = probe.settled(made, QUIET, PATIENCE).is_ok();
    let holders = stage.pair.lab.holders(VIP)?;
    let report = probe.finish()?;
    // What was before the fault is the machine's.
    let of_fault = report.longest_gap_after_ms + 10 >= since;
    Ok(Trial {
        gap_ms: if of_fault { report.longest_gap_ms } else { 0.0 },
        late_ms: if of_fault { report.late_in_gap_ms } else { 0.0 },
        recovered,
        failed: report.failures(),
        requests: report.requests,
        sessions: report.fates(),
        holders,
    })
}
