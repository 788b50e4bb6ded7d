//! What a seed decides before anything happens: the size of the cluster, its settings, and which faults it meets.

use std::net::IpAddr;
use std::time::Duration;

use super::random::Random;
use crate::consensus::core::CoreSettings;
use crate::consensus::limits::LogLimits;
use crate::vip::{Protocol, VipSettings};

/// The kinds of fault. A run meets about half of them: where all happen at once, little happens in between, and the rare
/// meeting of two is never seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    /// The process is killed, and started again.
    Kill,
    /// The machine loses its power.
    Power,
    /// The process does not run for a while.
    Freeze,
    /// The whole machine does not.
    FreezeMachine,
    /// Links between logs are cut, one way or both, of one node or between two.
    Cut,
    /// The same on the segment with the virtual address.
    CutSegment,
    /// Both networks at the same time.
    CutAll,
    /// Loss, doubles and delay between logs.
    Loss,
    /// The same on the segment.
    LossSegment,
    /// Each write takes long.
    SlowDisk,
    /// One write fails.
    BrokenWrite,
    /// All writes fail for a while.
    FullDisk,
    /// The disk of a node is lost while all others agree.
    LostDisk,
    /// A clock jumps ahead.
    Jump,
    /// A clock runs at another speed.
    Skew,
    /// The kernel refuses to add or to remove the address.
    Kernel,
    /// Somebody else removes the address.
    Meddle,
    /// The node cannot serve for a while, or has another priority.
    Readiness,
    /// The operator moves the leadership.
    Transfer,
    /// Many changes and facts at once.
    Burst,
}

impl Class {
    pub(super) const ALL: [Self; 20] = [
        Self::Kill,
        Self::Power,
        Self::Freeze,
        Self::FreezeMachine,
        Self::Cut,
        Self::CutSegment,
        Self::CutAll,
        Self::Loss,
        Self::LossSegment,
        Self::SlowDisk,
        Self::BrokenWrite,
        Self::FullDisk,
        Self::LostDisk,
        Self::Jump,
        Self::Skew,
        Self::Kernel,
        Self::Meddle,
        Self::Readiness,
        Self::Transfer,
        Self::Burst,
    ];
}

/// All that a seed decides beforehand.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: u64,
    pub(super) witness: Option<u64>,
    /// The connections between logs are streams; otherwise frames are lost, doubled and overtaken one by one.
    pub(super) stream: bool,
    pub(super) classes: Vec<Class>,
    /// The mean time between two faults.
    pub(super) fault_gap: Duration,
    /// The mean time between two changes.
    pub(super) change_gap: Duration,
    pub(super) snapshot_entries: u64,
    pub(super) tail_entries: u64,
    pub(super) protocol: Protocol,
    pub(super) interval: Duration,
    pub(super) preempt: bool,
    pub(super) priorities: Vec<u8>,
    pub(super) seed: u64,
}

/// The virtual address.
const ADDRESS: [u8; 4] = [192, 0, 2, 100];

impl Plan {
    pub(super) fn draw(seed: u64, random: &mut Random) -> Self {
        let nodes = [2, 2, 3, 3, 3, 4, 5][usize::try_from(random.below(7)).unwrap_or(0)];
        let protocol = match random.below(8) {
            0 => Protocol::Carp,
            1 => Protocol::Vrrp2,
            _ => Protocol::Vrrp3,
        };
        let interval = match protocol {
            Protocol::Vrrp3 => Duration::from_millis([50, 100, 100, 300, 1000][random.below(5) as usize]),
            Protocol::Vrrp2 | Protocol::Carp => Duration::from_secs(1),
        };
        let mut classes: Vec<Class> = Class::ALL.into_iter().filter(|_| random.per_mille(450)).collect();
        if classes.is_empty() {
            classes.push(Class::Kill);
        }
        let equal = random.per_mille(200);
        let top = u8::try_from(random.between(100, 254)).unwrap_or(100);
        let priorities = (0..nodes).map(|_| match equal {
            true => top,
            false => u8::try_from(random.between(1, 254)).unwrap_or(1),
        });
        Self {
            nodes,
            priorities: priorities.collect(),
            witness: (nodes > 2 && random.per_mille(400)).then_some(nodes),
            stream: random.per_mille(700),
            classes,
            fault_gap: Duration::from_millis(random.between(500, 4000)),
            change_gap: Duration::from_millis(random.between(40, 400)),
            snapshot_entries: random.between(8, 120),
            tail_entries: random.between(2, 40),
            protocol,
            interval,
            preempt: random.per_mille(700),
            seed,
        }
    }

    pub(super) fn core(&self, node: u64) -> CoreSettings {
        CoreSettings {
            limits: LogLimits {
                snapshot_entries: self.snapshot_entries,
                tail_entries: self.tail_entries,
                ..LogLimits::default()
            },
            seed: Some(self.seed),
            ..CoreSettings::new(node, (1..=self.nodes).collect(), self.witness.into_iter().collect())
        }
    }

    /// A witness holds no address.
    pub(super) fn vip(&self, node: u64) -> Option<VipSettings> {
        let at = usize::try_from(node - 1).ok()?;
        let settings = VipSettings {
            priority: self.priorities.get(at).copied().unwrap_or(100),
            interval: self.interval,
            preempt: self.preempt,
            password: (self.protocol == Protocol::Carp).then(|| "simulated".to_owned()),
            ..VipSettings::new("www", "eth0", self.protocol, 51, vec![IpAddr::from(ADDRESS)])
        };
        (self.witness != Some(node)).then_some(settings)
    }
}
