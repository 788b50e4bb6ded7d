//! What is known of each client: `recent`, and the client table of the statistics pages.
//!
//! A worker writes its own table and no other one, so its lock is free whenever it comes; who reads takes it for a
//! handful of slots at a time ([`READ_SLOTS`]). The memory of servers, on which choices depend, is not here but in
//! [`crate::balance::ClientTable`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Slots that are read while a worker may have to wait: some 5 KiB, well below ten microseconds.
const READ_SLOTS: usize = 64;
/// No slot.
const NONE: u32 = u32::MAX;

/// A client's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Its address; ports do not count.
    pub(super) address: IpAddr,
    /// When it last connected, seconds since 1970.
    pub(super) last_used: i64,
    /// The position of its last server in the service.
    pub(super) server: Option<usize>,
    /// Connections made.
    pub(super) connects: u64,
    /// Bytes to the client.
    pub(super) sent: u64,
    /// Bytes from the client.
    pub(super) received: u64,
}

/// The accounts of all workers.
#[derive(Debug)]
pub(super) struct Accounts {
    tables: Box<[Mutex<Table>]>,
    /// Slots of each table at most. Only ever grows.
    slots_max: AtomicUsize,
    /// A slot whose client has not come for longer may be given to another one, s; 0: none may.
    tracking: AtomicI64,
}

impl Accounts {
    /// `slots_max`: clients that each worker remembers.
    pub(super) fn new(workers: usize, slots_max: usize) -> Self {
        Self {
            tables: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            slots_max: AtomicUsize::new(slots_max.max(1)),
            tracking: AtomicI64::new(0),
        }
    }

    /// Makes room for more clients; what is smaller than before changes nothing.
    pub(super) fn grow(&self, slots_max: usize) {
        self.slots_max.fetch_max(slots_max, Ordering::Relaxed);
    }

    /// After how many seconds a client's slot may be taken by another one; 0: only when there is no free one.
    pub(super) fn set_tracking(&self, seconds: i64) {
        self.tracking.store(seconds, Ordering::Relaxed);
    }

    /// A client has come.
    pub(super) fn opened(&self, worker: usize, address: IpAddr, now: i64) {
        let slots_max = self.slots_max.load(Ordering::Relaxed).min(NONE as usize);
        let tracking = self.tracking.load(Ordering::Relaxed);
        self.table(worker).opened(address, now, slots_max, tracking);
    }

    /// A connection of a client has ended, after so many bytes.
    pub(super) fn closed(
        &self,
        worker: usize,
        address: IpAddr,
        server: Option<usize>,
        sent: u64,
        received: u64,
    ) {
        self.table(worker).closed(address, server, sent, received);
    }

    /// All accounts in the order of their slots; what several workers know of one client is added up.
    pub(super) fn all(&self) -> Vec<Account> {
        let mut all = Vec::new();
        let mut places: HashMap<IpAddr, usize> = HashMap::new();
        for worker in 0..self.tables.len() {
            let mut from = 0;
            loop {
                let block = self.table(worker).block(from);
                from += block.len();
                if block.is_empty() {
                    break;
                }
                if self.tables.len() == 1 {
                    all.extend(block);
                    continue;
                }
                for account in block {
                    match places.get(&account.address).and_then(|&place| all.get_mut(place)) {
                        Some(known) => merge(known, &account),
                        None => {
                            places.insert(account.address, all.len());
                            all.push(account);
                        }
                    }
                }
            }
        }
        all
    }

    fn table(&self, worker: usize) -> MutexGuard<'_, Table> {
        self.tables[worker % self.tables.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn merge(known: &mut Account, other: &Account) {
    if other.last_used > known.last_used {
        known.last_used = other.last_used;
        known.server = other.server;
    }
    known.connects += other.connects;
    known.sent += other.sent;
    known.received += other.received;
}

/// One worker's clients: slots, an index of them by address, and their order by last use.
#[derive(Debug)]
struct Table {
    slots: Vec<Slot>,
    by_address: HashMap<IpAddr, u32>,
    /// Used last.
    newest: u32,
    /// Used least recently: the next to be taken over.
    oldest: u32,
}

#[derive(Debug)]
struct Slot {
    account: Account,
    /// The slot used next after this one.
    newer: u32,
    /// The slot used before it.
    older: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self { slots: Vec::new(), by_address: HashMap::new(), newest: NONE, oldest: NONE }
    }
}

impl Table {
    fn opened(&mut self, address: IpAddr, now: i64, slots_max: usize, tracking: i64) {
        let slot = match self.by_address.get(&address) {
            Some(&slot) => {
                self.unlink(slot);
                slot
            }
            None => self.take_slot(address, now, slots_max, tracking),
        };
        self.link_newest(slot);
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.account.last_used = now;
            slot.account.connects += 1;
        }
    }

    fn closed(&mut self, address: IpAddr, server: Option<usize>, sent: u64, received: u64) {
        // The slot may have been taken over meanwhile.
        let Some(&slot) = self.by_address.get(&address) else { return };
        let Some(slot) = self.slots.get_mut(slot as usize) else { return };
        slot.account.server = server.or(slot.account.server);
        slot.account.sent += sent;
        slot.account.received += received;
    }

    /// A slot for a new client, in no order yet: one that has run out, else a free one, else the one that was used least
    /// recently.
    fn take_slot(&mut self, address: IpAddr, now: i64, slots_max: usize, tracking: i64) -> u32 {
        let account = Account { address, last_used: now, server: None, connects: 0, sent: 0, received: 0 };
        let is_over = |slot: &Slot| tracking > 0 && slot.account.last_used < now.saturating_sub(tracking);
        let oldest_is_over = self.slots.get(self.oldest as usize).is_some_and(is_over);
        let slot = if self.oldest != NONE && (oldest_is_over || self.slots.len() >= slots_max) {
            let slot = self.oldest;
            self.unlink(slot);
            if let Some(taken) = self.slots.get_mut(slot as usize) {
                self.by_address.remove(&taken.account.address);
                taken.account = account;
            }
            slot
        } else {
            self.slots.push(Slot { account, newer: NONE, older: NONE });
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        };
        self.by_address.insert(address, slot);
        slot
    }

    fn unlink(&mut self, slot: u32) {
        let Some(&Slot { newer, older, .. }) = self.slots.get(slot as usize) else { return };
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let before = self.newest;
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            (slot.newer, slot.older) = (NONE, before);
        }
        match self.slots.get_mut(before as usize) {
            Some(before) => before.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    /// The next accounts from a slot on; none: that was all.
    fn block(&self, from: usize) -> Vec<Account> {
        self.slots.iter().skip(from).take(READ_SLOTS).map(|slot| slot.account).collect()
    }
}

#[cfg(test)]
mod tests;
