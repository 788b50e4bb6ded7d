//! Pen's front end: its options, commands, files and answers, as Pen 0.34 has them, over the data path of this house.
//!
//! This half is pure. [`Pen`] is the state that options and commands change; [`options::parse`] makes one of a command
//! line, [`Pen::command`] runs one command of the control socket, and [`Pen::service`] says it in the words of the rest of
//! the program. What needs the kernel comes in through [`Surroundings`] (figures, names, files) and goes out as
//! [`Effect`]s. What differs from Pen, and why, is in `docs/pen-compatibility.md`.
//!
//! The other half runs it: [`run::main`] is the program `pen` (start, signals, control socket, logs, accounts of clients),
//! [`penctl::main`] the program `penctl`.

mod accounts;
mod answers;
mod balancer;
mod clock;
mod command;
mod control;
mod daemon;
mod direct;
mod figures;
#[cfg(test)]
mod fixture;
mod logs;
mod messages;
mod model;
mod observe;
pub mod options;
pub mod pages;
pub mod penctl;
pub mod penctl_words;
pub mod run;
pub mod service;
mod signals;
mod system;
mod words;
mod write;

pub use answers::{
    ClientFigures, ConnectionFigures, Effect, Facts, Files, Names, Outcome, ServerFigures, Surroundings,
};
pub use command::{INCLUDES_DEPTH_MAX, LINES_MAX};
pub use model::{
    ACL_ENTRIES_MAX, ACLS, BLACKLIST_DEFAULT, CLIENTS_DEFAULT, CLIENTS_MAX, CONNECTIONS_DEFAULT,
    CONNECTIONS_MAX, COUNTRIES, Events, FILE_BYTES_MAX, Host, LISTEN_QUEUE_DEFAULT, LogTarget,
    MULTI_ACCEPT_DEFAULT, PENDING_DEFAULT, Pen, SLOTS_MAX, ServerId, Slot, TIMEOUT_DEFAULT, TlsSettings,
    listen_address,
};
pub use words::{LINE_BYTES_MAX, first_line};

#[cfg(test)]
mod tests;
