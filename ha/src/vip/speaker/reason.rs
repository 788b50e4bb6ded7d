//! Why a role changes, in words for the operator.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::events::Severity;

/// What a CARP host advertises of itself; the smaller is the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// OpenBSD's demotion counter.
    pub demote: u8,
    /// Seconds.
    pub advbase: u8,
    /// 1/256 s.
    pub advskew: u8,
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "advbase {} advskew {}", self.advbase, self.advskew)?;
        if self.demote > 0 { write!(f, " demotion {}", self.demote) } else { Ok(()) }
    }
}

/// Why the role changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The election begins.
    Started,
    /// Priority 255 is Active at once.
    Owner,
    /// No advert for a whole Active_Down_Interval.
    Silence {
        /// Who was heard last, if anybody.
        last: Option<IpAddr>,
        /// How long the timer ran.
        waited: Duration,
    },
    /// The Active router has resigned.
    Resigned(IpAddr),
    /// The Active router has a lower priority than we.
    Preempts {
        /// The Active router.
        from: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Another router has a higher priority.
    Higher {
        /// The other.
        to: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// Another router has the same priority and a higher address.
    HigherAddress(IpAddr),
    /// CARP: the active host is not as good as we.
    PreemptsRank {
        /// The active host.
        from: IpAddr,
        /// What it advertised.
        rank: Rank,
    },
    /// CARP: another host is better.
    Better {
        /// The other.
        to: IpAddr,
        /// What it advertised.
        rank: Rank,
    },
    /// CARP: another host is as good, and has the lower address.
    LowerAddress(IpAddr),
    /// CARP: the active host advertises so seldom that it would be taken for dead.
    TooSlow {
        /// The active host.
        from: IpAddr,
        /// What it advertised.
        rank: Rank,
    },
    /// The active node has died, and its guard has said so.
    Died(IpAddr),
    /// The active node has let go of the address, and has said so over the nodes' own connection.
    Released(IpAddr),
    /// The active node hands over to this one.
    Inherits(IpAddr),
    /// The process before this one held it, on this node.
    Succeeds,
    /// This node has handed over to another.
    HandedOver(IpAddr),
    /// The process did not run for too long.
    Stalled {
        /// How late the timer was noticed.
        late: Duration,
    },
    /// Another member of its group has given way: the group's own words.
    Together(String),
    /// This node takes no part any more: the holder's own words.
    Withdrawn(String),
}

impl Reason {
    /// How much a change of role for this reason matters.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Silence { last: Some(_), .. }
            | Self::Died(_)
            | Self::Released(_)
            | Self::Stalled { .. } => Severity::Warning,
            _ => Severity::Info,
        }
    }

    /// Whether another holds the address already when it is given up for this reason, and has announced it: what is under way
    /// here may end in peace.
    #[must_use]
    pub fn has_successor(&self) -> bool {
        matches!(
            self,
            Self::Higher { .. }
                | Self::HigherAddress(_)
                | Self::Better { .. }
                | Self::LowerAddress(_)
                | Self::HandedOver(_)
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => write!(f, "it has joined the election and waits"),
            Self::Owner => write!(f, "this node owns the address (priority 255)"),
            Self::Silence { last: Some(last), waited } => {
                write!(f, "no advertisement from {last} for {} ms", waited.as_millis())
            }
            Self::Silence { last: None, waited } => {
                write!(f, "nobody advertised within {} ms", waited.as_millis())
            }
            Self::Resigned(source) => write!(f, "{source} has resigned"),
            Self::Preempts { from, priority } => {
                write!(f, "preferred to {from}, which advertised the lower priority {priority}")
            }
            Self::Higher { to, priority } => write!(f, "{to} advertised the higher priority {priority}"),
            Self::HigherAddress(source) => {
                write!(f, "{source} advertised the same priority and has the higher address")
            }
            Self::PreemptsRank { from, rank } => write!(f, "preferred to {from}, which advertised {rank}"),
            Self::Better { to, rank } => write!(f, "{to} advertised {rank}, which is better"),
            Self::LowerAddress(source) => {
                write!(f, "{source} advertised the same and has the lower address")
            }
            Self::TooSlow { from, rank } => {
                write!(f, "{from} advertised {rank}: too seldom to be waited for")
            }
            Self::Died(source) => {
                write!(
                    f,
                    "{source} has died: its guard says that its process has ended and the address is gone"
                )
            }
            Self::Released(source) => write!(f, "{source} has let go of it, and says so"),
            Self::Inherits(source) => write!(f, "{source} hands it over"),
            Self::Succeeds => f.write_str("the process before this one held it, and hands over"),
            Self::HandedOver(source) => write!(f, "handed over to {source}"),
            Self::Stalled { late } => {
                write!(
                    f,
                    "this process did not run for {} ms; another may hold the address",
                    late.as_millis()
                )
            }
            Self::Together(why) | Self::Withdrawn(why) => f.write_str(why),
        }
    }
}
