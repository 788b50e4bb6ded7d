//! Which client was served by which server: a fixed-size table that all workers share and nobody waits for.
//!
//! The table is an array of buckets of 32 entries, each made when its first client comes. A bucket is guarded by a sequence number (a seqlock): readers look,
//! and look again if a writer was there; writers take turns. Every attempt is bounded: whoever does not get through
//! goes on without (a reader finds nothing, a writer's fact is lost and counted). Facts about clients are soft, and
//! losing one is better than stalling traffic. A full bucket gives up its oldest entry.
//!
//! New, changed and refreshed entries of this node are to be told to the others: each is marked in its bucket, and its
//! place goes into a bounded queue. When the queue is full the mark stays, and [`ClientTable::changes`] finds it by
//! sweeping the table: nothing waits, nothing is lost for good.

mod bucket;
mod names;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bucket::{Bucket, Entry, SLOTS, Words};
use names::Names;

pub use names::NameId;

/// Entries of the table unless the caller wants another size: 100,000 clients fill it so little that one bucket overflows
/// by one client, in one table of two hundred. 10 MiB when all are in use.
pub const CLIENTS_DEFAULT: usize = 1 << 18;
/// Changes that may wait to be told to the other nodes before the table is swept for them: 64 KiB.
const CHANGES_QUEUED: usize = 1 << 12;
/// Buckets looked at in one call of [`ClientTable::changes`], so that a sweep does not hold up its caller.
const SWEEP_BUCKETS: usize = 1024;

/// One client of a service, as the other nodes and the operator see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEntry {
    /// The service.
    pub service: Arc<str>,
    /// The client.
    pub client: IpAddr,
    /// Its server.
    pub server: Arc<str>,
    /// When it was last seen, seconds since 1970. An entry is written down only now and then, so a client may have
    /// been here up to `sticky / 16` later.
    pub seen: u32,
}

/// What the table knows of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its server.
    pub server: NameId,
    /// When it was last seen, seconds since 1970.
    pub seen: u32,
}

impl Remembered {
    /// Whether the client was seen within `keep` seconds before `now`.
    #[must_use]
    pub fn is_fresh(&self, now: u32, keep: u32) -> bool {
        now.saturating_sub(self.seen) <= keep
    }
}

/// The table. See the module.
pub struct ClientTable {
    buckets: Box<[OnceLock<Box<Bucket>>]>,
    hasher: RandomState,
    names: Names,
    queue: SyncSender<(u32, u8)>,
    /// Some change did not fit into the queue.
    overflowed: AtomicBool,
    drain: Mutex<Drain>,
    entries: AtomicU64,
    evicted: AtomicU64,
    contended: AtomicU64,
}

struct Drain {
    queue: Receiver<(u32, u8)>,
    /// The bucket at which the sweep goes on.
    sweep: Option<usize>,
}

impl std::fmt::Debug for ClientTable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ClientTable").field("entries", &self.len()).finish_non_exhaustive()
    }
}

impl Default for ClientTable {
    fn default() -> Self {
        Self::new(CLIENTS_DEFAULT)
    }
}

