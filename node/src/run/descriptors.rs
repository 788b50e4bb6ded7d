//! How many connections this process may have: the limit on open files, raised as far as it goes.

use std::io;

use cygnet_ha::events::{EventLog, Severity};
use cygnet_netlink::limits::{self, OpenFiles};

use crate::proxy::connections_that_fit;

/// A balancer with fewer places than this is most likely one whose limit nobody has thought of.
const CONNECTIONS_EXPECTED: usize = 10_000;

/// Raises the limit and says what it came to. Whatever it came to, the node starts: few places are better than none.
pub(crate) fn raise(events: &EventLog) {
    let before = limits::raise_open_files();
    let (severity, what, why) = told(&before, limits::open_files().map_or(0, |now| now.soft));
    events.record(severity, "node", what, why);
}

/// The event about it. `now`: the limit after the raise.
fn told(before: &io::Result<OpenFiles>, now: u64) -> (Severity, String, String) {
    let fit = connections_that_fit(now);
    let what = format!("{fit} connections fit");
    let limit = match before {
        Ok(before) if before.soft == now => format!("the limit on open files is {now}"),
        Ok(before) => format!("the limit on open files was raised from {} to {now}", before.soft),
        Err(error) => format!("the limit on open files stays at {now}: {error}"),
    };
    if fit >= CONNECTIONS_EXPECTED {
        return (Severity::Info, what, limit);
    }
    let remedy = "set LimitNOFILE= in the service unit, or `ulimit -Hn` where there is none; \
                  two files a connection";
    (Severity::Warning, format!("only {what}"), format!("{limit}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_places_are_a_warning_with_a_remedy_and_many_are_not() {
        let before = Ok(OpenFiles { soft: 1024, hard: 1_048_576 });
        let (severity, what, why) = told(&before, 1_048_576);
        assert_eq!((severity, &*what), (Severity::Info, "524160 connections fit"));
        assert_eq!(why, "the limit on open files was raised from 1024 to 1048576");
        let (severity, what, why) = told(&Ok(OpenFiles { soft: 4096, hard: 4096 }), 4096);
        assert_eq!((severity, &*what), (Severity::Warning, "only 1920 connections fit"));
        assert!(why.starts_with("the limit on open files is 4096; set LimitNOFILE= "), "{why}");
        let (severity, _, why) = told(&Err(io::ErrorKind::PermissionDenied.into()), 1024);
        assert_eq!(severity, Severity::Warning);
        assert!(why.starts_with("the limit on open files stays at 1024: permission denied"), "{why}");
    }
}
