//! The log of the daemon: standard error, where systemd picks it up.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging; `CYGNET_LOG` sets what is shown (`info` by default; `cygnet_ha=debug` for elections and the log).
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("CYGNET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    // A second start in one process (tests) keeps the first one's log.
    drop(started);
}
