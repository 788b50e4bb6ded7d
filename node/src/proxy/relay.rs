//! Bytes from the client to the server and back, until both have ended.

use std::net::SocketAddr;

use rustix::io::Errno;

use super::connection::{Connection, Outcome};
use super::half::{Half, Want};
use super::local::Local;
use super::observer::Observer;
use super::reactor::Ready;
use super::side::Side;
use super::silence::TICK;
use super::slots::Key;
use super::splice::{Lent, Pipes};
use crate::config::model::FastClose;
use crate::plan::ServicePlan;

/// Reads of one direction before the other connections of the worker get their turn: 1 MiB copied, some more spliced.
const READS_PER_TURN: usize = 16;
/// The two directions, as indices.
const UP: usize = 0;
const DOWN: usize = 1;

/// What became of a direction in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pumped {
    /// It waits for a socket.
    Blocked,
    /// It could go on.
    More,
    /// It has ended.
    Over,
}

/// One direction and all that it needs.
struct Way<'a> {
    which: usize,
    half: &'a mut Half,
    from: &'a mut Side,
    to: &'a mut Side,
    lent: &'a mut Option<Box<Lent>>,
    /// The other direction has ended: both sockets will be closed at once, so the end need not be passed on by itself.
    other_is_over: bool,
    moved: u64,
    /// Some bytes were read or written.
    stirred: bool,
    /// Who sees the bytes before they go on.
    onlooker: Option<Onlooker<'a>>,
}

/// Somebody who looks on, and what he is told beside the bytes.
struct Onlooker<'a> {
    observer: &'a dyn Observer,
    peer: SocketAddr,
    server: usize,
}

impl Connection {
    /// Moves what can be moved. An abort of one side is passed on to the other as an abort, so that nobody takes half an
    /// answer for a whole one.
    pub(super) fn relay(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        if self.layers.is_some() {
            return self.relay_layered(key, local);
        }
        let server = self.server.as_mut()?;
        let client = &mut self.client;
        let had_pipes = self.lent.is_some();
        let onlooker = self.service.observer.as_deref().filter(|observer| observer.wants_chunks());
        let onlooker =
            onlooker.map(|observer| Onlooker { observer, peer: self.peer, server: self.position as usize });
        let mut up = Way {
            which: UP,
            onlooker,
            other_is_over: self.down.is_over(),
            half: &mut self.up,
            from: client,
            to: server,
            lent: &mut self.lent,
            moved: 0,
            stirred: false,
        };
        let went_up = up.pump(&mut local.buffer, &mut local.pipes);
        let (sent, mut stirred) = (up.moved, up.stirred);
        let mut down = Way {
            which: DOWN,
            onlooker: None,
            other_is_over: self.up.is_over(),
            half: &mut self.down,
            from: server,
            to: client,
            lent: &mut self.lent,
            moved: 0,
            stirred: false,
        };
        let went_down = down.pump(&mut local.buffer, &mut local.pipes);
        let received = down.moved;
        stirred |= down.stirred;
        if stirred {
            self.count(sent, received, key, local);
        }
        if !had_pipes && self.lent.is_some() {
            local.lenders.push(key);
        }
        match (went_up, went_down) {
            (Err(_), _) | (_, Err(_)) => Some(Outcome::Aborted),
            (Ok(Pumped::Over), Ok(Pumped::Over)) => Some(Outcome::Finished),
            // Nobody will read from a side that has said its end, so nobody would find out.
            _ if self.is_gone() => Some(Outcome::Aborted),
            _ if self.may_close() => Some(Outcome::Closed),
            (Ok(Pumped::More), _) | (_, Ok(Pumped::More)) => {
                self.go_on(key, local);
                None
            }
            _ => None,
        }
    }

    pub(super) fn go_on(&mut self, key: Key, local: &mut Local) {
        if !self.queued {
            self.queued = true;
            local.again.push(key);
        }
    }

    /// Whether a side that had ended in good order has been reset since.
    pub(super) fn is_gone(&self) -> bool {
        let reset = |side: &Side, input: &Half| input.has_input_ended() && side.ready().any(Ready::ERROR);
        reset(&self.client, &self.up) || self.server.as_ref().is_some_and(|server| reset(server, &self.down))
    }

    /// Whether the end of one side is the end of all, and everything has been passed on.
    pub(super) fn may_close(&self) -> bool {
        let (client_ended, server_ended) = (self.up.has_input_ended(), self.down.has_input_ended());
        let wanted = match self.service.fast_close {
            FastClose::Off => false,
            FastClose::Up => server_ended,
            FastClose::Down => client_ended,
            FastClose::Both => client_ended || server_ended,
        };
        wanted && self.up.backlog() + self.down.backlog() == 0
    }

    pub(super) fn count(&mut self, sent: u64, received: u64, key: Key, local: &mut Local) {
        local.silence.moved(key.index());
        self.sent += sent;
        self.received += received;
        if let Some(lease) = &self.lease {
            let shard = lease.server().shard(local.worker.index);
            if sent > 0 {
                shard.to_server.add(sent);
            }
            if received > 0 {
                shard.to_client.add(received);
            }
        }
        // A connection that lives long keeps its client remembered while bytes move.
        if self.service.sticky.is_some() && local.silence.now() >= self.refresh_at {
            self.refresh_at = local.silence.now().saturating_add(refresh_ticks(&self.service));
            local.worker.refresh(&self.service, self.peer.ip(), self.position as usize);
        }
    }

