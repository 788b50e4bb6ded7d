//! What changes while traffic runs: counters and standings, all atomics, shared by the workers and by the plans.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
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

/// Whether a server may be chosen, as far as its past failures and its health checks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No failure is remembered.
    Good,
    /// Its health checks fail: left alone until they pass.
    Down,
    /// Left alone until then.
    Blacklisted(Time),
    /// The time is over; the next client tries it, the others wait for what that one finds.
    OnTrial,
}

impl Standing {
    /// Whether the server is chosen only when nothing else is left.
    #[must_use]
    pub fn is_left_alone(self) -> bool {
        matches!(self, Self::Down | Self::Blacklisted(_))
    }
}

/// What is known of a server beyond its configuration.
#[derive(Debug)]
#[repr(align(128))]
pub struct ServerState {
    connections: AtomicU32,
    /// When it was blacklisted last: nanoseconds of [`Time`] and [`STAMP_ZERO`]; 0: it is not.
    stamp: AtomicU64,
    /// Its health checks fail. Beside the stamp, so that asking for both touches one cache line.
    down: AtomicBool,
    /// For the log lines about this server.
    pub reports: Limiter,
    shards: Box<[ServerShard]>,
}

/// [`Time::ZERO`] as a stamp: a blacklisting may have begun, by its arithmetic, before there was time.
const STAMP_ZERO: u64 = 1 << 62;

fn nanos(duration: Duration) -> u64 {
    // Longer than anybody blacklists, and short enough to be added to a stamp.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(STAMP_ZERO)
}

