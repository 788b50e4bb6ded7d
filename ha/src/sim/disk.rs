//! A node's disk: what has reached it, what is on its way, and how it fails.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};

use super::mutation::Mutation;
use super::random::Random;
use crate::consensus::store::{Batch, Epoch, LogStore, Position, StoreError, Stored};
use crate::time::Time;

/// A batch that outlives the call that writes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub(super) snapshot: Option<Snapshot>,
    pub(super) truncate: Option<Position>,
    pub(super) clear_log: bool,
    pub(super) entries: Vec<Entry>,
    pub(super) hard_state: Option<HardState>,
    pub(super) conf_state: Option<ConfState>,
    pub(super) epoch: Option<Epoch>,
    pub(super) lost: Option<bool>,
}

impl Written {
    fn of(batch: &Batch<'_>) -> Self {
        Self {
            snapshot: batch.snapshot.cloned(),
            truncate: batch.truncate,
            clear_log: batch.clear_log,
            entries: batch.entries.to_vec(),
            hard_state: batch.hard_state.cloned(),
            conf_state: batch.conf_state.cloned(),
            epoch: batch.epoch,
            lost: batch.lost,
        }
    }

    fn apply_to(&self, stored: &mut Stored, keep_conflicts: bool) {
        if keep_conflicts && let Some(last) = stored.entries.last().map(|entry| entry.index) {
            // Only what is beyond the end of the log arrives.
            let new: Vec<Entry> = self.entries.iter().filter(|entry| entry.index > last).cloned().collect();
            return stored.apply(&Batch { entries: &new, ..self.as_batch() });
        }
        stored.apply(&self.as_batch());
    }

    fn as_batch(&self) -> Batch<'_> {
        Batch {
            snapshot: self.snapshot.as_ref(),
            truncate: self.truncate,
            clear_log: self.clear_log,
            entries: &self.entries,
            hard_state: self.hard_state.as_ref(),
            conf_state: self.conf_state.as_ref(),
            epoch: self.epoch,
            lost: self.lost,
        }
    }
}

/// What happens to the writes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Health {
    /// They succeed.
    #[default]
    Good,
    /// The next one fails, and nothing of it is kept.
    FailOnce,
    /// The next one is kept, but its caller hears of a failure.
    KeepButFail,
    /// Each fails: the disk is full, or read-only.
    Full,
}

/// The disk of one node. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// What survives a loss of power.
    safe: Option<Stored>,
    /// Writes that are not safe yet, oldest first, and when they will be.
    waiting: VecDeque<(Time, Written)>,
    health: Health,
    mutation: Option<Mutation>,
    /// How long a write takes.
    latency: Duration,
    /// When the last write of this turn will have reached the disk.
    busy_until: Time,
}

/// What a write takes on a good disk.
pub(super) const USUAL_LATENCY: Duration = Duration::from_millis(1);

/// So long the mutation that answers too early leaves a write in the cache of the system.
const WRITE_BACK: Duration = Duration::from_secs(2);

impl Disk {
    pub(super) fn new(mutation: Option<Mutation>) -> Self {
        let disk = Self::default();
        disk.lock().mutation = mutation;
        disk.set_latency(USUAL_LATENCY);
        disk
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The core runs now; what was due has reached the disk.
    pub(super) fn begin(&self, now: Time) {
        let mut inner = self.lock();
        inner.busy_until = now;
        inner.settle(now);
    }

    /// When all that was written in this turn is safe.
    pub(super) fn busy_until(&self) -> Time {
        self.lock().busy_until
    }

    pub(super) fn set_health(&self, health: Health) {
        self.lock().health = health;
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// The power fails: of what had not reached the disk, as much as chance allows, in order, is there afterwards.
    pub(super) fn lose_power(&self, now: Time, random: &mut Random) {
        let mut inner = self.lock();
        inner.settle(now);
        let kept = random.below(inner.waiting.len() as u64 + 1);
        for _ in 0..kept {
            inner.settle_one();
        }
        inner.waiting.clear();
    }

    /// The process died; the system still has what it had been given.
    pub(super) fn lose_process(&self, now: Time, random: &mut Random) {
        // A write in progress may not have begun: that is the same as lost power.
        let early = self.lock().mutation == Some(Mutation::AnswerBeforeFsync);
        if early {
            self.lock().settle(Time(u64::MAX));
        } else {
            self.lose_power(now, random);
        }
    }

    /// The disk is replaced by an empty one.
    pub(super) fn wipe(&self) {
        let mut inner = self.lock();
        inner.safe = None;
        inner.waiting.clear();
    }
}

impl Inner {
    fn settle(&mut self, now: Time) {
        while self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            self.settle_one();
        }
    }

    fn settle_one(&mut self) {
        if let Some((_, batch)) = self.waiting.pop_front() {
            let keep = self.mutation == Some(Mutation::KeepConflicts);
            batch.apply_to(self.safe.get_or_insert_default(), keep);
        }
    }

    fn hard_state(&self) -> Option<&HardState> {
        let waiting = self.waiting.iter().rev().find_map(|(_, batch)| batch.hard_state.as_ref());
        waiting.or(self.safe.as_ref().map(|stored| &stored.hard_state))
    }

    fn take(&mut self, batch: &Batch<'_>) {
        let mut written = Written::of(batch);
        if let Some(mutation) = self.mutation {
            mutation.spoil_write(&mut written, self.hard_state());
        }
        self.busy_until = self.busy_until + self.latency;
        let early = self.mutation == Some(Mutation::AnswerBeforeFsync);
        let safe_at = if early { self.busy_until + WRITE_BACK } else { self.busy_until };
        self.waiting.push_back((safe_at, written));
    }
}

impl LogStore for Disk {
    fn load(&mut self) -> Result<Option<Stored>, StoreError> {
        let mut inner = self.lock();
        inner.settle(Time(u64::MAX));
        let Some(stored) = &inner.safe else { return Ok(None) };
        let file = PathBuf::from("(simulated)");
        stored.check().map_err(|what| StoreError::Damaged { file, what })?;
        Ok(Some(stored.clone()))
    }

    fn write(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let health = inner.health;
        if matches!(health, Health::FailOnce | Health::KeepButFail) {
            inner.health = Health::Good;
        }
        if matches!(health, Health::Good | Health::KeepButFail) {
            inner.take(batch);
        }
        match health {
            Health::Good => Ok(()),
            _ => Err(StoreError::Io { file: PathBuf::from("(simulated)"), what: format!("{health:?}") }),
        }
    }
}
