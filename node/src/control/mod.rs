//! The API: JSON over HTTP on a Unix socket. [`router()`] asks a [`NodeApi`]; [`bind`] and [`serve`] own the socket.
//!
//! Whoever may open the socket may change the cluster, unless the node file has [`roles`].

mod api;
mod audit;
mod configuration;
mod drain;
pub mod health;
pub mod roles;
mod router;
mod socket;
pub mod status;
mod switchover;
pub mod types;
pub mod why;

#[cfg(test)]
pub(crate) mod tests;

pub use api::NodeApi;

pub(crate) use configuration::{nodes, not_too_much};
pub(crate) use router::known_server;
pub use router::{BODY_BYTES_MAX, REQUEST_TIME_MAX, router};
pub use socket::{CONNECTION_TIME_MAX, CONNECTIONS_MAX, admit, bind, serve};
