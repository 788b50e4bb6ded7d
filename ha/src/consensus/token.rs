//! The token with which a node joins: `cyg1-` and 80 characters of base64 (RFC 4648 section 5), 60 bytes:
//!
//! ```text
//!  0            8                24                    56            60
//!  | number (BE) | secret         | authority (SHA-256) | check       |
//! ```
//! It names the cluster's authority, so that the joining node talks to nobody else, and carries a secret of which the
//! cluster keeps the hash. The check (of SHA-256 of all before) finds slips of the hand that copied it.

use openssl::base64;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::sha::sha256;

const PREFIX: &str = "cyg1-";
const BYTES: usize = 60;
const SECRET: usize = 16;
const CHECKED: usize = BYTES - 4;

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Its number.
    pub id: u64,
    /// What only its bearer knows.
    pub secret: [u8; SECRET],
    /// SHA-256 of the authority's certificate (DER).
    pub authority: [u8; 32],
}

/// Why text is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error(
        "this is not a token; it begins with `{PREFIX}` and comes from `cygnet cluster init` or `cygnet token create`"
    )]
    NotAToken,
    /// Letters were lost or changed.
    #[error("the token was not copied whole; copy it again")]
    Damaged,
}

impl JoinToken {
    /// A new token for the cluster with this authority.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn create(authority: [u8; 32]) -> Result<Self, ErrorStack> {
        let (mut id, mut secret) = ([0; 8], [0; SECRET]);
        openssl::rand::rand_bytes(&mut id)?;
        openssl::rand::rand_bytes(&mut secret)?;
        Ok(Self { id: u64::from_be_bytes(id).max(1), secret, authority })
    }

    /// What the cluster keeps of the secret.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(&self.secret)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// Not a token, or a damaged one. Never panics.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        if body.len() != BYTES / 3 * 4 || body.contains(['+', '/', '=']) || !body.is_ascii() {
            return Err(TokenError::Damaged);
        }
        let bytes = base64::decode_block(&body.replace('-', "+").replace('_', "/"));
        let bytes: [u8; BYTES] =
            bytes.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(TokenError::Damaged)?;
        if check(&bytes[..CHECKED]) != bytes[CHECKED..] {
            return Err(TokenError::Damaged);
        }
        let (mut id, mut secret, mut authority) = ([0; 8], [0; SECRET], [0; 32]);
        id.copy_from_slice(&bytes[..8]);
        secret.copy_from_slice(&bytes[8..24]);
        authority.copy_from_slice(&bytes[24..CHECKED]);
        Ok(Self { id: u64::from_be_bytes(id), secret, authority })
    }
}

fn check(bytes: &[u8]) -> [u8; 4] {
    let sum = openssl::hash::hash(MessageDigest::sha256(), bytes);
    let mut check = [0; 4];
    if let Ok(sum) = sum {
        check.copy_from_slice(&sum[..4]);
    }
    check
}

impl std::fmt::Display for JoinToken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.authority);
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        write!(out, "{PREFIX}{}", base64::encode_block(&bytes).replace('+', "-").replace('/', "_"))
    }
}

impl std::fmt::Debug for JoinToken {
    /// Without the secret: it must not end up in a log.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "JoinToken({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_survives_being_written(id in any::<u64>(), secret in any::<[u8; SECRET]>(), authority in any::<[u8; 32]>()) {
            let token = JoinToken { id, secret, authority };
            let text = format!(" {token}\n");
            prop_assert_eq!(JoinToken::parse(&text), Ok(token));
        }

        #[test]
        fn any_text_is_a_token_or_an_error(text in ".{0,90}") {
            prop_assert!(JoinToken::parse(&text).is_err());
            let text = PREFIX.to_owned() + &text;
            prop_assert!(JoinToken::parse(&text).is_err());
        }

        #[test]
        fn a_changed_letter_is_noticed(secret in any::<[u8; SECRET]>(), at in 5usize..85, to in "[A-Za-z0-9_]") {
            let token = JoinToken { id: 7, secret, authority: [9; 32] }.to_string();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(JoinToken::parse(&changed).is_ok(), changed == token);
        }
    }
}
