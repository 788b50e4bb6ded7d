//! TLS as a machine: bytes from the wire and plain bytes go in, bytes for the wire and plain bytes come out. No socket,
//! no clock, no thread; the same code over the system's OpenSSL and over AWS-LC (feature `fast-tls`).
//!
//! ```text
//! wire -> Scratch.input  -> Session::handshake, Session::read -> plain
//! wire <- Scratch.output <- Session::handshake, Session::write, Session::close <- plain
//! ```
//!
//! A worker has one [`Scratch`] for all its sessions. Its buffers are lent to a session for the length of a call, so
//! that an idle session holds none, and one read and one write of the socket serve many records.
//! [`ServerContext`] and [`ClientContext`] hold certificates and rules; [`client_hello`] reads what a client asks for
//! without any library, which is also what routing by name needs.

mod authorities;
mod client;
pub mod client_hello;
mod credentials;
mod defaults;
mod error;
mod expiry;
mod names;
mod ocsp;
mod rules;
mod scope;
mod scratch;
mod server;
mod session;
mod tickets;
mod wire;

pub use client::ClientContext;
pub use cygnet_netlink::ssl::{TICKET_KEY_LEN, TICKET_KEYS_MAX, TicketKey, TicketKeys};
pub use error::{ContextError, TlsError};
pub use expiry::{Lifetime, SOON, Stage, URGENT};
pub use scratch::{INPUT_LEN, Scratch};
pub use server::{Reload, ServerContext};
pub use session::{Handshake, LEFT_MAX, ReadOutcome, Session, TlsInfo};
pub use tickets::{TICKET_ROTATION, Tickets};

#[cfg(test)]
pub(crate) mod tests;
