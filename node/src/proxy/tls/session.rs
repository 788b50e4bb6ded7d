//! One connection's TLS.

use std::fmt;

use openssl::ssl::{ErrorCode, ShutdownState, Ssl, SslStream};

use super::client::ClientContext;
use super::client_hello::{self, Fields, HELLO_MAX, Message};
use super::error::TlsError;
use super::scratch::{INPUT_LEN, Input, Scratch};
use super::server::ServerContext;
use super::wire::Wire;

/// How much may wait in a session because its reader takes nothing, octets from the wire. A caller that reads the socket
/// only when it has taken all never comes near it.
pub const LEFT_MAX: usize = 2 * INPUT_LEN;
/// The most plain octets of a record (RFC 8446 section 5.1), and what a record adds to them in any cipher we offer or
/// TLS 1.0 to 1.2 know (header, IV, MAC, padding).
const RECORD_PLAIN: usize = 1 << 14;
const RECORD_OVERHEAD: usize = 96;

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Data may flow.
    Done,
    /// The peer's turn.
    NeedsInput,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// So many plain octets; there may be more: read again.
    Bytes(usize),
    /// Nothing more in what came from the wire.
    NeedsInput,
    /// The peer closed its side properly. An end of the connection without this is a truncation.
    Closed,
}

/// What was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// Such as `TLSv1.3`.
    pub protocol: &'static str,
    /// Such as `TLS_AES_128_GCM_SHA256`, in the library's words.
    pub cipher: &'static str,
    /// The host name that the client asked for, or that we asked for.
    pub server_name: Option<String>,
    /// The protocol above TLS.
    pub alpn: Option<Vec<u8>>,
    /// Continues an earlier session: no certificate was exchanged.
    pub resumed: bool,
    /// Who the peer is by its certificate, if it showed one: `CN=alice, O=Example`.
    pub peer: Option<String>,
}

enum State {
    /// A server before its client's hello is complete: nothing is allocated for clients that only connect.
    Hello(ServerContext),
    Running(SslStream<Wire>),
}

/// One connection's TLS, as server or as client. See the [module](super) for how it is driven.
pub struct Session {
    state: State,
    /// From the wire, and not yet consumed: a hello that is incomplete, or what a short read left.
    left: Input,
    server_name: Option<Box<str>>,
    /// The handshake is done.
    shaken: bool,
    /// A flight of ours is out, so what the last step of a handshake writes cannot be one that the peer waits for.
    answered: bool,
    /// What ended the session: no call reaches the library any more.
    broken: Option<Box<TlsError>>,
    closed: bool,
}

impl Session {
    /// A server's side.
    ///
    /// # Errors
    /// None today; the signature leaves room.
    pub fn accept(context: &ServerContext) -> Result<Self, TlsError> {
        Ok(Self::new(State::Hello(context.clone()), None))
    }

    /// A client's side. `name` is what the certificate must have, and what is asked for: a host name or an address.
    ///
    /// # Errors
    /// If the library refuses the name, or has no memory.
    pub fn connect(context: &ClientContext, name: Option<&str>) -> Result<Self, TlsError> {
        Self::connect_offering(context, name, None)
    }

    /// The same, offering the one protocol above TLS that the client on our other side agreed on.
    ///
    /// # Errors
    /// If the library refuses the name or the protocol, or has no memory.
    pub fn connect_offering(
        context: &ClientContext,
        name: Option<&str>,
        alpn: Option<&[u8]>,
    ) -> Result<Self, TlsError> {
        let ssl = context.ssl(name, alpn)?;
        Ok(Self::new(State::Running(SslStream::new(ssl, Wire::default())?), name))
    }

    fn new(state: State, name: Option<&str>) -> Self {
        Self {
            state,
            left: Input::default(),
            server_name: name.map(Box::from),
            shaken: false,
            answered: false,
            broken: None,
            closed: false,
        }
    }

    /// Goes on with the handshake, with all that is in the scratch; a client's first step takes no input. Also after an
    /// error the scratch's output is to be sent.
    ///
    /// # Errors
    /// Why there is no session.
    pub fn handshake(&mut self, scratch: &mut Scratch) -> Result<Handshake, TlsError> {
        self.check()?;
        if self.shaken {
            return Ok(Handshake::Done);
        }
        if matches!(self.state, State::Hello(_)) && !self.begin(scratch)? {
            return Ok(Handshake::NeedsInput);
        }
        let mark = scratch.output.len();
        let answered = self.answered;
        let outcome = self.with_input(scratch, |stream| match stream.do_handshake() {
            Ok(()) => {
                // Tickets wait for the first data, which saves a write and a packet. Not so up to TLS 1.2: there the
                // server's Finished is in the same flight, and the client waits for it.
                let version = stream.ssl().version_str();
                if answered && stream.ssl().is_server() && version == "TLSv1.3" {
                    stream.get_mut().hold_from(mark);
                }
                Ok(Handshake::Done)
            }
            Err(error) if error.code() == ErrorCode::WANT_READ => Ok(Handshake::NeedsInput),
            Err(error) => Err(TlsError::of(stream.ssl(), &error, false)),
        })?;
        self.answered |= scratch.output.len() > mark;
        self.shaken = outcome == Ok(Handshake::Done);
        self.settle(outcome)
    }

