//! Members in the core: who may speak, who leads better, and the entries that change them.

use prost::Message as _;
use raft::ProgressState;
use raft::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, MessageType,
};

use super::{AppliedEntry, Core, CoreError, NotProposed, Output, Rejected, WITNESS_PRIORITY};
use crate::consensus::store::{Batch, LogStore};
use crate::state::{Command, Kind, Outcome};

/// A change of members: what raft is told, and the command that tells the state the same. They are one entry.
pub(super) struct Change {
    pub(super) node: u64,
    pub(super) kind: ConfChangeType,
    pub(super) command: Vec<u8>,
}

/// The change that a command makes to raft's own list of voters and learners, if any.
pub(super) fn change_of(command: &[u8]) -> Option<Change> {
    let (node, kind) = match Command::decode(command).ok()?.kind? {
        Kind::AddMember(add) => (add.member?.id, ConfChangeType::AddLearnerNode),
        Kind::PromoteMember(which) => (which.id, ConfChangeType::AddNode),
        Kind::RemoveMember(which) => (which.id, ConfChangeType::RemoveNode),
        _ => return None,
    };
    Some(Change { node, kind, command: command.to_vec() })
}

impl<S: LogStore> Core<S> {
    /// Whether a message may be looked at.
    pub(super) fn may_speak(&self, from: u64, kind: MessageType) -> Result<(), Rejected> {
        let members = self.state.members();
        if members.was_removed(from) && !self.is_waiting() {
            return Err(Rejected("the sender was removed from the cluster".to_owned()));
        }
        // With members in the log, the connection has checked who speaks; one that we do not know yet may lead.
        if members.is_empty() && !self.settings.voters.contains(&from) {
            return Err(Rejected("the sender is no member".to_owned()));
        }
        let vote = matches!(
            kind,
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote | MessageType::MsgTimeoutNow
        );
        if vote && !self.may_vote() {
            return Err(Rejected("this node does not vote before it has fetched the log".to_owned()));
        }
        Ok(())
    }

    /// A node that fetches its log has forgotten whom it voted for and what it acknowledged. In a pair that is no
    /// matter: nothing was ever committed without the other voter, the only one that can ask for its vote.
    pub(super) fn may_vote(&self) -> bool {
        let voters = if self.is_waiting() { self.settings.voters.len() } else { self.voters().len() };
        (!self.lost && !self.is_waiting()) || (self.lost && voters == 2)
    }

    /// Nothing has come from the leader yet: this node is new, or follows another life of the log.
    pub fn is_waiting(&self) -> bool {
        self.node.store().snapshot_index() == 0
    }

    /// Whether this node lost its log and is not complete again.
    pub fn is_incomplete(&self) -> bool {
        self.lost
    }

    /// After an append of a leader that had `commit`: once we have all of that, and it reaches into the leader's own
    /// term, we have everything that anybody ever committed with our help.
    pub(super) fn complete_if_caught_up(&mut self, commit: u64) {
        let log = &self.node.raft.raft_log;
        if !self.is_waiting() && log.committed == commit && log.term(commit).ok() == Some(self.node.raft.term)
        {
            self.lost = false;
            self.found = true;
        }
    }

    /// A witness does not want to lead.
    pub(super) fn follow_members(&mut self) {
        let id = self.settings.id;
        let priority = if self.is_witness(id) { WITNESS_PRIORITY } else { 0 };
        self.node.raft.set_priority(priority);
    }

    fn is_witness(&self, id: u64) -> bool {
        let listed = self.state.members().get(id).map(|member| member.witness);
        listed.unwrap_or_else(|| self.settings.witnesses.contains(&id))
    }

    /// Proposes an entry that changes the members.
    pub(super) fn propose_members(&mut self, change: Change) -> Result<(), NotProposed> {
        // Raft would write down nothing in its place, and tell nobody.
        if self.node.raft.has_pending_conf() {
            return Err(NotProposed::Busy);
        }
        // A leader that leaves hands over first.
        if change.kind == ConfChangeType::RemoveNode
            && change.node == self.settings.id
            && self.voters().len() > 1
        {
            self.hand_over_to(None);
            return Err(NotProposed::Busy);
        }
        let single = ConfChangeSingle { change_type: change.kind as i32, node_id: change.node };
        let conf_change =
            ConfChangeV2 { changes: vec![single], context: change.command, ..Default::default() };
        self.node.propose_conf_change(Vec::new(), conf_change).map_err(|_| NotProposed::Busy)
    }

    pub(super) fn apply_members(&mut self, entry: &Entry, output: &mut Output) -> Result<(), CoreError> {
        let garbled = |error: prost::DecodeError| {
            raft::Error::ConfChangeError(format!("entry {}: {error}", entry.index))
        };
        if entry.get_entry_type() == EntryType::EntryConfChange {
            // The old form, which this version never writes.
            let change = ConfChange::decode(entry.data.as_slice()).map_err(garbled)?;
            let conf_state = self.node.apply_conf_change(&change)?;
            self.node.mut_store().apply(&Batch { conf_state: Some(&conf_state), ..Batch::default() });
            return Ok(());
        }
        let change = ConfChangeV2::decode(entry.data.as_slice()).map_err(garbled)?;
        if !change.context.is_empty() {
            let (origin, outcome) = self.state.apply_bytes(entry.index, &change.context)?;
            let refused = !matches!(outcome, Outcome::Members { .. });
            output.applied.push(AppliedEntry { index: entry.index, origin, outcome });
            if refused {
                return Ok(());
            }
        }
        let conf_state = self.node.apply_conf_change(&change)?;
        self.node.mut_store().apply(&Batch { conf_state: Some(&conf_state), ..Batch::default() });
        self.follow_members();
        Ok(())
    }

    /// Whether `peer` has all that is committed and follows; leader only.
    pub fn has_caught_up(&self, peer: u64) -> bool {
        let log = &self.node.raft.raft_log;
        self.is_leader()
            && self.node.raft.prs().get(peer).is_some_and(|progress| {
                progress.matched >= log.committed
                    && progress.state == ProgressState::Replicate
                    && progress.recent_active
            })
    }

    /// A witness that leads hands over to a node with traffic that has all entries.
    pub(super) fn hand_over(&mut self) {
        if self.is_leader() && self.is_witness(self.settings.id) {
            self.hand_over_to(None);
        }
    }

    /// Hands leadership to `wanted`, or to any voter with traffic, if it has all entries. Leader only.
    pub fn hand_over_to(&mut self, wanted: Option<u64>) {
        if !self.is_leader() || self.node.raft.lead_transferee.is_some() {
            return;
        }
        let last = self.node.raft.raft_log.last_index();
        let candidates: Vec<u64> = self.voters().to_vec();
        let successor = candidates.into_iter().find(|id| {
            let fits = wanted.map_or(!self.is_witness(*id), |wanted| wanted == *id);
            fits && *id != self.settings.id && self.has_caught_up(*id) && self.matched(*id) == Some(last)
        });
        if let Some(successor) = successor {
            self.node.transfer_leader(successor);
        }
    }
}
