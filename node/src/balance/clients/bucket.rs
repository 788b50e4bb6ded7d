//! One bucket: 32 entries of plain atomics under a sequence number.
//!
//! The sequence is odd while somebody writes. A reader takes its copy between two looks at the sequence and keeps it
//! only if both saw the same even number (Boehm, "Can seqlocks get along with programming language memory models?").

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::names::NameId;

/// Entries in a bucket. With 32, a table at half its capacity overflows hardly a bucket; and their marks fit one word.
pub(super) const SLOTS: usize = 32;
/// How often to try to get at a bucket. A write takes some 100 ns; whoever holds it longer has been descheduled, and
/// is not waited for. About 10 µs.
const ATTEMPTS: usize = 400;

/// Who the entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Words {
    pub(super) service: u32,
    /// The address as IPv6 (an IPv4 address as mapped), upper half.
    pub(super) high: u64,
    pub(super) low: u64,
}

/// A copy of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) words: Words,
    pub(super) server: NameId,
    pub(super) seen: u32,
}

/// What a write came to.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) slot: usize,
    /// The entry as it is now.
    pub(super) entry: Entry,
    pub(super) changed: bool,
    /// It is a new entry.
    pub(super) added: bool,
    /// Another client's entry had to go.
    pub(super) evicted: bool,
}

#[derive(Default)]
pub(super) struct Bucket {
    sequence: AtomicU32,
    /// One bit a slot: changed here and not told to the other nodes yet.
    marks: AtomicU32,
    /// The client's hash; 0: empty. Together, for a look-up reads only these.
    tags: [AtomicU64; SLOTS],
    slots: [Slot; SLOTS],
}

#[derive(Default)]
struct Slot {
    service: AtomicU32,
    server: AtomicU32,
    seen: AtomicU32,
    high: AtomicU64,
    low: AtomicU64,
}

/// The bucket as seen within a read or a write.
pub(super) struct View<'a>(&'a Bucket);

impl View<'_> {
    pub(super) fn find(&self, tag: u64, words: Words) -> Option<usize> {
        (0..SLOTS).find(|slot| self.tag(*slot) == tag && self.entry(*slot).words == words)
    }

    pub(super) fn entry(&self, slot: usize) -> Entry {
        let slot = &self.0.slots[slot];
        Entry {
            words: Words {
                service: slot.service.load(Ordering::Relaxed),
                high: slot.high.load(Ordering::Relaxed),
                low: slot.low.load(Ordering::Relaxed),
            },
            server: NameId::from_number(slot.server.load(Ordering::Relaxed)),
            seen: slot.seen.load(Ordering::Relaxed),
        }
    }

    pub(super) fn entries(&self) -> [Option<Entry>; SLOTS] {
        std::array::from_fn(|slot| (self.tag(slot) != 0).then(|| self.entry(slot)))
    }

    fn tag(&self, slot: usize) -> u64 {
        self.0.tags[slot].load(Ordering::Relaxed)
    }

    /// An empty slot, or the one that was not seen for the longest time.
    fn victim(&self) -> usize {
        (0..SLOTS)
            .min_by_key(|slot| (self.tag(*slot) != 0, self.0.slots[*slot].seen.load(Ordering::Relaxed)))
            .unwrap_or(0)
    }
}

impl Bucket {
    /// What `look` sees at one moment; `None` if writers were always in the way.
    pub(super) fn read<T>(&self, look: impl Fn(View<'_>) -> T) -> Option<T> {
        for _ in 0..ATTEMPTS {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                let seen = look(View(self));
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return Some(seen);
                }
            }
            spin_loop();
        }
        None
    }

    /// Lets `decide` say what the client's entry is to become (server, seen), given what it is; `None` from it leaves
    /// everything as it is. `None` from here: others were always in the way.
    pub(super) fn write(
        &self,
        tag: u64,
        words: Words,
        decide: impl Fn(Option<Entry>) -> Option<(NameId, u32)>,
    ) -> Option<Written> {
        let guard = self.lock()?;
        let view = View(self);
        let found = view.find(tag, words);
        let known = found.map(|slot| view.entry(slot));
        let slot = found.unwrap_or_else(|| view.victim());
        let Some((server, seen)) = decide(known) else {
            let entry = known.unwrap_or(Entry { words, server: NameId::from_number(0), seen: 0 });
            return Some(Written { slot, entry, changed: false, added: false, evicted: false });
        };
        let evicted = found.is_none() && view.tag(slot) != 0;
        let target = &self.slots[slot];
        self.tags[slot].store(tag, Ordering::Relaxed);
        target.service.store(words.service, Ordering::Relaxed);
        target.high.store(words.high, Ordering::Relaxed);
        target.low.store(words.low, Ordering::Relaxed);
        target.server.store(server.number(), Ordering::Relaxed);
        target.seen.store(seen, Ordering::Relaxed);
        drop(guard);
        let entry = Entry { words, server, seen };
        Some(Written { slot, entry, changed: true, added: found.is_none(), evicted })
    }

    /// Marks a slot as changed; true if it was not marked.
    pub(super) fn mark(&self, slot: usize) -> bool {
        self.marks.fetch_or(1 << slot, Ordering::AcqRel) & (1 << slot) == 0
    }

    /// Takes the mark away; true if there was one.
    pub(super) fn unmark(&self, slot: usize) -> bool {
        self.marks.fetch_and(!(1 << slot), Ordering::AcqRel) & (1 << slot) != 0
    }

    /// The marked slots.
    pub(super) fn marked(&self) -> impl Iterator<Item = usize> + use<> {
        let marks = self.marks.load(Ordering::Acquire);
        (0..SLOTS).filter(move |slot| marks & (1 << slot) != 0)
    }

    fn lock(&self) -> Option<Writing<'_>> {
        for _ in 0..ATTEMPTS {
            let before = self.sequence.load(Ordering::Relaxed);
            if before & 1 == 0
                && self
                    .sequence
                    .compare_exchange(before, before.wrapping_add(1), Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                // The odd number must be visible before any of the stores that follow.
                fence(Ordering::Release);
                return Some(Writing(self));
            }
            spin_loop();
        }
        None
    }
}

/// The right to write; ends when dropped.
struct Writing<'a>(&'a Bucket);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.sequence.fetch_add(1, Ordering::Release);
    }
}
