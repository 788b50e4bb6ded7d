//! The end of a client that gets something from us and not from a server: it is given time to read it.

use std::time::Duration;

use super::connection::{Connection, Outcome, Stage};
use super::layers::Stop;
use super::local::Local;
use super::reactor::Ready;
use super::slots::Key;

/// How long the client's end is waited for.
const LEAVE_TIME: Duration = Duration::from_secs(2);
/// Reads that are thrown away in one turn.
const READS_PER_TURN: usize = 4;
/// What a client gets from a service without servers, as Pen says it.
const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nContent-Type: text/html\r\n\r\nUlric was here.";

impl Connection {
    /// Tells the client that nothing more comes, and waits a little for its end.
    pub(super) fn begin_to_leave(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        (self.server, self.stage) = (None, Stage::Leaving);
        if self.client.shut().is_err() {
            return Some(Outcome::Aborted);
        }
        local.silence.allow(key.index(), Some(LEAVE_TIME));
        self.leave(local)
    }

    /// Throws away what still comes.
    pub(super) fn leave(&mut self, local: &mut Local) -> Option<Outcome> {
        for _ in 0..READS_PER_TURN {
            if !self.client.ready().any(Ready::READ) {
                return None;
            }
            match self.client.recv(&mut local.buffer) {
                Ok(Some(0)) | Err(_) => return Some(Outcome::Closed),
                Ok(_) => {}
            }
        }
        // Whoever sends so much has not come to listen.
        Some(Outcome::Closed)
    }

    /// Whatever the client says, it gets the page.
    pub(super) fn answer_dummy(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        // Without layers of its own it has none that change anything.
        let mut layers = self.layers.take().unwrap_or_default();
        let mut shop = local.workshop.take().unwrap_or_default();
        let mut answer = || -> Result<Option<usize>, Stop> {
            layers.client.outbox.flush(&mut self.client)?;
            let got = layers.client.read(&mut self.client, &mut shop, false)?;
            if got.count == 0 {
                return Ok(got.ended.then_some(0));
            }
            layers.client.write(&mut self.client, PAGE, true, &mut shop.scratch)?;
            Ok(Some(got.count))
        };
        let answered = answer();
        shop.scratch.clear();
        local.workshop = Some(shop);
        let outcome = match answered {
            Ok(None) => None,
            Ok(Some(0)) => Some(Outcome::Closed),
            Ok(Some(count)) => {
                self.sent += count as u64;
                self.received += PAGE.len() as u64;
                layers.refused = true;
                self.see_off(&mut layers, key, local)
            }
            Err(_) => Some(Outcome::Aborted),
        };
        self.layers = Some(layers);
        outcome
    }
}
