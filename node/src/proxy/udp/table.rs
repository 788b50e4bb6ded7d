//! Which flow a datagram belongs to: one table per listener and worker.
//!
//! The flows hang in a list in the order in which they were last heard of, so that the oldest is found at once. A flow that
//! is heard of again and again moves in it once in [`GRAIN`], not once a datagram.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cygnet_ha::time::Time;

/// How exact the table knows when a flow was last heard of.
pub(super) const GRAIN: Duration = Duration::from_millis(100);
/// No neighbour in the list.
const NONE: u32 = u32::MAX;

/// What makes datagrams one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The client's address and port.
    pub(super) client: SocketAddr,
    /// Which of this node's addresses it asks, where the listener has several.
    pub(super) to: Option<SocketAddr>,
}

/// A few whole words, where the derived one writes field by field: that is half of what a look-up costs. The hash stays one
/// with a secret key: addresses and ports are the clients' choice.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        write(self.client, state);
        // Where a listener has several addresses, all its keys have this; elsewhere none.
        if let Some(to) = self.to {
            write(to, state);
        }
    }
}

fn write(address: SocketAddr, state: &mut impl Hasher) {
    let port = u64::from(address.port());
    match address.ip() {
        IpAddr::V4(v4) => state.write_u64(u64::from(v4.to_bits()) << 16 | port),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            state.write_u64(bits as u64);
            state.write_u64((bits >> 64) as u64);
            state.write_u64(port);
        }
    }
}

/// A flow's place in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlowId(u32);

#[derive(Debug)]
struct Entry<T> {
    key: Key,
    seen: Time,
    older: u32,
    newer: u32,
    value: T,
}

/// The table. How many flows there may be is the caller's to see to.
#[derive(Debug)]
pub(super) struct FlowTable<T> {
    places: HashMap<Key, u32>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
}

impl<T> Default for FlowTable<T> {
    fn default() -> Self {
        Self { places: HashMap::new(), entries: Vec::new(), free: Vec::new(), oldest: NONE, newest: NONE }
    }
}

impl<T> FlowTable<T> {
    /// The flow of these datagrams.
    pub(super) fn find(&self, key: &Key) -> Option<FlowId> {
        self.places.get(key).copied().map(FlowId)
    }

    /// What belongs to a flow, with its key.
    pub(super) fn get(&self, id: FlowId) -> Option<(&Key, &T)> {
        self.entry(id.0).map(|entry| (&entry.key, &entry.value))
    }

    /// What belongs to a flow, which has just been heard of.
    pub(super) fn hear(&mut self, id: FlowId, now: Time) -> Option<(&Key, &mut T)> {
        let entry = self.entry(id.0)?;
        if now.since(entry.seen) >= GRAIN {
            self.unlink(id.0);
            self.link(id.0, now);
        }
        self.entry_mut(id.0).map(|entry| (&entry.key, &mut entry.value))
    }

