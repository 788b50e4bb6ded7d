//! What is spoken over the connections of a run: TLS on either side of the proxy, HTTP through it, or neither.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use anyhow::Result;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslRef, SslVerifyMode, SslVersion,
};
use tokio_openssl::SslStream;

use super::client::Stream;
use super::http::Spoken;
use super::script::Script;
use crate::bench::{Identity, Key, NAME};

/// One TLS client in so many speaks 1.2.
const OLDER_ONE_IN: u64 = 3;

/// TLS of both ends, by one certificate that signs itself.
#[derive(Clone, Debug)]
struct Tls {
    client: Option<SslContext>,
    server: Option<SslContext>,
}

/// What is spoken.
#[derive(Clone, Debug, Default)]
pub struct Dress {
    tls: Option<Tls>,
    http: bool,
    /// The certificate and its key.
    files: Option<(PathBuf, PathBuf)>,
}

impl Dress {
    /// TLS between clients and the proxy (`client`), and between the proxy and servers (`server`), with a certificate
    /// that is made in this folder; and HTTP, if that is wanted.
    ///
    /// # Errors
    /// If there is no such certificate.
    pub fn new(folder: &Path, client: bool, server: bool, http: bool) -> Result<Self> {
        if !client && !server {
            return Ok(Self { tls: None, http, files: None });
        }
        let identity = Identity::make(Key::Ecdsa, folder)?;
        let mut of_client = SslContextBuilder::new(SslMethod::tls_client())?;
        of_client.set_ca_file(&identity.certificate_file)?;
        of_client.set_verify(SslVerifyMode::PEER);
        let mut of_server = SslContextBuilder::new(SslMethod::tls_server())?;
        of_server.set_certificate_file(&identity.certificate_file, SslFiletype::PEM)?;
        of_server.set_private_key_file(&identity.key_file, SslFiletype::PEM)?;
        let tls =
            Tls { client: client.then(|| of_client.build()), server: server.then(|| of_server.build()) };
        Ok(Self { tls: Some(tls), http, files: Some((identity.certificate_file, identity.key_file)) })
    }

    /// The lines that a service needs for it, and those of each of its servers.
    #[must_use]
    pub fn keys(&self) -> (String, String) {
        let (mut service, mut server) = (String::new(), String::new());
        if self.http {
            service.push_str("http = { forwarded = \"replace\" }\n");
        }
        if let (Some(tls), Some((certificate, key))) = (&self.tls, &self.files) {
            if tls.client.is_some() {
                service.push_str(&format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n"));
            }
            if tls.server.is_some() {
                server.push_str(&format!("tls = {{ name = \"{NAME}\", authorities = {certificate:?} }}\n"));
            }
        }
        (service, server)
    }

    /// A client's stream, once it is connected.
    pub(super) async fn of_client(&self, stream: Stream, script: &Script) -> io::Result<Stream> {
        let mut stream = stream;
        if let Some(context) = self.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
            let mut ssl = Ssl::new(context)?;
            about_to_connect(&mut ssl, script)?;
            let mut secure = SslStream::new(ssl, stream)?;
            Pin::new(&mut secure).connect().await.map_err(io::Error::other)?;
            stream = Box::new(secure);
        }
        Ok(if self.http { Box::new(Spoken::of_client(stream, script)) } else { stream })
    }

    /// A server's stream, once it is accepted.
    pub(super) async fn of_server(&self, stream: Stream) -> io::Result<Stream> {
        let mut stream = stream;
        if let Some(context) = self.tls.as_ref().and_then(|tls| tls.server.as_ref()) {
            let mut secure = SslStream::new(Ssl::new(context)?, stream)?;
            Pin::new(&mut secure).accept().await.map_err(io::Error::other)?;
            stream = Box::new(secure);
        }
        Ok(if self.http { Box::new(Spoken::of_server(stream)) } else { stream })
    }
}

fn about_to_connect(ssl: &mut SslRef, script: &Script) -> io::Result<()> {
    ssl.set_connect_state();
    ssl.set_hostname(NAME)?;
    ssl.param_mut().set_host(NAME)?;
    if script.number.is_multiple_of(OLDER_ONE_IN) {
        ssl.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    }
    Ok(())
}
