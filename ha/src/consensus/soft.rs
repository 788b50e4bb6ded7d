//! Client facts on their way into the log: coalesced by client, bounded, first in first out.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state::ClientFact;
use crate::state::command::NAME_MAX;

/// How many clients wait at most: as many as the table holds. Beyond that the one that waited longest is dropped,
/// for the table would forget it next.
pub const SOFT_MAX: usize = crate::state::CLIENTS_MAX;

/// Names and facts in one batch, bytes, as if no two facts shared a name: a batch must fit into one entry, and an entry
/// into one frame, or neither would ever get anywhere.
const BATCH_BYTES: usize = 512 * 1024;

/// Of one fact without its names: address, time and protobuf tags.
const FACT_BYTES: usize = 40;

type Key = (Arc<str>, IpAddr);

/// Facts that wait.
#[derive(Debug)]
pub struct SoftQueue {
    limit: usize,
    facts: HashMap<Key, (Arc<str>, u32)>,
    order: VecDeque<Key>,
    figures: SoftFigures,
}

/// Where the workers' side puts facts down: a short lock and no work under it. The raft thread takes all at once.
#[derive(Debug, Default)]
pub(super) struct Offered {
    facts: Vec<ClientFact>,
    dropped: u64,
}

impl Offered {
    /// What does not fit is dropped and counted; the raft thread empties this at each tick.
    pub(super) fn put(&mut self, mut facts: Vec<ClientFact>) {
        let room = SOFT_MAX.saturating_sub(self.facts.len());
        self.dropped += facts.len().saturating_sub(room) as u64;
        facts.truncate(room);
        if self.facts.is_empty() {
            self.facts = facts;
        } else {
            self.facts.append(&mut facts);
        }
    }

    /// All facts, and how many were dropped since the last time.
    pub(super) fn take(&mut self) -> (Vec<ClientFact>, u64) {
        (std::mem::take(&mut self.facts), std::mem::take(&mut self.dropped))
    }

    pub(super) fn len(&self) -> usize {
        self.facts.len()
    }
}

/// What became of the facts of this node, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftFigures {
    /// Offered by the workers.
    pub offered: u64,
    /// Replaced by a newer fact on the same client before they were sent.
    pub coalesced: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Seen in the log.
    pub replicated: u64,
    /// Waiting now, those in flight included.
    pub waiting: u64,
}

impl SoftQueue {
    /// An empty queue for `limit` clients.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, facts: HashMap::new(), order: VecDeque::new(), figures: SoftFigures::default() }
    }

    /// Takes a fact in. Never waits; if the queue is full, the oldest goes. A name that no entry may hold is dropped.
    pub fn offer(&mut self, fact: ClientFact) {
        self.figures.offered += 1;
        if fact.service.len().max(fact.server.len()) > NAME_MAX {
            self.figures.dropped += 1;
            return;
        }
        if !self.insert(fact) {
            self.figures.coalesced += 1;
        }
    }

    /// So many were dropped before they came here.
    pub fn count_dropped(&mut self, dropped: u64) {
        self.figures.offered += dropped;
        self.figures.dropped += dropped;
    }

    /// Facts that were taken and not replicated come back; what is newer by now stays.
    pub fn give_back(&mut self, facts: Vec<ClientFact>) {
        for fact in facts {
            if !self.insert(fact) {
                self.figures.coalesced += 1;
            }
        }
    }

    /// At most `count` facts that fit into one entry, those that waited longest first.
    pub fn take(&mut self, count: usize) -> Vec<ClientFact> {
        let mut taken = Vec::with_capacity(count.min(self.order.len()));
        let mut bytes = 0;
        while taken.len() < count && bytes + FACT_BYTES + 2 * NAME_MAX <= BATCH_BYTES {
            let Some(key) = self.order.pop_front() else { break };
            if let Some((server, seen)) = self.facts.remove(&key) {
                bytes += FACT_BYTES + key.0.len() + server.len();
                taken.push(ClientFact { service: key.0, client: key.1, server, seen });
            }
        }
        taken
    }

    /// Facts of ours were seen in the log.
    pub fn replicated(&mut self, count: usize) {
        self.figures.replicated += count as u64;
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The figures.
    #[must_use]
    pub fn figures(&self) -> SoftFigures {
        SoftFigures { waiting: self.order.len() as u64, ..self.figures }
    }

    /// False if the client was known, and one of the two facts is gone.
    fn insert(&mut self, fact: ClientFact) -> bool {
        let key = (fact.service, fact.client);
        match self.facts.entry(key.clone()) {
            Entry::Occupied(mut known) => {
                if known.get().1 <= fact.seen {
                    known.insert((fact.server, fact.seen));
                }
                return false;
            }
            Entry::Vacant(free) => {
                free.insert((fact.server, fact.seen));
            }
        }
        while self.order.len() >= self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            self.facts.remove(&oldest);
            self.figures.dropped += 1;
        }
        self.order.push_back(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::command::BATCH_FACTS_MAX;
    use crate::state::{ClientBatch, Command, Kind};

    fn fact(client: u8, server: &str, seen: u32) -> ClientFact {
        ClientFact { service: "web".into(), client: [10, 0, 0, client].into(), server: server.into(), seen }
    }

    #[test]
    fn facts_on_the_same_client_become_one_and_the_newer_wins() {
        let mut queue = SoftQueue::new(10);
        queue.offer(fact(1, "s1", 5));
        queue.offer(fact(1, "s2", 7));
        queue.offer(fact(1, "s3", 6));
        assert_eq!(queue.take(9), vec![fact(1, "s2", 7)]);
        assert_eq!(queue.figures().coalesced, 2);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_counts_it() {
        let mut queue = SoftQueue::new(2);
        for client in 1..=4 {
            queue.offer(fact(client, "s1", 1));
        }
        assert_eq!(queue.figures().dropped, 2);
        assert_eq!(queue.take(1), vec![fact(3, "s1", 1)]);
        assert_eq!(queue.take(9), vec![fact(4, "s1", 1)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_batch_fits_into_an_entry_however_long_the_names_and_a_name_over_the_limit_blocks_nobody() {
        let mut queue = SoftQueue::new(5000);
        queue.offer(fact(1, &"x".repeat(NAME_MAX + 1), 1));
        assert_eq!((queue.figures().dropped, queue.figures().waiting), (1, 0));
        for number in 0..4000u32 {
            let server: Arc<str> = format!("{number:0>NAME_MAX$}").into();
            let client = IpAddr::from(number.to_be_bytes());
            queue.offer(ClientFact { service: Arc::clone(&server), client, server, seen: 1 });
        }
        let mut taken = 0;
        while !queue.is_empty() {
            let facts = queue.take(BATCH_FACTS_MAX);
            taken += facts.len();
            let entry = Command::new(Kind::Clients(ClientBatch::pack(&facts)));
            assert!(entry.check().is_ok() && entry.encode().len() <= BATCH_BYTES);
        }
        assert_eq!(taken, 4000);
    }

    #[test]
    fn what_comes_back_does_not_overwrite_what_is_newer() {
        let mut queue = SoftQueue::new(10);
        queue.offer(fact(1, "s1", 5));
        queue.offer(fact(2, "s1", 5));
        let taken = queue.take(9);
        queue.offer(fact(1, "s2", 9));
        queue.give_back(taken);
        assert_eq!(queue.take(9), vec![fact(1, "s2", 9), fact(2, "s1", 5)]);
    }
}
