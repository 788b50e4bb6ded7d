//! What changes while traffic runs: counters and standings, all atomics, shared by the workers and by the plans.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use cygnet_ha::time::Time;

/// Counts up; read from any thread. Relaxed: the figures are for people, nothing is decided on them.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One worker's figures about a server, on cache lines of their own (128: the prefetcher fetches pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServerShard {
    /// Connections made.
    pub connected: Counter,
    /// Connects that failed or took too long.
    pub failed: Counter,
    /// Bytes from clients to the server.
    pub to_server: Counter,
    /// Bytes from the server to clients.
    pub to_client: Counter,
}

/// Whether a server may be chosen, as far as its past failures go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No failure is remembered.
    Good,
    /// Left alone until then.
    Blacklisted(Time),
    /// The time is over; the next client tries it, the others wait for what that one finds.
    OnTrial,
}

/// What is known of a server beyond its configuration.
#[derive(Debug)]
#[repr(align(128))]
pub struct ServerState {
    connections: AtomicU32,
    /// Nanoseconds of [`Time`]; 0: not blacklisted.
    blacklisted_until: AtomicU64,
    /// For the log lines about this server.
    pub reports: Limiter,
    shards: Box<[ServerShard]>,
}

impl ServerState {
    pub(super) fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            connections: AtomicU32::new(0),
            blacklisted_until: AtomicU64::new(0),
            reports: Limiter::default(),
            shards: (0..shards.max(1)).map(|_| ServerShard::default()).collect(),
        })
    }

    /// Connections now, with those that are being made.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes one of `max` places (0: no limit) over all workers; `None` when all are taken.
    #[must_use]
    pub fn reserve(self: &Arc<Self>, max: u32) -> Option<Lease> {
        let limit = if max == 0 { u32::MAX } else { max };
        self.connections
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| (now < limit).then(|| now + 1))
            .ok()
            .map(|_| Lease { server: Arc::clone(self) })
    }

    /// What the past failures say at `now`.
    #[must_use]
    pub fn standing(&self, now: Time) -> Standing {
        match self.blacklisted_until.load(Ordering::Relaxed) {
            0 => Standing::Good,
            until if until > now.0 => Standing::Blacklisted(Time(until)),
            _ => Standing::OnTrial,
        }
    }

    /// Makes the caller the one that tries the server; the others pass it over until `until`, so that a server that is
    /// still dead costs one client its time, not all. False: somebody else was first.
    #[must_use]
    pub fn begin_trial(&self, now: Time, until: Time) -> bool {
        let seen = self.blacklisted_until.load(Ordering::Relaxed);
        seen != 0
            && seen <= now.0
            && self
                .blacklisted_until
                .compare_exchange(seen, until.0.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// A connect failed: leave the server alone for `rest`. True if it was in good standing before.
    pub fn blacklist(&self, now: Time, rest: Duration) -> bool {
        if rest.is_zero() {
            return false;
        }
        self.blacklisted_until.swap((now + rest).0.max(1), Ordering::Relaxed) == 0
    }

    /// A connect succeeded. True if the server was not in good standing before.
    pub fn exonerate(&self) -> bool {
        // Nearly always zero: do not write to a line that all workers read.
        self.blacklisted_until.load(Ordering::Relaxed) != 0
            && self.blacklisted_until.swap(0, Ordering::Relaxed) != 0
    }

    /// The figures of one worker.
    #[must_use]
    pub fn shard(&self, worker: usize) -> &ServerShard {
        &self.shards[worker % self.shards.len()]
    }

    /// One figure over all workers.
    #[must_use]
    pub fn sum(&self, figure: impl Fn(&ServerShard) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| figure(shard).get()).sum()
    }
}

/// A place at a server; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    server: Arc<ServerState>,
}