    /// A server's first step: waits for the whole hello, and makes the library's session from the context that the
    /// hello asks for. Says whether it is there.
    fn begin(&mut self, scratch: &mut Scratch) -> Result<bool, TlsError> {
        let State::Hello(context) = &self.state else { return Ok(true) };
        let gathered = !self.left.is_empty();
        if gathered {
            self.left.append(scratch.input.unread());
            scratch.input.clear();
        }
        let bytes = if gathered { self.left.unread() } else { scratch.input.unread() };
        let whole = match client_hello::message(bytes) {
            Message::Incomplete if bytes.len() < HELLO_MAX => {
                if !gathered {
                    self.left.append(scratch.input.unread());
                    scratch.input.clear();
                }
                return Ok(false);
            }
            Message::Incomplete => return self.settle(Err(TlsError::HelloTooLong)),
            // The library finds the right alert for what we cannot read.
            Message::NotTls => None,
            Message::Whole(message) => Some(message),
        };
        let fields = whole.as_deref().and_then(Fields::parse);
        let name = fields.as_ref().and_then(Fields::host_name);
        let ssl = context.ssl(name.as_deref(), fields.as_ref())?;
        self.server_name = name.map(String::into_boxed_str);
        self.state = State::Running(SslStream::new(ssl, Wire::default())?);
        Ok(true)
    }

    /// Decrypts into `plain`, as much as fits. All of the scratch's input is taken: what does not fit stays in the session
    /// for the next call, which needs no new input. Call until it says something else than [`ReadOutcome::Bytes`].
    ///
    /// # Errors
    /// What broke the session; what was decrypted before is given first.
    pub fn read(&mut self, scratch: &mut Scratch, plain: &mut [u8]) -> Result<ReadOutcome, TlsError> {
        if self.closed {
            scratch.input.clear();
            return Ok(ReadOutcome::Closed);
        }
        self.check()?;
        if !self.shaken {
            return Err(TlsError::NotReady);
        }
        if self.left.is_empty() && scratch.input.is_empty() && !self.pending() {
            return Ok(ReadOutcome::NeedsInput);
        }
        let (taken, end) = self.with_input(scratch, |stream| fill(stream, plain))?;
        match end {
            Some(Ok(())) => self.closed = true,
            Some(Err(error)) if taken == 0 => return self.settle(Err(error)),
            // What was decrypted before it is given first.
            Some(Err(error)) => self.broken = Some(Box::new(error)),
            None => {}
        }
        Ok(match taken {
            0 if self.closed => ReadOutcome::Closed,
            0 => ReadOutcome::NeedsInput,
            taken => ReadOutcome::Bytes(taken),
        })
    }

    /// Whether a read would give something without new input.
    #[must_use]
    pub fn has_left(&self) -> bool {
        !self.left.is_empty() || self.pending()
    }

    fn pending(&self) -> bool {
        matches!(&self.state, State::Running(stream) if stream.ssl().pending() > 0)
    }

