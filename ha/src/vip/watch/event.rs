//! What the watcher reports.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::Mac;

use super::Reason;
use crate::events::Severity;
use crate::vip::{Protocol, shown};

/// Why the holder changed from one node to another without a moment of nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A better advertisement, the old holder did not resign (RFC 9568 section 6.4.3).
    Preempted,
    /// The old holder resigned while another was speaking.
    Resigned,
    /// The old holder had fallen silent.
    TimedOut,
}

/// Something to be known, about a virtual router (by its index in the settings) or about the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Somebody holds the address, nobody did before.
    Appeared {
        /// Index of the virtual router.
        router: usize,
        /// The source of the advertisements.
        holder: IpAddr,
        /// Priority (VRRP) or advskew (CARP).
        priority: u8,
        /// Since the last advertisement of the former holder; `None` if there was none.
        gap: Option<Duration>,
    },
    /// Another node holds the address.
    Changed {
        /// Index of the virtual router.
        router: usize,
        /// The former holder.
        from: IpAddr,
        /// The present holder.
        to: IpAddr,
        /// Priority (VRRP) or advskew (CARP) of the present holder.
        priority: u8,
        /// How it came.
        change: Change,
    },
    /// The holder resigned; nobody holds the address now.
    Resigned {
        /// Index of the virtual router.
        router: usize,
        /// Who resigned.
        holder: IpAddr,
    },
    /// The holder fell silent without a resignation (crash or cut); nobody holds the address now.
    TimedOut {
        /// Index of the virtual router.
        router: usize,
        /// Who fell silent.
        holder: IpAddr,
        /// For how long.
        silent: Duration,
    },
    /// Two claim the address at the same time.
    SecondHolder {
        /// Index of the virtual router.
        router: usize,
        /// The preferred one.
        holder: IpAddr,
        /// The other one.
        rival: IpAddr,
    },
    /// A second holder fell silent or resigned.
    SecondHolderGone {
        /// Index of the virtual router.
        router: usize,
        /// Who.
        rival: IpAddr,
    },
    /// The holder advertises another priority (VRRP) or advskew (CARP).
    PriorityChanged {
        /// Index of the virtual router.
        router: usize,
        /// The holder.
        holder: IpAddr,
        /// Before.
        from: u8,
        /// Now.
        to: u8,
    },
    /// The address goes to and fro.
    Flapping {
        /// Index of the virtual router.
        router: usize,
        /// So many changes of the holder ...
        changes: usize,
        /// ... in this time.
        window: Duration,
    },
    /// Nothing valid was heard since the start.
    NothingHeard {
        /// Index of the virtual router.
        router: usize,
    },
    /// Something is wrong on the segment.
    Anomaly {
        /// Index of the virtual router, if it is about one.
        router: Option<usize>,
        /// The source address of the packet, if it could be read.
        source: Option<IpAddr>,
        /// What is wrong.
        anomaly: Anomaly,
        /// So many of the same kind were not reported since the last report.
        suppressed: u64,
    },
}

/// What is wrong on the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// A packet was discarded.
    Discarded(Reason),
    /// A packet was discarded because its list of addresses is another than ours (RFC 3768 section 7.1).
    OtherAddresses {
        /// What only its list has.
        foreign: Vec<IpAddr>,
        /// What only ours has.
        missing: Vec<IpAddr>,
    },
    /// Advertisements of a virtual router that is not configured here.
    UnknownRouter {
        /// Its protocol.
        protocol: Protocol,
        /// VRID or vhid.
        id: u8,
    },
    /// VRRP and CARP with the same number: keepalived does not survive it undisturbed, and virtual MACs collide.
    SharedNumber {
        /// VRID and vhid.
        id: u8,
    },
    /// Senders of one virtual router use different checksum forms and may not accept each other (RFC 9568 5.2.8).
    MixedChecksums,
    /// The sender's MAC changed, its content did not.
    OtherMac,
    /// A sender advertises at another interval than is configured here; over VRRPv2 such a packet is discarded instead.
    OtherInterval {
        /// What it says (CARP: its advbase).
        told: Duration,
        /// What is configured.
        configured: Duration,
    },
    /// Somebody else than the holder says by ARP or neighbour advertisement that it has the address.
    OtherAnswers(Mac),
    /// An unknown virtual router claims an address that this node has for itself.
    OwnAddressClaimed(IpAddr),
    /// A stream of packets that had to be discarded.
    JunkRate {
        /// So many ...
        packets: usize,
        /// ... in this time.
        window: Duration,
    },
}

impl Anomaly {
    /// A short stable word, the key of rate limiting.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Discarded(reason) => reason.name(),
            Self::OtherAddresses { .. } => Reason::AddressMismatch.name(),
            Self::UnknownRouter { .. } => "unknown-id",
            Self::SharedNumber { .. } => "shared-number",
            Self::MixedChecksums => "mixed-checksums",
            Self::OtherMac => "other-mac",
            Self::OtherInterval { .. } => "other-interval",
            Self::OtherAnswers(_) => "other-answers",
            Self::OwnAddressClaimed(_) => "own-address-claimed",
            Self::JunkRate { .. } => "junk-rate",
        }
    }
}

impl WatchEvent {
    /// The virtual router it is about, by its index in the settings.
    #[must_use]
    pub const fn router(&self) -> Option<usize> {
        match self {
            Self::Appeared { router, .. }
            | Self::Changed { router, .. }
            | Self::Resigned { router, .. }
            | Self::TimedOut { router, .. }
            | Self::SecondHolder { router, .. }
            | Self::SecondHolderGone { router, .. }
            | Self::PriorityChanged { router, .. }
            | Self::Flapping { router, .. }
            | Self::NothingHeard { router } => Some(*router),
            Self::Anomaly { router, .. } => *router,
        }
    }