impl Lease {
    /// The server.
    #[must_use]
    pub fn server(&self) -> &Arc<ServerState> {
        &self.server
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One worker's figures about a service.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServiceShard {
    /// Connections accepted from clients.
    pub accepted: Counter,
    /// Connections of clients that were closed because no server was left.
    pub refused: Counter,
    /// Connections that went to another server than the one that was tried first.
    pub failovers: Counter,
    /// Connections that had been silent for the idle timeout.
    pub idle: Counter,
    /// Connections that ended by a reset or an error of either side.
    pub aborted: Counter,
}

/// What is known of a service beyond its configuration.
#[derive(Debug)]
pub struct ServiceState {
    turn: AtomicU64,
    /// For the log lines about refused clients.
    pub refusals: Limiter,
    shards: Box<[ServiceShard]>,
}

impl ServiceState {
    pub(super) fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            turn: AtomicU64::new(0),
            refusals: Limiter::default(),
            shards: (0..shards.max(1)).map(|_| ServiceShard::default()).collect(),
        })
    }

    /// The next turn; one sequence for all workers.
    #[must_use]
    pub fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The figures of one worker.
    #[must_use]
    pub fn shard(&self, worker: usize) -> &ServiceShard {
        &self.shards[worker % self.shards.len()]
    }

    /// One figure over all workers.
    #[must_use]
    pub fn sum(&self, figure: impl Fn(&ServiceShard) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| figure(shard).get()).sum()
    }
}

/// Lets one message through per interval and counts the rest, so that a fault cannot flood the log.
#[derive(Debug, Default)]
pub struct Limiter {
    next: AtomicU64,
    held_back: AtomicU64,
}

impl Limiter {
    /// `Some(how many were held back since the last one)` if a message may go out at `now`.
    pub fn pass(&self, now: Time, interval: Duration) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let due = now.0 >= next
            && self
                .next
                .compare_exchange(next, (now + interval).0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if due {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_blacklisting_ends_with_one_trial_and_a_success_clears_it() {
        let server = ServerState::new(1);
        let start = Time(1_000);
        assert_eq!(server.standing(start), Standing::Good);
        assert!(server.blacklist(start, SECOND));
        assert!(!server.blacklist(start, SECOND), "it was blacklisted already");
        assert_eq!(server.standing(start), Standing::Blacklisted(start + SECOND));
        assert!(!server.begin_trial(start, start + SECOND), "too early");
        let over = start + SECOND;
        assert_eq!(server.standing(over), Standing::OnTrial);
        assert!(server.begin_trial(over, over + SECOND));
        assert!(!server.begin_trial(over, over + SECOND), "one trial at a time");
        assert!(matches!(server.standing(over), Standing::Blacklisted(_)));
        assert_eq!(server.standing(over + SECOND), Standing::OnTrial, "a trial nobody ended ends itself");
        assert!(server.exonerate());
        assert!(!server.exonerate());
        assert_eq!(server.standing(over), Standing::Good);
    }

    #[test]
    fn a_blacklist_time_of_zero_blacklists_nobody() {
        let server = ServerState::new(1);
        assert!(!server.blacklist(Time(5), Duration::ZERO));
        assert_eq!(server.standing(Time(5)), Standing::Good);
    }

    #[test]
    fn a_place_is_given_back_when_its_lease_is_dropped() {
        let server = ServerState::new(1);
        let first = server.reserve(2).unwrap();
        let second = server.reserve(2).unwrap();
        assert!(server.reserve(2).is_none());
        drop(first);
        let third = server.reserve(2).unwrap();
        assert_eq!(server.connections(), 2);
        drop((second, third));
        assert_eq!(server.connections(), 0);
    }

    #[test]
    fn the_limit_holds_when_many_threads_reserve_at_once() {
        let server = ServerState::new(4);
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(lease) = server.reserve(3) {
                            most.fetch_max(server.connections(), Ordering::Relaxed);
                            drop(lease);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::Relaxed) <= 3);
        assert_eq!(server.connections(), 0);
    }

    #[test]
    fn the_limiter_lets_one_message_through_and_counts_the_others() {
        let limiter = Limiter::default();
        assert_eq!(limiter.pass(Time(10), SECOND), Some(0));
        assert_eq!(limiter.pass(Time(11), SECOND), None);
        assert_eq!(limiter.pass(Time(12), SECOND), None);
        assert_eq!(limiter.pass(Time(10) + SECOND, SECOND), Some(2));
    }
}
