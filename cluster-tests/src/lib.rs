//! The lab: nodes, links and faults in network namespaces.
//!
//! A scenario calls [`enter::lab`], which runs its body again in mount, network and process namespaces of its own
//! (through a user namespace where the caller is not root). Inside, [`net::Lab`] builds nodes and bridges,
//! [`pair::Pair`] the topology that all scenarios share, [`faults`] breaks it, [`probe`] measures what a client sees,
//! and [`backend`] what a server sees. When the body ends, the kernel takes everything away: no name collides, no
//! process and no address is left.

pub mod backend;
pub mod clients;
pub mod command;
pub mod demo;
pub mod enter;
pub mod faults;
pub mod figures;
pub mod lasting;
pub mod net;
pub mod pair;
pub mod peers;
pub mod probe;
pub mod process;
pub mod scenario;
pub mod wait;

pub mod bench;
