//! Active health checks: whether the servers of a service are well, asked by this node itself.
//!
//! ```text
//! configuration -> Checks::configure
//! time          -> Checks::start   -> tickets -> probe::probe -> Outcome -> Checks::result -> Flip -> the plan's servers
//! ```
//!
//! [`Checks`] is a machine without sockets or clock; [`probe`] is what it is told by. A server that is down gets no new
//! connections (`ServerState::set_down`), as if it were blacklisted, until it is up again. Nothing here runs on a worker.

mod checks;
mod news;
pub mod probe;
mod verdict;

pub use checks::{Checks, Figures, PROBES_AT_ONCE, Ticket, Wanted};
pub use news::{EVENTS_AT_ONCE, News, WINDOW};
pub use verdict::{Flip, Outcome, State, Verdict};
