//! The log of the daemon: standard error, where systemd picks it up.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use cygnet_netlink::output::Output;
use tracing_subscriber::EnvFilter;

/// Starts logging; `CYGNET_LOG` sets what is shown (`info` by default; `cygnet_ha=debug` for elections and the log).
/// Whoever writes to the log never waits for whoever reads it: neither the data path nor an election may.
///
/// # Errors
/// Standard error is closed.
pub(crate) fn start() -> io::Result<()> {
    let filter = EnvFilter::try_from_env("CYGNET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Arc::new(Output::stderr()?))
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false)
        .with_target(false)
        .try_init();
    // A second start in one process (tests) keeps the first one's log.
    drop(started);
    Ok(())
}