    /// A short stable word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Appeared { .. } => "appeared",
            Self::Changed { .. } => "changed",
            Self::Resigned { .. } => "resigned",
            Self::TimedOut { .. } => "timed-out",
            Self::SecondHolder { .. } => "second-holder",
            Self::SecondHolderGone { .. } => "second-holder-gone",
            Self::PriorityChanged { .. } => "priority-changed",
            Self::Flapping { .. } => "flapping",
            Self::NothingHeard { .. } => "nothing-heard",
            Self::Anomaly { anomaly, .. } => anomaly.name(),
        }
    }

    /// Whether it is something that must not be: counted, and shown until it is forgotten with its router.
    #[must_use]
    pub const fn is_anomaly(&self) -> bool {
        matches!(self, Self::SecondHolder { .. } | Self::Flapping { .. } | Self::Anomaly { .. })
    }

    /// How much it matters.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Appeared { .. }
            | Self::SecondHolderGone { .. }
            | Self::PriorityChanged { .. }
            | Self::Resigned { .. }
            | Self::Changed { change: Change::Preempted | Change::Resigned, .. }
            | Self::Anomaly { anomaly: Anomaly::UnknownRouter { .. } | Anomaly::OtherMac, .. } => {
                Severity::Info
            }
            Self::TimedOut { .. }
            | Self::SecondHolder { .. }
            | Self::Anomaly { anomaly: Anomaly::OtherAnswers(_), .. } => Severity::Alert,
            Self::Anomaly { anomaly: Anomaly::Discarded(Reason::OwnSource | Reason::Spoof), .. } => {
                Severity::Alert
            }
            Self::Changed { change: Change::TimedOut, .. }
            | Self::Flapping { .. }
            | Self::NothingHeard { .. }
            | Self::Anomaly { .. } => Severity::Warning,
        }
    }
}

impl fmt::Display for WatchEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appeared { holder, priority, gap: Some(gap), .. } => {
                let ms = gap.as_millis();
                write!(f, "{holder} ({priority}) holds the address, {ms} ms after the last word of the former holder")
            }
            Self::Appeared { holder, priority, gap: None, .. } => write!(f, "{holder} ({priority}) holds the address"),
            Self::Changed { from, to, priority, change, .. } => {
                let how = match change {
                    Change::Preempted => "which it outranks",
                    Change::Resigned => "which resigned",
                    Change::TimedOut => "which fell silent",
                };
                write!(f, "{to} ({priority}) holds the address instead of {from}, {how}")
            }
            Self::Resigned { holder, .. } => write!(f, "{holder} resigned; nobody holds the address"),
            Self::TimedOut { holder, silent, .. } => {
                let ms = silent.as_millis();
                write!(f, "{holder} is silent for {ms} ms (crash or cut, no resignation); nobody holds the address")
            }
            Self::SecondHolder { holder, rival, .. } => write!(f, "two nodes claim the address: {holder}, and {rival} as well"),
            Self::SecondHolderGone { rival, .. } => write!(f, "{rival} no longer claims the address"),
            Self::PriorityChanged { holder, from, to, .. } => write!(f, "{holder} went from priority {from} to {to}"),
            Self::Flapping { changes, window, .. } => {
                write!(f, "the address moved {changes} times in {} s", window.as_secs())
            }
            Self::NothingHeard { .. } => f.write_str(
                "no valid advertisement heard: nobody holds the address, or its speakers use unicast, which cannot \
                 be observed here",
            ),
            Self::Anomaly { source, anomaly, suppressed, .. } => {
                anomaly.fmt(f)?;
                if let Some(source) = source {
                    write!(f, ", from {source}")?;
                }
                if *suppressed > 0 {
                    write!(f, " ({suppressed} more not reported)")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discarded(reason) => write!(f, "discarded: {reason}"),
            Self::OtherAddresses { foreign, missing } => {
                write!(f, "discarded: {}", Reason::AddressMismatch)?;
                for (addresses, whose) in [(foreign, "the sender"), (missing, "this node")] {
                    if !addresses.is_empty() {
                        write!(f, "; only {whose} has {}", shown(addresses))?;
                    }
                }
                Ok(())
            }
            Self::UnknownRouter { protocol, id } => {
                let protocol = match protocol {
                    Protocol::Vrrp2 => "VRRPv2",
                    Protocol::Vrrp3 => "VRRPv3",
                    Protocol::Carp => "CARP",
                };
                write!(f, "a virtual router that is not configured here: {protocol} {id}")
            }
            Self::SharedNumber { id } => write!(f, "VRRP and CARP use the same number {id} on this segment"),
            Self::MixedChecksums => f.write_str(
                "the senders of this virtual router use different checksum forms and may not understand each other",
            ),
            Self::OtherMac => f.write_str("a sender's MAC changed"),
            Self::OtherInterval { told, configured } => {
                let (told, configured) = (told.as_millis(), configured.as_millis());
                write!(f, "a sender advertises every {told} ms; {configured} ms are configured here")
            }
            Self::OtherAnswers(mac) => write!(
                f,
                "{mac} says that it has the address, beside the holder: hosts may reach the wrong node (an address left \
                 behind, or a conflict)"
            ),
            Self::OwnAddressClaimed(address) => {
                write!(f, "an unknown virtual router claims {address}, an address of this node")
            }
            Self::JunkRate { packets, window } => {
                write!(f, "{packets} packets discarded within {} s", window.as_secs())
            }
        }
    }
}
