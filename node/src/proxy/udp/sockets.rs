//! The sockets towards servers: one per flow, and used again for other flows after a rest.
//!
//! An answer that comes late must not reach the next flow of its socket. So a socket whose flow has ended is disconnected:
//! the kernel finds it no more, and its next flow will have another port. What another processor was delivering to it at
//! that moment comes into its queue during the [`REST`], and is thrown away at the end of it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cygnet_ha::time::Time;
use cygnet_netlink::udp::{Origin, Upstream};

use super::table::FlowId;

/// How long a socket is left alone between two flows: ten thousand times as long as the kernel takes to put a datagram into
/// the queue of a socket that it has found.
pub(super) const REST: Duration = Duration::from_millis(50);
/// A socket that nobody has wanted for so long is closed.
const KEEP: Duration = Duration::from_secs(10);
/// Sockets that are closed in one tick at most: some 2.5 us each.
const CLOSED_PER_TICK: usize = 400;
/// Datagrams that are thrown away before a socket is given up: more than a receive buffer of the default size holds.
const DRAIN_MAX: usize = 1024;
/// Pools of sockets with the same origin; further origins (there is one per source address of the node) get none.
const POOLS_MAX: usize = 64;

/// A socket's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId(pub(super) u32);

/// The flow that a socket serves: the listener's place, and the flow's in its table.
pub(super) type Owner = (usize, FlowId);

#[derive(Debug, Default)]
struct Place {
    upstream: Option<Upstream>,
    owner: Option<Owner>,
    /// The turn in which it last had something.
    turn: u64,
}

#[derive(Debug)]
struct Pool {
    origin: Origin,
    /// The longest rested first.
    resting: VecDeque<(Time, SocketId)>,
}

/// All sockets towards servers of one worker.
#[derive(Debug)]
pub(super) struct Sockets {
    places: Vec<Place>,
    vacant: Vec<SocketId>,
    pools: Vec<Pool>,
    resting: usize,
    resting_max: usize,
}

impl Sockets {
    /// `resting_max`: how many may wait for their next flow.
    pub(super) fn new(resting_max: usize) -> Self {
        Self { places: Vec::new(), vacant: Vec::new(), pools: Vec::new(), resting: 0, resting_max }
    }

    /// A socket that is connected to `target`, and whether it is a new one that must be registered.
    pub(super) fn connect(
        &mut self,
        target: SocketAddr,
        origin: Origin,
        now: Time,
    ) -> io::Result<(SocketId, bool)> {
        let (id, is_new) = match self.rested(origin, now) {
            Some(id) => (id, false),
            None => (self.place(Upstream::new(target, origin)?)?, true),
        };
        match self.upstream(id).map(|upstream| upstream.connect(target)) {
            Some(Ok(())) => Ok((id, is_new)),
            failed => {
                self.close(id);
                Err(failed.and_then(Result::err).unwrap_or_else(|| io::ErrorKind::NotFound.into()))
            }
        }
    }

    /// The flow that the socket serves from now on.
    pub(super) fn set_owner(&mut self, id: SocketId, owner: Owner) {
        if let Some(place) = self.places.get_mut(id.0 as usize) {
            place.owner = Some(owner);
        }
    }

    /// The flow that it serves.
    pub(super) fn owner(&self, id: SocketId) -> Option<Owner> {
        self.places.get(id.0 as usize)?.owner
    }

    /// The socket.
    pub(super) fn upstream(&self, id: SocketId) -> Option<&Upstream> {
        self.places.get(id.0 as usize)?.upstream.as_ref()
    }

    /// Whether it had something in the turn before this one, too: then there is likely to be more.
    pub(super) fn is_busy(&mut self, id: SocketId, turn: u64) -> bool {
        self.places
            .get_mut(id.0 as usize)
            .is_some_and(|place| std::mem::replace(&mut place.turn, turn) + 1 == turn)
    }

    /// Its flow has ended.
    pub(super) fn retire(&mut self, id: SocketId, now: Time) {
        let Some(place) = self.places.get_mut(id.0 as usize) else { return };
        place.owner = None;
        let origin = place.upstream.as_ref().filter(|up| up.disconnect().is_ok()).map(Upstream::origin);
        let is_wanted = |origin: &Origin| !matches!(origin, Origin::Foreign(_));
        match origin.filter(is_wanted).filter(|_| self.resting < self.resting_max) {
            Some(origin) => self.rest(id, origin, now),
            None => self.close(id),
        }
    }

    /// Throws away what came to a socket without a flow.
    pub(super) fn drain(&mut self, id: SocketId) {
        if self.upstream(id).is_some_and(|upstream| !upstream.drain(DRAIN_MAX)) {
            tracing::debug!(socket = id.0, "a disconnected socket still receives");
        }
    }

    /// Gives a descriptor back, if a socket rests.
    pub(super) fn shed(&mut self) {
        let resting = self.pools.iter_mut().find_map(|pool| pool.resting.pop_front());
        if let Some((_, id)) = resting {
            self.resting -= 1;
            self.close(id);
        }
    }

    /// Closes sockets that nobody wants.
    pub(super) fn tick(&mut self, now: Time) {
        for _ in 0..CLOSED_PER_TICK {
            let longest = self
                .pools
                .iter_mut()
                .find(|pool| pool.resting.front().is_some_and(|(since, _)| now.since(*since) >= KEEP));
            let Some((_, id)) = longest.and_then(|pool| pool.resting.pop_front()) else { break };
            self.resting -= 1;
            self.close(id);
        }
        self.pools.retain(|pool| !pool.resting.is_empty());
    }

    /// Sockets that are open.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    fn rest(&mut self, id: SocketId, origin: Origin, now: Time) {
        let at = self.pools.iter().position(|pool| pool.origin == origin).unwrap_or(self.pools.len());
        if at == self.pools.len() {
            if at == POOLS_MAX {
                return self.close(id);
            }
            self.pools.push(Pool { origin, resting: VecDeque::new() });
        }
        self.pools[at].resting.push_back((now, id));
        self.resting += 1;
    }

    /// A socket that has rested, and is as new.
    fn rested(&mut self, origin: Origin, now: Time) -> Option<SocketId> {
        let pool = self.pools.iter_mut().find(|pool| pool.origin == origin)?;
        let (since, id) = *pool.resting.front()?;
        if now.since(since) < REST {
            return None;
        }
        pool.resting.pop_front();
        self.resting -= 1;
        if self.upstream(id).is_some_and(|upstream| upstream.drain(DRAIN_MAX)) {
            return Some(id);
        }
        self.close(id);
        None
    }

    fn place(&mut self, upstream: Upstream) -> io::Result<SocketId> {
        let place = Place { upstream: Some(upstream), ..Place::default() };
        match self.vacant.pop() {
            Some(id) => {
                self.places[id.0 as usize] = place;
                Ok(id)
            }
            None => {
                let id = u32::try_from(self.places.len()).map_err(io::Error::other)?;
                self.places.push(place);
                Ok(SocketId(id))
            }
        }
    }

    /// Closing takes it off the epoll set, too.
    pub(super) fn close(&mut self, id: SocketId) {
        if let Some(place) = self.places.get_mut(id.0 as usize)
            && place.upstream.is_some()
        {
            *place = Place::default();
            self.vacant.push(id);
        }
    }
}