impl ServerState {
    pub(super) fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            connections: AtomicU32::new(0),
            stamp: AtomicU64::new(0),
            down: AtomicBool::new(false),
            reports: Limiter::default(),
            shards: (0..shards.max(1)).map(|_| ServerShard::default()).collect(),
        })
    }

    /// Connections now, with those that are being made (with Pen's rules: without them).
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
            .map(|_| Lease { server: Arc::clone(self), counted: true })
    }

    /// As [`ServerState::reserve`], but the place is only counted when the connect has completed, as Pen does it: several
    /// workers may together go beyond the limit.
    #[must_use]
    pub fn admit(self: &Arc<Self>, max: u32) -> Option<Lease> {
        let below = max == 0 || self.connections() < max;
        below.then(|| Lease { server: Arc::clone(self), counted: false })
    }

    /// The health checks say that the server is down, or that it is not.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// Whether its health checks fail.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// What health checks and past failures say at `now`, if a server that failed is left alone for `rest` (zero: never).
    #[must_use]
    pub fn standing(&self, now: Time, rest: Duration) -> Standing {
        match self.stamp.load(Ordering::Relaxed) {
            _ if self.is_down() => Standing::Down,
            0 => Standing::Good,
            _ if rest.is_zero() => Standing::Good,
            stamp => {
                let until = Time(stamp.saturating_add(nanos(rest)).saturating_sub(STAMP_ZERO));
                if until > now { Standing::Blacklisted(until) } else { Standing::OnTrial }
            }
        }
    }

    /// When the last blacklisting began, in nanoseconds of [`Time`]; negative when its end was set by hand so that the
    /// arithmetic comes out before the start of time. `None`: there is none, or it was lifted.
    #[must_use]
    pub fn blacklisted_at(&self) -> Option<i64> {
        let stamp = self.stamp.load(Ordering::Relaxed);
        // Both are below 2^63, but for stamps that nobody lives to see.
        (stamp != 0).then(|| i64::try_from(stamp).unwrap_or(i64::MAX) - STAMP_ZERO as i64)
    }

    /// Makes the caller the one that tries the server; the others pass it over for `patience`, so that a server that is
    /// still dead costs one client its time, not all. False: somebody else was first, or it is not time yet.
    #[must_use]
    pub fn begin_trial(&self, now: Time, patience: Duration, rest: Duration) -> bool {
        let seen = self.stamp.load(Ordering::Relaxed);
        seen != 0 && self.standing(now, rest) == Standing::OnTrial && {
            let stamp = stamp_of(now, patience, rest);
            self.stamp.compare_exchange(seen, stamp, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        }
    }

    /// A connect failed: the server is left alone for `rest` from now. True if it was in good standing before.
    pub fn blacklist(&self, now: Time, rest: Duration) -> bool {
        if rest.is_zero() {
            return false;
        }
        self.stamp.swap(stamp_of(now, rest, rest), Ordering::Relaxed) == 0
    }

    /// The operator wants the server left alone for `time`, where `rest` is the usual time; zero lifts a blacklisting.
    pub fn blacklist_for(&self, now: Time, time: Duration, rest: Duration) {
        let stamp = if time.is_zero() { 0 } else { stamp_of(now, time, rest) };
        self.stamp.store(stamp, Ordering::Relaxed);
    }

    /// A connect succeeded. True if the server was not in good standing before.
    pub fn exonerate(&self) -> bool {
        // Nearly always zero: do not write to a line that all workers read.
        self.stamp.load(Ordering::Relaxed) != 0 && self.stamp.swap(0, Ordering::Relaxed) != 0
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

/// The stamp of a blacklisting that ends in `time`, if the usual one takes `rest`.
fn stamp_of(now: Time, time: Duration, rest: Duration) -> u64 {
    now.0.saturating_add(STAMP_ZERO).saturating_add(nanos(time)).saturating_sub(nanos(rest)).max(1)
}

/// A place at a server; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    server: Arc<ServerState>,
    counted: bool,
}

impl Lease {
    /// The server.
    #[must_use]
    pub fn server(&self) -> &Arc<ServerState> {
        &self.server
    }

    /// The connect has completed: from now on the place counts, if it did not before.
    pub fn connected(&mut self) {
        if !self.counted {
            self.counted = true;
            self.server.connections.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.counted {
            self.server.connections.fetch_sub(1, Ordering::AcqRel);
        }
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
    /// The server that Pen's round robin chose last.
    last: AtomicUsize,
    /// The server that was tried last, whoever chose it.
    current: AtomicUsize,
    /// For the log lines about refused clients.
    pub refusals: Limiter,
    shards: Box<[ServiceShard]>,
}

impl ServiceState {
    pub(super) fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            turn: AtomicU64::new(0),
            last: AtomicUsize::new(0),
            current: AtomicUsize::new(0),
            refusals: Limiter::default(),
            shards: (0..shards.max(1)).map(|_| ServiceShard::default()).collect(),
        })
    }

    /// The next turn; one sequence for all workers.
    #[must_use]
    pub fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The server that Pen's round robin chose last; 0 before the first choice, so that this goes to server 1.
    pub(crate) fn last_in_turn(&self) -> usize {
        self.last.load(Ordering::Relaxed)
    }

    pub(crate) fn set_last_in_turn(&self, server: usize) {
        self.last.store(server, Ordering::Relaxed);
    }

    /// The position of the server that a client was sent to last, with Pen's rules.
    #[must_use]
    pub fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    pub(crate) fn set_current(&self, server: usize) {
        self.current.store(server, Ordering::Relaxed);
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
        assert_eq!(server.standing(start, SECOND), Standing::Good);
        assert!(server.blacklist(start, SECOND));
        assert!(!server.blacklist(start, SECOND), "it was blacklisted already");
        assert_eq!(server.standing(start, SECOND), Standing::Blacklisted(start + SECOND));
        assert!(!server.begin_trial(start, SECOND, SECOND), "too early");
        let over = start + SECOND;
        assert_eq!(server.standing(over, SECOND), Standing::OnTrial);
        assert!(server.begin_trial(over, 3 * SECOND, SECOND));
        assert!(!server.begin_trial(over, 3 * SECOND, SECOND), "one trial at a time");
        assert_eq!(server.standing(over, SECOND), Standing::Blacklisted(over + 3 * SECOND));
        let ended = server.standing(over + 3 * SECOND, SECOND);
        assert_eq!(ended, Standing::OnTrial, "a trial nobody ended ends itself");
        assert!(server.exonerate());
        assert!(!server.exonerate());
        assert_eq!(server.standing(over, SECOND), Standing::Good);
    }

    #[test]
    fn a_server_whose_checks_fail_is_left_alone_whatever_its_connections_say() {
        let server = ServerState::new(1);
        server.set_down(true);
        assert_eq!(server.standing(Time(5), SECOND), Standing::Down);
        server.blacklist(Time(5), SECOND);
        assert!(!server.begin_trial(Time(5) + SECOND, SECOND, SECOND), "nobody tries it");
        assert!(server.exonerate());
        assert!(
            server.standing(Time(5), Duration::ZERO).is_left_alone(),
            "one connect does not bring it back"
        );
        server.set_down(false);
        assert_eq!(server.standing(Time(5), SECOND), Standing::Good);
    }

    #[test]
    fn a_blacklist_time_of_zero_blacklists_nobody() {
        let server = ServerState::new(1);
        assert!(!server.blacklist(Time(5), Duration::ZERO));
        assert!(server.blacklist(Time(5), SECOND));
        assert_eq!(
            server.standing(Time(5), Duration::ZERO),
            Standing::Good,
            "not even who was blacklisted before"
        );
    }

    #[test]
    fn another_blacklist_time_moves_the_end_of_a_blacklisting_that_runs() {
        let server = ServerState::new(1);
        let start = Time(1_000);
        server.blacklist(start, 30 * SECOND);
        assert_eq!(server.standing(start, 10 * SECOND), Standing::Blacklisted(start + 10 * SECOND));
        assert_eq!(server.standing(start, 60 * SECOND), Standing::Blacklisted(start + 60 * SECOND));
        server.blacklist_for(start, 5 * SECOND, 30 * SECOND);
        assert_eq!(server.standing(start, 30 * SECOND), Standing::Blacklisted(start + 5 * SECOND));
        assert_eq!(server.standing(start, 25 * SECOND), Standing::OnTrial, "by its stamp it is over");
        assert_eq!(server.blacklisted_at(), Some(1_000 - 25_000_000_000));
        server.blacklist_for(start, Duration::ZERO, 30 * SECOND);
        assert_eq!((server.standing(start, 30 * SECOND), server.blacklisted_at()), (Standing::Good, None));
        server.blacklist_for(Time(u64::MAX), Duration::MAX, Duration::ZERO);
        assert!(matches!(server.standing(start, Duration::MAX), Standing::Blacklisted(_)), "no overflow");
    }

    #[test]
    fn an_admitted_connection_counts_from_the_completed_connect_on() {
        let server = ServerState::new(1);
        let (mut first, second) = (server.admit(1).unwrap(), server.admit(1).unwrap());
        assert_eq!(server.connections(), 0);
        first.connected();
        first.connected();
        assert_eq!(server.connections(), 1);
        assert!(server.admit(1).is_none());
        drop(second);
        assert_eq!(server.connections(), 1, "one that was never made is not taken off");
        drop(first);
        assert_eq!(server.connections(), 0);
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
