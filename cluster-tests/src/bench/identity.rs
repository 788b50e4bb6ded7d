//! The certificate that every proxy presents.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};

use super::workload::Key;

/// The name in the certificate, and the one that clients ask for.
pub(crate) const NAME: &str = "bench.example";
/// Bits of an RSA key: what most sites have.
const RSA_BITS: u32 = 2048;
/// Days; a run takes minutes.
const VALID_DAYS: u32 = 7;

/// A certificate, its key, and where they lie.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: X509,
    pub(crate) certificate_file: PathBuf,
    pub(crate) key_file: PathBuf,
    /// Both in one file, as HAProxy reads them.
    pub(crate) joint_file: PathBuf,
}

impl Identity {
    /// Makes a key and a certificate that it signs itself.
    pub(crate) fn make(kind: Key, folder: &Path) -> Result<Self> {
        let key = private_key(kind).context("cannot make a key")?;
        let certificate = self_signed(&key).context("cannot make a certificate")?;
        let (certificate_pem, key_pem) = (certificate.to_pem()?, key.private_key_to_pem_pkcs8()?);
        let identity = Self {
            certificate,
            certificate_file: folder.join("bench.crt"),
            key_file: folder.join("bench.key"),
            joint_file: folder.join("bench.pem"),
        };
        let joint = [certificate_pem.as_slice(), &key_pem].concat();
        for (path, text) in [
            (&identity.certificate_file, &certificate_pem),
            (&identity.key_file, &key_pem),
            (&identity.joint_file, &joint),
        ] {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(identity)
    }
}

fn private_key(kind: Key) -> Result<PKey<Private>> {
    Ok(match kind {
        Key::Ecdsa => {
            PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)?
        }
        Key::Rsa => PKey::from_rsa(Rsa::generate(RSA_BITS)?)?,
    })
}

fn self_signed(key: &PKey<Private>) -> Result<X509> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", NAME)?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let serial = serial.to_asn1_integer()?;
    let (from, until) = (Asn1Time::days_from_now(0)?, Asn1Time::days_from_now(VALID_DAYS)?);
    let mut builder = X509::builder()?;
    builder.set_version(2)?; // counted from 0: X.509 version 3
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_not_before(&from)?;
    builder.set_not_after(&until)?;
    builder.set_pubkey(key)?;
    let alternative = SubjectAlternativeName::new().dns(NAME).build(&builder.x509v3_context(None, None))?;
    builder.append_extension(alternative)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}
