//! The power fails at any moment while the log is written: whatever the disk has kept, the store starts, and holds
//! what was promised.
//!
//! The storage under redb is replaced by one that remembers each operation. Afterwards a disk is built that has kept
//! every prefix of them, with and without what was not synchronised, in another order, and with a torn last write.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ::redb::{Builder, StorageBackend};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};

use super::redb::RedbStore;
use super::*;

/// The part of a write that a disk writes as a whole, bytes.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Operation {
    Length(u64),
    Write { offset: u64, data: Vec<u8> },
    Sync,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    done: Vec<Operation>,
    /// How long a synchronisation takes.
    sync_takes: Duration,
    /// Bytes that fit; more is refused as by a full disk.
    room: Option<u64>,
}

/// Storage in memory that remembers what was done to it. Cloning shares it.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<Inner>>);

impl Recorder {
    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner { bytes, ..Inner::default() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    fn open(&self) -> Result<RedbStore, StoreError> {
        let identity = Identity { cluster: "demo".to_owned(), node: 1 };
        let backend = self.clone();
        RedbStore::open_with(PathBuf::from("(memory)"), &identity, |builder: &Builder| {
            builder.create_with_backend(backend)
        })
    }
}

fn apply(bytes: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
        Operation::Write { offset, data } => {
            let at = usize::try_from(*offset).unwrap();
            let end = at + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(data);
        }
        Operation::Sync => {}
    }
}

impl StorageBackend for Recorder {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.inner();
        let at = usize::try_from(offset).unwrap();
        let found = inner.bytes.get(at..at + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.room.is_some_and(|room| length > room) {
            return Err(ErrorKind::StorageFull.into());
        }
        let operation = Operation::Length(length);
        apply(&mut inner.bytes, &operation);
        inner.done.push(operation);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let takes = {
            let mut inner = self.inner();
            inner.done.push(Operation::Sync);
            inner.sync_takes
        };
        std::thread::sleep(takes);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let operation = Operation::Write { offset, data: data.to_vec() };
        let mut inner = self.inner();
        apply(&mut inner.bytes, &operation);
        inner.done.push(operation);
        Ok(())
    }
}

fn snapshot(index: u64, term: u64, size: usize) -> Snapshot {
    let mut snapshot =
        Snapshot { data: vec![u8::try_from(index % 251).unwrap(); size], ..Snapshot::default() };
    snapshot.mut_metadata().index = index;
    snapshot.mut_metadata().term = term;
    snapshot.mut_metadata().set_conf_state(voters());
    snapshot
}

fn voters() -> ConfState {
    ConfState::from((vec![1, 2, 3], vec![]))
}

fn entries(first: u64, count: u64, term: u64, size: usize) -> Vec<Entry> {
    let entry = |index: u64| Entry {
        index,
        term,
        data: vec![u8::try_from(index % 251).unwrap(); size],
        ..Entry::default()
    };
    (first..first + count).map(entry).collect()
}

/// A life of a log: what was on the disk after so many operations.
struct Life {
    operations: Vec<Operation>,
    /// So many were needed to make the file; until then it has another name, and counts for nothing.
    made: usize,
    /// After the n-th operation this had been promised.
    promised: Vec<(usize, Option<Stored>)>,
}

