//! The keys of session tickets, as the driver follows them and has them made.

use super::{Driver, SUBJECT};
use crate::consensus::frame::Frame;
use crate::consensus::join::unix_ms;
use crate::consensus::limits::TEND_EVERY;
use crate::consensus::rotation::{FOLLOWER_WAITS, Rotation, SETTLED, Step, TICKET_KEY_LIFE};
use crate::consensus::seal::Sealer;
use crate::consensus::tickets::TicketSet;
use crate::events::Severity;
use crate::state::{AnnounceTicketKey, Command, Kind, Origin, Outcome, TicketKeyring, UseTicketKey};
use cygnet_netlink::ssl::TicketKey;

/// What the driver knows of the keys.
#[derive(Default)]
pub(super) struct Tickets {
    pub(super) rotation: Rotation,
    /// None where this node has no key of the authority: on a witness, and where links are plain.
    sealer: Option<Sealer>,
    /// There are keys, and this node cannot open the one in use.
    pub(super) closed: bool,
    not_before_ms: u64,
    /// The key in use that was told of as late.
    told_late: u64,
}

impl Driver {
    /// Before the first keys are followed.
    pub(super) fn prepare_tickets(&mut self) {
        let settings = &self.shared.settings;
        let Some(security) = &settings.security else { return };
        let current = security.current();
        let Some(signer) = &current.credentials.signer else { return };
        match Sealer::new(signer, &settings.cluster) {
            Ok(sealer) => self.tickets.sealer = Some(sealer),
            Err(error) => {
                let what =
                    "the keys of session tickets cannot be opened here; this node goes on with its own";
                settings.events.record(Severity::Alert, SUBJECT, what, error.to_string());
            }
        }
    }

    /// The keys may be others. `fresh`: they were made just now, as far as can be known.
    pub(super) fn follow_tickets(&mut self, fresh: bool) {
        let Some(core) = &self.core else { return };
        let keyring = core.state().tickets();
        self.tickets.rotation.follow(keyring, fresh, self.shared.now_ms(), unix_ms());
        let set = open(self.tickets.sealer.as_ref(), keyring);
        let closed = keyring.current().is_some() && set.current.is_none();
        let began = std::mem::replace(&mut self.tickets.closed, closed);
        if closed && !began && self.shared.own().is_some_and(|own| !own.witness) {
            let what = "the keys of session tickets cannot be opened here; this node goes on with its own";
            let why = "authority.key is missing in the state directory, or is not that of the cluster; remove \
                       this node from the cluster and join it again";
            self.shared.settings.events.record(Severity::Alert, SUBJECT, what, why);
        }
        self.applied.tickets(&set);
    }

    /// Has made what is due, if this node can make it.
    pub(super) fn tend_tickets(&mut self) {
        let now_ms = self.shared.now_ms();
        if now_ms < self.tickets.not_before_ms || !self.shared.wants_tickets() {
            return;
        }
        let wait = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.tickets.not_before_ms = now_ms + wait(TEND_EVERY);
        self.tell_late(now_ms);
        let Some(core) = &self.core else { return };
        let (leads, Some(leader)) = (core.is_leader(), core.leader()) else { return };
        let patience = if leads { 0 } else { wait(FOLLOWER_WAITS) };
        let Some(step) = self.tickets.rotation.due(now_ms, patience) else { return };
        let Some(kind) = self.made(step).filter(|kind| kind.level() <= self.level()) else { return };
        let origin = Some(Origin { node: self.shared.settings.id, sequence: self.sequence() });
        let bytes = Command { origin, ..Command::new(kind) }.encode();
        match &mut self.core {
            Some(core) if leads => drop(core.propose(bytes, false)),
            _ => drop(self.shared.send(leader, Frame::Propose(bytes))),
        }
        // Lost or refused, it is due again.
        self.tickets.not_before_ms = now_ms + wait(SETTLED);
    }

    fn made(&self, step: Step) -> Option<Kind> {
        let unix_ms = unix_ms();
        match step {
            Step::Announce { after } => {
                let sealer = self.tickets.sealer.as_ref()?;
                let sealed = TicketKey::random().and_then(|key| sealer.seal(after + 1, &key));
                let sealed =
                    sealed.inspect_err(|error| tracing::warn!(%error, "no ticket key was made")).ok()?;
                let announce =
                    AnnounceTicketKey { after, unix_ms, sealed, hurry: false, author: String::new() };
                Some(Kind::AnnounceTicketKey(announce))
            }
            Step::Use { number } => Some(Kind::UseTicketKey(UseTicketKey { number, unix_ms })),
        }
    }

    fn tell_late(&mut self, now_ms: u64) {
        let Some((number, age_ms)) = self.tickets.rotation.current(now_ms) else { return };
        if !self.tickets.rotation.is_late(now_ms) || self.tickets.told_late == number {
            return;
        }
        self.tickets.told_late = number;
        let hours = TICKET_KEY_LIFE.as_secs() / 3600;
        let what = format!(
            "session tickets are still sealed with key {number}, {} min old; a key should live {hours} h",
            age_ms / 60_000
        );
        let why = "nothing can be agreed on; it is replaced when a quorum returns";
        self.shared.settings.events.record(Severity::Warning, SUBJECT, what, why);
    }

    /// What an operator may want to know of the keys. That they change when it is time is no news.
    pub(super) fn tell_tickets(&self, outcome: &Outcome) {
        let (what, why) = match outcome {
            Outcome::TicketKeyAnnounced { number, author, .. } if !author.is_empty() => {
                let seconds = SETTLED.as_secs();
                (format!("ticket key {number} seals session tickets in {seconds} s"), format!("by {author}"))
            }
            Outcome::TicketKeyUsed { number: 1, .. } => {
                let what = "the nodes share the keys of session tickets";
                (what.to_owned(), "a session that began on one goes on at another".to_owned())
            }
            _ => return,
        };
        self.shared.settings.events.record(Severity::Info, SUBJECT, what, why);
    }
}

/// The keys that this node can open. Without the one in use there is no sense in the others: tickets are sealed with a key that
/// every node knows, or with the node's own.
fn open(sealer: Option<&Sealer>, keyring: &TicketKeyring) -> TicketSet {
    let open = |key: &crate::state::SealedKey| sealer?.open(key.number, &key.sealed);
    TicketSet {
        current: keyring.current().and_then(open),
        others: keyring.next().into_iter().chain(keyring.previous()).filter_map(open).collect(),
    }
}
