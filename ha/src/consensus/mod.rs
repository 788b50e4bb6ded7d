//! How the nodes agree: the Raft log, its store, and the transport between nodes.
//!
//! ```text
//!   Handle ──inbox──> raft thread (driver) ──> core (pure) ──> store (redb)
//!                        │  ▲                     └──> state ──> Applied
//!                     outbox │ inbox
//!                        ▼  │
//!                      transport (tokio) <──TCP──> other nodes
//! ```
//! Every queue is bounded. The core knows neither clock nor socket. When it fails, the node loses its voice in the
//! cluster, and nothing else.

mod check;
pub mod core;
mod driver;
pub mod frame;
mod handle;
pub mod limits;
mod logger;
pub(crate) mod outbox;
mod shared;
pub mod soft;
mod status;
pub mod store;
mod transport;

pub use self::core::RaftRole;
pub use handle::{Applied, Committed, Handle, ProposeError, StartError};
pub use limits::LogLimits;
pub use shared::{Member, Preflight, Settings};
pub use soft::SoftFigures;
pub use status::{MemberStatus, Status};