fn recorded() -> Life {
    let recorder = Recorder::default();
    let mut store = recorder.open().unwrap();
    let made = recorder.inner().done.len();
    let mut stored = Stored::default();
    let mut promised = vec![(0, None)];
    let mut write = |batch: &Batch<'_>| {
        store.write(batch).unwrap();
        stored.apply(batch);
        stored.check().unwrap();
        promised.push((recorder.inner().done.len(), Some(stored.clone())));
    };
    let hard = |term, commit| HardState { term, vote: 1, commit };
    write(&Batch {
        snapshot: Some(&snapshot(1, 1, 40)),
        truncate: Some(Position { index: 1, term: 1 }),
        hard_state: Some(&hard(1, 1)),
        conf_state: Some(&voters()),
        ..Batch::default()
    });
    write(&Batch { hard_state: Some(&hard(2, 1)), ..Batch::default() });
    for step in 0..6u64 {
        let new = entries(2 + 3 * step, 3, 2, 100 + 4000 * usize::try_from(step % 3).unwrap());
        write(&Batch { entries: &new, hard_state: Some(&hard(2, 1 + 3 * step)), ..Batch::default() });
    }
    // A new leader contradicts the tail; an entry is much longer than a page.
    write(&Batch { entries: &entries(17, 2, 3, 60_000), hard_state: Some(&hard(3, 16)), ..Batch::default() });
    // Our own snapshot, which leaves a tail, and then the leader's, which leaves nothing.
    write(&Batch {
        snapshot: Some(&snapshot(16, 2, 50_000)),
        truncate: Some(Position { index: 12, term: 2 }),
        ..Batch::default()
    });
    write(&Batch {
        snapshot: Some(&snapshot(40, 4, 9_000)),
        truncate: Some(Position { index: 40, term: 4 }),
        clear_log: true,
        hard_state: Some(&hard(4, 40)),
        conf_state: Some(&voters()),
        ..Batch::default()
    });
    write(&Batch { entries: &entries(41, 1, 4, 10), hard_state: Some(&hard(4, 41)), ..Batch::default() });
    let operations = recorder.inner().done.clone();
    Life { operations, made, promised }
}

impl Life {
    /// The disk after `count` operations; `kept` says of each that was not synchronised what became of it.
    fn disk(&self, count: usize, mut kept: impl FnMut(&Operation) -> Option<Operation>) -> Vec<u8> {
        let done = &self.operations[..count];
        let synced = done.iter().rposition(|operation| matches!(operation, Operation::Sync)).unwrap_or(0);
        let mut bytes = Vec::new();
        done[..synced].iter().for_each(|operation| apply(&mut bytes, operation));
        done[synced..].iter().filter_map(&mut kept).for_each(|operation| apply(&mut bytes, &operation));
        bytes
    }

    /// The store starts on this disk with what was promised last, or with what was being written.
    fn check(&self, count: usize, bytes: Vec<u8>, what: &str) {
        let at = self.promised.partition_point(|(end, _)| *end <= count);
        let allowed = &self.promised[at - 1..self.promised.len().min(at + 1)];
        let mut store =
            Recorder::of(bytes).open().unwrap_or_else(|error| panic!("{what}, operation {count}: {error}"));
        let found = store.load().unwrap_or_else(|error| panic!("{what}, operation {count}: {error}"));
        assert!(
            allowed.iter().any(|(_, stored)| *stored == found),
            "{what}, operation {count}: neither what was promised nor what was being written"
        );
    }
}

#[test]
fn a_disk_that_kept_any_prefix_of_what_was_written_starts_with_what_was_promised() {
    let life = recorded();
    assert!(life.operations.len() > 60, "{} operations", life.operations.len());
    for count in life.made..=life.operations.len() {
        life.check(count, life.disk(count, |operation| Some(operation.clone())), "all kept");
        life.check(count, life.disk(count, |_| None), "nothing kept that was not synchronised");
    }
}

#[test]
fn a_torn_last_write_leaves_what_was_promised() {
    let life = recorded();
    for count in life.made + 1..=life.operations.len() {
        let Operation::Write { offset, data } = &life.operations[count - 1] else { continue };
        let sectors = data.len().div_ceil(SECTOR);
        for cut in [1, sectors / 2, sectors - 1].into_iter().filter(|cut| (1..sectors).contains(cut)) {
            let before = life.disk(count - 1, |operation| Some(operation.clone()));
            let at = cut * SECTOR;
            let (head, tail) = data.split_at(at);
            for (offset, part) in [(*offset, head), (offset + at as u64, tail)] {
                let mut bytes = before.clone();
                apply(&mut bytes, &Operation::Write { offset, data: part.to_vec() });
                life.check(count, bytes, "torn");
            }
        }
    }
}

