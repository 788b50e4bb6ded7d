//! OCSP responses that are handed out with the certificate (RFC 6066 section 8).

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::ocsp::{
    OcspBasicResponseRef, OcspCertId, OcspCertStatus, OcspResponse, OcspResponseStatus, OcspStatus,
};
use openssl::x509::X509;

use super::credentials::read;
use super::error::{ContextError, reason};

/// The longest response, octets. It goes out with each handshake; Pen's limit.
const OCSP_MAX: u64 = 10_000;
/// How far the clocks of us and of the responder may be apart, s.
const CLOCK_SKEW: u32 = 300;

/// The response of one certificate; swapped under the handshakes that read it.
pub(super) type Staple = Arc<ArcSwapOption<Vec<u8>>>;

/// Reads a response, and checks it (see [`check`]).
pub(super) fn load(path: &Path, certificate: &X509, issuer: Option<&X509>) -> Result<Vec<u8>, ContextError> {
    let der = read(path, OCSP_MAX, "an OCSP response")?;
    match check(&der, certificate, issuer) {
        Ok(()) => Ok(der),
        Err(reason) => Err(ContextError::Ocsp { path: path.to_owned(), reason }),
    }
}

/// Whether the response is about this certificate, says that it is good, and is valid now: a client that gets anything
/// else may refuse the connection. In time a good one becomes a bad one.
pub(super) fn check(der: &[u8], certificate: &X509, issuer: Option<&X509>) -> Result<(), String> {
    let response = OcspResponse::from_der(der)
        .map_err(|stack| format!("not an OCSP response in DER ({})", reason(&stack)))?;
    if response.status() != OcspResponseStatus::SUCCESSFUL {
        return Err("the responder reports a failure".to_owned());
    }
    let basic = response.basic().map_err(|stack| reason(&stack))?;
    // Without the issuer's certificate nobody can tell whom the response is about.
    let Some(issuer) = issuer else { return Ok(()) };
    let Some(status) = find(&basic, certificate, issuer).map_err(|stack| reason(&stack))? else {
        return Err("the response is about another certificate".to_owned());
    };
    if status.status != OcspCertStatus::GOOD {
        return Err("the certificate is revoked, or unknown to the responder".to_owned());
    }
    status.check_validity(CLOCK_SKEW, None).map_err(|_| match status.next_update() {
        Some(until) => format!("the response is not valid now, but until {until}"),
        None => "the response is not valid now".to_owned(),
    })
}

/// Responders name certificates by SHA-1 (RFC 6960 section 4.3), some by SHA-256.
fn find<'a>(
    basic: &'a OcspBasicResponseRef,
    certificate: &X509,
    issuer: &X509,
) -> Result<Option<OcspStatus<'a>>, ErrorStack> {
    for digest in [MessageDigest::sha1(), MessageDigest::sha256()] {
        let id = OcspCertId::from_cert(digest, certificate, issuer)?;
        if let Some(status) = basic.find_status(&id) {
            return Ok(Some(status));
        }
    }
    Ok(None)
}
