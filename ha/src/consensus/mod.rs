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

pub mod authority;
mod check;
pub mod core;
pub(crate) mod countdown;
pub mod credentials;
mod driver;
pub mod frame;
mod handle;
pub mod join;
mod keeper;
pub mod limits;
mod link;
mod logger;
pub(crate) mod outbox;
mod proposals;
pub(crate) mod rotation;
mod seal;
mod shared;
pub mod soft;
mod status;
pub mod store;
mod succession;
mod tickets;
pub mod token;
mod transport;

pub use self::core::{Begin, Core, CoreSettings, RaftRole};
pub use countdown::Confirmation;
pub use handle::{Applied, Committed, Handle, ProposeError, RecoveryOutlook, StartError};
pub use limits::LogLimits;
pub use link::Security;
pub use rotation::TICKET_KEY_LIFE;
pub use shared::{Member, Preflight, Settings};
pub use soft::SoftFigures;
pub use status::{MemberStatus, Status};
pub use tickets::{OwnKeys, TicketKeyAge, TicketSet, TicketStatus};
