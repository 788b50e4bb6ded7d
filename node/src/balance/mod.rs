//! Choosing a server. No socket and no clock in here: [`pick`] looks at a plan, at the counters of its servers and at
//! `now`, and takes a place at a server.
//!
//! The order, for each attempt of a client's connection:
//! 1. the server that the client is remembered with, if it stands well, even when it is being drained;
//! 2. by the algorithm among the servers that are ready, stand well, and are below their `max`;
//! 3. when none is left: by the algorithm among the blacklisted ones. A server that failed a moment ago is a better
//!    answer than a refusal.
//!
//! A server that was tried for this connection is not tried again for it.

pub mod acl;
mod clients;
pub mod geo;
mod schedule;
mod select;

pub use clients::{CLIENTS_DEFAULT, ClientEntry, ClientTable, NameId, Remembered};
pub use schedule::Schedule;
pub use select::{NoServer, Pick, Tried, pick};
