//! The relay of connections with layers: see layers.rs.

use rustix::io::Errno;

use super::connection::{Connection, Outcome, Stage};
use super::http::Refusal;
use super::layers::{Layers, Plain, Stop, Way, Workshop};
use super::local::Local;
use super::slots::Key;

/// Reads of one direction before the other connections of the worker get their turn: 2 MiB.
const READS_PER_TURN: usize = 8;

/// What became of a direction in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    /// It waits for a socket.
    Blocked,
    /// It could go on.
    More,
    /// It has ended.
    Over,
}

/// What passed in a turn.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    up: u64,
    down: u64,
    stirred: bool,
}

impl Connection {
    /// Moves what can be moved through the layers.
    pub(super) fn relay_layered(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        let mut layers = self.layers.take()?;
        let mut shop = local.workshop.take().unwrap_or_default();
        let mut count = Count::default();
        let outcome = self.move_both(&mut layers, &mut shop, &mut count);
        shop.scratch.clear();
        if count.stirred {
            self.count(count.up, count.down, key, local);
        }
        let outcome = match outcome {
            Ok((Moved::Over, Moved::Over)) => Some(Outcome::Finished),
            Ok(_) if layers.refused => self.see_off(&mut layers, key, local),
            Ok(_) if self.is_gone() => Some(Outcome::Aborted),
            Ok(_) if self.may_close() && layers.client.outbox.len() + layers.server.outbox.len() == 0 => {
                Some(Outcome::Closed)
            }
            Ok((Moved::More, _) | (_, Moved::More)) => {
                self.go_on(key, local);
                None
            }
            Ok(_) => None,
            Err(Stop::Http(refusal)) => {
                local.worker.refused(&self.service, refusal.reason, local.now);
                self.refuse(&refusal, &mut layers, &mut shop)
                    .map_or(Some(Outcome::Aborted), |()| self.see_off(&mut layers, key, local))
            }
            Err(Stop::Tls(error)) => {
                local.worker.unshaken(&self.service, self.peer, &error.to_string(), local.now);
                Some(Outcome::Aborted)
            }
            Err(Stop::Socket) => Some(Outcome::Aborted),
        };
        shop.scratch.clear();
        local.workshop = Some(shop);
        self.layers = Some(layers);
        outcome
    }

    fn move_both(
        &mut self,
        layers: &mut Layers,
        shop: &mut Workshop,
        count: &mut Count,
    ) -> Result<(Moved, Moved), Stop> {
        if layers.refused {
            return Ok((Moved::Blocked, Moved::Blocked));
        }
        Ok((self.move_up(layers, shop, count)?, self.move_down(layers, shop, count)?))
    }

    fn move_up(
        &mut self,
        layers: &mut Layers,
        shop: &mut Workshop,
        count: &mut Count,
    ) -> Result<Moved, Stop> {
        let Some(server) = self.server.as_mut() else { return Err(Stop::Socket) };
        let Layers { client: from, server: to, filter, .. } = layers;
        for _ in 0..READS_PER_TURN {
            let waiting = to.outbox.len();
            to.outbox.flush(server)?;
            count.stirred |= to.outbox.len() < waiting;
            if !to.outbox.is_empty() {
                return Ok(Moved::Blocked);
            }
            if self.up.has_input_ended() {
                if !self.up.is_over() {
                    if !self.down.is_over() {
                        server.shut()?;
                    }
                    self.up.passed_end_on();
                }
                return Ok(Moved::Over);
            }
            // A client whose last request is refused is told so after the answers before.
            let is_unwanted = filter.as_ref().is_some_and(|filter| !filter.wants_requests());
            if is_unwanted || from.is_clogged() || !from.may_have_more(&self.client) {
                return Ok(Moved::Blocked);
            }
            let got = from.read(&mut self.client, shop, false)?;
            if got == (Plain { count: 0, ended: false }) {
                continue;
            }
            let (bytes, scratch, refusal) = shop.edit(filter.as_deref_mut(), Way::Up, got);
            if let Some(refusal) = refusal {
                return Err(Stop::Http(refusal));
            }
            if let (Some(observer), false) = (&self.service.observer, bytes.is_empty()) {
                observer.chunk(self.peer, self.position as usize, bytes);
            }
            count.up += bytes.len() as u64;
            count.stirred = true;
            to.write(server, bytes, got.ended, scratch)?;
            if got.ended {
                self.up.end_of_input();
            }
        }
        Ok(Moved::More)
    }

    fn move_down(
        &mut self,
        layers: &mut Layers,
        shop: &mut Workshop,
        count: &mut Count,
    ) -> Result<Moved, Stop> {
        let Some(server) = self.server.as_mut() else { return Err(Stop::Socket) };
        let Layers { client: to, server: from, filter, .. } = layers;
        for _ in 0..READS_PER_TURN {
            let waiting = to.outbox.len();
            to.outbox.flush(&mut self.client)?;
            count.stirred |= to.outbox.len() < waiting;
            if !to.outbox.is_empty() {
                return Ok(Moved::Blocked);
            }
            if self.down.has_input_ended() {
                if !self.down.is_over() {
                    if !self.up.is_over() {
                        self.client.shut()?;
                    }
                    self.down.passed_end_on();
                }
                return Ok(Moved::Over);
            }
            if from.is_clogged() || !from.may_have_more(server) {
                return Ok(Moved::Blocked);
            }
            // A server that ends without a proper close may have been cut off: half an answer is no answer. Where the
            // answer says itself how long it is, that is known better.
            let strict = !filter.as_ref().is_some_and(|filter| filter.is_at_rest());
            let got = from.read(server, shop, strict)?;
            if got == (Plain { count: 0, ended: false }) {
                continue;
            }
            let (bytes, scratch, refusal) = shop.edit(filter.as_deref_mut(), Way::Down, got);
            count.down += bytes.len() as u64;
            count.stirred = true;
            let ended = got.ended && refusal.is_none();
            to.write(&mut self.client, bytes, ended, scratch)?;
            if let Some(refusal) = refusal {
                return Err(Stop::Http(refusal));
            }
            if got.ended {
                self.down.end_of_input();
            }
        }
        Ok(Moved::More)
    }

    /// Tells the client why it ends here. The server learns nothing but the reset: it may have half a request.
    fn refuse(&mut self, refusal: &Refusal, layers: &mut Layers, shop: &mut Workshop) -> Result<(), Stop> {
        layers.refused = true;
        if let Some(server) = self.server.take() {
            server.abort();
        }
        self.received += refusal.response.len() as u64;
        layers.client.write(&mut self.client, &refusal.response, true, &mut shop.scratch)
    }

    /// Ends the client's side when everything for it is written.
    pub(super) fn see_off(&mut self, layers: &mut Layers, key: Key, local: &mut Local) -> Option<Outcome> {
        let flushed: Result<(), Errno> = layers.client.outbox.flush(&mut self.client);
        match flushed {
            Err(_) => Some(Outcome::Aborted),
            Ok(()) if layers.client.outbox.is_empty() => self.begin_to_leave(key, local),
            Ok(()) => {
                self.stage = Stage::Relaying;
                None
            }
        }
    }
}
