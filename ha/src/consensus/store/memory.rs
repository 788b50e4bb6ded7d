//! A store in memory for tests and simulation. It can fail, and it can lose the write that it was busy with.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Batch, LogStore, StoreError, Stored};

/// Cloning shares the disk, so that a node can be "restarted" on it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    stored: Option<Stored>,
    fault: Option<Fault>,
    writes: u64,
}

/// What happens to the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Power fails before the write reached the disk.
    Lost,
    /// Power fails after the write reached the disk, but before anybody was told.
    Kept,
}

impl MemoryStore {
    /// Arranges for the next write to fail.
    pub fn fail_next_write(&self, fault: Fault) {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).fault = Some(fault);
    }

    /// The next write succeeds after all.
    pub fn heal(&self) {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).fault = None;
    }

    /// What is on the disk.
    #[must_use]
    pub fn stored(&self) -> Option<Stored> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).stored.clone()
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&self) {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = Disk::default();
    }

    /// How many writes succeeded.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner).writes
    }
}

impl LogStore for MemoryStore {
    fn load(&mut self) -> Result<Option<Stored>, StoreError> {
        Ok(self.stored())
    }

    fn write(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = disk.fault.take();
        if fault != Some(Fault::Lost) {
            disk.stored.get_or_insert_default().apply(batch);
            disk.writes += 1;
        }
        match fault {
            None => Ok(()),
            Some(fault) => {
                let what = format!("the power failed ({fault:?})");
                Err(StoreError::Io { file: PathBuf::from("(memory)"), what })
            }
        }
    }
}
