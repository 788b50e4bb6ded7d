//! The image of the store in memory: what raft reads.

use std::cell::Cell;
use std::collections::VecDeque;

use prost::Message;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::{Batch, Position, Stored};

/// Log, hard state, voters and last snapshot.
pub struct Mirror {
    hard_state: HardState,
    conf_state: ConfState,
    snapshot: Snapshot,
    truncated: Position,
    entries: VecDeque<Entry>,
    snapshot_wanted: Cell<bool>,
}

impl Mirror {
    /// The image of what was loaded; [`Stored::check`] has passed.
    #[must_use]
    pub fn new(stored: Stored) -> Self {
        Self {
            hard_state: stored.hard_state,
            conf_state: stored.conf_state,
            snapshot: stored.snapshot,
            truncated: stored.truncated,
            entries: stored.entries.into(),
            snapshot_wanted: Cell::new(false),
        }
    }

    /// Follows what was written to the store.
    pub fn apply(&mut self, batch: &Batch<'_>) {
        if let Some(snapshot) = batch.snapshot {
            self.snapshot = snapshot.clone();
        }
        if batch.clear_log {
            self.entries.clear();
        }
        if let Some(position) = batch.truncate {
            while self.entries.front().is_some_and(|entry| entry.index <= position.index) {
                self.entries.pop_front();
            }
            self.truncated = position;
        }
        if let Some(first) = batch.entries.first() {
            while self.entries.back().is_some_and(|entry| entry.index >= first.index) {
                self.entries.pop_back();
            }
            self.entries.extend(batch.entries.iter().cloned());
        }
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state.clone();
        }
        if let Some(conf_state) = batch.conf_state {
            self.conf_state = conf_state.clone();
        }
    }

    /// The commit index moved on; it is written with the next batch.
    pub fn set_commit(&mut self, commit: u64) {
        self.hard_state.commit = commit;
    }

    /// Term, vote and commit index.
    #[must_use]
    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// Voters and learners.
    #[must_use]
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Index of the last snapshot.
    #[must_use]
    pub fn snapshot_index(&self) -> u64 {
        self.snapshot.get_metadata().index
    }

    /// Whether raft asked for a newer snapshot than there is; asking clears it.
    pub fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.take()
    }

    /// The term of an entry, if the log reaches there.
    #[must_use]
    pub fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        let offset = index.checked_sub(self.truncated.index + 1)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|entry| entry.term)
    }

    /// Where the log begins: the last entry that was cut off.
    #[must_use]
    pub fn truncated(&self) -> Position {
        self.truncated
    }

    /// Where to cut the log so that at most `entries` entries and `bytes` bytes up to `index` stay, and how many
    /// bytes these are.
    #[must_use]
    pub fn tail(&self, index: u64, entries: u64, bytes: u64) -> (Position, u64) {
        let count = usize::try_from(index.saturating_sub(self.truncated.index)).unwrap_or(usize::MAX);
        let mut size = 0;
        for (kept, entry) in self.entries.iter().take(count).rev().enumerate() {
            let larger = size + entry.data.len() as u64;
            if kept as u64 == entries || larger > bytes {
                return (Position { index: entry.index, term: entry.term }, size);
            }
            size = larger;
        }
        (self.truncated, size)
    }

    /// The entries after `index`, as far as the log goes back.
    pub fn log_after(&self, index: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.index > index)
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.truncated.index + self.entries.len() as u64
    }
}

impl Storage for Mirror {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let from = usize::try_from(low - self.truncated.index - 1).unwrap_or(usize::MAX);
        let count = usize::try_from(high.saturating_sub(low)).unwrap_or(usize::MAX);
        let mut room = max_size.into().unwrap_or(u64::MAX);
        let mut found = Vec::new();
        for entry in self.entries.iter().skip(from).take(count) {
            let size = entry.encoded_len() as u64;
            // At least one entry, however large, or nothing would ever move.
            if size > room && !found.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_of(index) {
            Some(term) => Ok(term),
            None if index < self.truncated.index => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // A snapshot from before its time tells a new member nothing of itself: it would pass it over.
        let known = self.snapshot.get_metadata().get_conf_state();
        let is_known = known.voters.contains(&to) || known.learners.contains(&to);
        if self.snapshot_index() < request_index || !is_known {
            self.snapshot_wanted.set(true);
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(self.snapshot.clone())
    }
}
