//! The network between the nodes' logs: one connection each way, with the production queue in front of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::random::Random;
use crate::consensus::frame::Frame;
use crate::consensus::limits::{OUTBOX_BYTES, OUTBOX_FRAMES, RECONNECT_FIRST, RECONNECT_MOST};
use crate::consensus::outbox::Outbox;
use crate::time::Time;

/// Frames that a connection carries at the same time: what the socket's buffers hold.
const WINDOW: u32 = 64;

/// How a path treats what it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quality {
    /// Lost and doubled, per mille; a stream knows neither.
    pub(super) lose: u64,
    pub(super) double: u64,
    pub(super) fastest: Duration,
    pub(super) slowest: Duration,
}

impl Quality {
    /// A local network.
    pub(super) const GOOD: Self =
        Self { lose: 0, double: 0, fastest: Duration::from_micros(100), slowest: Duration::from_micros(900) };

    pub(super) fn delay(&self, random: &mut Random) -> Duration {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(random.between(nanos(self.fastest), nanos(self.slowest)))
    }
}

/// One direction between two nodes.
pub(super) struct Link {
    pub(super) outbox: Outbox,
    /// Counts the connections, so that what belongs to an old one reaches nobody.
    pub(super) life: u64,
    pub(super) open: bool,
    /// Nothing passes in this direction.
    pub(super) cut: bool,
    pub(super) quality: Quality,
    in_flight: u32,
    /// A stream delivers in order.
    last_due: Time,
    /// What a stream keeps sending while the path is cut.
    held: VecDeque<Vec<u8>>,
    pause: Duration,
}

/// A frame on its way.
pub(super) struct Sent {
    pub(super) due: Time,
    pub(super) bytes: Vec<u8>,
}

/// What the writer of a connection has taken out of its queue.
#[derive(Default)]
pub(super) struct Pumped {
    pub(super) sent: Vec<Sent>,
    /// A snapshot was among it.
    pub(super) snapshot: bool,
}

/// All links.
pub(super) struct Network {
    links: BTreeMap<(u64, u64), Link>,
    /// The links behave like TCP; otherwise like datagrams, which is harder on the core than it need be.
    stream: bool,
}

impl Network {
    pub(super) fn new(nodes: u64, stream: bool) -> Self {
        let pairs = (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to)));
        let links = pairs.filter(|(from, to)| from != to).map(|pair| (pair, Link::new())).collect();
        Self { links, stream }
    }

    pub(super) fn link(&mut self, from: u64, to: u64) -> Option<&mut Link> {
        self.links.get_mut(&(from, to))
    }

    pub(super) fn pairs(&self) -> Vec<(u64, u64)> {
        self.links.keys().copied().collect()
    }

    /// Neither direction is cut: a connection needs both.
    pub(super) fn is_whole(&self, from: u64, to: u64) -> bool {
        let cut = |pair| self.links.get(&pair).is_none_or(|link| link.cut);
        !cut((from, to)) && !cut((to, from))
    }

    pub(super) fn is_stream(&self) -> bool {
        self.stream
    }

    /// False if the frame was not taken, as in production.
    pub(super) fn send(&mut self, from: u64, to: u64, frame: Frame) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.outbox.push(frame))
    }

    /// A queue that is over its bound.
    pub(super) fn overfull(&self) -> Option<(u64, u64)> {
        let over = |link: &Link| {
            let (frames, bytes) = link.outbox.waiting();
            frames > OUTBOX_FRAMES || bytes > OUTBOX_BYTES
        };
        self.links.iter().find(|(_, link)| over(link)).map(|(pair, _)| *pair)
    }

    /// Moves frames from the queue onto the wire.
    pub(super) fn pump(&mut self, from: u64, to: u64, now: Time, random: &mut Random) -> Pumped {
        let stream = self.stream;
        let mut pumped = Pumped::default();
        let Some(link) = self.links.get_mut(&(from, to)).filter(|link| link.open) else { return pumped };
        while link.in_flight < WINDOW {
            let Some(frame) = link.outbox.pop() else { break };
            pumped.snapshot |= matches!(frame, Frame::Snapshot(_));
            let copies = match stream {
                true => 1,
                false if random.per_mille(link.quality.lose) => 0,
                false => 1 + u32::from(random.per_mille(link.quality.double)),
            };
            let bytes = frame.encode();
            for _ in 0..copies {
                let mut due = now + link.quality.delay(random);
                if stream {
                    due = due.max(link.last_due);
                    link.last_due = due;
                }
                link.in_flight += 1;
                pumped.sent.push(Sent { due, bytes: bytes.clone() });
            }
        }
        pumped
    }

    /// A frame has come to the end of the link: what arrives, if it does.
    pub(super) fn arrive(&mut self, from: u64, to: u64, life: u64, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let stream = self.stream;
        let link = self.links.get_mut(&(from, to)).filter(|link| link.open && link.life == life)?;
        link.in_flight = link.in_flight.saturating_sub(1);
        if !link.cut && link.held.is_empty() {
            return Some(bytes);
        }
        if stream {
            link.in_flight += 1;
            link.held.push_back(bytes);
        }
        None
    }

    /// The path works again: what a stream has kept is on its way once more.
    pub(super) fn resume(&mut self, from: u64, to: u64, now: Time, random: &mut Random) -> Vec<Sent> {
        let Some(link) = self.links.get_mut(&(from, to)).filter(|link| !link.cut) else { return Vec::new() };
        let held = std::mem::take(&mut link.held);
        let mut due = now.max(link.last_due);
        let again = held.into_iter().map(|bytes| {
            due = due + link.quality.delay(random);
            Sent { due, bytes }
        });
        let again: Vec<Sent> = again.collect();
        link.last_due = due;
        again
    }
}

impl Link {
    fn new() -> Self {
        Self {
            outbox: Outbox::default(),
            life: 0,
            open: false,
            cut: false,
            quality: Quality::GOOD,
            in_flight: 0,
            last_due: Time::ZERO,
            held: VecDeque::new(),
            pause: RECONNECT_FIRST,
        }
    }

    /// The connection stands.
    pub(super) fn connect(&mut self) {
        self.life += 1;
        self.open = true;
        self.in_flight = 0;
        self.last_due = Time::ZERO;
        self.pause = RECONNECT_FIRST;
        self.outbox.open();
    }

    /// The connection ends; true if a snapshot was still waiting.
    pub(super) fn close(&mut self) -> bool {
        self.open = false;
        self.held.clear();
        self.outbox.close()
    }

    /// The pause before the next attempt.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(RECONNECT_MOST);
        pause
    }
}
