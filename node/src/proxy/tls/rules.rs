//! The library's contexts, made of credentials and of the rules of a service.

use std::path::Path;
use std::sync::Arc;

use cygnet_netlink::ssl::{TicketKeys, set_ciphersuites, set_num_tickets, set_ticket_keys};
use openssl::error::ErrorStack;
use openssl::ssl::{
    AlpnError, SslContext, SslContextBuilder, SslContextRef, SslMethod, SslMode, SslOptions,
    SslSessionCacheMode, SslVerifyMode, SslVersion, select_next_proto,
};

use crate::config::model::{TlsListen, TlsVersion};

use super::authorities::Authorities;
use super::client_hello::Fields;
use super::credentials::Credentials;
use super::defaults::{CIPHERS, GROUPS, SESSIONS_KEPT, SIGNATURES, SUITES, TICKETS};
use super::error::ContextError;
use super::ocsp::Staple;
use super::scope::scope;

/// What a certificate is used with.
pub(super) struct Rules<'a> {
    pub(super) listen: &'a TlsListen,
    pub(super) tickets: &'a Arc<TicketKeys>,
    /// Of client certificates; `None`: none are asked for.
    pub(super) authorities: Option<&'a Authorities>,
    #[cfg_attr(
        feature = "fast-tls",
        expect(dead_code, reason = "AWS-LC has no callback: sessions get a copy")
    )]
    pub(super) staple: &'a Staple,
}

/// One certificate's contexts.
pub(super) struct Contexts {
    all: SslContext,
    #[cfg(feature = "fast-tls")]
    without_aes_256: SslContext,
}

impl Contexts {
    /// The one for a client with this hello.
    #[cfg(not(feature = "fast-tls"))]
    pub(super) fn choose(&self, _hello: Option<&Fields<'_>>) -> &SslContextRef {
        &self.all
    }

    /// The one for a client with this hello: AWS-LC takes the client's order between AES-256 and AES-128, which costs a
    /// quarter more per handshake, so those that can do AES-128 are not offered the other.
    #[cfg(feature = "fast-tls")]
    pub(super) fn choose(&self, hello: Option<&Fields<'_>>) -> &SslContextRef {
        if hello.is_some_and(Fields::offers_aes_128) { &self.without_aes_256 } else { &self.all }
    }
}

impl Rules<'_> {
    /// `path` is the certificate's, for messages.
    pub(super) fn contexts(&self, path: &Path, credentials: &Credentials) -> Result<Contexts, ContextError> {
        Ok(Contexts {
            all: self.context(path, credentials, SUITES)?,
            #[cfg(feature = "fast-tls")]
            without_aes_256: self.context(path, credentials, super::defaults::SUITES_WITHOUT_AES_256)?,
        })
    }

    fn context(
        &self,
        path: &Path,
        credentials: &Credentials,
        suites: &str,
    ) -> Result<SslContext, ContextError> {
        let mut context = SslContextBuilder::new(SslMethod::tls_server())?;
        harden(&mut context);
        self.protocols(&mut context)?;
        set_ciphersuites(&mut context, suites)
            .map_err(|stack| ContextError::setting("suites", suites, &stack))?;
        self.ciphers(&mut context)?;
        install(&mut context, credentials).map_err(|stack| ContextError::refused(path, &stack))?;
        self.clients(&mut context)?;
        self.sessions(&mut context, credentials)?;
        self.alpn(&mut context)?;
        self.answers(&mut context)?;
        Ok(context.build())
    }

    fn protocols(&self, context: &mut SslContextBuilder) -> Result<(), ContextError> {
        let (oldest, newest) = (self.listen.oldest, self.listen.newest);
        let refused = |version, stack| ContextError::setting("version", name(version), &stack);
        if let Some(newest) = newest.filter(|newest| *newest < oldest) {
            return Err(refused(newest, ErrorStack::get()));
        }
        context.set_min_proto_version(Some(version(oldest))).map_err(|stack| refused(oldest, stack))?;
        let most = newest.unwrap_or(TlsVersion::Tls13);
        context.set_max_proto_version(newest.map(version)).map_err(|stack| refused(most, stack))
    }

    fn ciphers(&self, context: &mut SslContextBuilder) -> Result<(), ContextError> {
        if self.listen.prefer_own_order {
            context.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
            // A client that puts ChaCha20 first has no hardware for AES.
            #[cfg(not(feature = "fast-tls"))]
            context.set_options(SslOptions::PRIORITIZE_CHACHA);
        } else {
            context.clear_options(SslOptions::CIPHER_SERVER_PREFERENCE);
        }
        context.set_groups_list(GROUPS).map_err(|stack| ContextError::setting("groups", GROUPS, &stack))?;
        match self.listen.ciphers.as_deref() {
            Some(own) => {
                context.set_cipher_list(own).map_err(|stack| ContextError::setting("ciphers", own, &stack))
            }
            None => {
                set_signatures(context)
                    .map_err(|stack| ContextError::setting("signatures", SIGNATURES, &stack))?;
                context
                    .set_cipher_list(CIPHERS)
                    .map_err(|stack| ContextError::setting("ciphers", CIPHERS, &stack))
            }
        }
    }

    fn clients(&self, context: &mut SslContextBuilder) -> Result<(), ContextError> {
        let Some(authorities) = self.authorities else {
            context.set_verify(SslVerifyMode::NONE);
            return Ok(());
        };
        context.set_cert_store(authorities.store()?);
        context.set_client_ca_list(authorities.names()?);
        let required = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        context.set_verify(if self.listen.client_required { required } else { SslVerifyMode::PEER });
        Ok(())
    }

    fn sessions(
        &self,
        context: &mut SslContextBuilder,
        credentials: &Credentials,
    ) -> Result<(), ContextError> {
        // Where a session may go on: the same on every node.
        context.set_session_id_context(&scope(self, &credentials.certificate)?)?;
        context.set_session_cache_mode(SslSessionCacheMode::SERVER);
        context.set_session_cache_size(SESSIONS_KEPT);
        set_num_tickets(context, TICKETS)?;
        set_ticket_keys(context, self.tickets.clone())?;
        Ok(())
    }

    fn alpn(&self, context: &mut SslContextBuilder) -> Result<(), ContextError> {
        if self.listen.alpn.is_empty() {
            return Ok(());
        }
        let offered = protocol_list(&self.listen.alpn)?;
        // The library keeps the callback and with it the list, but what is chosen must live as long as the client's
        // list: it is found again there.
        context.set_alpn_select_callback(move |_, asked| {
            let chosen = select_next_proto(&offered, asked).ok_or(AlpnError::ALERT_FATAL)?;
            entries(asked).find(|entry| *entry == chosen).ok_or(AlpnError::ALERT_FATAL)
        });
        Ok(())
    }

    /// What the server says back: that it used the name, and its OCSP response.
    fn answers(&self, context: &mut SslContextBuilder) -> Result<(), ContextError> {
        // RFC 6066 section 3: the name is acknowledged. The context was chosen by it already.
        context.set_servername_callback(|_, _| Ok(()));
        #[cfg(not(feature = "fast-tls"))]
        {
            let staple = self.staple.clone();
            context.set_status_callback(move |ssl| match staple.load().as_deref() {
                None => Ok(false),
                Some(response) => ssl.set_ocsp_status(response).map(|()| true),
            })?;
        }
        Ok(())
    }
}

