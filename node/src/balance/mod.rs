//! Choosing a server. No socket and no clock in here: a [`Choice`] looks at a plan, at the counters of its servers, at
//! what is remembered of the client and at `now`, and takes a place at a server.
//!
//! The order, for each attempt of a client's connection:
//! 1. a client whom the service is not for: the abuse server, and nothing else;
//! 2. the server that the client is remembered with, if it stands well, even when it is being drained;
//! 3. by the algorithm among the servers that are ready, stand well, let the client in, and are below their `max`;
//! 4. the emergency server;
//! 5. when none is left: by the algorithm among the blacklisted ones. A server that failed a moment ago is a better
//!    answer than a refusal.
//!
//! A server that was tried for this connection is not tried again for it. A `stubborn` service tries one server.
//! The rules of Pen are others, and kept apart (`pen.rs`).

pub mod acl;
mod attempt;
mod choice;
mod clients;
pub mod geo;
mod hash;
mod pen;
mod schedule;
mod select;

pub use attempt::{NoServer, Permits, Pick, Tried};
pub use choice::{Choice, Connected, refresh};
pub use clients::{CLIENTS_DEFAULT, ClientEntry, ClientTable, NameId, Remembered};
pub use hash::hash_of_name;
pub use schedule::Schedule;
