//! Which sockets rest between two flows, and when they may serve again. Neither sockets nor a clock: the caller has both.
//!
//! A socket stays connected to its server, under its port, and serves the next flow to the same server without a system
//! call. So what a server sends late, to a client whose flow has ended, comes to the port that it was meant for, and must
//! not find another client there. Hence the rules, each of which a test shows:
//!
//! - As long as a socket rests, its port is nobody else's, and whatever comes to it is thrown away.
//! - It serves again only after it was silent for its whole rest; what comes meanwhile makes it rest anew.
//! - The rest is counted from the last datagram of the flow, and long ([`REST`]). It is short ([`REST_SETTLED`]) only when
//!   sockets are scarce, and only after a flow in which each datagram had its answer: nothing is owed there.
//! - When too many rest, the one that has rested for the longest time is closed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use cygnet_ha::time::Time;
use cygnet_netlink::udp::Origin;

/// How long a port is left alone after the last datagram: as long as a resolver waits for its answer (resolv.conf(5)), and
/// hundreds of times what an answer takes.
pub(super) const REST: Duration = Duration::from_secs(5);
/// The same after one question and one answer, when sockets are scarce: a second answer could only be one that was doubled,
/// and those come close together.
pub(super) const REST_SETTLED: Duration = Duration::from_millis(50);
/// A socket that nobody has wanted for so long is closed; a server that still sends to it hears so by ICMP.
pub(super) const KEEP: Duration = Duration::from_secs(10);
/// Pools of sockets with the same server and origin; those of further ones do not rest but are closed.
const POOLS_MAX: usize = 64;

/// A socket's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId(pub(super) u32);

/// What sockets have in common that can take each other's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// The server.
    pub(super) target: SocketAddr,
    /// Where datagrams to it start from.
    pub(super) origin: Origin,
}

/// A socket at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) id: SocketId,
    /// When its flow ended.
    pub(super) since: Time,
    /// Nothing has come or gone later than this.
    pub(super) silent_since: Time,
    /// The flow was one question and one answer.
    pub(super) is_settled: bool,
}

#[derive(Debug)]
struct Pool {
    peer: Peer,
    /// The longest rested first, in both.
    settled: VecDeque<Rest>,
    others: VecDeque<Rest>,
}

impl Pool {
    fn queues(&mut self) -> [&mut VecDeque<Rest>; 2] {
        [&mut self.settled, &mut self.others]
    }
}

/// All sockets of a worker that rest.
#[derive(Debug)]
pub(super) struct Resting {
    pools: Vec<Pool>,
    count: usize,
    most: usize,
}

impl Resting {
    /// At most so many.
    pub(super) fn new(most: usize) -> Self {
        Self { pools: Vec::new(), count: 0, most }
    }

    /// A socket begins its rest. Returns one that must be closed for it, if there are too many.
    pub(super) fn begin(&mut self, peer: Peer, rest: Rest) -> Option<SocketId> {
        let at = self.pools.iter().position(|pool| pool.peer == peer).unwrap_or(self.pools.len());
        if at == self.pools.len() {
            if at == POOLS_MAX {
                return Some(rest.id);
            }
            self.pools.push(Pool { peer, settled: VecDeque::new(), others: VecDeque::new() });
        }
        let pool = &mut self.pools[at];
        let queue = if rest.is_settled { &mut pool.settled } else { &mut pool.others };
        queue.push_back(rest);
        self.count += 1;
        (self.count > self.most).then(|| self.longest()).flatten()
    }

    /// One that has rested enough, if its queue has been looked at and it was silent: the caller's to find out.
    pub(super) fn take(&mut self, peer: &Peer, now: Time) -> Option<Rest> {
        // Half of them are left for those that need a long rest.
        let is_scarce = self.count * 2 >= self.most;
        let pool = self.pools.iter_mut().find(|pool| pool.peer == *peer)?;
        let short = if is_scarce { REST_SETTLED } else { REST };
        let has_rested = |rest: &mut Rest, least| now.since(rest.silent_since) >= least;
        let taken = pool
            .settled
            .pop_front_if(|rest| has_rested(rest, short))
            .or_else(|| pool.others.pop_front_if(|rest| has_rested(rest, REST)))?;
        self.count -= 1;
        Some(taken)
    }

    /// The one that has rested for the longest time.
    pub(super) fn longest(&mut self) -> Option<SocketId> {
        let queues = self.pools.iter_mut().flat_map(Pool::queues);
        let longest = queues.filter(|queue| !queue.is_empty()).min_by_key(|queue| queue[0].since)?;
        let rest = longest.pop_front()?;
        self.count -= 1;
        Some(rest.id)
    }

    /// One that nobody has wanted for too long.
    pub(super) fn unwanted(&mut self, now: Time) -> Option<SocketId> {
        let mut queues = self.pools.iter_mut().flat_map(Pool::queues);
        let is_unwanted = |rest: &mut Rest| now.since(rest.since) >= KEEP;
        let unwanted = queues.find_map(|queue| queue.pop_front_if(is_unwanted))?;
        self.count -= 1;
        Some(unwanted.id)
    }