    /// A new flow. `None` if there is one with this key already, or 2^32 - 1 of them.
    pub(super) fn insert(&mut self, key: Key, now: Time, value: T) -> Option<FlowId> {
        if self.places.contains_key(&key) {
            return None;
        }
        let entry = Some(Entry { key, seen: now, older: NONE, newer: NONE, value });
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                let at = u32::try_from(self.entries.len()).ok().filter(|at| *at != NONE)?;
                self.entries.push(entry);
                at
            }
        };
        self.places.insert(key, at);
        self.link(at, now);
        Some(FlowId(at))
    }

    /// Ends a flow.
    pub(super) fn remove(&mut self, id: FlowId) -> Option<(Key, T)> {
        self.entry(id.0)?;
        self.unlink(id.0);
        let entry = self.entries[id.0 as usize].take()?;
        self.places.remove(&entry.key);
        self.free.push(id.0);
        Some((entry.key, entry.value))
    }

    /// The flow that was not heard of for the longest time, and since when.
    pub(super) fn oldest(&self) -> Option<(FlowId, Time)> {
        self.entry(self.oldest).map(|entry| (FlowId(self.oldest), entry.seen))
    }

    /// When it was last heard of, or up to [`GRAIN`] before that.
    pub(super) fn seen(&self, id: FlowId) -> Option<Time> {
        self.entry(id.0).map(|entry| entry.seen)
    }

    /// Looks at all flows.
    pub(super) fn for_each(&mut self, mut each: impl FnMut(FlowId, &mut T)) {
        for (at, entry) in (0..).zip(&mut self.entries) {
            if let Some(entry) = entry {
                each(FlowId(at), &mut entry.value);
            }
        }
    }

    /// How many flows there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    fn entry(&self, at: u32) -> Option<&Entry<T>> {
        self.entries.get(at as usize)?.as_ref()
    }

    fn entry_mut(&mut self, at: u32) -> Option<&mut Entry<T>> {
        self.entries.get_mut(at as usize)?.as_mut()
    }

    /// Makes it the newest.
    fn link(&mut self, at: u32, now: Time) {
        let older = self.newest;
        if let Some(entry) = self.entry_mut(at) {
            (entry.seen, entry.older, entry.newer) = (now, older, NONE);
        }
        match self.entry_mut(older) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Some((older, newer)) = self.entry(at).map(|entry| (entry.older, entry.newer)) else { return };
        match self.entry_mut(older) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.entry_mut(newer) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(client: u16) -> Key {
        Key { client: SocketAddr::from(([192, 0, 2, 1], client)), to: None }
    }

    fn at(milliseconds: u64) -> Time {
        Time::ZERO + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_client_that_asks_two_addresses_has_two_flows() {
        let mut table = FlowTable::default();
        let one = Key { to: Some("192.0.2.8:0".parse().unwrap()), ..key(1) };
        let other = Key { to: Some("192.0.2.9:0".parse().unwrap()), ..key(1) };
        let flow = table.insert(one, at(0), "one").unwrap();
        assert_eq!(table.find(&other), None);
        assert!(table.insert(one, at(0), "again").is_none());
        assert_ne!(table.insert(other, at(0), "other"), Some(flow));
        assert_eq!(table.remove(flow), Some((one, "one")));
        assert_eq!((table.find(&one), table.len()), (None, 1));
        assert_eq!(table.remove(flow), None);
    }

    #[test]
    fn a_flow_that_is_heard_of_is_not_the_oldest_any_more() {
        let mut table = FlowTable::default();
        let first = table.insert(key(1), at(0), ()).unwrap();
        let second = table.insert(key(2), at(10), ()).unwrap();
        table.hear(first, at(99));
        assert_eq!(table.oldest(), Some((first, at(0))), "too soon to count");
        table.hear(first, at(100));
        assert_eq!(table.oldest(), Some((second, at(10))));
        table.remove(second);
        assert_eq!(table.oldest(), Some((first, at(100))));
        table.remove(first);
        assert_eq!(table.oldest(), None);
    }

    #[test]
    fn keys_that_are_equal_have_equal_hashes_and_others_do_not() {
        use std::hash::{BuildHasher, RandomState};
        let state = RandomState::new();
        let texts =
            ["192.0.2.1:5", "192.0.2.1:6", "192.0.2.2:5", "[::1]:5", "[1::]:5", "[fe80::1%3]:5", "[::1]:6"];
        let clients: Vec<SocketAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let keys = clients.iter().flat_map(|client| {
            [None, Some(clients[0]), Some(clients[3])].map(|to| Key { client: *client, to })
        });
        let hashes: Vec<u64> = keys.clone().map(|key| state.hash_one(key)).collect();
        assert_eq!(hashes, keys.map(|key| state.hash_one(key)).collect::<Vec<_>>());
        assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), hashes.len());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Datagram(u16),
        Remove(u16),
        Recycle,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u16..12).prop_map(Step::Datagram),
            1 => (0u16..12).prop_map(Step::Remove),
            1 => Just(Step::Recycle),
        ]
    }

    proptest! {
        /// Against a plain list in which the newest stands last.
        #[test]
        fn the_order_is_that_of_the_last_word(steps in prop::collection::vec(step(), 0..200)) {
            let (mut table, mut model) = (FlowTable::default(), Vec::<u16>::new());
            for (step, now) in steps.into_iter().zip((0..).step_by(100)) {
                match step {
                    Step::Datagram(client) => {
                        match table.find(&key(client)) {
                            Some(flow) => prop_assert_eq!(table.hear(flow, at(now)), Some((&key(client), &mut client.clone()))),
                            None => prop_assert!(table.insert(key(client), at(now), client).is_some()),
                        }
                        model.retain(|known| *known != client);
                        model.push(client);
                    }
                    Step::Remove(client) => {
                        let removed = table.find(&key(client)).and_then(|flow| table.remove(flow));
                        prop_assert_eq!(removed.is_some(), model.contains(&client));
                        model.retain(|known| *known != client);
                    }
                    Step::Recycle => {
                        let oldest = table.oldest().and_then(|(flow, _)| table.remove(flow));
                        let expected = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(oldest.map(|(_, client)| client), expected);
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                let oldest = table.oldest().and_then(|(flow, _)| table.get(flow)).map(|(_, client)| *client);
                prop_assert_eq!(oldest, model.first().copied());
            }
            prop_assert!(table.entries.len() <= 12, "places are used again");
        }
    }
}
