//! Raft as a pure step machine: ticks, messages and proposals in; messages and applied entries out.
//!
//! ```text
//!   tick, step, propose ──> RawNode ──> advance: write to the store (durable) ──> messages out
//!                                          └──> committed entries ──> State::apply ──> outcomes out
//! ```
//! Nothing leaves before what it promises is durable. After an error the core must not be used again: the node goes
//! on with the state that it has.

mod members;
mod recover;
#[cfg(test)]
mod tests;
mod types;

use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot};
use raft::{Config, RawNode, SnapshotStatus, StateRole};

pub use self::types::{
    AppliedEntry, Begin, CoreError, CoreSettings, Discarded, NotProposed, Output, RaftRole,
};
use super::check::{Receiver, Rejected, check};
use super::limits::{
    APPEND_BYTES, APPENDS_IN_FLIGHT, APPLY_BYTES, COMMIT_SAVE_TICKS, ELECTION_TICKS, HAND_OVER_TICKS,
    HEARTBEAT_TICKS, UNCOMMITTED_BYTES,
};
use super::logger::logger;
use super::store::mirror::Mirror;
use super::store::{Batch, Epoch, LogStore, Position, Stored};
use crate::state::State;

/// Marks an entry as soft in its context: its commit need not be durable at once.
const SOFT: &[u8] = b"s";

/// A node without traffic does not want to lead; it still wins where only it has the last entry.
const WITNESS_PRIORITY: i64 = -1;

/// The first voters start from a snapshot at this position, so that nobody ever sees term 0 (a node that refuses a
/// pre-vote at term 0 ends the process in raft 0.7) and a late joiner gets the voters with a snapshot.
const BOOTSTRAP: Position = Position { index: 1, term: 1 };

/// The step machine.
pub struct Core<S> {
    settings: CoreSettings,
    node: RawNode<Mirror>,
    store: S,
    state: State,
    log_bytes: u64,
    snapshot_bytes: u64,
    commit_unsaved: bool,
    ticks: u64,
    epoch: Epoch,
    /// The log was lost; until it is complete again this node does not vote.
    lost: bool,
    /// It is complete; that is written down with the next turn.
    found: bool,
}

impl<S: LogStore> Core<S> {
    /// Opens the log, or begins it.
    ///
    /// # Errors
    /// The store's, or other members than those of the log.
    pub fn open(settings: CoreSettings, mut store: S) -> Result<Self, CoreError> {
        let stored = match store.load()? {
            Some(stored) => stored,
            None => begin(&settings, &mut store)?,
        };
        let snapshot = stored.snapshot.get_metadata();
        let state =
            if snapshot.index == 0 { State::default() } else { State::restore(&stored.snapshot.data)? };
        if state.members().is_empty() && snapshot.index != 0 {
            same_members(&settings, snapshot.get_conf_state())?;
        }
        Self::start(settings, store, stored, state)
    }

    fn start(settings: CoreSettings, store: S, stored: Stored, mut state: State) -> Result<Self, CoreError> {
        let applied = stored.snapshot.get_metadata().index;
        state.skip_to(applied);
        let config = raft_config(&settings, applied);
        let snapshot_bytes = stored.snapshot.data.len() as u64;
        let log_bytes = stored.entries.iter().map(|entry| entry.data.len() as u64).sum();
        let (epoch, lost) = (stored.epoch, stored.lost);
        let node = RawNode::new(&config, Mirror::new(stored), &logger())?;
        let mut core = Self {
            settings,
            node,
            store,
            state,
            log_bytes,
            snapshot_bytes,
            commit_unsaved: false,
            ticks: 0,
            epoch,
            lost,
            found: false,
        };
        core.follow_members();
        Ok(core)
    }

    /// One [`super::limits::TICK`] has passed.
    ///
    /// # Errors
    /// The store's.
    pub fn tick(&mut self) -> Result<(), CoreError> {
        self.ticks += 1;
        if let Some(seed) = self.settings.seed {
            let epoch = self.ticks / (2 * ELECTION_TICKS as u64);
            let drawn = mix(mix(seed ^ self.settings.id) ^ epoch) % ELECTION_TICKS as u64;
            self.node.raft.set_randomized_election_timeout(ELECTION_TICKS + drawn as usize);
        }
        if !self.is_leader() && !self.may_vote() {
            // It would vote for itself first.
            self.node.raft.election_elapsed = 0;
        }
        self.node.tick();
        if self.ticks.is_multiple_of(HAND_OVER_TICKS) {
            self.hand_over();
        }
        if self.ticks.is_multiple_of(COMMIT_SAVE_TICKS) {
            self.save_commit()?;
        }
        Ok(())
    }

