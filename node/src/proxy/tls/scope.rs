//! Where a session that began in one place may go on.
//!
//! A ticket opens wherever its key is known: at every service of every node. What it stands for must be the same there: the
//! names that the client believes to talk to, and the rules by which its own certificate was judged. The library compares a
//! digest of that, the session id context, and makes a full handshake where it differs.
//!
//! The names count, not the certificate: it may be renewed on one node before the other, and each node may have one of its own.

use std::os::unix::ffi::OsStrExt;

use openssl::error::ErrorStack;
use openssl::hash::{Hasher, MessageDigest};
use openssl::x509::{GeneralNameRef, X509Ref};

use super::rules::Rules;

/// The session id context of a certificate under these rules.
pub(super) fn scope(rules: &Rules<'_>, certificate: &X509Ref) -> Result<[u8; 32], ErrorStack> {
    let mut hasher = Hasher::new(MessageDigest::sha256())?;
    let mut part = |what: &[u8]| {
        hasher.update(&(what.len() as u64).to_be_bytes())?;
        hasher.update(what)
    };
    let names = names(certificate)?;
    part(&(names.len() as u64).to_be_bytes())?;
    names.iter().try_for_each(|name| part(name))?;
    part(&[u8::from(rules.authorities.is_some()), u8::from(rules.listen.client_required)])?;
    if let Some(authorities) = rules.authorities {
        for member in &authorities.members {
            part(&member.to_der()?)?;
        }
        // What is in it is looked up when a client comes.
        if let Some(directory) = &authorities.directory {
            part(directory.as_os_str().as_bytes())?;
        }
    }
    let mut scope = [0; 32];
    scope.copy_from_slice(&hasher.finish()?);
    Ok(scope)
}

/// What clients compare with the name that they ask for, in an order of its own; the subject where there is nothing else.
fn names(certificate: &X509Ref) -> Result<Vec<Vec<u8>>, ErrorStack> {
    let name = |name: &GeneralNameRef| {
        let dns = name.dnsname().map(|name| [b"dns:", name.to_ascii_lowercase().as_bytes()].concat());
        dns.or_else(|| name.ipaddress().map(|address| [b"ip:", address].concat()))
    };
    let mut names: Vec<Vec<u8>> = certificate.subject_alt_names().iter().flatten().filter_map(name).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        names.push(certificate.subject_name().to_der()?);
    }
    Ok(names)
}
