use std::io::{Seek, SeekFrom, Write};

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};

use super::mirror::Mirror;
use super::redb::{FILE_NAME, RedbStore};
use super::*;

fn identity() -> Identity {
    Identity { cluster: "demo".to_owned(), node: 1 }
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    let mut snapshot = Snapshot { data: vec![7; 40], ..Snapshot::default() };
    snapshot.mut_metadata().index = index;
    snapshot.mut_metadata().term = term;
    snapshot.mut_metadata().set_conf_state(voters());
    snapshot
}

fn voters() -> ConfState {
    ConfState::from((vec![1, 2], vec![]))
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    range.map(|index| Entry { index, term, data: vec![index as u8; 8], ..Entry::default() }).collect()
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState { term, vote: 1, commit }
}

/// Writes the same to the store, to its image and to the mirror.
struct Three {
    redb: RedbStore,
    stored: Stored,
    mirror: Mirror,
}

impl Three {
    fn new(dir: &std::path::Path) -> Self {
        let mut redb = RedbStore::open(dir, &identity()).unwrap();
        assert_eq!(redb.load().unwrap(), None);
        let (first, hard, conf) = (snapshot(1, 1), hard_state(1, 1), voters());
        let bootstrap = Batch {
            snapshot: Some(&first),
            truncate: Some(Position { index: 1, term: 1 }),
            hard_state: Some(&hard),
            conf_state: Some(&conf),
            ..Batch::default()
        };
        redb.write(&bootstrap).unwrap();
        let mut stored = Stored::default();
        stored.apply(&bootstrap);
        Self { redb, mirror: Mirror::new(stored.clone()), stored }
    }

    fn write(&mut self, batch: &Batch<'_>) {
        self.redb.write(batch).unwrap();
        self.stored.apply(batch);
        self.mirror.apply(batch);
        self.stored.check().unwrap();
        assert_eq!(self.redb.load().unwrap().unwrap(), self.stored);
        let last = self.stored.entries.last().map_or(self.stored.truncated.index, |entry| entry.index);
        assert_eq!(self.mirror.last(), last);
        for entry in &self.stored.entries {
            assert_eq!(self.mirror.term_of(entry.index), Some(entry.term));
        }
        assert_eq!(self.mirror.truncated(), self.stored.truncated);
        assert_eq!(self.mirror.term_of(last + 1), None);
    }
}

#[test]
fn log_and_states_are_the_same_on_disk_and_in_memory_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut three = Three::new(dir.path());
    three.write(&Batch { entries: &entries(2..=10, 1), ..Batch::default() });
    // A new leader overwrites the uncommitted tail.
    three.write(&Batch {
        entries: &entries(6..=7, 2),
        hard_state: Some(&hard_state(2, 7)),
        ..Batch::default()
    });
    // Our own snapshot; the tail of the log stays.
    three.write(&Batch {
        snapshot: Some(&snapshot(7, 2)),
        truncate: Some(Position { index: 4, term: 1 }),
        ..Batch::default()
    });
    // Much larger than a page, and then small again.
    let large = |index| Entry { index, term: 2, data: vec![index as u8; 50_000], ..Entry::default() };
    three.write(&Batch { entries: &[large(8), large(9)], ..Batch::default() });
    three.write(&Batch { entries: &entries(9..=9, 2), ..Batch::default() });
    let mut big = snapshot(7, 2);
    big.data = vec![9; 100_000];
    three.write(&Batch { snapshot: Some(&big), ..Batch::default() });
    // The leader's snapshot replaces everything.
    three.write(&Batch {
        snapshot: Some(&snapshot(100, 3)),
        truncate: Some(Position { index: 100, term: 3 }),
        clear_log: true,
        hard_state: Some(&hard_state(3, 100)),
        conf_state: Some(&voters()),
        ..Batch::default()
    });
    let stored = three.stored.clone();
    drop(three);
    assert_eq!(RedbStore::open(dir.path(), &identity()).unwrap().load().unwrap(), Some(stored));
}

#[test]
fn a_store_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Three::new(dir.path()));
    let other = Identity { cluster: "demo".to_owned(), node: 2 };
    let error = RedbStore::open(dir.path(), &other).err().unwrap();
    assert!(matches!(&error, StoreError::Foreign { found, .. } if *found == identity()), "{error}");
}

#[test]
fn a_store_that_is_open_is_refused_to_a_second_one() {
    let dir = tempfile::tempdir().unwrap();
    let _three = Three::new(dir.path());
    let error = RedbStore::open(dir.path(), &identity()).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE_NAME), vec![0x5a; 10_000]).unwrap();
    let error = RedbStore::open(dir.path(), &identity()).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(FILE_NAME), "{error}");
}

#[test]
fn damage_anywhere_in_the_file_never_panics_and_never_yields_another_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut three = Three::new(dir.path());
    three.write(&Batch {
        entries: &entries(2..=200, 1),
        hard_state: Some(&hard_state(1, 150)),
        ..Batch::default()
    });
    let stored = three.stored.clone();
    drop(three);
    let file = dir.path().join(FILE_NAME);
    let whole = std::fs::read(&file).unwrap();
    assert!(whole.len() > 32 * 1024, "the test should cover many pages");
    // Every half page is hit once, over the whole file.
    for at in (0..whole.len()).step_by(2048) {
        let mut handle = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        handle.seek(SeekFrom::Start(at as u64)).unwrap();
        handle.write_all(&[0xa5; 64]).unwrap();
        drop(handle);
        if let Ok(mut store) = RedbStore::open(dir.path(), &identity())
            && let Ok(found) = store.load()
        {
            assert_eq!(found.as_ref(), Some(&stored), "damage at {at} went unnoticed");
        }
        std::fs::write(&file, &whole).unwrap();
    }
}

#[test]
fn parts_that_do_not_fit_together_are_found() {
    let mut good = Stored {
        hard_state: hard_state(2, 5),
        conf_state: voters(),
        snapshot: snapshot(3, 1),
        truncated: Position { index: 2, term: 1 },
        entries: entries(3..=6, 1),
        ..Stored::default()
    };
    good.check().unwrap();
    let broken: [fn(&mut Stored); 7] = [
        |stored| stored.hard_state.commit = 7,
        |stored| stored.hard_state.commit = 2,
        |stored| stored.hard_state.term = 0,
        |stored| stored.entries[2].index = 9,
        |stored| stored.truncated.index = 4,
        |stored| stored.entries.truncate(0),
        |stored| stored.conf_state.voters.clear(),
    ];
    for (number, breakage) in broken.iter().enumerate() {
        let mut stored = good.clone();
        breakage(&mut stored);
        assert!(stored.check().is_err(), "breakage {number}");
    }
    good.entries.push(Entry { index: 7, term: 0, ..Entry::default() });
    assert!(good.check().is_err(), "terms never go back");
}
