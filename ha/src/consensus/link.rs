//! The bytes between two nodes: TLS 1.3 with certificates on both sides, or plain where the operator said so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::authority::{Who, judge};
use super::credentials::Credentials;
use super::limits::GREETING;

/// Either kind of stream.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection to another node.
pub(super) struct Link {
    pub(super) bytes: Box<dyn Bytes>,
    /// What the other side proved: nothing on a plain link; the reason if it proved nothing on an encrypted one.
    pub(super) who: Option<Result<Who, String>>,
}

/// The node's side of every encrypted link. Swapped as a whole when the certificate is renewed.
pub struct Security {
    current: ArcSwap<Current>,
}

pub(super) struct Current {
    pub(super) credentials: Credentials,
    context: SslContext,
}

impl Security {
    /// With these credentials.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn new(credentials: Credentials) -> Result<Self, ErrorStack> {
        let context = context(Some(&credentials))?;
        Ok(Self { current: ArcSwap::from_pointee(Current { credentials, context }) })
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// New connections use these credentials; those that stand go on.
    pub(super) fn replace(&self, credentials: Credentials) -> Result<(), ErrorStack> {
        let context = context(Some(&credentials))?;
        self.current.store(Arc::new(Current { credentials, context }));
        Ok(())
    }
}

/// One context for both directions. What the other side shows is judged after the handshake, so that it can be told the
/// reason in words; nothing is resumed, or it would not be judged.
fn context(credentials: Option<&Credentials>) -> Result<SslContext, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0)?;
    builder.set_read_ahead(true);
    builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
    if let Some(credentials) = credentials {
        builder.set_certificate(&credentials.certificate)?;
        builder.set_private_key(&credentials.key)?;
        builder.add_extra_chain_cert(credentials.authority.clone())?;
    }
    Ok(builder.build())
}

/// The side that was called.
pub(super) async fn accept(security: Option<&Security>, stream: TcpStream) -> io::Result<Link> {
    let Some(security) = security else { return Ok(Link { bytes: Box::new(stream), who: None }) };
    let current = security.current();
    let mut stream = SslStream::new(Ssl::new(&current.context)?, stream)?;
    timeout(GREETING, Pin::new(&mut stream).accept()).await?.map_err(io::Error::other)?;
    Ok(judged(stream, &current.credentials.authority))
}

/// The side that calls.
pub(super) async fn connect(security: Option<&Security>, stream: TcpStream) -> io::Result<Link> {
    let Some(security) = security else { return Ok(Link { bytes: Box::new(stream), who: None }) };
    let current = security.current();
    let mut stream = SslStream::new(Ssl::new(&current.context)?, stream)?;
    timeout(GREETING, Pin::new(&mut stream).connect()).await?.map_err(io::Error::other)?;
    Ok(judged(stream, &current.credentials.authority))
}

fn judged(stream: SslStream<TcpStream>, authority: &X509) -> Link {
    let who = match stream.ssl().peer_certificate() {
        Some(certificate) => judge(&certificate, authority),
        None => Err("it shows no certificate".to_owned()),
    };
    Link { bytes: Box::new(stream), who: Some(who) }
}

/// For a node that has no certificate yet: the authority is the one whose fingerprint it was given.
pub(super) async fn connect_pinned(fingerprint: [u8; 32], stream: TcpStream) -> io::Result<(Link, X509)> {
    let context = context(None)?;
    let mut stream = SslStream::new(Ssl::new(&context)?, stream)?;
    timeout(GREETING, Pin::new(&mut stream).connect()).await?.map_err(io::Error::other)?;
    let shown = stream.ssl().peer_cert_chain();
    let pinned = |certificate: &&openssl::x509::X509Ref| {
        super::authority::fingerprint(certificate).is_ok_and(|found| found == fingerprint)
    };
    let authority = shown.and_then(|chain| chain.iter().find(pinned)).map(ToOwned::to_owned);
    let Some(authority) = authority else {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the node there does not belong to the cluster that made this token; check the address and the token",
        ));
    };
    let link = judged(stream, &authority);
    Ok((link, authority))
}
