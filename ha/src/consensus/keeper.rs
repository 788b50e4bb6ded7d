//! The connections to the peers, as the members come and go, and the certificate that they rest on.

use std::collections::BTreeMap;
use std::sync::Arc;

use openssl::pkey::PKey;
use openssl::x509::X509;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::authority::{CERTIFICATE_DAYS, Who, is_due, judge, key_hash};
use super::credentials::{Credentials, IdentityFile};
use super::frame::Frame;
use super::limits::{RENEW_AGAIN, RENEW_EVERY};
use super::shared::{Peer, Shared};
use super::transport::connect_forever;
use crate::events::Severity;

const SUBJECT: &str = "cluster";

/// Keeps one connection to each peer, until it is dropped.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut running: BTreeMap<u64, (Arc<Peer>, AbortHandle)> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut renew_at = Instant::now();
    loop {
        let peers = shared.peers();
        running.retain(|id, (peer, task)| {
            let stays = peers.get(id).is_some_and(|now| Arc::ptr_eq(now, peer));
            if !stays {
                task.abort();
                peer.outbox.close();
            }
            stays
        });
        for (id, peer) in peers.iter() {
            if !running.contains_key(id) {
                let task = tasks.spawn(connect_forever(Arc::clone(&shared), Arc::clone(peer)));
                running.insert(*id, (Arc::clone(peer), task));
            }
        }
        while tasks.try_join_next().is_some() {}
        if Instant::now() >= renew_at {
            renew(&shared);
            let due = shared.settings.security.as_ref();
            let due = due.is_some_and(|security| is_due(&security.current().credentials.certificate));
            renew_at = Instant::now() + if due { RENEW_AGAIN } else { RENEW_EVERY };
        }
        tokio::select! {
            () = shared.changed.notified() => {}
            () = sleep_until(renew_at) => {}
        }
    }
}

/// Renews this node's certificate if it is due: by the authority's key if it is here, else by asking.
fn renew(shared: &Shared) {
    let Some(security) = &shared.settings.security else { return };
    let credentials = security.current().credentials.clone();
    if !is_due(&credentials.certificate) {
        return;
    }
    let Ok(key) = credentials.key.public_key_to_der() else { return };
    let Some(signer) = &credentials.signer else {
        for peer in shared.peers().values().filter(|peer| shared.is_reachable(peer)) {
            peer.outbox.push(Frame::CertificateAsk(key.clone()));
        }
        return;
    };
    let who = own(shared);
    let signed = PKey::public_key_from_der(&key).and_then(|key| signer.sign(&key, &who, CERTIFICATE_DAYS));
    match signed {
        Ok(certificate) => take(shared, certificate),
        Err(error) => failed(shared, &error.to_string()),
    }
}

fn own(shared: &Shared) -> Who {
    let name = shared.own().map(|own| own.name).unwrap_or_default();
    Who { cluster: shared.settings.cluster.clone(), id: shared.settings.id, name }
}

/// Signs for a member that has no signer of its own.
pub(super) fn sign_for(shared: &Shared, peer: &Peer, key: &[u8]) {
    let Some(security) = &shared.settings.security else { return };
    let current = security.current();
    let Some(signer) = &current.credentials.signer else { return };
    let members = shared.published.load().members.clone();
    // Only for the key with which it has joined.
    let known = members.get(peer.member.id).is_some_and(|member| member.key == key_hash(key));
    let who =
        Who { cluster: shared.settings.cluster.clone(), id: peer.member.id, name: peer.member.name.clone() };
    let signed = PKey::public_key_from_der(key).and_then(|key| signer.sign(&key, &who, CERTIFICATE_DAYS));
    if let (true, Ok(pem)) = (known, signed.and_then(|certificate| certificate.to_pem())) {
        peer.outbox.push(Frame::CertificateAnswer(pem));
    }
}

/// A certificate that a peer has signed for us.
pub(super) fn answered(shared: &Shared, pem: &[u8]) {
    let Some(security) = &shared.settings.security else { return };
    let Ok(certificate) = X509::from_pem(pem) else { return };
    let current = security.current();
    let fits = certificate.public_key().is_ok_and(|key| key.public_eq(&current.credentials.key));
    let ours = judge(&certificate, &current.credentials.authority).is_ok_and(|who| who == own(shared));
    // Two peers may have answered.
    if fits && ours && is_due(&current.credentials.certificate) {
        take(shared, certificate);
    }
}

fn take(shared: &Shared, certificate: X509) {
    let Some(security) = &shared.settings.security else { return };
    let credentials = Credentials { certificate, ..security.current().credentials.clone() };
    let until = credentials.certificate.not_after().to_string();
    let saved = credentials.save(&shared.settings.state_dir).map_err(|error| error.to_string());
    match saved.and_then(|()| security.replace(credentials).map_err(|error| error.to_string())) {
        Ok(()) => {
            let what = format!("renewed the certificate of this node until {until}");
            shared.settings.events.record(Severity::Info, SUBJECT, what, "");
        }
        Err(error) => failed(shared, &error),
    }
}

fn failed(shared: &Shared, error: &str) {
    let what = "the certificate of this node is due and cannot be renewed";
    shared.settings.events.record(Severity::Alert, SUBJECT, what, error);
}

/// Remembers the members beside the log.
pub(super) fn remember_members(shared: &Shared) {
    let directory = &shared.settings.state_dir;
    let Ok(Some(identity)) = IdentityFile::load(directory) else { return };
    let members: Vec<_> = shared.published.load().members.iter().cloned().collect();
    if members.is_empty() || members == identity.members {
        return;
    }
    if let Err(error) = (IdentityFile { members, ..identity }).save(directory) {
        shared.settings.events.record(
            Severity::Warning,
            SUBJECT,
            "the members cannot be written down beside the log",
            error.to_string(),
        );
    }
}
