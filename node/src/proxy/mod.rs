//! Moving bytes: listeners, connections to servers, and the relay between them.
//!
//! Each worker is a thread with its own single-threaded runtime and its own listening sockets (SO_REUSEPORT); the
//! kernel spreads the clients over them. Workers share the current plan (one number to compare per client), the
//! counters and the client table, and wait for nothing else. The life of a connection:
//!
//! ```text
//! accept (accept.rs) -> a server and a connection to it (dial.rs, with balance) -> relay (relay.rs, half.rs) -> close
//! ```
//!
//! All time-outs are kept by a coarse clock per worker (silence.rs): no timer is set for a connection, nor moved when
//! bytes are.

mod accept;
mod dial;
pub mod dsr;
mod half;
mod local;
pub mod observer;
mod places;
mod relay;
mod silence;
mod stats;
#[allow(dead_code, reason = "not wired into the workers yet")]
mod udp;
mod worker;
mod workers;

pub use stats::{ServerStats, ServiceStats, Stats, WorkerStats};
pub use workers::{ListenError, Settings, StopReport, Workers, connections_that_fit};

#[cfg(test)]
mod tests;