    /// A tick has passed: gives the pipes back that were not used. Whether some are left.
    pub(super) fn keep_pipes(&mut self, local: &mut Local) -> bool {
        let Some(lent) = &mut self.lent else { return false };
        for (way, half) in [(UP, &mut self.up), (DOWN, &mut self.down)] {
            if !lent.was_used(way)
                && half.has_empty_pipe()
                && let Some(pipe) = lent.take(way)
            {
                half.give_pipe();
                local.pipes.take_back(pipe, true);
            }
        }
        if lent.is_empty() {
            self.lent = None;
        }
        self.lent.is_some()
    }

    /// The connection ends.
    pub(super) fn give_pipes_back(&mut self, local: &mut Local) {
        if let Some(mut lent) = self.lent.take() {
            for (way, half) in [(UP, &self.up), (DOWN, &self.down)] {
                if let Some(pipe) = lent.take(way) {
                    local.pipes.take_back(pipe, half.has_empty_pipe());
                }
            }
        }
    }
}

/// Ticks between two writings-down of a client whose connection lives on.
pub(super) fn refresh_ticks(service: &ServicePlan) -> u32 {
    let ticks_per_second = 1_000 / TICK.as_millis() as u32;
    service.sticky.map_or(u32::MAX, |sticky| sticky.refresh.saturating_mul(ticks_per_second).max(1))
}

impl Way<'_> {
    /// Moves what can be moved in this direction.
    fn pump(&mut self, buffer: &mut [u8], pipes: &mut Pipes) -> Result<Pumped, Errno> {
        for _ in 0..READS_PER_TURN {
            // Until the next read.
            loop {
                match self.half.want() {
                    Want::Read | Want::Fill => break,
                    Want::Write(bytes) => {
                        if !self.to.ready().any(Ready::WRITE) {
                            return Ok(Pumped::Blocked);
                        }
                        let count = self.to.send(bytes, false)?;
                        self.half.wrote(count);
                        self.stirred |= count > 0;
                    }
                    Want::Drain(held) => {
                        if !self.to.ready().any(Ready::WRITE) {
                            return Ok(Pumped::Blocked);
                        }
                        self.drain(held)?;
                    }
                    Want::Shutdown => {
                        if !self.other_is_over {
                            self.to.shut()?;
                        }
                        self.half.passed_end_on();
                    }
                    Want::Nothing => return Ok(Pumped::Over),
                }
            }
            if !self.from.ready().any(Ready::READ) {
                return Ok(Pumped::Blocked);
            }
            self.change_over(pipes);
            if self.half.want() == Want::Fill { self.fill()? } else { self.copy(buffer)? }
        }
        Ok(Pumped::More)
    }

    /// One read, and what can be written of it.
    fn copy(&mut self, buffer: &mut [u8]) -> Result<(), Errno> {
        let count = match self.from.recv(buffer)? {
            None => return Ok(()),
            Some(0) => {
                self.half.end_of_input();
                return Ok(());
            }
            Some(count) => count,
        };
        let bytes = &buffer[..count];
        self.moved += count as u64;
        self.stirred = true;
        if let Some(Onlooker { observer, peer, server }) = &self.onlooker {
            observer.chunk(*peer, *server, bytes);
        }
        let is_last = self.from.has_ended();
        let accepted = if self.to.ready().any(Ready::WRITE) { self.to.send(bytes, is_last)? } else { 0 };
        self.half.received(bytes, buffer.len(), accepted);
        if is_last {
            self.half.end_of_input();
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), Errno> {
        let Some(lent) = self.lent.as_mut() else { return Err(Errno::PIPE) };
        let Some(pipe) = lent.pipe(self.which) else { return Err(Errno::PIPE) };
        match pipe.fill(self.from)? {
            None => {}
            Some(0) => self.half.end_of_input(),
            Some(count) => {
                self.half.filled(count);
                self.moved += count as u64;
                self.stirred = true;
                lent.is_used(self.which);
            }
        }
        Ok(())
    }

    fn drain(&mut self, held: usize) -> Result<(), Errno> {
        let Some(lent) = self.lent.as_mut() else { return Err(Errno::PIPE) };
        let Some(pipe) = lent.pipe(self.which) else { return Err(Errno::PIPE) };
        let count = pipe.drain(self.to, held)?;
        self.half.drained(count);
        self.stirred |= count > 0;
        lent.is_used(self.which);
        Ok(())
    }

    /// From copying to splicing and back.
    fn change_over(&mut self, pipes: &mut Pipes) {
        if self.half.is_bulk() {
            let careful = self.from.ready().with(self.to.ready()).any(Ready::CAREFUL);
            let pipe = if careful || self.onlooker.is_some() { None } else { pipes.lend() };
            self.half.take_pipe(pipe.is_some());
            if let Some(pipe) = pipe {
                self.lent.get_or_insert_default().put(self.which, pipe);
            }
        } else if self.half.is_done_with_pipe()
            && let Some(pipe) = self.lent.as_mut().and_then(|lent| lent.take(self.which))
        {
            self.half.give_pipe();
            pipes.take_back(pipe, true);
        }
    }
}
