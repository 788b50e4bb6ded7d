//! The lab: nodes, links and faults in network namespaces.
//!
//! A scenario calls [`enter::lab`], which runs its body again in mount, network and process namespaces of its own
//! (through a user namespace where the caller is not root). Inside, [`net::Lab`] builds nodes and bridges,
//! [`pair::Pair`] the topology that all scenarios share, [`faults`] breaks it, [`probe`] measures what a client sees,
//! and [`backend`] what a server sees. When the body ends, the kernel takes everything away: no name collides, no
//! process and no address is left.
//!
//! Environment: `CYGNET_BIN` names the program under test (default: the one in the target folder), `CYGNET_RUNS` how
//! often a measured scenario repeats (default 2), `CYGNET_CONNECTIONS` and `CYGNET_RELOADS` how long the tests of integrity and of
//! reloading are (default 1,000 and 20; `make integrity` takes 10,000 and 200), `CYGNET_FIGURES` the file that the figures are appended to (default
//! `figures.txt` in the target folder), `CYGNET_LAB_ROOTLESS` makes root go through a user namespace, too.

pub mod backend;
pub mod clients;
pub mod command;
pub mod demo;
pub mod enter;
pub mod faults;
pub mod figures;
pub mod health;
pub mod inside;
pub mod integrity;
pub mod lasting;
pub mod matrix;
pub mod net;
pub mod pair;
pub mod peers;
pub mod pen;
pub mod probe;
pub mod process;
pub mod scenario;
pub mod solo;
pub mod stand_in;
pub mod wait;

pub mod bench;