/// What holds for servers and clients alike.
pub(super) fn harden(context: &mut SslContextBuilder) {
    context.set_mode(SslMode::RELEASE_BUFFERS | SslMode::NO_AUTO_CHAIN);
    context.set_options(SslOptions::NO_SSLV2 | SslOptions::NO_SSLV3 | SslOptions::NO_RENEGOTIATION);
    #[cfg(not(feature = "fast-tls"))]
    context.set_options(SslOptions::NO_COMPRESSION);
}

/// The certificate with its chain and its key.
pub(super) fn install(context: &mut SslContextBuilder, credentials: &Credentials) -> Result<(), ErrorStack> {
    context.set_certificate(&credentials.certificate)?;
    context.set_private_key(&credentials.key)?;
    for member in &credentials.chain {
        context.add_extra_chain_cert(member.clone())?;
    }
    context.check_private_key()
}

#[cfg(not(feature = "fast-tls"))]
fn set_signatures(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    context.set_sigalgs_list(SIGNATURES)
}

#[cfg(feature = "fast-tls")]
fn set_signatures(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    cygnet_netlink::ssl::set_signatures(context, SIGNATURES)
}

/// Protocol names as RFC 7301 section 3.1 sends them.
pub(super) fn protocol_list(names: &[String]) -> Result<Vec<u8>, ContextError> {
    let mut list = Vec::new();
    for name in names {
        let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
        let Some(length) = length else {
            return Err(ContextError::setting("alpn", name, &ErrorStack::get()));
        };
        list.push(length);
        list.extend_from_slice(name.as_bytes());
    }
    Ok(list)
}

/// The names of such a list.
fn entries(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first()?;
        let (entry, tail) = tail.split_at_checked(usize::from(*length))?;
        rest = tail;
        Some(entry)
    })
}

pub(super) fn version(version: TlsVersion) -> SslVersion {
    match version {
        TlsVersion::Tls10 => SslVersion::TLS1,
        TlsVersion::Tls11 => SslVersion::TLS1_1,
        TlsVersion::Tls12 => SslVersion::TLS1_2,
        TlsVersion::Tls13 => SslVersion::TLS1_3,
    }
}

fn name(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Tls10 => "1.0",
        TlsVersion::Tls11 => "1.1",
        TlsVersion::Tls12 => "1.2",
        TlsVersion::Tls13 => "1.3",
    }
}
