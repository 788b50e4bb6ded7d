//! Where the log lives. [`LogStore`] is durable storage; [`mirror::Mirror`] is its image in memory, from which raft
//! reads: compaction bounds the log, so the image is small, and reading can neither block nor fail.

pub mod memory;
pub mod mirror;
#[cfg(test)]
mod power;
pub mod redb;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};

/// Whose log it is. A store of another cluster or node is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster: String,
    /// The node.
    pub node: u64,
}

/// The life of the cluster's log: raised when an operator makes a survivor the only voter. Nodes of different epochs
/// do not exchange raft messages; the one with the lower number fetches everything anew.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Epoch {
    /// Counts recoveries; 0 in a cluster that never needed one.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The last entry of the survivor.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Its term.
    #[prost(uint64, tag = "3")]
    pub term: u64,
    /// The survivor: two that were recovered apart from each other are told apart by it.
    #[prost(uint64, tag = "4")]
    pub node: u64,
}

/// A position in the log: index and term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index of the entry.
    pub index: u64,
    /// Term of the entry.
    pub term: u64,
}

/// All that a store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Voters and learners as of the last applied change.
    pub conf_state: ConfState,
    /// The last snapshot of the state.
    pub snapshot: Snapshot,
    /// The last entry that was cut off; the log begins after it. Never beyond the snapshot.
    pub truncated: Position,
    /// The log after `truncated`, without gaps.
    pub entries: Vec<Entry>,
    /// The life of the log.
    pub epoch: Epoch,
    /// The log was lost and is fetched anew: the node must not vote before it has what it once acknowledged.
    pub lost: bool,
}

/// What changes, all or nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// A new snapshot.
    pub snapshot: Option<&'a Snapshot>,
    /// The log is cut off up to here; entries beyond stay.
    pub truncate: Option<Position>,
    /// The log is thrown away before `entries` are written: the snapshot came from the leader.
    pub clear_log: bool,
    /// Entries that replace everything from the first one's index on.
    pub entries: &'a [Entry],
    /// New term, vote or commit index.
    pub hard_state: Option<&'a HardState>,
    /// New voters or learners.
    pub conf_state: Option<&'a ConfState>,
    /// Another life of the log.
    pub epoch: Option<Epoch>,
    /// The log was lost, or is complete again.
    pub lost: Option<bool>,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged, or is no database of ours.
    #[error("{}: {what}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Reading or writing failed.
    #[error("{}: {what}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What failed.
        what: String,
    },
    /// No room, or the quota is used up.
    #[error("{}: the disk is full, or the quota is used up: make room, then restart this node", file.display())]
    Full {
        /// The file.
        file: PathBuf,
    },
    /// The file, or the file system under it, does not take writes.
    #[error(
        "{} cannot be written: it, or its file system, is read-only: look for disk errors in the kernel's log, make it \
         writable, then restart this node",
        file.display()
    )]
    ReadOnly {
        /// The file.
        file: PathBuf,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", file.display())]
    InUse {
        /// The file.
        file: PathBuf,
    },
    /// It belongs to another cluster or node.
    #[error("{} belongs to node {} of cluster {:?}", file.display(), found.node, found.cluster)]
    Foreign {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: Identity,
    },
}

impl StoreError {
    /// What the system's error means to an operator.
    #[must_use]
    pub fn from_io(file: PathBuf, error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { file },
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Self::ReadOnly { file },
            _ => Self::Io { file, what: error.to_string() },
        }
    }
}

/// Durable storage of the log. When [`LogStore::write`] has returned, the batch survives the loss of power; when it
/// fails, either all or nothing of it was kept, and the caller must not go on.
pub trait LogStore: Send {
    /// Reads everything; `None` if the store is new.
    ///
    /// # Errors
    /// Damaged, unreadable, or another node's.
    fn load(&mut self) -> Result<Option<Stored>, StoreError>;

    /// Writes a batch in one transaction.
    ///
    /// # Errors
    /// The disk's.
    fn write(&mut self, batch: &Batch<'_>) -> Result<(), StoreError>;
}

impl Stored {
    /// Carries out a batch on the image.
    pub fn apply(&mut self, batch: &Batch<'_>) {
        if let Some(snapshot) = batch.snapshot {
            self.snapshot = snapshot.clone();
        }
        if batch.clear_log {
            self.entries.clear();
        }
        if let Some(position) = batch.truncate {
            self.entries.retain(|entry| entry.index > position.index);
            self.truncated = position;
        }
        if let Some(first) = batch.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(batch.entries);
        }
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state.clone();
        }
        if let Some(conf_state) = batch.conf_state {
            self.conf_state = conf_state.clone();
        }
        self.epoch = batch.epoch.unwrap_or(self.epoch);
        self.lost = batch.lost.unwrap_or(self.lost);
    }

    /// Checks that the parts fit together; raft relies on it.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check(&self) -> Result<(), String> {
        let snapshot = self.snapshot.get_metadata();
        if snapshot.index == 0 {
            return Err("the snapshot is missing".to_owned());
        }
        if self.truncated.index > snapshot.index {
            let (cut, index) = (self.truncated.index, snapshot.index);
            return Err(format!("the log was cut at {cut}, beyond the snapshot at {index}"));
        }
        let mut last = self.truncated;
        for entry in &self.entries {
            if entry.index != last.index + 1 || entry.term < last.term {
                return Err(format!("entry {} of term {} follows entry {last:?}", entry.index, entry.term));
            }
            last = Position { index: entry.index, term: entry.term };
        }
        if last.index < snapshot.index {
            return Err(format!("the log ends at {}, before the snapshot at {}", last.index, snapshot.index));
        }
        let commit = self.hard_state.commit;
        if commit < snapshot.index || commit > last.index {
            return Err(format!(
                "the commit index {commit} is outside of the log, which ends at {}",
                last.index
            ));
        }
        if self.hard_state.term < last.term {
            return Err(format!(
                "the term {} is older than the last entry's {}",
                self.hard_state.term, last.term
            ));
        }
        if self.conf_state.voters.is_empty() {
            return Err("there are no voters".to_owned());
        }
        Ok(())
    }
}
