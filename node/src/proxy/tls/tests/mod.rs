//! Sessions against sessions, in memory, and against the library's own blocking stream.

mod contexts;
mod hello;
pub(crate) mod pki;
mod sessions;
mod staple;
mod tickets;

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::model::{TlsConnect, TlsListen};

use super::{ClientContext, Handshake, ReadOutcome, Scratch, ServerContext, Session, TicketKeys, TlsError};

/// A session with buffers of its own, as if on another machine than its peer.
struct End {
    session: Session,
    scratch: Scratch,
}

impl End {
    fn new(session: Session) -> Self {
        Self { session, scratch: Scratch::new() }
    }

    fn give(&mut self, bytes: &[u8]) {
        self.scratch.space()[..bytes.len()].copy_from_slice(bytes);
        self.scratch.filled(bytes.len());
    }

    fn handshake(&mut self, bytes: &[u8]) -> Result<Handshake, TlsError> {
        self.give(bytes);
        self.session.handshake(&mut self.scratch)
    }

    /// What the session wants on the wire.
    fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch.output)
    }

    fn write(&mut self, plain: &[u8]) -> Vec<u8> {
        self.session.write(&mut self.scratch, plain).unwrap();
        self.sent()
    }

    /// All that comes of these bytes from the wire, in pieces of `piece`.
    fn read(&mut self, bytes: &[u8], piece: usize) -> (Vec<u8>, Result<ReadOutcome, TlsError>) {
        self.give(bytes);
        let mut all = Vec::new();
        let mut plain = vec![0; piece];
        loop {
            match self.session.read(&mut self.scratch, &mut plain) {
                Ok(ReadOutcome::Bytes(length)) => all.extend_from_slice(&plain[..length]),
                end => return (all, end),
            }
        }
    }

    fn plain(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (plain, end) = self.read(bytes, 65_536);
        assert_eq!(end, Ok(ReadOutcome::NeedsInput));
        plain
    }
}

fn server(listen: &TlsListen) -> ServerContext {
    server_with(listen, &Arc::new(TicketKeys::random().unwrap()))
}

fn server_with(listen: &TlsListen, keys: &Arc<TicketKeys>) -> ServerContext {
    let (context, problems) = ServerContext::new(listen, keys).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    context
}

fn client(authorities: PathBuf) -> ClientContext {
    ClientContext::new(&TlsConnect { authorities: Some(authorities), ..TlsConnect::default() }).unwrap()
}

/// The two sides, before the first byte.
fn ends(client: &ClientContext, server: &ServerContext, name: &str) -> (End, End) {
    let client = Session::connect(client, Some(name)).unwrap();
    (End::new(client), End::new(Session::accept(server).unwrap()))
}

/// Flights to and fro, until both are done, or one fails: then the other hears of it, too.
fn shake(client: &mut End, server: &mut End) -> (Result<(), TlsError>, Result<(), TlsError>) {
    let (mut there, mut here) = (Ok(Handshake::NeedsInput), Ok(Handshake::NeedsInput));
    let mut to_client = Vec::new();
    for _ in 0..10 {
        if here.is_ok() {
            here = client.handshake(&to_client);
        }
        let to_server = client.sent();
        if there.is_ok() {
            there = server.handshake(&to_server);
        }
        to_client = server.sent();
        let over = |side: &Result<Handshake, _>| !matches!(side, Ok(Handshake::NeedsInput));
        if over(&here) && over(&there) {
            break;
        }
    }
    // A TLS 1.3 client is done before the server refuses it: it hears so from the alert.
    if here.is_ok() && there.is_err() && !to_client.is_empty() {
        here = client.read(&to_client, 100).1.map(|_| Handshake::Done);
    }
    (here.map(|_| ()), there.map(|_| ()))
}

/// Two sessions that agreed.
fn agreed(client: &ClientContext, server: &ServerContext, name: &str) -> (End, End) {
    let (mut client, mut server) = ends(client, server, name);
    assert_eq!(shake(&mut client, &mut server), (Ok(()), Ok(())));
    (client, server)
}

/// A server on a real stream: shakes hands, and sends one octet; says whether it was a session that went on.
fn serve_one_octet(end: &mut End, mut stream: std::os::unix::net::UnixStream) -> bool {
    use std::io::{Read, Write};
    loop {
        let length = stream.read(end.scratch.space()).unwrap();
        assert!(length > 0, "the client left in the handshake");
        end.scratch.filled(length);
        let outcome = end.session.handshake(&mut end.scratch).unwrap();
        let out = end.sent();
        stream.write_all(&out).unwrap();
        if outcome == Handshake::Done {
            let last = end.write(b"!");
            stream.write_all(&last).unwrap();
            return end.session.info().resumed;
        }
    }
}
