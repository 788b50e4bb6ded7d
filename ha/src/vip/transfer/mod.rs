//! A planned move that keeps connections: what each of the two nodes does, and what it undoes; pure.
//!
//! ```text
//!   old holder (Giver)                                   new holder (Taker)
//!   lists its flows ------- prepare, flows ----------->  forwards them; has the address on its loopback
//!   hands new connections over  <----- each confirmed -
//!   waits, lists again ---- the difference ----------->  forwards that too
//!   asks it to take <------------------------ confirmed  takes the address, announces it: drops the loopback
//!   hears its advert: the address goes to the loopback
//!   serves its flows until they end, reports the ends ->  forgets them
//! ```
//!
//! At no moment has nobody the address: the old holder lets go when the new one has announced itself, as in every hand-over
//! ([`super::holder`]). What differs is what the kernel is told besides, and that follows from the state alone ([`Wanted`]): a
//! failure changes the state, and the driver makes the kernel follow. So there is nothing to undo step by step.
//!
//! Each node names the transfers that it takes part in whenever it says how it is. A node whose partner does not name one
//! any more, or is not heard any more, ends its own part: no message must arrive for all to be cleaned up.

mod giver;
mod taker;

pub use giver::{Given, Giver, Left, Told};
pub use taker::{Taker, Taking};

use std::time::Duration;

use cygnet_netlink::steer::Flow;
use serde::{Deserialize, Serialize};

/// New connections go to the new holder for so long before the difference is listed. Whoever was about to be accepted is, by
/// then.
pub const SETTLE: Duration = Duration::from_millis(10);

/// A move must have come to the point where the new holder is asked to take the address within this time; otherwise the old
/// one goes on.
pub const PREPARE_MAX: Duration = Duration::from_secs(3);

/// The first word is said again after this time, until it is confirmed: the connection to a node that has just come back may not be
/// there yet.
pub const PREPARE_AGAIN: Duration = Duration::from_millis(100);

/// The old holder looks so often which of its connections have ended.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Neighbours may believe the old holder for so long although all of its connections have ended: the address is announced again
/// after a second ([`super::holder::ANNOUNCE_AGAIN`]).
pub const STRAGGLERS: Duration = Duration::from_secs(3);

/// Flows in one message: 36 bytes each over IPv6, below the bound of a word between nodes (32 KiB).
pub const FLOWS_IN_WORD: usize = 800;

/// Messages with flows that are on the way without a confirmation: a quarter of the queue between the nodes' threads.
pub const WORDS_ON_THE_WAY: usize = 16;

/// What one node says to the other about a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The old holder is about to move the address.
    Prepare,
    /// Flows that begin or end to be forwarded. Numbered from 1; `last` of a list: confirmed only when nothing of the new
    /// holder's own is among them.
    Flows {
        /// Its number.
        number: u64,
        /// The last one of a list.
        last: bool,
        /// To be forwarded.
        add: Vec<Flow>,
        /// Ended.
        remove: Vec<Flow>,
    },
    /// Flows that have ended, after the move. Not numbered: what is lost goes with the end of the transfer.
    Ended(Vec<Flow>),
    /// The old holder keeps the address.
    Abort,
    /// The new holder has done what was said under this number; 0: it is prepared.
    Confirm(u64),
    /// The new holder cannot.
    Refuse(String),
}

/// What becomes of connections that still go on through the old holder at their deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtDeadline {
    /// They are closed, with a reset.
    #[default]
    Close,
    /// They go on; it is told once.
    Keep,
}

/// How long connections may go on through the old holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// After the move; `None`: for ever.
    pub deadline: Option<Duration>,
    /// What happens then.
    pub at_deadline: AtDeadline,
}

/// What becomes of new connections at the old holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hand {
    /// They are its own.
    #[default]
    None,
    /// They go to the new holder.
    New,
    /// ... and no answer of the old one goes out.
    Silent,
    /// Those that went to the new holder stay there; others are ours again.
    Known,
}

/// What a transfer wants the kernel to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The address on the loopback, where no neighbour learns of it.
    pub loopback: bool,
    /// New connections.
    pub hand: Hand,
    /// Packets of the flows that were named go to the old holder.
    pub forward: bool,
}

impl Wanted {
    /// Of both parts that a node may have for one address. `active`: it has the address on the link.
    #[must_use]
    pub fn of(active: bool, giver: Option<&Giver>, taker: Option<&Taker>) -> Self {
        let (giver, taker) = (giver.map(Giver::wanted), taker.map(Taker::wanted));
        let (giver, taker) = (giver.unwrap_or_default(), taker.unwrap_or_default());
        Self {
            loopback: !active && (giver.loopback || taker.loopback),
            hand: giver.hand,
            forward: taker.forward,
        }
    }
}

#[cfg(test)]
mod tests;
