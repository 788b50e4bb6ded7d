//! Before a server is chosen: the client's TLS handshake, or a look at which name it asks for.
//!
//! A client that only says half of its greeting costs no server anything. It has [`GREETING_TIME`] for all of it, and
//! there are at most [`GREETINGS_MAX`] of them in a worker: when there are more, the one that came first goes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, Outcome, Stage};
use super::layers::{End, Layers, Workshop};
use super::local::Local;
use super::reactor::Ready;
use super::slots::Key;
use super::tls::client_hello::{self, Hello};
use super::tls::{Handshake, Session, TlsError};
use crate::plan::ServicePlan;

/// How long a handshake may take, from its first byte to its last.
pub(super) const GREETING_TIME: Duration = Duration::from_secs(10);
/// Clients of a worker that are in the middle of their handshake: some 30 KiB each with OpenSSL, so 120 MiB at most.
pub(super) const GREETINGS_MAX: usize = 4096;

/// Those who are in the middle of their handshake, in the order in which they came; some have finished since.
#[derive(Debug, Default)]
pub(super) struct Greetings {
    queue: VecDeque<Key>,
    count: usize,
}

impl Greetings {
    fn begin(&mut self, key: Key) {
        self.count += 1;
        self.queue.push_back(key);
    }

    fn finish(&mut self) {
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            self.queue.clear();
        }
    }

    /// Whether one has to go, and who may be that; to be asked again until it is one that has not finished.
    pub(super) fn surplus(&mut self) -> Option<Key> {
        (self.count > GREETINGS_MAX).then(|| self.queue.pop_front())?
    }

    /// Forgets those at the front of the queue who have finished.
    pub(super) fn forget(&mut self, mut has_finished: impl FnMut(Key) -> bool) {
        while self.queue.front().is_some_and(|key| has_finished(*key)) {
            self.queue.pop_front();
        }
    }
}

/// Whether clients of this service have something to say before a server is chosen for them.
pub(super) fn has_greeting(service: &ServicePlan) -> bool {
    service.tls.is_some() || service.routes.is_some()
}

impl Connection {
    /// Waits for the client's greeting.
    pub(super) fn begin_greeting(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        let mut layers = Box::<Layers>::default();
        if self.service.routes.is_none()
            && let Err(reason) = self.terminate(&mut layers)
        {
            local.worker.refused(&self.service, &reason, local.now);
            return Some(Outcome::Refused);
        }
        self.layers = Some(layers);
        self.stage = Stage::Greeting;
        local.greetings.begin(key);
        local.silence.allow(key.index(), Some(GREETING_TIME));
        None
    }

    /// Ends TLS here, with what the client has said already.
    fn terminate(&mut self, layers: &mut Layers) -> Result<(), String> {
        match &self.service.tls {
            None => Ok(()),
            Some(Err(reason)) => Err(reason.to_string()),
            Some(Ok(context)) => {
                layers.client.tls = Some(Session::accept(context).map_err(|error| error.to_string())?);
                Ok(())
            }
        }
    }

    pub(super) fn leave_greeting(&mut self, local: &mut Local) {
        if self.stage == Stage::Greeting {
            self.stage = Stage::New;
            local.greetings.finish();
        }
    }

    /// The client has said more.
    pub(super) fn greet(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        let mut layers = self.layers.take()?;
        let mut shop = local.workshop.take().unwrap_or_default();
        let mut progress = Ok(Progress::Waits);
        if layers.client.tls.is_none() {
            progress = self.look(&mut layers, &mut shop, local);
        }
        if layers.client.tls.is_some() {
            progress = self.shake_hands(&mut layers, &mut shop);
        }
        shop.scratch.clear();
        local.workshop = Some(shop);
        match progress {
            Ok(Progress::Waits) => {
                self.layers = Some(layers);
                None
            }
            Ok(Progress::Gone) => Some(Outcome::Closed),
            Ok(Progress::Done) => self.greeted(layers, key, local),
            Err(reason) => {
                local.worker.unshaken(&self.service, self.peer, &reason, local.now);
                self.leave_greeting(local);
                // The client is told why, and given the time to read it.
                layers.refused = true;
                let outcome = self.see_off(&mut layers, key, local);
                self.layers = Some(layers);
                outcome
            }
        }
    }

    /// The greeting is complete: on to a server.
    fn greeted(&mut self, layers: Box<Layers>, key: Key, local: &mut Local) -> Option<Outcome> {
        self.leave_greeting(local);
        if layers.client.tls.is_none() {
            // What was looked at is passed on first; from here on it is a plain connection.
            if !layers.first.is_empty() {
                self.up.keep(layers.first);
            }
        } else {
            self.layers = Some(layers);
        }
        if self.service.dummy {
            self.stage = Stage::Dummy;
            return self.answer_dummy(key, local);
        }
        self.dial(key, local)
    }

