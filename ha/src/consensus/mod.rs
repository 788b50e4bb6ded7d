//! How the nodes agree: the Raft log, its store, and the transport between nodes.

mod check;
pub mod core;
pub mod frame;
pub mod limits;
mod logger;
pub mod soft;
pub mod store;
