//! Resuming a TLS session as a client, which the openssl crate leaves to `unsafe`.

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslRef, SslSession};

/// A session that a later connection can resume, together with the context that it belongs to.
#[derive(Clone)]
pub struct Resumption {
    context: SslContext,
    session: SslSession,
}

impl Resumption {
    /// The session of a connection that stands. With TLS 1.3 the ticket comes after the handshake: read something first.
    /// `None` before the handshake.
    pub fn of(ssl: &SslRef) -> Option<Self> {
        Some(Self { context: ssl.ssl_context().to_owned(), session: ssl.session()?.to_owned() })
    }

    /// A new connection that offers the session to the server.
    ///
    /// # Errors
    /// OpenSSL's own, for want of memory.
    pub fn offer(&self) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        // SAFETY: the session must belong to the context of `ssl`: both were taken from the same connection.
        unsafe { ssl.set_session(&self.session) }?;
        Ok(ssl)
    }
}
