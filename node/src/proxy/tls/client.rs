//! What is needed to speak TLS to a server.

use std::fmt;
use std::net::IpAddr;

use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode, SslVersion};

use crate::config::model::TlsConnect;

use super::authorities::Authorities;
use super::credentials::{Credentials, Paths};
use super::error::{ContextError, TlsError};
use super::rules::{harden, install};

/// Authorities, own certificate and rules of connections to a server. Cheap to clone.
#[derive(Clone)]
pub struct ClientContext {
    context: SslContext,
    name: Option<Box<str>>,
    insecure: bool,
}

impl ClientContext {
    /// Reads and checks the files that `connect` names.
    ///
    /// # Errors
    /// What is wrong with them, and what helps.
    pub fn new(connect: &TlsConnect) -> Result<Self, ContextError> {
        let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
        harden(&mut context);
        context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        if connect.insecure {
            context.set_verify(SslVerifyMode::NONE);
        } else {
            context.set_verify(SslVerifyMode::PEER);
            match &connect.authorities {
                Some(path) => context.set_cert_store(Authorities::load(Some(path), None)?.store()?),
                None => context.set_default_verify_paths()?,
            }
        }
        if let Some(path) = &connect.certificate {
            let paths = Paths { certificate: path.clone(), ..Paths::default() };
            let credentials = Credentials::load(&paths)?;
            install(&mut context, &credentials).map_err(|stack| ContextError::refused(path, &stack))?;
        }
        let name = connect.name.as_deref().map(Box::from);
        Ok(Self { context: context.build(), name, insecure: connect.insecure })
    }

    /// The name that the server's certificate must have, if one is configured.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The library's session with a server: by the configured name, else by `name`.
    pub(crate) fn ssl(&self, name: Option<&str>, alpn: Option<&[u8]>) -> Result<Ssl, TlsError> {
        let mut ssl = Ssl::new(&self.context)?;
        ssl.set_connect_state();
        match self.name.as_deref().or(name) {
            Some(name) => self.expect(&mut ssl, name)?,
            None if self.insecure => {}
            None => return Err(TlsError::NoName),
        }
        if let Some(protocol) = alpn {
            let length = u8::try_from(protocol.len()).map_err(|_| TlsError::NotReady)?;
            let mut list = vec![length];
            list.extend_from_slice(protocol);
            ssl.set_alpn_protos(&list)?;
        }
        Ok(ssl)
    }

    fn expect(&self, ssl: &mut Ssl, name: &str) -> Result<(), TlsError> {
        let address: Option<IpAddr> = name.parse().ok();
        if address.is_none() {
            ssl.set_hostname(name)?; // an address is not to be asked for (RFC 6066 section 3)
        }
        if self.insecure {
            return Ok(());
        }
        match address {
            Some(address) => ssl.param_mut().set_ip(address)?,
            None => ssl.param_mut().set_host(name)?,
        }
        Ok(())
    }
}

impl fmt::Debug for ClientContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientContext")
            .field("name", &self.name)
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}
