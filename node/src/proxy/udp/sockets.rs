//! The sockets towards servers: one per flow, and used again for other flows after a rest.
//!
//! An answer that comes late must not reach the next flow of its socket. What sees to that is in `rest.rs`; what a socket
//! has heard while it rested, and whether anything is left in its queue when it is to serve again, is found out here.

use std::io;
use std::num::NonZeroU16;
use std::time::Duration;

use cygnet_ha::time::Time;
use cygnet_netlink::udp::{Origin, Upstream};

pub(super) use super::rest::{Peer, SocketId};
use super::rest::{Rest, Resting};
use super::table::FlowId;

/// How long a socket serves one flow after the other. A new one asks the kernel's routes anew where it starts from.
pub(super) const SERVE: Duration = Duration::from_secs(60);
/// Sockets that are closed in one tick at most: some 2.5 us each.
const CLOSED_PER_TICK: usize = 400;
/// Datagrams that are thrown away in one go: more than a receive buffer of the default size holds.
const DISCARD_MAX: usize = 1024;
/// Sockets that are looked at for a new flow before one is made: those to which something came late.
const LOOKS_MAX: usize = 4;

/// The flow that a socket serves: the listener's place, and the flow's in its table.
pub(super) type Owner = (usize, FlowId);

/// What becomes of a socket whose flow has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It rests, and serves again.
    Idle {
        /// Nothing has come or gone later than this.
        silent_since: Time,
        /// It was one question and one answer.
        is_settled: bool,
    },
    /// It is closed.
    Broken,
}

#[derive(Debug)]
struct Place {
    upstream: Upstream,
    peer: Peer,
    opened: Time,
    owner: Option<Owner>,
    /// The turn in which it last had something.
    turn: u64,
    /// Something came while it rested.
    heard: bool,
    /// Its datagrams may come as trains.
    coalesces: bool,
}

/// All sockets towards servers of one worker.
#[derive(Debug)]
pub(super) struct Sockets {
    places: Vec<Option<Place>>,
    vacant: Vec<SocketId>,
    resting: Resting,
}

impl Sockets {
    /// `resting_max`: how many may wait for their next flow.
    pub(super) fn new(resting_max: usize) -> Self {
        Self { places: Vec::new(), vacant: Vec::new(), resting: Resting::new(resting_max) }
    }

    /// A socket that is connected to its peer, and whether it is a new one that must be registered. `told_all`: whatever was
    /// in a queue when this turn began has been thrown away.
    pub(super) fn connect(&mut self, peer: Peer, told_all: bool, now: Time) -> io::Result<(SocketId, bool)> {
        match self.rested(&peer, told_all, now) {
            Some(id) => Ok((id, false)),
            None => Ok((self.place(peer, now)?, true)),
        }
    }

    /// The flow that the socket serves from now on.
    pub(super) fn set_owner(&mut self, id: SocketId, owner: Owner) {
        if let Some(place) = self.get_mut(id) {
            place.owner = Some(owner);
        }
    }

    /// The flow that it serves.
    pub(super) fn owner(&self, id: SocketId) -> Option<Owner> {
        self.get(id)?.owner
    }

    /// The socket.
    pub(super) fn upstream(&self, id: SocketId) -> Option<&Upstream> {
        self.get(id).map(|place| &place.upstream)
    }

    /// The next datagram of the server, or a train of them: its length, and that of each datagram.
    ///
    /// Errors: those of the socket; `WouldBlock` when there is none.
    pub(super) fn receive(&self, id: SocketId, room: &mut [u8]) -> io::Result<(usize, Option<NonZeroU16>)> {
        let place = self.get(id).ok_or(io::ErrorKind::WouldBlock)?;
        if place.coalesces {
            return place.upstream.receive_train(room);
        }
        place.upstream.receive(room).map(|length| (length, None))
    }