    /// Encrypts all of `plain`. Many records make one output, so the more at once the better: 256 KiB is best.
    ///
    /// # Errors
    /// What broke the session.
    pub fn write(&mut self, scratch: &mut Scratch, plain: &[u8]) -> Result<(), TlsError> {
        self.check()?;
        let State::Running(stream) = &mut self.state else { return Err(TlsError::NotReady) };
        if !self.shaken {
            return Err(TlsError::NotReady);
        }
        let records = plain.len() / RECORD_PLAIN + 1;
        scratch.output.reserve(plain.len() + records * RECORD_OVERHEAD + stream.get_ref().held.len());
        std::mem::swap(&mut stream.get_mut().output, &mut scratch.output);
        let mut rest = plain;
        let mut outcome = Ok(());
        while !rest.is_empty() {
            match stream.ssl_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) => {
                    outcome = Err(TlsError::of(stream.ssl(), &error, true));
                    break;
                }
            }
        }
        std::mem::swap(&mut stream.get_mut().output, &mut scratch.output);
        self.settle(outcome)
    }

    /// Tells the peer that nothing more comes (close_notify). Not after an error, nor in a handshake: there the library
    /// has sent its alert.
    pub fn close(&mut self, scratch: &mut Scratch) {
        let State::Running(stream) = &mut self.state else { return };
        if self.broken.is_some() || !self.shaken {
            return;
        }
        std::mem::swap(&mut stream.get_mut().output, &mut scratch.output);
        // Whether the peer closed as well is of no interest, and writing to memory does not fail.
        let _ = stream.shutdown();
        std::mem::swap(&mut stream.get_mut().output, &mut scratch.output);
    }

    /// What was agreed; of use once the handshake is done.
    #[must_use]
    pub fn info(&self) -> TlsInfo {
        let ssl = match &self.state {
            State::Hello(_) => None,
            State::Running(stream) => Some(stream.ssl()),
        };
        TlsInfo {
            protocol: ssl.map_or("", |ssl| ssl.version_str()),
            cipher: ssl.and_then(|ssl| ssl.current_cipher()).map_or("", |cipher| cipher.name()),
            server_name: self.server_name.as_deref().map(str::to_owned),
            alpn: ssl.and_then(|ssl| ssl.selected_alpn_protocol()).map(<[u8]>::to_vec),
            resumed: ssl.is_some_and(openssl::ssl::SslRef::session_reused),
            peer: ssl
                .and_then(openssl::ssl::SslRef::peer_certificate)
                .map(|shown| subject(shown.subject_name())),
        }
    }

    /// An ended session stays ended, for the same reason.
    fn check(&self) -> Result<(), TlsError> {
        self.broken.as_deref().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Remembers an error.
    fn settle<T>(&mut self, outcome: Result<T, TlsError>) -> Result<T, TlsError> {
        if let Err(error) = &outcome {
            self.broken = Some(Box::new(error.clone()));
        }
        outcome
    }

    /// Runs `step` with the scratch's buffers in the library's hands, and takes them back. All input is taken.
    fn with_input<T>(
        &mut self,
        scratch: &mut Scratch,
        step: impl FnOnce(&mut SslStream<Wire>) -> T,
    ) -> Result<T, TlsError> {
        let State::Running(stream) = &mut self.state else { return Err(TlsError::NotReady) };
        let gathered = !self.left.is_empty();
        if gathered {
            if self.left.unread().len() + scratch.input.unread().len() > LEFT_MAX {
                return self.settle(Err(TlsError::Backlog));
            }
            if !scratch.input.is_empty() {
                self.left.append(scratch.input.unread());
                scratch.input.clear();
            }
        }
        let input = if gathered { &mut self.left } else { &mut scratch.input };
        std::mem::swap(&mut stream.get_mut().input, input);
        std::mem::swap(&mut stream.get_mut().output, &mut scratch.output);
        let outcome = step(stream);
        std::mem::swap(&mut stream.get_mut().input, input);
        std::mem::swap(&mut stream.get_mut().output, &mut scratch.output);
        if gathered {
            if self.left.is_empty() {
                self.left = Input::default(); // gives the memory back
            }
        } else {
            if !scratch.input.is_empty() {
                self.left.append(scratch.input.unread());
            }
            scratch.input.clear();
        }
        Ok(outcome)
    }
}

impl Drop for Session {
    /// A connection that just ends is no reason to forget its session: the library would, as SSL 3.0 wanted it.
    fn drop(&mut self) {
        if let State::Running(stream) = &mut self.state
            && self.broken.is_none()
            && self.shaken
        {
            stream.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
        }
    }
}

impl fmt::Debug for Session {
    /// Nothing of what is said in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("shaken", &self.shaken)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Reads until `plain` is full or the input is used up: how much, and the end (`Ok`: a proper one) if it came.
fn fill(stream: &mut SslStream<Wire>, plain: &mut [u8]) -> (usize, Option<Result<(), TlsError>>) {
    let mut taken = 0;
    while taken < plain.len() {
        match stream.ssl_read(&mut plain[taken..]) {
            Ok(read) => taken += read,
            Err(error) if error.code() == ErrorCode::WANT_READ => return (taken, None),
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => return (taken, Some(Ok(()))),
            Err(error) => return (taken, Some(Err(TlsError::of(stream.ssl(), &error, true)))),
        }
        if stream.get_ref().input.is_empty() && stream.ssl().pending() == 0 {
            break; // saves a call that would only say so
        }
    }
    (taken, None)
}

/// A name as people write it: `CN=alice, O=Example`.
fn subject(name: &openssl::x509::X509NameRef) -> String {
    let parts = name.entries().map(|entry| {
        let kind = entry.object().nid().short_name().unwrap_or("?");
        let value = entry.data().to_string().unwrap_or_else(|_| "?".to_owned());
        format!("{kind}={value}")
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// A session of the library in the role of a server.
pub(super) fn server_ssl(context: &openssl::ssl::SslContextRef) -> Result<Ssl, openssl::error::ErrorStack> {
    let mut ssl = Ssl::new(context)?;
    ssl.set_accept_state();
    #[cfg(feature = "fast-tls")]
    cygnet_netlink::ssl::shed_handshake_config(&mut ssl);
    Ok(ssl)
}