    /// A message from node `from`.
    ///
    /// # Errors
    /// The message makes no sense and was dropped.
    pub fn step(&mut self, from: u64, mut message: Message) -> Result<(), Rejected> {
        let log = &self.node.raft.raft_log;
        let receiver = Receiver { id: self.settings.id, term: self.node.raft.term, last: log.last_index() };
        let kind = check(receiver, from, &message)?;
        self.may_speak(from, kind)?;
        let commit = message.commit;
        if kind == MessageType::MsgHeartbeat && message.commit > receiver.last {
            // The leader believes that we have entries which our disk has lost. It will learn better from our next
            // connection; until then nothing may be committed on its word.
            message.commit = log.committed;
        }
        self.node.step(message).map_err(|error| Rejected(error.to_string()))?;
        if self.lost && kind == MessageType::MsgAppend {
            self.complete_if_caught_up(commit);
        }
        Ok(())
    }

    /// Proposes an entry; leader only. Whether it is committed shows in a later [`Output`].
    ///
    /// # Errors
    /// Not the leader, or busy; the entry was not taken.
    pub fn propose(&mut self, data: Vec<u8>, soft: bool) -> Result<(), NotProposed> {
        if !self.is_leader() {
            return Err(NotProposed::NotLeader);
        }
        if !soft && let Some(change) = members::change_of(&data) {
            return self.propose_members(change);
        }
        let context = if soft { SOFT.to_vec() } else { Vec::new() };
        self.node.propose(context, data).map_err(|_| NotProposed::Busy)
    }

    /// Hands leadership to `to`; leader only.
    pub fn transfer_leader(&mut self, to: u64) {
        if self.is_leader() {
            self.node.transfer_leader(to);
        }
    }

    /// Messages to `peer` were lost.
    pub fn report_unreachable(&mut self, peer: u64) {
        self.node.report_unreachable(peer);
    }

    /// A snapshot was sent to `peer`, or was lost.
    pub fn report_snapshot(&mut self, peer: u64, sent: bool) {
        let status = if sent { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(peer, status);
    }

    /// `peer` has connected and says where its log ends. If that is before what it had acknowledged, its disk was
    /// lost: it is served from the beginning.
    pub fn peer_connected(&mut self, peer: u64, last: u64) {
        if !self.is_leader() {
            return;
        }
        if let Some(progress) = self.node.raft.mut_prs().get_mut(peer)
            && progress.matched > last
        {
            progress.matched = 0;
            progress.become_probe();
            progress.next_idx = last + 1;
        }
    }

    /// Does what is due: writes, applies, and returns what is to be sent.
    ///
    /// # Errors
    /// The store failed or an entry cannot be applied; the core must not be used any more.
    pub fn advance(&mut self) -> Result<Output, CoreError> {
        let mut output = Output::default();
        while self.node.has_ready() {
            self.advance_once(&mut output)?;
        }
        if self.node.store().take_snapshot_wanted() {
            self.compact()?;
        }
        self.compact_if_due()?;
        if std::mem::take(&mut self.found) {
            self.store.write(&Batch { lost: Some(false), ..Batch::default() })?;
        }
        Ok(output)
    }

    fn advance_once(&mut self, output: &mut Output) -> Result<(), CoreError> {
        let mut ready = self.node.ready();
        output.messages.append(&mut ready.take_messages());
        if !ready.snapshot().is_empty() {
            self.state = State::restore(&ready.snapshot().data)?;
            self.follow_members();
            output.restored = true;
        }
        let committed = ready.take_committed_entries();
        let hard = committed.iter().any(is_hard);
        self.write_ready(&ready, hard)?;
        output.messages.append(&mut ready.take_persisted_messages());
        self.apply(committed, output)?;

        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.node.mut_store().set_commit(commit);
            self.commit_unsaved = true;
        }
        output.messages.append(&mut light.take_messages());
        let committed = light.take_committed_entries();
        if committed.iter().any(is_hard) {
            self.save_commit()?;
        }
        self.apply(committed, output)?;
        self.node.advance_apply();
        Ok(())
    }

