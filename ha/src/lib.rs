//! Who is active, and what the nodes agree on.
//!
//! [`vip`] holds the elections, the watcher and the holder of virtual addresses; `consensus` the Raft loop, its
//! store and its transport; `state` what is replicated. The cores are pure: inputs and [`time::Time`]
//! go in, actions come out; the drivers beside them own the sockets and the clock.

pub mod consensus;
pub mod events;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod state;
pub mod time;
pub mod vip;
