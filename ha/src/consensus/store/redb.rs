//! The store on disk: one `redb` file with three tables. Pure Rust, one transaction per batch, checksummed.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use prost::Message;
use raft::eraftpb::{Entry, Snapshot};
use redb::{
    Builder, Database, DatabaseError, ReadableTable, StorageError, TableDefinition, WriteTransaction,
};

use super::{Batch, Epoch, Identity, LogStore, Position, StoreError, Stored};

/// Name of the file within the state directory.
pub const FILE_NAME: &str = "raft.redb";

/// The file while it is being made.
const UNFINISHED_NAME: &str = "raft.redb.new";

/// Pages that redb keeps in memory, bytes. We read the file once, at start.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Raised when the tables change their meaning.
const FORMAT: &[u8] = b"1";

/// Entries and snapshots are cut into pieces that fill a page of 16 KiB: the page in which a value lies is written
/// anew when its neighbour changes, and a small entry next to a large one would cost as much as the large one.
const PIECE: usize = 16 * 1024 - 256;

/// By index and piece.
const LOG: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("log");
/// The data of the snapshot, by piece.
const SNAPSHOT: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("snapshot");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const KEY_FORMAT: &str = "format";
const KEY_CLUSTER: &str = "cluster";
const KEY_NODE: &str = "node";
const KEY_HARD_STATE: &str = "hard_state";
const KEY_CONF_STATE: &str = "conf_state";
const KEY_SNAPSHOT: &str = "snapshot";
const KEY_TRUNCATED: &str = "truncated";
/// Absent in files of versions that knew no epochs.
const KEY_EPOCH: &str = "epoch";
/// Present while the log is being fetched anew.
const KEY_LOST: &str = "lost";

/// Log, hard state, voters and snapshot in a file.
pub struct RedbStore {
    file: PathBuf,
    identity: Identity,
    database: Database,
}

impl RedbStore {
    /// Opens or creates the database in `state_dir` and checks every page of it.
    ///
    /// # Errors
    /// Damaged, unreadable, in use, or another node's.
    pub fn open(state_dir: &Path, identity: &Identity) -> Result<Self, StoreError> {
        let file = state_dir.join(FILE_NAME);
        let io = |error: std::io::Error| StoreError::from_io(file.clone(), &error);
        std::fs::create_dir_all(state_dir).map_err(io)?;
        if file.try_exists().map_err(io)? {
            return Self::open_with(file.clone(), identity, |builder| builder.create(&file));
        }
        // Under another name until it is whole: whoever loses power meanwhile has no file yet, rather than one that
        // cannot be read. Nothing was promised before.
        let unfinished = state_dir.join(UNFINISHED_NAME);
        std::fs::remove_file(&unfinished)
            .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .map_err(io)?;
        let mut store = Self::open_with(unfinished.clone(), identity, |builder| builder.create(&unfinished))?;
        std::fs::rename(&unfinished, &file).map_err(io)?;
        std::fs::File::open(state_dir).and_then(|folder| folder.sync_all()).map_err(io)?;
        store.file = file;
        Ok(store)
    }

