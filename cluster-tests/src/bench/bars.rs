//! What Cygnet may cost at most, load by load.

use super::{Contender, Workload};

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// So much of what the best peer of the same run needs.
    OfBest(f64),
    /// So many KiB of user memory for a connection.
    Kib(f64),
}

/// The limit of one contender under one load; peers have none.
pub(super) const fn of(contender: Contender, workload: Workload) -> Option<Bar> {
    let (system, fast) = limits(workload);
    match contender {
        Contender::Cygnet => Some(system),
        Contender::CygnetFast => Some(fast),
        Contender::Haproxy | Contender::Nginx | Contender::Pen => None,
    }
}

/// With the system's OpenSSL, and with AWS-LC. The peers' best is that of today's Debian packages.
const fn limits(workload: Workload) -> (Bar, Bar) {
    const fn both(bar: Bar) -> (Bar, Bar) {
        (bar, bar)
    }
    match workload {
        // Pen makes 17 system calls for a connection; 11 or 12 suffice.
        Workload::Connection => both(Bar::OfBest(0.90)),
        Workload::KeepAlive | Workload::Burst => both(Bar::OfBest(0.95)),
        // All of it is the kernel's work once both ends are spliced.
        Workload::BulkOne | Workload::BulkEight => both(Bar::OfBest(1.0)),
        // The library is most of a full handshake: the rest is one read and one write per flight, and one ticket.
        Workload::TlsFullEcdsa => (Bar::OfBest(0.90), Bar::OfBest(0.55)),
        Workload::TlsFullRsa => (Bar::OfBest(0.95), Bar::OfBest(0.75)),
        Workload::TlsResume13 => (Bar::OfBest(0.92), Bar::OfBest(0.55)),
        Workload::TlsResume12 => (Bar::OfBest(1.05), Bar::OfBest(0.70)),
        Workload::TlsRequest => (Bar::OfBest(0.90), Bar::OfBest(0.82)),
        // Many records for each write.
        Workload::TlsBulk => (Bar::OfBest(0.75), Bar::OfBest(0.50)),
        // recvmmsg and sendmmsg.
        Workload::UdpEcho => both(Bar::OfBest(0.80)),
        Workload::UdpFlow => both(Bar::OfBest(0.60)),
        Workload::Idle => both(Bar::Kib(1.2)),
        Workload::IdleTls => (Bar::Kib(15.0), Bar::Kib(8.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_has_a_bar_for_cygnet_and_none_for_a_peer() {
        for workload in Workload::all() {
            assert!(of(Contender::Cygnet, workload).is_some(), "{workload:?}");
            assert_eq!(of(Contender::Haproxy, workload), None);
        }
    }

    #[test]
    fn the_fast_library_is_never_allowed_more() {
        for workload in Workload::all() {
            match limits(workload) {
                (Bar::OfBest(system), Bar::OfBest(fast)) | (Bar::Kib(system), Bar::Kib(fast)) => {
                    assert!(fast <= system, "{workload:?}");
                }
                (system, fast) => panic!("{workload:?}: {system:?} beside {fast:?}"),
            }
        }
    }
}
