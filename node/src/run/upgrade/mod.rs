//! A new program in the place of the one that runs: `cygnet upgrade`.
//!
//! The process that runs starts the new program beside itself and hands over to it: first nothing but what the new one needs to see
//! whether it could (`giver.rs`, `taker.rs`: who does what when; `word.rs`: what they say), then the listening sockets with their
//! queues, then the log, and at last the addresses, which stay where they are while both advertise. Until the new one says that it
//! holds them, whatever fails leaves everything as it was. The old process stays without any of it until its connections have ended.
//!
//! `give.rs` is the old process at work and `retire.rs` its life afterwards; `succeed.rs` and `settle.rs` are the new one.

mod binary;
mod board;
mod channel;
mod give;
mod giver;
mod retire;
mod settle;
mod succeed;
mod taker;
pub mod word;

pub(super) use board::{Board, Started};
pub(super) use give::upgrade;
pub(super) use retire::retire;
pub(super) use settle::{Settled, settle};
pub(super) use succeed::{Inheritance, Succession, beside};
