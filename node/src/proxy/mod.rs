//! Moving bytes: listeners, connections to servers, and the relay between them.
//!
//! Each worker is a thread with its own epoll loop (engine.rs, reactor.rs) and its own listening sockets (SO_REUSEPORT);
//! the kernel spreads the clients over them. Workers share the current plan (one number to compare per client), the
//! counters and the client table, and wait for nothing else. The life of a connection:
//!
//! ```text
//! accept (accept.rs) -> a server and a connection to it (dial.rs, with balance) -> relay (relay.rs, half.rs) -> end
//! ```
//!
//! There is no runtime for asynchronous functions here, though the rest of the node has one. It takes each socket out of
//! epoll before it closes it (two calls per connection that the kernel would not need), it makes a wake-up and a task
//! of what is one step of a small machine, and it keeps about 3 KiB per connection where 300 bytes do. A connection
//! (connection.rs) is a machine in a table (slots.rs), moved on by whatever the kernel says of its two sockets (side.rs).
//! Whatever is known is not asked: a socket is added once, edge-triggered, and never changed; a short read means that no
//! more is there; the end is known when the kernel told of it before.
//!
//! Bulk goes through pipes (splice.rs). All time-outs are kept by a coarse clock per worker (silence.rs): no timer is set
//! for a connection, nor moved when bytes are.

mod accept;
mod connection;
mod dial;
pub mod dsr;
mod engine;
mod greet;
mod half;
pub mod http;
mod idlers;
mod layered;
mod layers;
mod leave;
mod legacy;
mod local;
pub mod observer;
mod places;
mod reactor;
mod relay;
mod side;
mod silence;
mod slots;
mod splice;
mod stats;
pub mod tls;
mod udp;
mod worker;
mod workers;

pub use connection::{ConnectionInfo, Stage};
pub(crate) use dial::is_local;
pub use legacy::Legacy;
pub use stats::{ServerStats, ServiceStats, Stats, WorkerStats};
pub use workers::{ListenError, Settings, StopReport, Workers, connections_that_fit};

#[cfg(test)]
mod tests;