    /// One transaction for all that a Ready wants durable. A commit index alone can wait, unless it commits
    /// something that an operator is told about.
    fn write_ready(&mut self, ready: &raft::Ready, hard: bool) -> Result<(), CoreError> {
        if self.is_waiting() && ready.snapshot().is_empty() {
            // Nothing was promised to anybody, and what the disk has from an earlier life stays until it can be
            // replaced as a whole.
            return Ok(());
        }
        if let Some(state) = ready.hs()
            && !ready.must_sync()
            && !hard
        {
            self.node.mut_store().set_commit(state.commit);
            self.commit_unsaved = true;
            return Ok(());
        }
        if ready.hs().is_none() && !ready.must_sync() {
            return Ok(());
        }
        // The commit index in the image may be newer than the one on disk, never older than this one.
        let current = self.node.store().hard_state().clone();
        let hard_state = ready.hs().cloned().unwrap_or(current);
        let mut batch = Batch { entries: ready.entries(), hard_state: Some(&hard_state), ..Batch::default() };
        if !ready.snapshot().is_empty() {
            let meta = ready.snapshot().get_metadata();
            batch.snapshot = Some(ready.snapshot());
            batch.truncate = Some(Position { index: meta.index, term: meta.term });
            batch.clear_log = true;
            batch.conf_state = Some(meta.get_conf_state());
            (batch.epoch, batch.lost) = (Some(self.epoch), Some(self.lost));
            self.log_bytes = 0;
            self.snapshot_bytes = ready.snapshot().data.len() as u64;
        }
        self.log_bytes += ready.entries().iter().map(|entry| entry.data.len() as u64).sum::<u64>();
        self.store.write(&batch)?;
        self.node.mut_store().apply(&batch);
        self.commit_unsaved = false;
        Ok(())
    }

    /// Makes the commit index durable.
    ///
    /// # Errors
    /// The store's.
    pub fn save_commit(&mut self) -> Result<(), CoreError> {
        if self.commit_unsaved && !self.is_waiting() {
            let hard_state = self.node.store().hard_state().clone();
            self.store.write(&Batch { hard_state: Some(&hard_state), ..Batch::default() })?;
            self.commit_unsaved = false;
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>, output: &mut Output) -> Result<(), CoreError> {
        for entry in entries {
            let index = entry.index;
            match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => self.state.skip_to(index),
                EntryType::EntryNormal => {
                    let (origin, outcome) = self.state.apply_bytes(index, &entry.data)?;
                    output.applied.push(AppliedEntry { index, origin, outcome });
                }
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                    self.apply_members(&entry, output)?;
                    self.state.skip_to(index);
                }
            }
        }
        Ok(())
    }

    fn compact_if_due(&mut self) -> Result<(), CoreError> {
        let entries = self.state.index().saturating_sub(self.node.store().snapshot_index());
        let bytes_due = self.log_bytes >= self.settings.limits.snapshot_bytes.max(self.snapshot_bytes);
        if entries > 0 && (entries >= self.settings.limits.snapshot_entries || bytes_due) {
            self.compact()
        } else {
            Ok(())
        }
    }

    /// Takes a snapshot of the state and cuts the log, but for a tail.
    fn compact(&mut self) -> Result<(), CoreError> {
        let mirror = self.node.store();
        let index = self.state.index();
        let Some(term) = mirror.term_of(index).filter(|_| index > mirror.snapshot_index()) else {
            return Ok(());
        };
        let mut snapshot = Snapshot { data: self.state.snapshot(), ..Snapshot::default() };
        snapshot.mut_metadata().index = index;
        snapshot.mut_metadata().term = term;
        snapshot.mut_metadata().set_conf_state(mirror.conf_state().clone());
        let (cut, tail_bytes) =
            mirror.tail(index, self.settings.limits.tail_entries, self.settings.limits.tail_bytes);
        let hard_state = mirror.hard_state().clone();
        let conf_state = mirror.conf_state().clone();
        let batch = Batch {
            snapshot: Some(&snapshot),
            truncate: Some(cut),
            hard_state: Some(&hard_state),
            conf_state: Some(&conf_state),
            ..Batch::default()
        };
        self.store.write(&batch)?;
        self.node.mut_store().apply(&batch);
        self.commit_unsaved = false;
        self.snapshot_bytes = snapshot.data.len() as u64;
        self.log_bytes = tail_bytes;
        Ok(())
    }

    /// The replicated state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether this node leads.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The leader, as far as this node knows one.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|&id| id != 0)
    }

    /// This node's part.
    pub fn role(&self) -> RaftRole {
        match self.node.raft.state {
            StateRole::Leader => RaftRole::Leader,
            StateRole::Follower => RaftRole::Follower,
            StateRole::Candidate | StateRole::PreCandidate => RaftRole::Candidate,
        }
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// The commit index.
    pub fn commit(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// The last entry that is on our disk.
    pub fn last(&self) -> u64 {
        self.node.store().last()
    }

    /// Where our log begins.
    pub fn truncated(&self) -> Position {
        self.node.store().truncated()
    }

    /// The last entry that `peer` is known to have; leader only.
    pub fn matched(&self, peer: u64) -> Option<u64> {
        if !self.is_leader() {
            return None;
        }
        self.node.raft.prs().get(peer).map(|progress| progress.matched)
    }

    /// The voters now.
    pub fn voters(&self) -> &[u64] {
        &self.node.store().conf_state().voters
    }

    /// Those that get the log and do not vote.
    pub fn learners(&self) -> &[u64] {
        &self.node.store().conf_state().learners
    }
}

/// The finalizer of splitmix64.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn is_hard(entry: &Entry) -> bool {
    !entry.data.is_empty() && entry.context != SOFT
}