    /// Forgets servers of which no socket rests.
    pub(super) fn tidy(&mut self) {
        self.pools.retain(|pool| !pool.settled.is_empty() || !pool.others.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn peer(server: u8) -> Peer {
        Peer { target: SocketAddr::from(([192, 0, 2, server], 53)), origin: Origin::Kernel { v6: false } }
    }

    fn at(milliseconds: u64) -> Time {
        Time::ZERO + Duration::from_millis(milliseconds)
    }

    fn rest(id: u32, milliseconds: u64, is_settled: bool) -> Rest {
        Rest { id: SocketId(id), since: at(milliseconds), silent_since: at(milliseconds), is_settled }
    }

    #[test]
    fn a_rest_is_short_only_where_nothing_is_owed_and_sockets_are_scarce() {
        let mut resting = Resting::new(4);
        assert_eq!(resting.begin(peer(1), rest(1, 0, true)), None);
        assert_eq!(resting.take(&peer(1), at(4_999)), None, "one of four is not scarce");
        assert_eq!(resting.begin(peer(1), rest(2, 0, false)), None);
        assert_eq!(resting.take(&peer(1), at(49)), None);
        assert_eq!(resting.take(&peer(2), at(50)), None, "another server");
        assert_eq!(resting.take(&peer(1), at(50)), Some(rest(1, 0, true)));
        assert_eq!(resting.begin(peer(1), rest(3, 0, false)), None);
        assert_eq!(resting.take(&peer(1), at(4_999)), None, "an answer is owed");
        assert_eq!(resting.take(&peer(1), at(5_000)), Some(rest(2, 0, false)));
    }

    #[test]
    fn the_longest_rested_of_all_goes_when_there_are_too_many() {
        let mut resting = Resting::new(2);
        assert_eq!(resting.begin(peer(1), rest(1, 20, true)), None);
        assert_eq!(resting.begin(peer(2), rest(2, 10, false)), None);
        assert_eq!(resting.begin(peer(2), rest(3, 30, true)), Some(SocketId(2)));
        assert_eq!(resting.longest(), Some(SocketId(1)));
    }

    #[test]
    fn one_that_nobody_wants_is_closed_and_its_server_forgotten() {
        let mut resting = Resting::new(2);
        resting.begin(peer(1), rest(1, 0, true));
        assert_eq!(resting.unwanted(at(9_999)), None);
        assert_eq!(resting.unwanted(at(10_000)), Some(SocketId(1)));
        resting.tidy();
        assert!(resting.pools.is_empty());
    }

    #[test]
    fn sockets_of_too_many_servers_do_not_rest() {
        let mut resting = Resting::new(1_000);
        for server in 0..POOLS_MAX as u8 {
            assert_eq!(resting.begin(peer(server), rest(server.into(), 0, true)), None);
        }
        assert_eq!(resting.begin(peer(255), rest(255, 0, true)), Some(SocketId(255)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin { server: u8, is_settled: bool },
        Take { server: u8 },
        Tick,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u8..3, any::<bool>()).prop_map(|(server, is_settled)| Step::Begin { server, is_settled }),
            3 => (0u8..3).prop_map(|server| Step::Take { server }),
            1 => Just(Step::Tick),
        ]
    }

    proptest! {
        /// Nobody serves before its time, or another server, or twice; and there are never more than allowed.
        #[test]
        fn no_port_is_used_again_too_soon(steps in prop::collection::vec((step(), 0u64..400), 0..200)) {
            const MOST: usize = 8;
            let (mut resting, mut now) = (Resting::new(MOST), 0);
            let mut model = HashMap::<u32, (u8, u64, bool)>::new();
            for (id, (step, wait)) in (0..).zip(steps) {
                now += wait;
                match step {
                    Step::Begin { server, is_settled } => {
                        model.insert(id, (server, now, is_settled));
                        if let Some(closed) = resting.begin(peer(server), rest(id, now, is_settled)) {
                            prop_assert!(model.remove(&closed.0).is_some());
                        }
                    }
                    Step::Take { server } => {
                        let was_scarce = model.len() * 2 >= MOST;
                        if let Some(taken) = resting.take(&peer(server), at(now)) {
                            let Some((of, since, is_settled)) = model.remove(&taken.id.0) else {
                                return Err(TestCaseError::fail("it does not rest"));
                            };
                            prop_assert_eq!(of, server);
                            let least = if is_settled && was_scarce { 50 } else { 5_000 };
                            prop_assert!(now - since >= least);
                        }
                    }
                    Step::Tick => while let Some(closed) = resting.unwanted(at(now)) {
                        prop_assert!(model.remove(&closed.0).is_some_and(|(_, since, _)| now - since >= 10_000));
                    },
                }
                prop_assert_eq!(resting.count, model.len());
                prop_assert!(model.len() <= MOST);
            }
        }
    }
}
