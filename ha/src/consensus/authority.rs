//! The cluster's own authority: it signs a certificate for each member, and nothing else is believed on the link
//! between nodes. Every node with traffic has its key, so that any of them can let a node in and renew.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private, Public};
use openssl::sha::sha256;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef, X509Ref};

/// How long the authority lasts, days: longer than the machines.
const AUTHORITY_DAYS: i64 = 7300;

/// How long a node's certificate lasts, days. It is renewed when a third of that is left, so that a node may be off
/// for a season.
pub const CERTIFICATE_DAYS: i64 = 365;

/// Certificates begin so long before they are made, for clocks that are wrong, days.
const EARLIER_DAYS: i64 = 1;

const SECONDS_PER_DAY: i64 = 86_400;

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Name of the cluster.
    pub cluster: String,
    /// The node's number.
    pub id: u64,
    /// The node's name.
    pub name: String,
}

/// Certificate and key that sign.
#[derive(Clone)]
pub struct Authority {
    /// What everybody may know.
    pub certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    /// A new authority for a cluster.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn create(cluster: &str) -> Result<Self, ErrorStack> {
        let key = new_key()?;
        let mut name = X509Name::builder()?;
        name.append_entry_by_nid(Nid::ORGANIZATIONNAME, cluster)?;
        name.append_entry_by_nid(Nid::COMMONNAME, "Cygnet cluster authority")?;
        let name = name.build();
        let mut builder = builder(&name, &name, AUTHORITY_DAYS)?;
        builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().build()?)?;
        builder.set_pubkey(&key)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self { certificate: builder.build(), key })
    }

    /// From its two PEM files.
    ///
    /// # Errors
    /// Not PEM, or a key that does not belong to the certificate.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, ErrorStack> {
        let (certificate, key) = (X509::from_pem(certificate)?, PKey::private_key_from_pem(key)?);
        if certificate.public_key()?.public_eq(&key) {
            Ok(Self { certificate, key })
        } else {
            Err(ErrorStack::get())
        }
    }

    /// The key as PEM.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn key_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.key.private_key_to_pem_pkcs8()
    }

    /// What other secrets of the cluster are made of: the number that the private key is, always of the same length.
    ///
    /// # Errors
    /// It is no key on a curve, as [`new_key`] makes them.
    pub(super) fn secret(&self) -> Result<Vec<u8>, ErrorStack> {
        let key = self.key.ec_key()?;
        key.private_key().to_vec_padded(key.group().order_bits().div_ceil(8).cast_signed())
    }

    /// A certificate for a node's public key that ends in `days`.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn sign(&self, key: &PKeyRef<Public>, who: &Who, days: i64) -> Result<X509, ErrorStack> {
        let mut name = X509Name::builder()?;
        name.append_entry_by_nid(Nid::ORGANIZATIONNAME, &who.cluster)?;
        name.append_entry_by_nid(Nid::COMMONNAME, &who.name)?;
        name.append_entry_by_nid(Nid::SERIALNUMBER, &who.id.to_string())?;
        let mut builder = builder(&name.build(), self.certificate.subject_name(), days)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
        builder.set_pubkey(key)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(builder.build())
    }
}

/// A new key: P-256, for signing with it costs a tenth of RSA.
///
/// # Errors
/// OpenSSL's.
pub fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn builder(subject: &X509NameRef, issuer: &X509NameRef, days: i64) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(0);
    // Also for a certificate that has ended already, which tests need.
    let begin = now + days.min(0) * SECONDS_PER_DAY - EARLIER_DAYS * SECONDS_PER_DAY;
    builder.set_not_before(&*Asn1Time::from_unix(begin)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(now + days * SECONDS_PER_DAY)?)?;
    Ok(builder)
}

/// SHA-256 of a certificate, by which a token names an authority.
///
/// # Errors
/// OpenSSL's.
pub fn fingerprint(certificate: &X509Ref) -> Result<[u8; 32], ErrorStack> {
    Ok(sha256(&certificate.to_der()?))
}