fn raft_config(settings: &CoreSettings, applied: u64) -> Config {
    Config {
        id: settings.id,
        applied,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        max_size_per_msg: APPEND_BYTES,
        max_inflight_msgs: APPENDS_IN_FLIGHT,
        max_uncommitted_size: UNCOMMITTED_BYTES,
        max_committed_size_per_ready: APPLY_BYTES,
        check_quorum: true,
        pre_vote: true,
        priority: if settings.witnesses.contains(&settings.id) { WITNESS_PRIORITY } else { 0 },
        ..Config::default()
    }
}

/// As long as the list of members stands in the nodes' files, it must not change.
fn same_members(settings: &CoreSettings, stored: &ConfState) -> Result<(), CoreError> {
    let (mut known, mut configured) = (stored.voters.clone(), settings.voters.clone());
    known.sort_unstable();
    configured.sort_unstable();
    if known == configured { Ok(()) } else { Err(CoreError::Members { stored: known, configured }) }
}

/// Begins the log. Every first voter of a list writes the same; what is fetched is not written before it has come.
fn begin<S: LogStore>(settings: &CoreSettings, store: &mut S) -> Result<Stored, CoreError> {
    let (mut voters, mut state) = match &settings.begin {
        Begin::Voters => (settings.voters.clone(), State::default()),
        Begin::State(state) => (state.members().voters(), State::clone(state)),
        Begin::Fetch { lost } => {
            // Never term 0: see BOOTSTRAP.
            let hard_state = HardState { term: BOOTSTRAP.term, ..HardState::default() };
            return Ok(Stored { hard_state, lost: *lost, ..Stored::default() });
        }
    };
    voters.sort_unstable();
    let conf_state = ConfState::from((voters, Vec::new()));
    state.skip_to(BOOTSTRAP.index);
    let mut snapshot = Snapshot { data: state.snapshot(), ..Snapshot::default() };
    snapshot.mut_metadata().index = BOOTSTRAP.index;
    snapshot.mut_metadata().term = BOOTSTRAP.term;
    snapshot.mut_metadata().set_conf_state(conf_state.clone());
    let hard_state = HardState { term: BOOTSTRAP.term, vote: 0, commit: BOOTSTRAP.index };
    let batch = Batch {
        snapshot: Some(&snapshot),
        truncate: Some(BOOTSTRAP),
        hard_state: Some(&hard_state),
        conf_state: Some(&conf_state),
        ..Batch::default()
    };
    store.write(&batch)?;
    let mut stored = Stored::default();
    stored.apply(&batch);
    Ok(stored)
}