#[test]
fn writes_that_reached_the_disk_in_any_order_leave_what_was_promised() {
    let life = recorded();
    let choice = (life.made..=life.operations.len(), prop::collection::vec(0u8..4, 64));
    let run = |(count, fates): (usize, Vec<u8>)| {
        let mut fates = fates.into_iter().cycle();
        let kept = |operation: &Operation| match (operation, fates.next()) {
            (Operation::Write { .. }, Some(0)) => None,
            (Operation::Write { offset, data }, Some(1)) => {
                let data = data[..(data.len() / 2).next_multiple_of(SECTOR).min(data.len())].to_vec();
                Some(Operation::Write { offset: *offset, data })
            }
            _ => Some(operation.clone()),
        };
        life.check(count, life.disk(count, kept), "some kept");
        Ok(())
    };
    let config = ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(&choice, run).unwrap();
}

#[test]
fn a_file_whose_making_was_interrupted_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity { cluster: "demo".to_owned(), node: 1 };
    std::fs::write(dir.path().join("raft.redb.new"), vec![0; 100_000]).unwrap();
    let mut store = RedbStore::open(dir.path(), &identity).unwrap();
    assert_eq!(store.load().unwrap(), None);
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["raft.redb"]);
    drop(store);
    assert!(RedbStore::open(dir.path(), &identity).is_ok());
}

#[test]
fn a_full_disk_refuses_the_write_names_the_remedy_and_keeps_what_was_there() {
    let recorder = Recorder::default();
    let mut store = recorder.open().unwrap();
    let (first, hard, conf) = (snapshot(1, 1, 40), HardState { term: 1, vote: 0, commit: 1 }, voters());
    let begin = Batch {
        snapshot: Some(&first),
        truncate: Some(Position { index: 1, term: 1 }),
        hard_state: Some(&hard),
        conf_state: Some(&conf),
        ..Batch::default()
    };
    store.write(&begin).unwrap();
    let before = store.load().unwrap().unwrap();
    let length = recorder.inner().bytes.len() as u64;
    recorder.inner().room = Some(length);
    let large = entries(2, 400, 1, 10_000);
    let error = store.write(&Batch { entries: &large, ..Batch::default() }).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains("make room, then restart this node"), "{error}");
    drop(store);
    recorder.inner().room = None;
    let mut store = recorder.open().unwrap();
    assert_eq!(store.load().unwrap(), Some(before), "and nothing of the batch is there");
    store.write(&Batch { entries: &large, ..Batch::default() }).unwrap();
}

#[test]
fn a_write_returns_only_after_the_disk_has_it() {
    let recorder = Recorder::default();
    let mut store = recorder.open().unwrap();
    recorder.inner().sync_takes = Duration::from_millis(500);
    let started = Instant::now();
    let hard = HardState { term: 1, vote: 0, commit: 1 };
    store.write(&Batch { hard_state: Some(&hard), ..Batch::default() }).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(500));
    recorder.inner().sync_takes = Duration::ZERO;
    let last = recorder
        .inner()
        .done
        .iter()
        .rev()
        .find(|operation| !matches!(operation, Operation::Length(_)))
        .cloned();
    assert!(matches!(last, Some(Operation::Sync)), "nothing is written after the last synchronisation");
}

#[test]
fn errors_of_the_system_are_told_apart() {
    let of = |kind: ErrorKind| StoreError::from_io(Path::new("/f").to_owned(), &kind.into()).to_string();
    assert!(of(ErrorKind::StorageFull).contains("make room"));
    assert!(of(ErrorKind::QuotaExceeded).contains("quota"));
    assert!(of(ErrorKind::ReadOnlyFilesystem).contains("read-only"));
    assert!(of(ErrorKind::BrokenPipe).starts_with("/f: "));
}
