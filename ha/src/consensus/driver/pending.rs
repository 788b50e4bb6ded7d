//! Changes that an operator of this node waits for.

use std::time::Instant;

use tokio::sync::oneshot;

use super::Driver;
use crate::consensus::frame::Frame;
use crate::consensus::handle::{Committed, ProposeError};
use crate::consensus::limits::{NO_QUORUM_WAIT, PROPOSE_TIMEOUT, RESEND_AFTER};
use crate::consensus::shared::Shared;

type Reply = oneshot::Sender<Result<Committed, ProposeError>>;

/// One change. It may be sent more than once; the log applies it once.
pub(super) struct Pending {
    command: Vec<u8>,
    reply: Reply,
    since: Instant,
    /// When it was last handed to a leader.
    sent: Option<Instant>,
    /// How many leaders may have written it down; each that says no is taken off.
    handed_out: u32,
    /// Since when no quorum is in sight.
    alone: Option<Instant>,
}

impl Pending {
    pub(super) fn new(command: Vec<u8>, reply: Reply, now: Instant) -> Self {
        Self { command, reply, since: now, sent: None, handed_out: 0, alone: None }
    }

    pub(super) fn answer(self, result: Result<Committed, ProposeError>) {
        // Who asked may have gone away.
        let _ = self.reply.send(result);
    }

    /// The leader did not take it; the next turn tries again.
    pub(super) fn not_proposed(&mut self) {
        self.sent = None;
        self.handed_out = self.handed_out.saturating_sub(1);
    }

    /// There is another leader, which has to be asked anew.
    pub(super) fn ask_again(&mut self) {
        self.sent = None;
    }

    /// Why it is given up now, if it is.
    fn given_up(&mut self, shared: &Shared, now: Instant) -> Option<ProposeError> {
        let (reachable, needed) = shared.quorum();
        if reachable >= needed {
            self.alone = None;
        } else if self.alone.is_none() {
            self.alone = Some(now);
        }
        let alone_too_long =
            self.alone.is_some_and(|since| now.saturating_duration_since(since) >= NO_QUORUM_WAIT);
        let late = now.saturating_duration_since(self.since) >= PROPOSE_TIMEOUT;
        if !alone_too_long && !late {
            return None;
        }
        let undecided = self.handed_out > 0;
        if reachable >= needed {
            return Some(ProposeError::Timeout { seconds: PROPOSE_TIMEOUT, undecided });
        }
        let (peers, view) = (shared.peers(), shared.view.load());
        let missing = peers.values().filter(|peer| {
            let votes = view.voters.is_empty() || view.voters.contains(&peer.member.id);
            votes && !shared.has_voice(peer)
        });
        let missing = missing.map(|peer| peer.member.name.clone()).collect();
        Some(ProposeError::NoQuorum { reachable, needed, missing, undecided })
    }
}

impl Driver {
    /// Hands waiting changes to the leader and gives up those that waited too long.
    pub(super) fn serve_pending(&mut self, now: Instant) {
        if self.pending.is_empty() {
            return;
        }
        let Some(core) = &mut self.core else { return };
        let leader = core.leader();
        let (reachable, needed) = self.shared.quorum();
        let mut failed = Vec::new();
        for (sequence, pending) in &mut self.pending {
            if let Some(error) = pending.given_up(&self.shared, now) {
                failed.push((*sequence, error));
                continue;
            }
            // What is in our own log stays there while we lead; a frame to another leader may be lost.
            let ours = leader == Some(self.shared.settings.id);
            let late = |sent| now.saturating_duration_since(sent) >= RESEND_AFTER;
            let waiting = pending.sent.is_some_and(|sent| ours || !late(sent));
            // Without a quorum in sight it is better refused than left in doubt.
            let Some(leader) = leader.filter(|_| !waiting && reachable >= needed) else { continue };
            let taken = if ours {
                core.propose(pending.command.clone(), false).is_ok()
            } else {
                self.shared.send(leader, Frame::Propose(pending.command.clone()))
            };
            if taken {
                pending.sent = Some(now);
                pending.handed_out += 1;
            }
        }
        for (sequence, error) in failed {
            if let Some(pending) = self.pending.remove(&sequence) {
                pending.answer(Err(error));
            }
        }
    }
}