impl ClientTable {
    /// A table for at least `capacity` entries (rounded up to a power of two, at least 32).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_queue(capacity, CHANGES_QUEUED)
    }

    fn with_queue(capacity: usize, queue: usize) -> Self {
        let buckets = capacity.div_ceil(SLOTS).max(1).next_power_of_two();
        let (sender, receiver) = sync_channel(queue);
        Self {
            buckets: (0..buckets).map(|_| OnceLock::new()).collect(),
            hasher: RandomState::new(),
            names: Names::default(),
            queue: sender,
            overflowed: AtomicBool::new(false),
            drain: Mutex::new(Drain { queue: receiver, sweep: None }),
            entries: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            contended: AtomicU64::new(0),
        }
    }

    /// The number that stands for the name of a service or a server in this table, for as long as it lives.
    #[must_use]
    pub fn name(&self, name: &str) -> NameId {
        self.names.id(name)
    }

    /// The server of a client, however long ago it was seen.
    #[must_use]
    pub fn lookup(&self, service: NameId, client: IpAddr) -> Option<Remembered> {
        let words = Words::new(service, client);
        let (index, tag) = self.index(words);
        let bucket = self.buckets[index].get()?;
        let entry =
            bucket.read(|view| view.find(tag, words).map(|slot| view.entry(slot))).or_else(|| {
                self.contended.fetch_add(1, Ordering::Relaxed);
                None
            })??;
        Some(Remembered { server: entry.server, seen: entry.seen })
    }

    /// Binds a new client to `server`, unless somebody (a connection of the same client, at this moment, on another
    /// worker) has bound it already within `keep` seconds before `now`: then the answer is that server.
    #[must_use]
    pub fn claim(&self, service: NameId, client: IpAddr, server: NameId, now: u32, keep: u32) -> NameId {
        let written = self.write(service, client, |known| match known {
            Some(known) if (Remembered { server: known.server, seen: known.seen }).is_fresh(now, keep) => {
                None
            }
            Some(known) => Some((server, now.max(known.seen.saturating_add(1)))),
            None => Some((server, now)),
        });
        written.map_or(server, |entry| entry.server)
    }

    /// The client is being served by `server` now. Written down if that is new, or if the entry is older than
    /// `refresh` seconds. A change of the server is always later than what it changes, by a second if need be: so it
    /// wins on every node, whatever the clocks say.
    pub fn remember(&self, service: NameId, client: IpAddr, server: NameId, now: u32, refresh: u32) {
        if let Some(known) = self.lookup(service, client)
            && known.server == server
            && now.saturating_sub(known.seen) < refresh
        {
            return;
        }
        self.write(service, client, |known| match known {
            Some(known) if known.server != server => Some((server, now.max(known.seen.saturating_add(1)))),
            Some(known) => (now > known.seen).then_some((server, now)),
            None => Some((server, now)),
        });
    }

    /// The client's connection to `server` lives on, or has just ended: as [`ClientTable::remember`], but a client that
    /// has gone over to another server since then stays there.
    pub fn refresh(&self, service: NameId, client: IpAddr, server: NameId, now: u32, refresh: u32) {
        if self.lookup(service, client).is_none_or(|known| known.server == server) {
            self.remember(service, client, server, now, refresh);
        }
    }

    /// Takes over facts from the log. A fact that is older than what is known here changes nothing. Facts with names
    /// beyond the limit on names are passed over.
    pub fn insert_remote<'a>(&self, facts: impl IntoIterator<Item = (&'a str, IpAddr, &'a str, u32)>) {
        for (service, client, server, seen) in facts {
            let (service, server) = (self.names.id(service), self.names.id(server));
            if service.is_none() || server.is_none() {
                continue;
            }
            let words = Words::new(service, client);
            let (bucket, tag) = self.place(words);
            let fact =
                |known: Option<Entry>| known.is_none_or(|known| known.seen <= seen).then_some((server, seen));
            // Not the data path: the log may be patient, within bounds.
            let done = (0..REMOTE_ATTEMPTS).any(|_| {
                let written = bucket.write(tag, words, fact);
                if written.is_none() {
                    std::thread::yield_now();
                }
                written.inspect(|written| self.count(written)).is_some()
            });
            if !done {
                self.contended.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Calls `each` with every entry, in no order. Entries that change meanwhile may be passed over.
    pub fn for_each(&self, mut each: impl FnMut(ClientEntry)) {
        for bucket in self.buckets.iter().filter_map(OnceLock::get) {
            let entries = bucket.read(|view| view.entries()).unwrap_or_default();
            entries.iter().flatten().filter_map(|entry| self.entry(entry)).for_each(&mut each);
        }
    }

    /// Entries in the table.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether no client is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that had to go because their bucket was full.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Look-ups and changes that were given up because the bucket was busy.
    #[must_use]
    pub fn contended(&self) -> u64 {
        self.contended.load(Ordering::Relaxed)
    }

    /// Takes up to about `most` entries that this node has made, changed or refreshed and not told yet. To be called
    /// every few milliseconds by whoever tells the other nodes. An entry that changed several times comes once.
    #[must_use]
    pub fn changes(&self, most: usize) -> Vec<ClientEntry> {
        let mut drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Vec::new();
        while changes.len() < most
            && let Ok((bucket, slot)) = drain.queue.try_recv()
        {
            self.take_change(bucket as usize, usize::from(slot), &mut changes);
        }
        if drain.sweep.is_none() && self.overflowed.swap(false, Ordering::AcqRel) {
            drain.sweep = Some(0);
        }
        if let Some(start) = drain.sweep {
            let mut position = start;
            let end = self.buckets.len().min(start + SWEEP_BUCKETS);
            while position < end && changes.len() < most {
                for slot in self.buckets[position].get().into_iter().flat_map(|bucket| bucket.marked()) {
                    self.take_change(position, slot, &mut changes);
                }
                position += 1;
            }
            drain.sweep = (position < self.buckets.len()).then_some(position);
        }
        changes
    }

    fn take_change(&self, position: usize, slot: usize, changes: &mut Vec<ClientEntry>) {
        let Some(bucket) = self.buckets[position].get() else { return };
        // Unmarked first: a change that comes while we look marks it again.
        if !bucket.unmark(slot) {
            return;
        }
        match bucket.read(|view| view.entry(slot)) {
            Some(entry) => changes.extend(self.entry(&entry)),
            None => {
                bucket.mark(slot);
                self.overflowed.store(true, Ordering::Release);
            }
        }
    }

    fn write(
        &self,
        service: NameId,
        client: IpAddr,
        decide: impl Fn(Option<Entry>) -> Option<(NameId, u32)>,
    ) -> Option<Entry> {
        let words = Words::new(service, client);
        let (bucket, tag) = self.place(words);
        let Some(written) = bucket.write(tag, words, decide) else {
            self.contended.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.count(&written);
        if written.changed && bucket.mark(written.slot) {
            self.announce(words, written.slot);
        }
        Some(written.entry)
    }

    fn announce(&self, words: Words, slot: usize) {
        let place = (u32::try_from(self.index(words).0), u8::try_from(slot));
        let (Ok(bucket), Ok(slot)) = place else { return };
        if self.queue.try_send((bucket, slot)).is_err() {
            self.overflowed.store(true, Ordering::Release);
        }
    }

    fn count(&self, written: &bucket::Written) {
        if written.evicted {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        } else if written.added {
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where an entry is to be written.
    fn place(&self, words: Words) -> (&Bucket, u64) {
        let (index, tag) = self.index(words);
        (self.buckets[index].get_or_init(Box::default), tag)
    }

    fn index(&self, words: Words) -> (usize, u64) {
        let hash = self.hasher.hash_one(words);
        // Low bits choose the bucket; the tag is all bits, and never 0, which means "empty".
        (hash as usize & (self.buckets.len() - 1), hash.max(1))
    }

    fn entry(&self, entry: &Entry) -> Option<ClientEntry> {
        Some(ClientEntry {
            service: self.names.name(entry.words.service())?,
            client: entry.words.client(),
            server: self.names.name(entry.server)?,
            seen: entry.seen,
        })
    }
}

/// Rounds of bounded attempts, with a yield between, for facts from the log.
const REMOTE_ATTEMPTS: usize = 64;

impl Words {
    fn new(service: NameId, client: IpAddr) -> Self {
        let bits = match client {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Self { service: service.number(), high: (bits >> 64) as u64, low: bits as u64 }
    }

    fn service(self) -> NameId {
        NameId::from_number(self.service)
    }

    fn client(self) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(self.high) << 64 | u128::from(self.low)).to_canonical()
    }
}

#[cfg(test)]
mod tests;
