//! The kernel's readiness, thinly: one epoll instance, one eventfd and one timer per worker.
//!
//! A connection's socket is added once, edge-triggered, for everything, and never changed; closing it takes it out.
//! Listeners and foreign descriptors are level-triggered, so that what one turn leaves is offered again in the next.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use rustix::time::{timerfd_create, timerfd_settime};

use super::slots::Key;

/// Events taken from the kernel in one call. More only let a busy turn last longer.
const EVENTS_PER_TURN: usize = 256;

/// What a descriptor is registered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The worker has commands.
    Wake,
    /// A tick has passed.
    Tick,
    /// A listener has clients.
    Listener(Key),
    /// The client's side of a connection.
    Client(Key),
    /// The server's side of a connection.
    Server(Key),
    /// Something that has to do with datagrams, by a number of its own.
    Datagrams(u32),
    /// A connection that is kept open to a server without a client.
    Idler(Key),
}

impl Token {
    fn to_bits(self) -> u64 {
        let (kind, key) = match self {
            Self::Wake => return 0,
            Self::Listener(key) => (1, key),
            Self::Client(key) => (2, key),
            Self::Server(key) => (3, key),
            Self::Datagrams(number) => return 4 << 60 | u64::from(number),
            Self::Idler(key) => (5, key),
            Self::Tick => return 6 << 60,
        };
        kind << 60 | key.to_bits()
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let key = Key::from_bits(bits);
        match bits >> 60 {
            0 => Some(Self::Wake),
            1 => Some(Self::Listener(key)),
            2 => Some(Self::Client(key)),
            3 => Some(Self::Server(key)),
            4 => Some(Self::Datagrams(bits as u32)),
            5 => Some(Self::Idler(key)),
            6 => Some(Self::Tick),
            _ => None,
        }
    }
}

/// What the kernel says of a socket. Bits add up until a call finds that they are no longer true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ready(u8);

