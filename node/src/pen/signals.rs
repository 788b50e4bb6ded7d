//! The signals that Pen knows. INT, ALRM and others keep their default: they kill, and the pid file stays.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// HUP: open the log file anew, and run the configuration file again.
    Reload,
    /// USR1: statistics.
    Statistics,
    /// USR2: a core dump.
    Abort,
    /// TERM: the clean end.
    End,
}

/// The signals, caught from now on.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    terminate: Signal,
}

impl Signals {
    /// Within a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next one. Several of a kind that come at once are one.
    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.user1.recv() => Wish::Statistics,
            _ = self.user2.recv() => Wish::Abort,
            _ = self.terminate.recv() => Wish::End,
        }
    }
}
