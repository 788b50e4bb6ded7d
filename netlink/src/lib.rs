//! The kernel's edge: bytes and system calls, no policy.
//!
//! [`wire`] turns packets into types and back; the other rooms open sockets, watch and change addresses,
//! and choose source addresses. Nothing here decides who is active: that is `cygnet-ha`.
//! This is the only crate of the workspace with `unsafe`; each block says why it is sound.

pub mod pcap;
pub mod wire;
