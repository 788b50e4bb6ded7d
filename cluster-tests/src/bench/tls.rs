//! The TLS client of the load: one key exchange, one cipher, so that every contender has the same to do.

use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use cygnet_netlink::resumption::Resumption;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslStream, SslVerifyMode,
    SslVersion,
};
use openssl::x509::X509;

use super::identity::NAME;
use super::workload::Handshake;

/// What browsers prefer; P-256 for Pen, which knows no other.
const GROUPS: &str = "X25519:P-256";
const CIPHERS_13: &str = "TLS_AES_128_GCM_SHA256";
const CIPHERS_12: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";
/// `SSL_OP_IGNORE_UNEXPECTED_EOF` of openssl/ssl.h from 3.0 on. 1.1.1 has no such flag, and needs none.
const IGNORE_UNEXPECTED_EOF: u64 = 1 << 7;

/// Opens TLS connections.
#[derive(Clone)]
pub(super) struct Client {
    context: SslContext,
}

impl Client {
    /// For connections that begin as `handshake` says. It does not verify certificates: that is [`presented`]'s part, once.
    pub(super) fn new(handshake: Handshake) -> Result<Self> {
        let version = match handshake {
            Handshake::Full13 | Handshake::Resumed13 => SslVersion::TLS1_3,
            Handshake::Resumed12 => SslVersion::TLS1_2,
        };
        let mut builder = SslContextBuilder::new(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(version))?;
        builder.set_max_proto_version(Some(version))?;
        builder.set_groups_list(GROUPS)?;
        builder.set_ciphersuites(CIPHERS_13)?;
        builder.set_cipher_list(CIPHERS_12)?;
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        // Pen ends without a word; that nothing is missing is seen by the length of the answer.
        builder.set_options(SslOptions::from_bits_truncate(IGNORE_UNEXPECTED_EOF));
        builder.set_read_ahead(true); // fewer reads on our side
        Ok(Self { context: builder.build() })
    }

    /// A full handshake over `stream`.
    pub(super) fn connect(&self, stream: TcpStream) -> Result<SslStream<TcpStream>> {
        let stream = shake_hands(Ssl::new(&self.context)?, stream)?;
        ensure!(!stream.ssl().session_reused(), "resumed, where a full handshake was meant");
        Ok(stream)
    }
}

/// A handshake that resumes; an error when the server prefers a full one.
pub(super) fn resume(session: &Resumption, stream: TcpStream) -> Result<SslStream<TcpStream>> {
    let stream = shake_hands(session.offer()?, stream)?;
    ensure!(stream.ssl().session_reused(), "a full handshake, where a resumed one was meant");
    Ok(stream)
}

fn shake_hands(mut ssl: Ssl, stream: TcpStream) -> Result<SslStream<TcpStream>> {
    ssl.set_hostname(NAME)?;
    let mut stream = SslStream::new(ssl, stream)?;
    stream.connect().context("TLS handshake")?;
    Ok(stream)
}

/// Whether the server has shown `certificate`.
pub(super) fn presented(stream: &SslStream<TcpStream>, certificate: &X509) -> Result<()> {
    let shown = stream.ssl().peer_certificate().context("no certificate")?;
    ensure!(shown.to_der()? == certificate.to_der()?, "another certificate than the configured one");
    Ok(())
}