/// SHA-256 of a public key (DER), by which the members know each other's.
#[must_use]
pub fn key_hash(public_der: &[u8]) -> [u8; 32] {
    sha256(public_der)
}

/// Whose certificate it is, if `authority` has signed it and it counts now.
///
/// # Errors
/// Says why it does not count.
pub fn judge(certificate: &X509Ref, authority: &X509Ref) -> Result<Who, String> {
    let internal = |error: ErrorStack| error.to_string();
    let key = authority.public_key().map_err(internal)?;
    if !certificate.verify(&key).unwrap_or(false) {
        return Err(
            "its certificate is not from this cluster's authority: a node of another cluster, or none".into(),
        );
    }
    let now = Asn1Time::days_from_now(0).map_err(internal)?;
    if certificate.not_after() < now {
        return Err(format!(
            "its certificate has ended on {}; check its clock, or remove the node and join it again",
            certificate.not_after()
        ));
    }
    if certificate.not_before() > now {
        return Err(format!("its certificate begins on {}; check the clocks", certificate.not_before()));
    }
    who(certificate.subject_name()).ok_or_else(|| "its certificate names no node".to_owned())
}

fn who(subject: &X509NameRef) -> Option<Who> {
    let part = |nid: Nid| {
        let entry = subject.entries_by_nid(nid).next()?;
        entry.data().to_string().ok()
    };
    let id = part(Nid::SERIALNUMBER)?.parse().ok()?;
    Some(Who { cluster: part(Nid::ORGANIZATIONNAME)?, id, name: part(Nid::COMMONNAME)? })
}

/// Whether less than a third of a certificate's life is left.
#[must_use]
pub fn is_due(certificate: &X509Ref) -> bool {
    let left = Asn1Time::days_from_now(0).and_then(|now| now.diff(certificate.not_after()));
    left.map_or(true, |left| i64::from(left.days) < CERTIFICATE_DAYS / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(authority: &Authority, days: i64) -> X509 {
        let key = new_key().unwrap();
        let public = PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap();
        let who = Who { cluster: "demo".into(), id: 2, name: "lb2".into() };
        authority.sign(&public, &who, days).unwrap()
    }

    #[test]
    fn a_certificate_tells_whose_it_is() {
        let authority = Authority::create("demo").unwrap();
        let who = judge(&node(&authority, CERTIFICATE_DAYS), &authority.certificate).unwrap();
        assert_eq!(who, Who { cluster: "demo".into(), id: 2, name: "lb2".into() });
    }

    #[test]
    fn a_certificate_of_another_authority_or_of_yesterday_does_not_count() {
        let authority = Authority::create("demo").unwrap();
        let other = Authority::create("demo").unwrap();
        let reason = judge(&node(&other, 10), &authority.certificate).unwrap_err();
        assert!(reason.contains("not from this cluster's authority"), "{reason}");
        let reason = judge(&node(&authority, -1), &authority.certificate).unwrap_err();
        assert!(reason.contains("has ended on"), "{reason}");
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let authority = Authority::create("demo").unwrap();
        assert!(!is_due(&node(&authority, CERTIFICATE_DAYS)));
        assert!(is_due(&node(&authority, CERTIFICATE_DAYS / 3 - 1)));
        assert!(is_due(&node(&authority, -1)));
    }

    #[test]
    fn an_authority_comes_back_from_its_files() {
        let authority = Authority::create("demo").unwrap();
        let pem = authority.certificate.to_pem().unwrap();
        let back = Authority::from_pem(&pem, &authority.key_pem().unwrap()).unwrap();
        assert!(judge(&node(&back, 10), &authority.certificate).is_ok());
        let other = Authority::create("demo").unwrap();
        assert!(Authority::from_pem(&pem, &other.key_pem().unwrap()).is_err());
    }
}
