//! Secrets in the log are sealed: AES-256-GCM under a key that is made of the authority's private key by HKDF-SHA-256
//! (RFC 5869). Whoever has a copy of the log alone, a witness among them, cannot open them; every node with traffic has the
//! authority's key (see [`super::credentials`]).

use cygnet_netlink::ssl::{TICKET_KEY_LEN, TicketKey};
use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey_ctx::PkeyCtx;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};

use super::authority::Authority;

/// Octets of a nonce of GCM (NIST SP 800-38D, 8.2): drawn at random, for some thousand keys a year.
const NONCE: usize = 12;
/// Octets of its tag.
const TAG: usize = 16;
/// What the key is for: another use of the authority's key gets another one.
const PURPOSE: &[u8] = b"cygnet session ticket keys 1";

/// Seals and opens the keys of session tickets.
pub(super) struct Sealer {
    key: [u8; 32],
    cluster: String,
}

impl Sealer {
    /// With the key of a cluster's authority.
    pub(super) fn new(authority: &Authority, cluster: &str) -> Result<Self, ErrorStack> {
        let mut context = PkeyCtx::new_id(Id::HKDF)?;
        context.derive_init()?;
        context.set_hkdf_md(Md::sha256())?;
        context.set_hkdf_key(&authority.secret()?)?;
        context.set_hkdf_salt(cluster.as_bytes())?;
        context.add_hkdf_info(PURPOSE)?;
        let mut key = [0; 32];
        context.derive(Some(&mut key))?;
        Ok(Self { key, cluster: cluster.to_owned() })
    }

    /// Seals key `number`: under that number alone it opens again.
    pub(super) fn seal(&self, number: u64, key: &TicketKey) -> Result<Vec<u8>, ErrorStack> {
        let (mut nonce, mut tag) = ([0; NONCE], [0; TAG]);
        openssl::rand::rand_bytes(&mut nonce)?;
        let (cipher, about) = (Cipher::aes_256_gcm(), self.about(number));
        let text = encrypt_aead(cipher, &self.key, Some(&nonce), &about, key.as_bytes(), &mut tag)?;
        Ok([&nonce[..], &text, &tag].concat())
    }

    /// Opens it; `None`: it was sealed by another authority, for another number, or was damaged.
    pub(super) fn open(&self, number: u64, sealed: &[u8]) -> Option<TicketKey> {
        let (nonce, rest) = sealed.split_at_checked(NONCE)?;
        let (text, tag) = rest.split_at_checked(rest.len().checked_sub(TAG)?)?;
        let (cipher, about) = (Cipher::aes_256_gcm(), self.about(number));
        let key = decrypt_aead(cipher, &self.key, Some(nonce), &about, text, tag).ok()?;
        Some(TicketKey::from_bytes(<[u8; TICKET_KEY_LEN]>::try_from(key.as_slice()).ok()?))
    }

    fn about(&self, number: u64) -> Vec<u8> {
        [PURPOSE, &number.to_be_bytes(), self.cluster.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_under_its_number_with_the_same_authority_and_nowhere_else() {
        let authority = Authority::create("demo").unwrap();
        let pem = authority.certificate.to_pem().unwrap();
        // The other node has it from its files.
        let there = Authority::from_pem(&pem, &authority.key_pem().unwrap()).unwrap();
        let (here, there) = (Sealer::new(&authority, "demo").unwrap(), Sealer::new(&there, "demo").unwrap());
        let key = TicketKey::random().unwrap();
        let sealed = here.seal(7, &key).unwrap();
        assert_eq!(there.open(7, &sealed), Some(key.clone()));
        assert_eq!(there.open(8, &sealed), None);
        let stranger = Sealer::new(&Authority::create("demo").unwrap(), "demo").unwrap();
        assert_eq!(stranger.open(7, &sealed), None);
        assert!(sealed.len() <= crate::state::keys::SEALED_MAX);
        assert!(!sealed.windows(16).any(|part| key.as_bytes().windows(16).any(|secret| secret == part)));
        assert_ne!(here.seal(7, &key).unwrap(), sealed, "never twice the same");
    }

    #[test]
    fn whatever_is_cut_or_changed_does_not_open() {
        let sealer = Sealer::new(&Authority::create("demo").unwrap(), "demo").unwrap();
        let sealed = sealer.seal(1, &TicketKey::random().unwrap()).unwrap();
        for length in 0..sealed.len() {
            assert_eq!(sealer.open(1, &sealed[..length]), None);
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(sealer.open(1, &changed), None);
        }
    }
}