    /// Its server sends many datagrams at once: from now on they may come as trains.
    pub(super) fn coalesce(&mut self, id: SocketId) {
        if let Some(place) = self.get_mut(id).filter(|place| !place.coalesces) {
            place.coalesces = true;
            place.upstream.coalesce();
        }
    }

    /// Whether it had something in the turn before this one, too: then there is likely to be more.
    pub(super) fn is_busy(&mut self, id: SocketId, turn: u64) -> bool {
        self.get_mut(id).is_some_and(|place| std::mem::replace(&mut place.turn, turn) + 1 == turn)
    }

    /// Its flow has ended.
    pub(super) fn retire(&mut self, id: SocketId, left: Left, now: Time) {
        let Some(place) = self.get_mut(id) else { return };
        place.owner = None;
        match left {
            Left::Idle { silent_since, is_settled }
                if now.since(place.opened) < SERVE && !matches!(place.peer.origin, Origin::Foreign(_)) =>
            {
                self.rest(Rest { id, since: now, silent_since, is_settled });
            }
            _ => self.close(id),
        }
    }

    /// Throws away what came to a socket without a flow, and remembers that something did.
    pub(super) fn discard(&mut self, id: SocketId) {
        let Some(place) = self.get_mut(id) else { return };
        place.heard |= place.upstream.discard(DISCARD_MAX) > 0;
    }

    /// Gives a descriptor and a port back, if a socket rests.
    pub(super) fn shed(&mut self) -> bool {
        self.resting.longest().map(|id| self.close(id)).is_some()
    }

    /// Closes sockets that nobody wants.
    pub(super) fn tick(&mut self, now: Time) {
        for _ in 0..CLOSED_PER_TICK {
            let Some(id) = self.resting.unwanted(now) else { break };
            self.close(id);
        }
        self.resting.tidy();
    }

    /// Closing takes it off the epoll set, too.
    pub(super) fn close(&mut self, id: SocketId) {
        if self.places.get_mut(id.0 as usize).and_then(Option::take).is_some() {
            self.vacant.push(id);
        }
    }

    /// Sockets that are open.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    fn rest(&mut self, rest: Rest) {
        let Some(peer) = self.get(rest.id).map(|place| place.peer) else { return };
        if let Some(surplus) = self.resting.begin(peer, rest) {
            self.close(surplus);
        }
    }

    /// A socket that has rested, and was silent all the time up to this turn. Sockets at rest are registered
    /// (level-triggered), so the kernel has told of what was in their queues; if not of all, it is looked for here.
    fn rested(&mut self, peer: &Peer, told_all: bool, now: Time) -> Option<SocketId> {
        for _ in 0..LOOKS_MAX {
            let rest = self.resting.take(peer, now)?;
            let place = self.get_mut(rest.id)?;
            let had_heard = std::mem::take(&mut place.heard);
            if !had_heard && (told_all || place.upstream.discard(DISCARD_MAX) == 0) {
                return Some(rest.id);
            }
            // The server still sends to this port: it is kept from everybody else for another rest, and then some, but not
            // for ever (`since` is what it was).
            self.rest(Rest { silent_since: now, is_settled: false, ..rest });
        }
        None
    }

    fn place(&mut self, peer: Peer, now: Time) -> io::Result<SocketId> {
        let upstream = Upstream::connect(peer.target, peer.origin)?;
        let place =
            Some(Place { upstream, peer, opened: now, owner: None, turn: 0, heard: false, coalesces: false });
        if let Some(id) = self.vacant.pop() {
            self.places[id.0 as usize] = place;
            return Ok(id);
        }
        let id = u32::try_from(self.places.len()).map_err(io::Error::other)?;
        self.places.push(place);
        Ok(SocketId(id))
    }

    fn get(&self, id: SocketId) -> Option<&Place> {
        self.places.get(id.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, id: SocketId) -> Option<&mut Place> {
        self.places.get_mut(id.0 as usize)?.as_mut()
    }
}
