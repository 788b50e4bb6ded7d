//! The kernel's edge: bytes and system calls, no policy.
//!
//! [`wire`] turns packets into types and back; [`capture`] hears packets, [`advert`] and [`announce`] send them;
//! [`kernel`] watches and changes links, addresses and routes, and [`guard`] takes addresses away from a dead node; [`source`]
//! chooses, [`steer`] sends packets of an address on to a neighbour, [`flows`] lists its connections, [`socket`] opens connections, as many as the [`limits`] allow, [`udp`] moves datagrams, and [`frames`] what
//! goes by without being ours; [`ssl`] has what the TLS library offers beyond the `openssl` crate; [`output`] writes the
//! log; [`process`] is what daemons do to themselves, [`succession`] what they need for one that takes over, [`memory`] what they give back. Nothing here decides who is active:
//! that is `cygnet-ha`.
//! This is the only crate of the workspace with `unsafe`; each block says why it is sound.

pub mod account;
pub mod advert;
pub mod announce;
pub mod capture;
pub mod flows;
pub mod frames;
pub mod guard;
pub mod kernel;
pub mod limits;
pub mod memory;
pub mod output;
pub mod pcap;
pub mod process;
pub mod resumption;
pub mod scheduling;
pub mod socket;
pub mod source;
pub mod ssl;
pub mod steer;
pub mod succession;
mod sys;
#[cfg(test)]
mod testns;
pub mod udp;
pub mod wire;
