//! Sticky clients: which server a client of a service was last sent to.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// How many clients are remembered over all services. At some 200 bytes in memory and 20 in a snapshot: 50 MiB
/// and 5 MiB.
pub const CLIENTS_MAX: usize = 262_144;

/// The name table is cleaned when it has grown beyond this and beyond twice what the last cleaning left.
const NAMES_CLEAN: usize = 1024;

/// Places in the order that may be left over, beside one for each client.
const LEFT_OVER: usize = 1024;

/// A client of a service was sent to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientFact {
    /// Name of the service.
    pub service: Arc<str>,
    /// Address of the client, without port.
    pub client: IpAddr,
    /// Name of the server.
    pub server: Arc<str>,
    /// Last seen, seconds since 1970, by the clock of the node that saw it.
    pub seen: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    service: Arc<str>,
    client: IpAddr,
}

#[derive(Clone, Debug)]
struct Slot {
    server: Arc<str>,
    seen: u32,
    /// Position in the order of the log.
    stamp: u64,
}

/// The bounded table. When it is full, the client that was written longest ago, by the order of the log, goes.
#[derive(Clone, Debug)]
pub struct Clients {
    limit: usize,
    slots: HashMap<Key, Slot>,
    /// Oldest first. A place whose stamp is not its client's is left over from an earlier fact.
    order: VecDeque<(u64, Key)>,
    next_stamp: u64,
    names: HashSet<Arc<str>>,
    names_clean_at: usize,
}

impl Default for Clients {
    fn default() -> Self {
        Self::with_limit(CLIENTS_MAX)
    }
}

impl PartialEq for Clients {
    /// The same facts in the same order; how they are stored does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.limit == other.limit && self.slots.len() == other.slots.len() && self.iter().eq(other.iter())
    }
}

impl Clients {
    /// An empty table of another size. All nodes must use the same.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            slots: HashMap::new(),
            order: VecDeque::new(),
            next_stamp: 0,
            names: HashSet::new(),
            names_clean_at: NAMES_CLEAN,
        }
    }

    /// How many clients are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The server of a client.
    #[must_use]
    pub fn get(&self, service: &str, client: IpAddr) -> Option<ClientFact> {
        let key = Key { service: Arc::from(service), client };
        let slot = self.slots.get(&key)?;
        Some(ClientFact { service: key.service, client, server: Arc::clone(&slot.server), seen: slot.seen })
    }

    /// All facts, the one written longest ago first.
    pub fn iter(&self) -> impl Iterator<Item = ClientFact> + '_ {
        self.order.iter().filter_map(|(stamp, key)| {
            let slot = self.slots.get(key).filter(|slot| slot.stamp == *stamp)?;
            Some(ClientFact {
                service: Arc::clone(&key.service),
                client: key.client,
                server: Arc::clone(&slot.server),
                seen: slot.seen,
            })
        })
    }

    /// Takes a fact over unless a newer one is known. True if it was taken. Names should come from
    /// [`Clients::intern`], or each client would hold its own copy.
    pub(super) fn put(&mut self, fact: &ClientFact) -> bool {
        let key = Key { service: Arc::clone(&fact.service), client: fact.client };
        let stamp = self.next_stamp;
        let slot = Slot { server: Arc::clone(&fact.server), seen: fact.seen, stamp };
        match self.slots.entry(key.clone()) {
            Entry::Occupied(known) if known.get().seen > fact.seen => return false,
            Entry::Occupied(mut known) => {
                known.insert(slot);
            }
            Entry::Vacant(free) => {
                free.insert(slot);
            }
        }
        self.next_stamp += 1;
        self.order.push_back((stamp, key));
        self.evict();
        true
    }

    fn evict(&mut self) {
        while self.slots.len() > self.limit {
            let Some((stamp, oldest)) = self.order.pop_front() else { break };
            if self.slots.get(&oldest).is_some_and(|slot| slot.stamp == stamp) {
                self.slots.remove(&oldest);
            }
        }
        if self.order.len() > 2 * self.slots.len() + LEFT_OVER {
            let slots = &self.slots;
            self.order.retain(|(stamp, key)| slots.get(key).is_some_and(|slot| slot.stamp == *stamp));
        }
    }

    /// The one copy of a name.
    pub(super) fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        if self.names.len() >= self.names_clean_at {
            // Nobody but this table holds the name any more.
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.names_clean_at = NAMES_CLEAN.max(2 * self.names.len());
        }
        let name: Arc<str> = Arc::from(name);
        self.names.insert(Arc::clone(&name));
        name
    }
}
