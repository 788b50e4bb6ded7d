//! A new life of the log: when a survivor is made the only voter, and when a node meets such a survivor.

use prost::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType, HardState, Snapshot};

use super::{Core, CoreError, Discarded};
use crate::consensus::store::{Batch, Epoch, LogStore, Position, Stored};
use crate::state::{Command, Kind, MemberRecord, Members, State};

impl<S: LogStore> Core<S> {
    /// The life of the log that this node lives in.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Makes this node the only voter under a new epoch, for a cluster whose other voters are gone. All that is in
    /// its log counts as committed; the other members come back as learners. `listed` are the members, if they
    /// are not in the log yet.
    ///
    /// # Errors
    /// The store's, or an entry that cannot be applied.
    pub fn recover(mut self, listed: Vec<MemberRecord>) -> Result<Self, CoreError> {
        let store = self.node.store();
        let (last, last_term) = (store.last(), store.term_of(store.last()).unwrap_or(self.term()));
        let mut state = self.state.clone();
        for entry in store.log_after(state.index()) {
            apply_blindly(&mut state, entry)?;
        }
        if state.members().is_empty() {
            state.set_members(Members::of(listed));
        }
        state.recover_members(self.settings.id);
        let learners = state.members().learners();
        let conf_state = ConfState::from((vec![self.settings.id], learners));
        let mut snapshot = Snapshot { data: state.snapshot(), ..Snapshot::default() };
        snapshot.mut_metadata().index = last;
        snapshot.mut_metadata().term = last_term;
        snapshot.mut_metadata().set_conf_state(conf_state.clone());
        let hard_state = HardState { term: self.term() + 1, vote: 0, commit: last };
        let epoch =
            Epoch { number: self.epoch.number + 1, index: last, term: last_term, node: self.settings.id };
        self.store.write(&Batch {
            snapshot: Some(&snapshot),
            truncate: Some(Position { index: last, term: last_term }),
            clear_log: true,
            hard_state: Some(&hard_state),
            conf_state: Some(&conf_state),
            epoch: Some(epoch),
            lost: Some(false),
            ..Batch::default()
        })?;
        Self::open(self.settings, self.store)
    }

    /// Follows another life of the log: everything is fetched anew. Until it has come, the state and the disk stay as
    /// they are, and this node neither votes nor acknowledges anything.
    ///
    /// # Errors
    /// Raft refuses.
    pub fn adopt(self, epoch: Epoch) -> Result<(Self, Discarded), CoreError> {
        let discarded = self.discarded(epoch);
        let hard_state = HardState { term: self.term(), ..HardState::default() };
        let stored = Stored { hard_state, epoch, ..Stored::default() };
        let state = self.state.clone();
        Ok((Self::start(self.settings, self.store, stored, state)?, discarded))
    }

    /// What is lost when this node follows the survivor of `epoch`.
    fn discarded(&self, epoch: Epoch) -> Discarded {
        let store = self.node.store();
        // Where the logs are known to be the same.
        let common = if store.term_of(epoch.index) == Some(epoch.term) { epoch.index } else { self.commit() };
        let mut discarded = Discarded::default();
        for entry in store.log_after(common) {
            discarded.entries += 1;
            match Command::decode(&entry.data).ok().and_then(|command| command.kind) {
                Some(Kind::PutConfig(put)) => discarded.configurations.push(put),
                // Nobody misses them: the nodes of the other epoch have clients and keys of their own.
                Some(Kind::Clients(_) | Kind::AnnounceTicketKey(_) | Kind::UseTicketKey(_)) | None => {}
                Some(_) => discarded.changes += 1,
            }
        }
        discarded
    }
}

/// Applies an entry without raft: nobody else decides any more.
fn apply_blindly(state: &mut State, entry: &Entry) -> Result<(), CoreError> {
    let members = entry.get_entry_type() != EntryType::EntryNormal;
    let command = if members {
        ConfChangeV2::decode(entry.data.as_slice()).map(|change| change.context).unwrap_or_default()
    } else {
        entry.data.clone()
    };
    if !command.is_empty() {
        state.apply_bytes(entry.index, &command)?;
    }
    state.skip_to(entry.index);
    Ok(())
}
