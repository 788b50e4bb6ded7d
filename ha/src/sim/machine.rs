//! One machine: its clock, its disk, its kernel, and the process that runs on it or does not.

use super::clock::Clock;
use super::disk::Disk;
use super::mutation::Mutation;
use super::plan::Plan;
use super::process::Process;
use super::station::{Kernel, Station};
use crate::time::Time;

/// Why a machine does not turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Only the process is frozen; the kernel answers, and keeps what comes.
    Process,
    /// The whole machine is; what comes is lost.
    Machine,
}

/// Readiness and priority, as the operator and the data path want them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) ready: bool,
    pub(super) priority: Option<u8>,
}

/// One node.
pub(super) struct Machine {
    pub(super) id: u64,
    pub(super) clock: Clock,
    pub(super) disk: Disk,
    pub(super) kernel: Kernel,
    pub(super) wish: Wish,
    pub(super) powered: bool,
    pub(super) paused: Option<Pause>,
    /// Counts the lives of the process, so that what belongs to an old one reaches nobody.
    pub(super) life: u64,
    pub(super) process: Option<Process>,
    pub(super) station: Option<Station>,
    /// When the raft thread turns next, and until when the disk keeps it.
    pub(super) raft_due: Time,
    pub(super) busy_until: Time,
    /// When the thread of the virtual addresses turns next.
    pub(super) vip_due: Time,
    /// The end of its log, as a greeting tells it.
    pub(super) last: u64,
    /// The disk was lost, and not all is back yet.
    pub(super) catching_up: bool,
    /// It has had a log: an empty disk is a lost one.
    pub(super) had_log: bool,
}

impl Machine {
    pub(super) fn new(id: u64, mutation: Option<Mutation>) -> Self {
        Self {
            id,
            clock: Clock::default(),
            disk: Disk::new(mutation),
            kernel: Kernel::default(),
            wish: Wish { ready: true, priority: None },
            powered: true,
            paused: None,
            life: 0,
            process: None,
            station: None,
            raft_due: Time::ZERO,
            busy_until: Time::ZERO,
            vip_due: Time::ZERO,
            last: 0,
            catching_up: false,
            had_log: false,
        }
    }

    /// The process runs and its threads turn.
    pub(super) fn runs(&self) -> bool {
        self.process.is_some() && self.paused.is_none()
    }

    /// The kernel is there and answers.
    pub(super) fn answers(&self) -> bool {
        self.powered && self.paused != Some(Pause::Machine)
    }

    /// Hosts reach this node under the virtual address.
    pub(super) fn holds(&self) -> bool {
        self.answers() && self.kernel.present
    }

    /// This node could take the address if nobody had it.
    pub(super) fn could_hold(&self, plan: &Plan) -> bool {
        self.runs() && self.wish.ready && !self.kernel.refuses_to_add && plan.witness != Some(self.id)
    }
}
