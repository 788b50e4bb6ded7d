//! How the nodes agree: the Raft log, its store, and the transport between nodes.
pub mod store;