    /// Looks which name the client asks for, and gives the connection to the service of that name.
    fn look(&mut self, layers: &mut Layers, shop: &mut Workshop, local: &Local) -> Result<Progress, String> {
        while self.client.ready().any(Ready::READ) {
            match self.client.recv(&mut shop.plain[..client_hello::HELLO_MAX]) {
                Ok(None) => break,
                Ok(Some(0)) | Err(_) => return Ok(Progress::Gone),
                Ok(Some(count)) => layers.first.extend_from_slice(&shop.plain[..count]),
            }
            let name = match client_hello::peek(&layers.first) {
                Hello::Incomplete => continue,
                Hello::NotTls => None,
                Hello::Hello { server_name, .. } => server_name,
            };
            let routed = name.and_then(|name| self.service.routes.as_ref()?.service(&name).map(Arc::clone));
            if let Some(service) = routed {
                service.state.shard(local.worker.index).accepted.add(1);
                self.service = service;
            }
            self.terminate(layers)?;
            return Ok(Progress::Done);
        }
        Ok(Progress::Waits)
    }

    fn shake_hands(&mut self, layers: &mut Layers, shop: &mut Workshop) -> Result<Progress, String> {
        let Layers { client: end, first, .. } = layers;
        let scratch = &mut shop.scratch;
        if !first.is_empty() {
            let count = first.len().min(scratch.space().len());
            scratch.space()[..count].copy_from_slice(&first[..count]);
            scratch.filled(count);
            *first = Vec::new();
        }
        loop {
            if end.outbox.flush(&mut self.client).is_err() {
                return Ok(Progress::Gone);
            }
            if !end.outbox.is_empty() {
                return Ok(Progress::Waits);
            }
            if !scratch.has_input() {
                if !self.client.ready().any(Ready::READ) {
                    return Ok(Progress::Waits);
                }
                match self.client.recv(scratch.space()) {
                    Ok(None) => return Ok(Progress::Waits),
                    Ok(Some(0)) | Err(_) => return Ok(Progress::Gone),
                    Ok(Some(count)) => scratch.filled(count),
                }
            }
            match step(end, &mut self.client, scratch) {
                Ok(Handshake::Done) => return Ok(Progress::Done),
                Ok(Handshake::NeedsInput) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Begins the handshake with a server that has just been connected.
    pub(super) fn secure(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        let server = &self.service.servers[self.position as usize];
        let Some(context) = &server.tls else { return self.connected(key, local) };
        let layers = self.layers.get_or_insert_default();
        let alpn = layers.client.tls.as_ref().and_then(|session| session.info().alpn);
        let name = server.address.inet().map(|address| address.ip().to_string());
        let session = match context {
            Ok(context) => Session::connect_offering(context, name.as_deref(), alpn.as_deref())
                .map_err(|error| error.to_string()),
            Err(reason) => Err(reason.to_string()),
        };
        match session {
            Ok(session) => {
                layers.server = End { tls: Some(session), ..End::default() };
                self.stage = Stage::Securing;
                local.silence.allow(key.index(), Some(GREETING_TIME));
                self.go_on_securing(key, local)
            }
            Err(reason) => self.not_secured(reason, key, local),
        }
    }

    /// Goes on with it.
    pub(super) fn go_on_securing(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        let mut shop = local.workshop.take().unwrap_or_default();
        let progress = self.secure_step(&mut shop);
        shop.scratch.clear();
        local.workshop = Some(shop);
        match progress {
            Ok(Progress::Waits) => None,
            Ok(Progress::Done) => self.connected(key, local),
            Ok(Progress::Gone) => self.not_secured("it hung up in the handshake".to_owned(), key, local),
            Err(reason) => self.not_secured(reason, key, local),
        }
    }

    fn secure_step(&mut self, shop: &mut Workshop) -> Result<Progress, String> {
        let (Some(layers), Some(side)) = (&mut self.layers, &mut self.server) else {
            return Ok(Progress::Gone);
        };
        let (end, scratch) = (&mut layers.server, &mut shop.scratch);
        loop {
            // The first step takes no input.
            match step(end, side, scratch) {
                Ok(Handshake::Done) => return Ok(Progress::Done),
                Ok(Handshake::NeedsInput) => {}
                Err(error) => return Err(error.to_string()),
            }
            if end.outbox.flush(side).is_err() {
                return Ok(Progress::Gone);
            }
            if !side.ready().any(Ready::READ) {
                return Ok(Progress::Waits);
            }
            match side.recv(scratch.space()) {
                Ok(None) => return Ok(Progress::Waits),
                Ok(Some(0)) | Err(_) => return Ok(Progress::Gone),
                Ok(Some(count)) => scratch.filled(count),
            }
        }
    }
}

/// How far a greeting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// More has to come.
    Waits,
    /// It is complete.
    Done,
    /// The other side has hung up.
    Gone,
}

/// One step of a handshake; what it has to say is sent, after an error too.
fn step(
    end: &mut End,
    side: &mut super::side::Side,
    scratch: &mut super::tls::Scratch,
) -> Result<Handshake, TlsError> {
    let Some(session) = &mut end.tls else { return Ok(Handshake::Done) };
    let outcome = session.handshake(scratch);
    // A socket that fails here is found out by the next read.
    let _ = end.outbox.send(side, &scratch.output, false);
    scratch.output.clear();
    outcome
}
