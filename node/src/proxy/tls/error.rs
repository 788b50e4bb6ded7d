//! What goes wrong with TLS, in words that name the cause.

use std::io;
use std::path::PathBuf;

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, SslRef};
use openssl::x509::X509VerifyResult;
use thiserror::Error;

use super::client_hello::HELLO_MAX;
use super::session::LEFT_MAX;

/// Why a session is over.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TlsError {
    /// The first bytes are something else.
    #[error("the peer does not speak TLS ({0})")]
    NotTls(String),
    /// A ClientHello without an end.
    #[error("the client's hello is longer than {HELLO_MAX} octets")]
    HelloTooLong,
    /// The peer said no; the alert's description (RFC 8446 section 6).
    #[error("the peer ended the session with the alert: {0}")]
    Alert(String),
    /// The peer's certificate does not pass, or is missing.
    #[error("the peer's certificate: {0}")]
    Certificate(String),
    /// No agreement, or a message that breaks the rules.
    #[error("handshake: {0}")]
    Handshake(String),
    /// A record that does not decrypt, or breaks the rules.
    #[error("record: {0}")]
    Record(String),
    /// The caller went on feeding a session whose plain bytes it does not take.
    #[error("more than {LEFT_MAX} octets wait to be read")]
    Backlog,
    /// Nobody says whose certificate the server must have.
    #[error("no name to check the server's certificate against: set its tls name")]
    NoName,
    /// Data before the handshake is done.
    #[error("the handshake is not done")]
    NotReady,
    /// The library refused for a reason of its own.
    #[error("TLS library: {0}")]
    Library(String),
}

impl From<ErrorStack> for TlsError {
    fn from(stack: ErrorStack) -> Self {
        Self::Library(words(&stack))
    }
}

impl TlsError {
    /// Of what the library says about `ssl`.
    pub(crate) fn of(ssl: &SslRef, error: &openssl::ssl::Error, shaken: bool) -> Self {
        let reason = error.ssl_error().map_or_else(|| error.to_string(), words);
        let verified = ssl.verify_result();
        if let Some(alert) = reason.split_once("alert ").map(|(_, alert)| alert) {
            Self::Alert(alert.to_owned())
        } else if reason.contains("certificate verify failed") && verified != X509VerifyResult::OK {
            Self::Certificate(verified.error_string().to_owned())
        } else if reason.contains("did not return a certificate") {
            Self::Certificate("none was shown, and one is required".to_owned())
        } else if shaken {
            Self::Record(reason)
        } else if NOT_TLS.iter().any(|known| reason.contains(known)) {
            Self::NotTls(reason)
        } else if error.code() == ErrorCode::SSL {
            Self::Handshake(reason)
        } else {
            Self::Library(reason)
        }
    }
}

/// What the libraries say to bytes that are not TLS.
const NOT_TLS: &[&str] = &[
    "http request",
    "https proxy request",
    "wrong version number",
    "unknown protocol",
    "packet length too long",
];

/// The reason in one form: OpenSSL writes "no shared cipher", AWS-LC "NO_SHARED_CIPHER". What the TLS part of the library
/// says counts more than what its parts below say, which is often "EVP lib".
fn words(stack: &ErrorStack) -> String {
    let of_tls =
        |error: &&openssl::error::Error| error.library().is_some_and(|library| library.contains("SSL"));
    let (reason, errors) = (openssl::error::Error::reason, stack.errors());
    match errors.iter().filter(of_tls).find_map(reason).or_else(|| errors.iter().find_map(reason)) {
        Some(reason) => reason.replace('_', " ").to_lowercase(),
        None => stack.to_string(),
    }
}

/// Why a context cannot be made of its files and settings. Each says what helps.
#[derive(Debug, Error)]
pub enum ContextError {
    /// A file that is named is not there, or not for us.
    #[error("{path}: {source}: check the path and who may read it", path = .path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than any such file is.
    #[error("{path}: longer than {limit} octets, this is not {what}", path = .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// No certificate in the file.
    #[error("{path}: no certificate in PEM form (BEGIN CERTIFICATE) in it ({reason})", path = .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// No key in the file.
    #[error("{path}: no private key in PEM form (BEGIN PRIVATE KEY) in it ({reason}): name the key's file, \
             or append the key to the certificate", path = .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// A key with a passphrase, and nobody there to type it.
    #[error("{path}: the key is protected by a passphrase: store it without (openssl pkey -in {path} -out NEW), \
             readable by root only", path = .path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// Key and certificate are not a pair.
    #[error("{key}: this key does not belong to the certificate in {certificate}: after a renewal both must be replaced",
            key = .key.display(), certificate = .certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// It was valid once.
    #[error("{path}: the certificate expired on {since}: renew it", path = .path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its notAfter.
        since: String,
    },
    /// It will be valid.
    #[error("{path}: the certificate is valid only from {from} on: check this node's clock", path = .path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// Its notBefore.
        from: String,
    },
    /// The library does not take what is in a file.
    #[error("{path}: the TLS library refuses it: {reason}", path = .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// The library does not take a setting.
    #[error("{setting} = {value:?}: the TLS library ({library}) refuses it: {reason}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The library's name and version.
        library: &'static str,
        /// What it says.
        reason: String,
    },
    /// Clients shall show certificates, and nobody says whose.
    #[error("client certificates are required, but no authority for them is named: set client_authorities")]
    NoClientAuthorities,
    /// A directory of more names than we hold.
    #[error("{path}: more than {limit} certificates", path = .path.display())]
    TooManyNames {
        /// The directory.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// An OCSP response that no client would take.
    #[error("{path}: {reason}: nothing is stapled until the file is replaced", path = .path.display())]
    Ocsp {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The library refused for a reason of its own.
    #[error("TLS library: {0}")]
    Library(#[from] ErrorStack),
}

impl ContextError {
    /// What the library said about the content of `path`.
    pub(super) fn refused(path: &std::path::Path, stack: &ErrorStack) -> Self {
        Self::Refused { path: path.to_owned(), reason: words(stack) }
    }

    /// What the library said about a setting.
    pub(super) fn setting(setting: &'static str, value: &str, stack: &ErrorStack) -> Self {
        let (value, library) = (value.to_owned(), openssl::version::version());
        Self::Setting { setting, value, library, reason: words(stack) }
    }
}

/// For messages that need the reason alone.
pub(super) fn reason(stack: &ErrorStack) -> String {
    words(stack)
}
