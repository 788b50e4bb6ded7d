//! The keys of session tickets, as the rest of the node has them.

use std::fmt;
use std::sync::atomic::Ordering;

use cygnet_netlink::ssl::TicketKey;
use serde::{Deserialize, Serialize};

use super::handle::{Handle, ProposeError};
use super::join::unix_ms;
use super::seal::Sealer;
use super::shared::Shared;
use crate::state::{AnnounceTicketKey, Kind};

/// Keys that sessions are sealed with on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketSet {
    /// Seals and opens; `None`: nodes seal with their own.
    pub current: Option<TicketKey>,
    /// Open only: the next one and the one before.
    pub others: Vec<TicketKey>,
}

/// A key without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKeyAge {
    /// Its number.
    pub number: u64,
    /// For how long it has been in use, or announced, by the clock of this node.
    pub age_ms: u64,
}

/// What a node shows of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketStatus {
    /// A service here ends TLS.
    pub wanted: bool,
    /// Seals new tickets.
    pub current: Option<TicketKeyAge>,
    /// Comes next; opens tickets already.
    pub next: Option<TicketKeyAge>,
    /// Number of the one that still opens its tickets.
    pub previous: Option<u64>,
    /// The key in use should have been replaced by now.
    pub late: bool,
    /// Why this node seals with a key of its own, if it does.
    pub own: Option<OwnKeys>,
}

/// Why a node seals session tickets with a key of its own, so that another node does not open them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnKeys {
    /// The links are not encrypted: there is no secret that the nodes share.
    PlainLinks,
    /// This node has no key of the authority, or not the right one.
    Locked,
    /// No service of this node ends TLS.
    Unwanted,
    /// A member does not know such keys.
    OlderMember,
    /// None was agreed on yet.
    NotYet,
}

impl fmt::Display for OwnKeys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::PlainLinks => "the links between the nodes are not encrypted",
            Self::Locked => "this node lacks the key of the cluster's authority",
            Self::Unwanted => "no service here ends TLS",
            Self::OlderMember => "a member runs an older version, or was not heard yet",
            Self::NotYet => "the nodes have not agreed on one yet",
        })
    }
}

impl Shared {
    pub(super) fn wants_tickets(&self) -> bool {
        self.tickets_wanted.load(Ordering::Relaxed)
    }

    pub(super) fn tickets(&self) -> TicketStatus {
        let (view, now_ms) = (self.view.load(), self.now_ms());
        let rotation = &view.rotation;
        let age = |(number, age_ms)| TicketKeyAge { number, age_ms };
        let current = rotation.current(now_ms).map(age);
        TicketStatus {
            wanted: self.wants_tickets(),
            own: self.own_keys(current.is_some(), view.tickets_closed),
            current,
            next: rotation.next(now_ms).map(age),
            previous: rotation.previous(),
            late: self.wants_tickets() && rotation.is_late(now_ms),
        }
    }

    fn own_keys(&self, used: bool, closed: bool) -> Option<OwnKeys> {
        let Some(security) = &self.settings.security else { return Some(OwnKeys::PlainLinks) };
        if closed || security.current().credentials.signer.is_none() {
            return Some(OwnKeys::Locked);
        }
        match used {
            true => None,
            false if !self.wants_tickets() => Some(OwnKeys::Unwanted),
            false if self.common_level() < TICKETS_LEVEL => Some(OwnKeys::OlderMember),
            false => Some(OwnKeys::NotYet),
        }
    }
}

/// Keys came with this feature level.
const TICKETS_LEVEL: u32 = 4;

impl Handle {
    /// Whether a service of this node ends TLS: only then are keys made.
    pub fn want_tickets(&self, wanted: bool) {
        self.shared.tickets_wanted.store(wanted, Ordering::Relaxed);
    }

    /// Has a new key come into use before its time. Twice, and the one of now is forgotten.
    ///
    /// # Errors
    /// Says why not, and what helps; within a bounded time.
    pub async fn rotate_tickets(&self, author: &str) -> Result<(), ProposeError> {
        let status = self.shared.tickets();
        let security = self.shared.settings.security.as_ref();
        let current = security.map(|security| security.current());
        let signer = current.as_ref().and_then(|current| current.credentials.signer.as_ref());
        let (Some(signer), None | Some(OwnKeys::NotYet)) = (signer, status.own) else {
            return Err(ProposeError::OwnTicketKeys(status.own.unwrap_or(OwnKeys::Locked)));
        };
        let after = self.shared.published.load().newest_ticket_key;
        let sealed = Sealer::new(signer, &self.shared.settings.cluster)
            .and_then(|sealer| sealer.seal(after + 1, &TicketKey::random()?))
            .map_err(|error| ProposeError::Stopped(error.to_string()))?;
        let (unix_ms, author) = (unix_ms(), author.to_owned());
        let announce = AnnounceTicketKey { after, unix_ms, sealed, hurry: true, author };
        self.propose(Kind::AnnounceTicketKey(announce)).await.map(drop)
    }
}