    /// The same over any storage; `file` is its name in messages.
    pub(super) fn open_with(
        file: PathBuf,
        identity: &Identity,
        open: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Self, StoreError> {
        // A garbled file may trip assertions inside of redb; that is damage like any other.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            open(Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true))
        }));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(error)) => return Err(open_error(&file, error)),
            Err(_) => {
                let what = "the database cannot be read: its structure is broken".to_owned();
                return Err(StoreError::Damaged { file, what });
            }
        };
        let store = Self { file, identity: identity.clone(), database };
        store.claim()?;
        Ok(store)
    }

    /// Writes our name into a new file; refuses a file with another name.
    fn claim(&self) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        let found = {
            let mut meta = transaction.open_table(META).map_err(|error| self.failed(error))?;
            let read = |key: &str| -> Result<Option<Vec<u8>>, StoreError> {
                Ok(meta.get(key).map_err(|error| self.failed(error))?.map(|value| value.value().to_vec()))
            };
            let found = match (read(KEY_FORMAT)?, read(KEY_CLUSTER)?, read(KEY_NODE)?) {
                (None, None, None) => None,
                (Some(format), _, _) if format != FORMAT => {
                    return Err(self.damaged("it was written by a newer version of cygnet; update this node"));
                }
                (Some(_), Some(cluster), Some(node)) => {
                    let cluster = String::from_utf8_lossy(&cluster).into_owned();
                    Some(Identity { cluster, node: number(&node) })
                }
                _ => return Err(self.damaged("the name of its owner is missing")),
            };
            if found.is_none() {
                let node = self.identity.node.to_be_bytes();
                for (key, value) in
                    [(KEY_FORMAT, FORMAT), (KEY_CLUSTER, self.identity.cluster.as_bytes()), (KEY_NODE, &node)]
                {
                    meta.insert(key, value).map_err(|error| self.failed(error))?;
                }
            }
            found
        };
        if let Some(found) = found.filter(|found| *found != self.identity) {
            return Err(StoreError::Foreign { file: self.file.clone(), found });
        }
        transaction.open_table(LOG).map_err(|error| self.failed(error))?;
        transaction.open_table(SNAPSHOT).map_err(|error| self.failed(error))?;
        transaction.commit().map_err(|error| self.failed(error))
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        // Durability is immediate unless it is told otherwise: commit returns after the fsync.
        self.database.begin_write().map_err(|error| self.failed(error))
    }

    fn read(&self) -> Result<Option<Stored>, StoreError> {
        // A write transaction that is dropped changes nothing, and needs only one kind of table handle.
        let transaction = self.begin()?;
        let meta = transaction.open_table(META).map_err(|error| self.failed(error))?;
        let value = |key: &str| -> Result<Option<Vec<u8>>, StoreError> {
            Ok(meta.get(key).map_err(|error| self.failed(error))?.map(|value| value.value().to_vec()))
        };
        let Some(snapshot) = value(KEY_SNAPSHOT)? else { return Ok(None) };
        let part = |key: &str| value(key)?.ok_or_else(|| self.damaged(&format!("{key} is missing")));
        let truncated = part(KEY_TRUNCATED)?;
        let snapshot = Snapshot {
            metadata: Some(self.decode(KEY_SNAPSHOT, &snapshot)?),
            data: self.read_snapshot(&transaction)?,
        };
        let stored = Stored {
            snapshot,
            hard_state: self.decode(KEY_HARD_STATE, &part(KEY_HARD_STATE)?)?,
            conf_state: self.decode(KEY_CONF_STATE, &part(KEY_CONF_STATE)?)?,
            truncated: Position {
                index: number(truncated.get(..8).unwrap_or_default()),
                term: number(truncated.get(8..).unwrap_or_default()),
            },
            entries: self.read_log(&transaction)?,
            epoch: match value(KEY_EPOCH)? {
                Some(bytes) => self.decode(KEY_EPOCH, &bytes)?,
                None => Epoch::default(),
            },
            lost: value(KEY_LOST)?.is_some_and(|lost| lost == [1]),
        };
        Ok(Some(stored))
    }

    fn read_snapshot(&self, transaction: &WriteTransaction) -> Result<Vec<u8>, StoreError> {
        let table = transaction.open_table(SNAPSHOT).map_err(|error| self.failed(error))?;
        let mut data = Vec::new();
        for item in table.iter().map_err(|error| self.failed(error))? {
            let (_, piece) = item.map_err(|error| self.failed(error))?;
            data.extend_from_slice(piece.value());
        }
        Ok(data)
    }

    fn read_log(&self, transaction: &WriteTransaction) -> Result<Vec<Entry>, StoreError> {
        let log = transaction.open_table(LOG).map_err(|error| self.failed(error))?;
        let mut entries = Vec::new();
        let mut bytes = Vec::new();
        let mut index = None;
        for item in log.iter().map_err(|error| self.failed(error))? {
            let (key, piece) = item.map_err(|error| self.failed(error))?;
            if index.is_some_and(|index| index != key.value().0) {
                entries.push(self.decode("an entry of the log", &bytes)?);
                bytes.clear();
            }
            index = Some(key.value().0);
            bytes.extend_from_slice(piece.value());
        }
        if index.is_some() {
            entries.push(self.decode("an entry of the log", &bytes)?);
        }
        Ok(entries)
    }

    fn decode<T: Message + Default>(&self, what: &str, bytes: &[u8]) -> Result<T, StoreError> {
        T::decode(bytes).map_err(|error| self.damaged(&format!("{what} cannot be decoded: {error}")))
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { file: self.file.clone(), what: what.to_owned() }
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        let (file, what) = (self.file.clone(), error.to_string());
        match error {
            redb::Error::Corrupted(_) => StoreError::Damaged { file, what },
            redb::Error::Io(error) => StoreError::from_io(file, &error),
            _ => StoreError::Io { file, what },
        }
    }

    fn write_log(&self, transaction: &WriteTransaction, batch: &Batch<'_>) -> Result<(), StoreError> {
        let mut log = transaction.open_table(LOG).map_err(|error| self.failed(error))?;
        if batch.clear_log {
            log.retain(|_, _| false).map_err(|error| self.failed(error))?;
        }
        if let Some(position) = batch.truncate {
            log.retain_in(..=(position.index, u32::MAX), |_, _| false).map_err(|error| self.failed(error))?;
        }
        if let Some(first) = batch.entries.first() {
            log.retain_in((first.index, 0).., |_, _| false).map_err(|error| self.failed(error))?;
        }
        for entry in batch.entries {
            let bytes = Entry::encode_to_vec(entry);
            for (part, piece) in (0u32..).zip(bytes.chunks(PIECE)) {
                log.insert((entry.index, part), piece).map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    fn write_snapshot(&self, transaction: &WriteTransaction, data: &[u8]) -> Result<(), StoreError> {
        let mut table = transaction.open_table(SNAPSHOT).map_err(|error| self.failed(error))?;
        table.retain(|_, _| false).map_err(|error| self.failed(error))?;
        for (part, piece) in (0u32..).zip(data.chunks(PIECE)) {
            table.insert(part, piece).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn write_meta(&self, transaction: &WriteTransaction, batch: &Batch<'_>) -> Result<(), StoreError> {
        let mut meta = transaction.open_table(META).map_err(|error| self.failed(error))?;
        let mut put = |key: &str, value: Vec<u8>| -> Result<(), StoreError> {
            meta.insert(key, value.as_slice()).map_err(|error| self.failed(error))?;
            Ok(())
        };
        if let Some(snapshot) = batch.snapshot {
            put(KEY_SNAPSHOT, snapshot.get_metadata().encode_to_vec())?;
        }
        if let Some(hard_state) = batch.hard_state {
            put(KEY_HARD_STATE, hard_state.encode_to_vec())?;
        }
        if let Some(conf_state) = batch.conf_state {
            put(KEY_CONF_STATE, conf_state.encode_to_vec())?;
        }
        if let Some(position) = batch.truncate {
            put(KEY_TRUNCATED, [position.index.to_be_bytes(), position.term.to_be_bytes()].concat())?;
        }
        if let Some(epoch) = batch.epoch {
            put(KEY_EPOCH, epoch.encode_to_vec())?;
        }
        if let Some(lost) = batch.lost {
            put(KEY_LOST, vec![u8::from(lost)])?;
        }
        Ok(())
    }
}

impl LogStore for RedbStore {
    fn load(&mut self) -> Result<Option<Stored>, StoreError> {
        let read = catch_unwind(AssertUnwindSafe(|| self.read()));
        let Some(stored) = read.unwrap_or_else(|_| Err(self.damaged("its structure is broken")))? else {
            return Ok(None);
        };
        stored.check().map_err(|what| self.damaged(&what))?;
        Ok(Some(stored))
    }

    fn write(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        self.write_log(&transaction, batch)?;
        self.write_meta(&transaction, batch)?;
        if let Some(snapshot) = batch.snapshot {
            self.write_snapshot(&transaction, &snapshot.data)?;
        }
        transaction.commit().map_err(|error| self.failed(error))
    }
}

fn open_error(file: &Path, error: DatabaseError) -> StoreError {
    let file = file.to_owned();
    let what = error.to_string();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { file },
        DatabaseError::Storage(StorageError::Io(io)) if io.kind() != ErrorKind::InvalidData => {
            StoreError::from_io(file, &io)
        }
        _ => StoreError::Damaged { file, what },
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}
