//! The loads, and what an operation of each is.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::load::Done;
use super::origin;

/// A load, and what an operation of it is.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// A connection for each small answer, 64 at a time.
    Connection,
    /// Small answers on 64 connections that stay open.
    KeepAlive,
    /// Answers of 8 MiB, one after the other, on one connection.
    #[value(name = "bulk-1")]
    BulkOne,
    /// Answers of 8 MiB on eight connections.
    #[value(name = "bulk-8")]
    BulkEight,
    /// A full TLS 1.3 handshake for each small answer, certificate on P-256.
    TlsFullEcdsa,
    /// The same, with a certificate of RSA, 2048 bits.
    TlsFullRsa,
    /// A TLS 1.3 handshake resumed by ticket for each small answer.
    #[value(name = "tls-resume-13")]
    TlsResume13,
    /// A TLS 1.2 handshake resumed for each small answer.
    #[value(name = "tls-resume-12")]
    TlsResume12,
    /// Small answers on 64 TLS connections that stay open.
    TlsRequest,
    /// Answers of 8 MiB on eight TLS connections.
    TlsBulk,
    /// Datagrams and their echoes, over 1,000 flows that stay.
    UdpEcho,
    /// Each datagram from an address and port that was never seen before.
    UdpFlow,
    /// Memory of a connection that has carried a request and is idle.
    Idle,
    /// Memory of a TLS connection that has carried a request and is idle.
    IdleTls,
    /// 10,000 connections at once, each with one request, until all are through.
    Burst,
}

/// What the clients speak to the proxy. Behind it, plain TCP and UDP are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    Tcp,
    Tls(Key),
    Udp,
}

/// The kind of the certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA with 2048 bits.
    Rsa,
}

/// How a TLS connection must have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    Full13,
    Resumed13,
    Resumed12,
}

impl Workload {
    /// All, in the order of the table.
    pub(super) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    pub(super) const fn front(self) -> Front {
        match self {
            Self::Connection
            | Self::KeepAlive
            | Self::BulkOne
            | Self::BulkEight
            | Self::Idle
            | Self::Burst => Front::Tcp,
            Self::TlsFullRsa => Front::Tls(Key::Rsa),
            Self::TlsFullEcdsa
            | Self::TlsResume13
            | Self::TlsResume12
            | Self::TlsRequest
            | Self::TlsBulk
            | Self::IdleTls => Front::Tls(Key::Ecdsa),
            Self::UdpEcho | Self::UdpFlow => Front::Udp,
        }
    }

    /// How each connection begins, where that is what is measured.
    pub(super) const fn handshake(self) -> Option<Handshake> {
        match self {
            Self::TlsFullEcdsa | Self::TlsFullRsa => Some(Handshake::Full13),
            Self::TlsResume13 => Some(Handshake::Resumed13),
            Self::TlsResume12 => Some(Handshake::Resumed12),
            _ => None,
        }
    }

    /// Large answers: who knows such loads gives the proxy other buffers.
    pub(super) const fn is_bulk(self) -> bool {
        matches!(self, Self::BulkOne | Self::BulkEight | Self::TlsBulk)
    }

    /// Memory, not time, is what counts: the same in each round.
    pub(super) const fn is_memory(self) -> bool {
        matches!(self, Self::Idle | Self::IdleTls)
    }

    /// Connections (UDP: datagrams on their way) at once.
    pub(super) const fn together(self) -> usize {
        match self {
            Self::Connection | Self::KeepAlive | Self::TlsRequest => 64,
            Self::BulkOne => 1,
            Self::BulkEight | Self::TlsBulk => 8,
            Self::TlsFullEcdsa | Self::TlsFullRsa | Self::TlsResume13 | Self::TlsResume12 => 16,
            // Far below what a socket's default buffer holds: nothing is lost for want of room.
            Self::UdpEcho | Self::UdpFlow => 128,
            // A process of this machine may have 20,000 descriptors, and a proxy needs two a connection.
            Self::Idle | Self::IdleTls => 9_500,
            Self::Burst => 10_000,
        }
    }

    pub(super) const fn path(self) -> &'static str {
        if self.is_bulk() { origin::BULK_PATH } else { origin::SMALL_PATH }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Connection => "a new TCP connection for each 71-byte answer, 64 at a time",
            Self::KeepAlive => "71-byte answers on 64 connections that stay open",
            Self::BulkOne => "8 MiB answers, one connection",
            Self::BulkEight => "8 MiB answers, 8 connections",
            Self::TlsFullEcdsa => "TLS 1.3, full handshake for each 71-byte answer, P-256",
            Self::TlsFullRsa => "TLS 1.3, full handshake for each 71-byte answer, RSA-2048",
            Self::TlsResume13 => "TLS 1.3, resumed handshake for each 71-byte answer",
            Self::TlsResume12 => "TLS 1.2, resumed handshake for each 71-byte answer",
            Self::TlsRequest => "71-byte answers on 64 TLS connections that stay open",
            Self::TlsBulk => "8 MiB answers, 8 TLS connections",
            Self::UdpEcho => "UDP, 64-byte echoes over 1,000 flows",
            Self::UdpFlow => "UDP, a new flow for each 64-byte echo",
            Self::Idle => "memory of an idle connection, 9,500 of them",
            Self::IdleTls => "memory of an idle TLS connection, 9,500 of them",
            Self::Burst => "10,000 connections at once, until all are through",
        }
    }

    /// The unit of the figures.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Connection | Self::Burst => "us/conn",
            Self::KeepAlive | Self::TlsRequest => "us/request",
            Self::BulkOne | Self::BulkEight | Self::TlsBulk => "ms/GB",
            Self::TlsFullEcdsa | Self::TlsFullRsa | Self::TlsResume13 | Self::TlsResume12 => "us/conn",
            Self::UdpEcho | Self::UdpFlow => "us/echo",
            Self::Idle | Self::IdleTls => "KiB/conn",
        }
    }

    /// CPU time, in nanoseconds, for what was done, in the unit of the figures. What was on its way at the end of a bulk load
    /// has cost time, too: there bytes are counted.
    pub(super) fn cost(self, ns: u64, done: &Done) -> f64 {
        let us = ns as f64 / 1e3;
        if self.is_bulk() { us / 1e3 / (done.bytes as f64 / 1e9) } else { us / done.operations as f64 }
    }

    /// The name on the command line, also of the inner process.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_is_counted_by_its_bytes_and_all_else_by_operations() {
        let done = Done { operations: 10, bytes: 2_000_000_000, ..Done::default() };
        assert!((Workload::BulkOne.cost(100_000_000, &done) - 50.0).abs() < 1e-9); // milliseconds per GB
        assert!((Workload::KeepAlive.cost(100_000_000, &done) - 10_000.0).abs() < 1e-9); // microseconds each
    }

    #[test]
    fn only_tls_loads_have_a_handshake_that_is_measured() {
        for workload in Workload::all() {
            assert!(
                workload.handshake().is_none() || matches!(workload.front(), Front::Tls(_)),
                "{workload:?}"
            );
        }
    }
}
