//! Certificates for tests: a root, an authority below it, and what it signs.

use std::fs;
use std::path::PathBuf;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};
use tempfile::TempDir;

use crate::config::model::TlsListen;

/// A certificate and its key.
pub(in crate::proxy::tls) struct Pair {
    pub(in crate::proxy::tls) certificate: X509,
    pub(super) key: PKey<Private>,
}

/// A root, an intermediate authority, and a directory for files.
pub(crate) struct Pki {
    pub(super) root: Pair,
    pub(super) authority: Pair,
    pub(super) directory: TempDir,
}

/// What is special about a certificate.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    /// Valid from and until, days from now.
    pub(super) days: (i64, i64),
    pub(super) authority: bool,
}

pub(super) const LEAF: Wish = Wish { days: (-1, 30), authority: false };
const AUTHORITY: Wish = Wish { days: (-1, 30), authority: true };

pub(super) fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn day(days: i64) -> Asn1Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Asn1Time::from_unix(now.cast_signed() + days * 86_400).unwrap()
}

fn name(common: &str) -> X509Name {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common).unwrap();
    name.build()
}

/// Signs a certificate for `common`, by `by` or by itself.
pub(super) fn issue(common: &str, by: Option<&Pair>, wish: Wish) -> Pair {
    let key = key();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, MsbOption::MAYBE_ZERO, false).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name(common)).unwrap();
    let issuer = by.map_or_else(|| name(common), |by| by.certificate.subject_name().to_owned().unwrap());
    builder.set_issuer_name(&issuer).unwrap();
    builder.set_not_before(&day(wish.days.0)).unwrap();
    builder.set_not_after(&day(wish.days.1)).unwrap();
    builder.set_pubkey(&key).unwrap();
    if wish.authority {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        let usage =
            KeyUsage::new().critical().key_cert_sign().crl_sign().digital_signature().build().unwrap();
        builder.append_extension(usage).unwrap();
    } else {
        let mut names = SubjectAlternativeName::new();
        names.dns(common).ip("127.0.0.1");
        let names = names.build(&builder.x509v3_context(by.map(|by| &*by.certificate), None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder.sign(by.map_or(&key, |by| &by.key), MessageDigest::sha256()).unwrap();
    Pair { certificate: builder.build(), key }
}

/// A certificate that ends in two days.
pub(crate) fn short_lived() -> X509 {
    issue("short.test", None, Wish { days: (-1, 2), ..LEAF }).certificate
}

impl Pki {
    pub(crate) fn new() -> Self {
        // Of another name each time: roots that share one are not strangers, but forgeries of each other.
        let directory = TempDir::new().unwrap();
        let root = issue(&format!("Test Root {}", directory.path().display()), None, AUTHORITY);
        let authority = issue("Test Authority", Some(&root), AUTHORITY);
        let pki = Self { root, authority, directory };
        pki.write("root.pem", &pki.root.certificate.to_pem().unwrap());
        pki.write("authority.pem", &pki.authority.certificate.to_pem().unwrap());
        pki
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(super) fn write(&self, file: &str, content: &[u8]) -> PathBuf {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As people should do it: never a half-written file, and a new inode for each content.
        let new = path.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    /// A leaf of the intermediate authority.
    pub(in crate::proxy::tls) fn leaf(&self, common: &str) -> Pair {
        issue(common, Some(&self.authority), LEAF)
    }

    /// Writes `STEM.crt` (with the authority's certificate below it) and `STEM.key`.
    pub(super) fn store(&self, stem: &str, pair: &Pair) {
        let mut pem = pair.certificate.to_pem().unwrap();
        pem.extend(self.authority.certificate.to_pem().unwrap());
        self.write(&format!("{stem}.crt"), &pem);
        self.write(&format!("{stem}.key"), &pair.key.private_key_to_pem_pkcs8().unwrap());
    }

    /// Certificate and key in one file.
    pub(super) fn store_together(&self, file: &str, pair: &Pair) -> PathBuf {
        let mut pem = pair.certificate.to_pem().unwrap();
        pem.extend(self.authority.certificate.to_pem().unwrap());
        pem.extend(pair.key.private_key_to_pem_pkcs8().unwrap());
        self.write(file, &pem)
    }

    /// A service with a fresh certificate for `common`.
    pub(crate) fn listen(&self, common: &str) -> TlsListen {
        self.store("default", &self.leaf(common));
        TlsListen { key: Some(self.path("default.key")), ..TlsListen::new(self.path("default.crt")) }
    }
}