impl Ready {
    /// There may be something to read: bytes, the end, or an error.
    pub(super) const READ: Self = Self(1);
    /// There may be room to write.
    pub(super) const WRITE: Self = Self(2);
    /// The other side will send no more; what it has sent is there.
    pub(super) const END: Self = Self(4);
    /// There is an error to be fetched.
    pub(super) const ERROR: Self = Self(8);
    /// Both directions are closed.
    pub(super) const CLOSED: Self = Self(16);
    /// A short read does not mean that nothing is left: urgent data were in the stream, or it is a Unix socket.
    pub(super) const CAREFUL: Self = Self(32);

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether any of these is set.
    pub(super) const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

impl From<EventFlags> for Ready {
    fn from(flags: EventFlags) -> Self {
        let mut ready = Self::default();
        if flags.intersects(EventFlags::IN) {
            ready = ready.with(Self::READ);
        }
        if flags.intersects(EventFlags::OUT) {
            ready = ready.with(Self::WRITE);
        }
        if flags.intersects(EventFlags::RDHUP) {
            ready = ready.with(Self::END).with(Self::READ);
        }
        // Reads and writes find out what it is.
        if flags.intersects(EventFlags::ERR) {
            ready = ready.with(Self::ERROR).with(Self::READ).with(Self::WRITE);
        }
        if flags.intersects(EventFlags::HUP) {
            ready = ready.with(Self::CLOSED).with(Self::READ).with(Self::WRITE);
        }
        if flags.intersects(EventFlags::PRI) {
            ready = ready.with(Self::CAREFUL);
        }
        ready
    }
}

/// Wakes a worker from another thread.
#[derive(Debug)]
pub(super) struct Waker(OwnedFd);

impl Waker {
    /// Wakes it. It is enough to do so once for many things.
    pub(super) fn wake(&self) {
        // The counter is full only when the worker is about to be woken anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

/// One worker's epoll instance.
///
/// The tick comes from a timer that runs by itself: a time-out for each wait would set one and take it back each time,
/// a microsecond on a virtual machine, where that leaves the guest.
pub(super) struct Reactor {
    epoll: OwnedFd,
    waker: Arc<Waker>,
    timer: OwnedFd,
    events: Vec<(Token, Ready)>,
}

impl Reactor {
    /// `tick`: the time between two [`Token::Tick`]. Errors: no descriptors are left.
    pub(super) fn new(tick: Duration) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &waker, EventData::new_u64(Token::Wake.to_bits()), EventFlags::IN)?;
        let timer = ticking(tick)?;
        epoll::add(&epoll, &timer, EventData::new_u64(Token::Tick.to_bits()), EventFlags::IN)?;
        let events = Vec::with_capacity(EVENTS_PER_TURN);
        Ok(Self { epoll, waker: Arc::new(Waker(waker)), timer, events })
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// A connection's socket, for everything and for as long as it is open.
    pub(super) fn add_connection(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token.to_bits()), all)?)
    }

    /// A listener: told of in each turn as long as clients wait. `shared`: other workers have the same one, and only
    /// some of them are woken.
    pub(super) fn add_listener(&self, socket: impl AsFd, token: Token, shared: bool) -> io::Result<()> {
        let exclusive = if shared { EventFlags::EXCLUSIVE } else { EventFlags::empty() };
        let flags = EventFlags::IN | exclusive;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token.to_bits()), flags)?)
    }

    /// Takes a listener out, for a while or before it is closed (others may still hold it open).
    pub(super) fn remove_listener(&self, socket: impl AsFd) {
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Waits until something is ready, if only the next tick; at most `timeout`, rounded up to milliseconds, if there is
    /// one.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        self.events.clear();
        let mut space = [MaybeUninit::<Event>::uninit(); EVENTS_PER_TURN];
        let events = match epoll::wait(&self.epoll, &mut space[..], timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            // Fields of a packed structure: copied, not borrowed.
            let (data, flags) = ({ event.data }, { event.flags });
            if let Some(token) = Token::from_bits(data.u64()) {
                self.events.push((token, flags.into()));
                match token {
                    Token::Wake => self.waker.clear(),
                    // How many ticks there were is of no interest: a worker that was held up does not catch up.
                    Token::Tick => drop(rustix::io::read(&self.timer, &mut [0u8; 8])),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// How many events the last wait brought.
    pub(super) fn count(&self) -> usize {
        self.events.len()
    }

    /// Whether these are all descriptors that had something when the wait ended, and not only as many as fit.
    pub(super) fn told_all(&self) -> bool {
        self.events.len() < EVENTS_PER_TURN
    }

    /// One of them; `None` beyond the last.
    pub(super) fn event(&self, n: usize) -> Option<(Token, Ready)> {
        self.events.get(n).copied()
    }
}

/// A timer that is readable once in each `period`.
fn ticking(period: Duration) -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let period = Timespec::try_from(period).map_err(io::Error::other)?;
    let ticks = Itimerspec { it_interval: period, it_value: period };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &ticks)?;
    Ok(timer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;
    use crate::proxy::slots::Slots;

    /// None comes during a test.
    const NO_TICK: Duration = Duration::from_secs(3600);

    #[test]
    fn ticks_come_by_themselves_one_after_the_other_and_no_sooner() {
        const PERIOD: Duration = Duration::from_millis(20);
        let begin = Instant::now();
        let mut reactor = Reactor::new(PERIOD).expect("a reactor");
        for n in 1..=3 {
            reactor.wait(None).expect("a tick");
            assert_eq!((reactor.count(), reactor.event(0)), (1, Some((Token::Tick, Ready::READ))));
            assert!(begin.elapsed() >= PERIOD * n);
        }
    }

    #[test]
    fn tokens_survive_the_kernel() {
        let mut slots = Slots::default();
        let first = slots.insert(());
        slots.remove(first);
        let key = slots.insert(());
        let keyed = [Token::Listener(key), Token::Client(key), Token::Server(key), Token::Idler(key)];
        for token in keyed.into_iter().chain([Token::Wake, Token::Tick, Token::Datagrams(u32::MAX)]) {
            assert_eq!(Token::from_bits(token.to_bits()), Some(token));
        }
        assert_eq!(Token::from_bits(u64::MAX), None);
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_wait_and_is_told_once() {
        let mut reactor = Reactor::new(NO_TICK).expect("a reactor");
        let waker = reactor.waker();
        std::thread::spawn(move || {
            waker.wake();
            waker.wake();
        })
        .join()
        .expect("no panic");
        reactor.wait(Some(Duration::from_secs(20))).expect("woken");
        assert_eq!((reactor.count(), reactor.event(0)), (1, Some((Token::Wake, Ready::READ))));
        reactor.wait(Some(Duration::ZERO)).expect("nothing");
        assert_eq!(reactor.count(), 0);
    }

    #[test]
    fn a_connection_is_told_of_once_and_its_end_is_seen() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut reactor = Reactor::new(NO_TICK).expect("a reactor");
        let key = Slots::default().insert(());
        reactor.add_connection(&ours, Token::Client(key)).expect("added");
        reactor.wait(Some(Duration::ZERO)).expect("ready");
        assert_eq!(reactor.event(0), Some((Token::Client(key), Ready::WRITE)));
        reactor.wait(Some(Duration::ZERO)).expect("nothing new");
        assert_eq!(reactor.count(), 0);
        theirs.shutdown(std::net::Shutdown::Write).expect("the end");
        reactor.wait(Some(Duration::from_secs(20))).expect("the end");
        let (_, ready) = reactor.event(0).expect("the end");
        assert!(ready.any(Ready::END) && ready.any(Ready::READ) && !ready.any(Ready::ERROR));
    }
}
