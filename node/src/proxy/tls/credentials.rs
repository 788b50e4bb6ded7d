//! Certificates and keys from files, checked before they are used.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509StoreContext, X509VerifyResult};

use super::error::{ContextError, reason};

/// The longest PEM file that is read, octets: the authorities of a whole system are 220 KiB.
const PEM_MAX: u64 = 4 << 20;

/// A certificate, its key, and the chain that is sent with it.
pub(super) struct Credentials {
    pub(super) certificate: X509,
    pub(super) key: PKey<Private>,
    /// From the certificate's issuer upwards, without the root: clients have that, or do not trust it.
    pub(super) chain: Vec<X509>,
    /// The certificate that signed ours, if a file has it; it may be a root.
    pub(super) issuer: Option<X509>,
}

/// Where the parts of a chain may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Paths {
    pub(super) certificate: PathBuf,
    pub(super) key: Option<PathBuf>,
    pub(super) chain: Vec<PathBuf>,
    pub(super) chain_directory: Option<PathBuf>,
}

impl Credentials {
    /// Reads and checks them: the key fits the certificate, and the certificate is valid now.
    pub(super) fn load(paths: &Paths) -> Result<Self, ContextError> {
        let path = &paths.certificate;
        let pem = read(path, PEM_MAX, "a certificate")?;
        let mut certificates = parse(path, &pem)?.into_iter();
        let Some(certificate) = certificates.next() else {
            return Err(ContextError::NoCertificate { path: path.clone(), reason: "empty".to_owned() });
        };
        valid_now(path, &certificate)?;
        let key_path = paths.key.as_ref().unwrap_or(path);
        let key = key(key_path, paths.key.is_none().then_some(&pem))?;
        let public = certificate.public_key().map_err(|stack| ContextError::refused(path, &stack))?;
        if !public.public_eq(&key) {
            return Err(ContextError::KeyMismatch { certificate: path.clone(), key: key_path.clone() });
        }
        let mut others: Vec<X509> = certificates.collect();
        for path in &paths.chain {
            others.extend(parse(path, &read(path, PEM_MAX, "a chain of certificates")?)?);
        }
        let mut chain = chain(&certificate, others, paths.chain_directory.as_deref())?;
        let issuer = chain.first().cloned();
        chain.retain(|member| !is_root(member));
        Ok(Self { certificate, key, chain, issuer })
    }
}

/// A file that is not longer than such a file may be.
pub(super) fn read(path: &Path, limit: u64, what: &'static str) -> Result<Vec<u8>, ContextError> {
    let unreadable = |source| ContextError::Unreadable { path: path.to_owned(), source };
    let mut content = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(limit + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > limit {
        return Err(ContextError::TooLong { path: path.to_owned(), what, limit });
    }
    Ok(content)
}

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<X509>, ContextError> {
    parse(path, &read(path, PEM_MAX, "certificates")?)
}

fn parse(path: &Path, pem: &[u8]) -> Result<Vec<X509>, ContextError> {
    let none = |reason| ContextError::NoCertificate { path: path.to_owned(), reason };
    let found = X509::stack_from_pem(pem).map_err(|stack| none(reason(&stack)))?;
    if found.is_empty() { Err(none("no start line".to_owned())) } else { Ok(found) }
}

/// The key at `path`, whose content may be known already.
pub(super) fn key(path: &Path, content: Option<&Vec<u8>>) -> Result<PKey<Private>, ContextError> {
    let pem = match content {
        Some(pem) => pem,
        None => &read(path, PEM_MAX, "a key")?,
    };
    let mut asked = false;
    // Without this callback the library would ask at the terminal.
    let key = PKey::private_key_from_pem_callback(pem, |_| {
        asked = true;
        Err(ErrorStack::get())
    });
    match key {
        Ok(key) => Ok(key),
        Err(_) if asked => Err(ContextError::Passphrase { path: path.to_owned() }),
        Err(stack) => Err(ContextError::NoKey { path: path.to_owned(), reason: reason(&stack) }),
    }
}

fn valid_now(path: &Path, certificate: &X509) -> Result<(), ContextError> {
    let now = Asn1Time::days_from_now(0)?;
    if *certificate.not_after() < now {
        let since = certificate.not_after().to_string();
        return Err(ContextError::Expired { path: path.to_owned(), since });
    }
    if *certificate.not_before() > now {
        let from = certificate.not_before().to_string();
        return Err(ContextError::NotYetValid { path: path.to_owned(), from });
    }
    Ok(())
}

/// The chain above `certificate`, in order, as far as `others` and the hashed directory hold it.
fn chain(certificate: &X509, others: Vec<X509>, directory: Option<&Path>) -> Result<Vec<X509>, ContextError> {
    if is_root(certificate) {
        return Ok(Vec::new());
    }
    let mut store = X509StoreBuilder::new()?;
    if let Some(directory) = directory {
        add_directory(&mut store, directory)?;
    }
    let mut untrusted = Stack::new()?;
    for other in others {
        untrusted.push(other)?;
    }
    let mut context = X509StoreContext::new()?;
    Ok(context.init(&store.build(), certificate, &untrusted, |context| {
        // Whether it leads to something trusted is the clients' question; we want what was built on the way.
        let _ = context.verify_cert();
        let mut built = Vec::new();
        for member in context.chain().into_iter().flatten().skip(1) {
            built.push(member.to_owned());
        }
        Ok(built)
    })?)
}

fn is_root(certificate: &X509) -> bool {
    certificate.issued(certificate) == X509VerifyResult::OK
}

/// Adds a directory of certificates under the hashes of their names (`openssl rehash`).
pub(super) fn add_directory(store: &mut X509StoreBuilder, directory: &Path) -> Result<(), ContextError> {
    std::fs::read_dir(directory)
        .map_err(|source| ContextError::Unreadable { path: directory.to_owned(), source })?;
    let name =
        directory.to_str().filter(|name| !name.contains('\0')).ok_or_else(|| ContextError::Unreadable {
            path: directory.to_owned(),
            source: std::io::ErrorKind::InvalidFilename.into(),
        })?;
    Ok(look_up_in(store, name)?)
}

#[cfg(not(feature = "fast-tls"))]
fn look_up_in(store: &mut X509StoreBuilder, directory: &str) -> Result<(), ErrorStack> {
    use openssl::ssl::SslFiletype;
    use openssl::x509::store::X509Lookup;

    store.add_lookup(X509Lookup::hash_dir())?.add_dir(directory, SslFiletype::PEM)
}

#[cfg(feature = "fast-tls")]
fn look_up_in(store: &mut X509StoreBuilder, directory: &str) -> Result<(), ErrorStack> {
    cygnet_netlink::ssl::add_directory(store, directory)
}
