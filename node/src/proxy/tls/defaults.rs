//! The rules that hold when a file says nothing: TLS 1.2 and 1.3, forward secrecy and AEAD only, AES-128 first (AES-256
//! costs 9 to 37 % more per handshake, and nobody breaks AES-128), no signature with SHA-1 or SHA-224.

/// Cipher suites of TLS 1.3, most wanted first.
pub(super) const SUITES: &str = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";
/// The same for a client that can do AES-128: AWS-LC would take the client's order between the two AES.
#[cfg(feature = "fast-tls")]
pub(super) const SUITES_WITHOUT_AES_256: &str = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
/// Ciphers of TLS 1.2, most wanted first.
pub(super) const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
    ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
    ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
/// Groups for the key exchange, most wanted first; X25519 costs least and is what clients send a share for.
pub(super) const GROUPS: &str = "X25519:P-256:P-384";
/// What may sign a handshake.
pub(super) const SIGNATURES: &str = "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA384:RSA+SHA384:\
    ed25519:ECDSA+SHA512:RSA-PSS+SHA512:RSA+SHA512";
/// Tickets that a TLS 1.3 client gets. A second one costs 7 % of a handshake, and serves only clients that open several
/// connections at once after the first.
pub(super) const TICKETS: usize = 1;
/// Sessions that are kept for TLS 1.2 clients without tickets, per certificate; about 1 KiB each.
pub(super) const SESSIONS_KEPT: i32 = 4096;
