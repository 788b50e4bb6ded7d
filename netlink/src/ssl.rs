//! The calls of the TLS library that the `openssl` crate does not have: session tickets under keys of ours, how many
//! of them, TLS 1.3 cipher suites with AWS-LC, and its way of stapling an OCSP response.
//!
//! Everything here works with OpenSSL 1.1.1, 3.x and AWS-LC (feature `fast-tls`), and takes and gives safe types.

use std::ffi::{CString, c_int, c_uchar};
use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use foreign_types::ForeignTypeRef;
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtxRef;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{SslContext, SslContextBuilder, SslRef, SslSessionRef};
#[cfg(feature = "fast-tls")]
use openssl::x509::store::X509StoreBuilderRef;
use openssl_sys as ffi;

/// Octets of a ticket key's name, which stands in clear at the head of each ticket (RFC 5077 section 4).
const NAME_LEN: usize = 16;
/// Octets of an AES-256 key, and of an HMAC-SHA-256 key.
const SECRET_LEN: usize = 32;
/// Octets of an AES block, and so of the IV in CBC mode.
const IV_LEN: usize = 16;
/// Octets of a whole key: name, AES key, HMAC key. The same with each library, so that nodes may share them.
pub const TICKET_KEY_LEN: usize = NAME_LEN + 2 * SECRET_LEN;
/// Keys that are accepted at once: the current one and those before it.
pub const TICKET_KEYS_MAX: usize = 4;

/// A key that session tickets are sealed with: AES-256-CBC, then HMAC-SHA-256 (RFC 5077 section 4).
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey([u8; TICKET_KEY_LEN]);

impl TicketKey {
    /// A new one from the library's random numbers.
    ///
    /// # Errors
    /// If the library has none.
    pub fn random() -> Result<Self, ErrorStack> {
        let mut key = [0; TICKET_KEY_LEN];
        openssl::rand::rand_bytes(&mut key)?;
        Ok(Self(key))
    }

    /// One that was made elsewhere, such as on the other node.
    #[must_use]
    pub fn from_bytes(bytes: [u8; TICKET_KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The whole key. It opens every session that was sealed with it: it belongs in no log and in no file that others read.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; TICKET_KEY_LEN] {
        &self.0
    }

    fn name(&self) -> &[u8] {
        &self.0[..NAME_LEN]
    }

    fn cipher_key(&self) -> &[u8] {
        &self.0[NAME_LEN..NAME_LEN + SECRET_LEN]
    }

    fn mac_key(&self) -> &[u8] {
        &self.0[NAME_LEN + SECRET_LEN..]
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(..)")
    }
}

/// The keys of session tickets: the first seals new ones, all open old ones. Handshakes read it without a lock.
#[derive(Debug)]
pub struct TicketKeys(ArcSwap<Vec<TicketKey>>);

impl TicketKeys {
    /// With one random key.
    ///
    /// # Errors
    /// If the library has no random numbers.
    pub fn random() -> Result<Self, ErrorStack> {
        Ok(Self(ArcSwap::from_pointee(vec![TicketKey::random()?])))
    }

    /// Puts `key` first; the one before goes on opening its tickets, older ones are forgotten.
    pub fn rotate(&self, key: TicketKey) {
        let previous = self.0.load().first().cloned();
        self.set(key, previous);
    }

    /// Takes `current` for new tickets and `previous` for old ones, at most [`TICKET_KEYS_MAX`] together.
    pub fn set(&self, current: TicketKey, previous: impl IntoIterator<Item = TicketKey>) {
        let keys = std::iter::once(current).chain(previous).take(TICKET_KEYS_MAX).collect();
        self.0.store(Arc::new(keys));
    }

    /// The keys as they are, the current one first.
    #[must_use]
    pub fn keys(&self) -> Vec<TicketKey> {
        self.0.load().to_vec()
    }
}

/// What the callback says to the library.
#[derive(Clone, Copy)]
enum Answer {
    Failed = -1,
    Unknown = 0,
    Ready = 1,
    /// The ticket opens, and the client shall get a new one.
    Renew = 2,
}

fn keys_index() -> Result<Index<SslContext, Arc<TicketKeys>>, ErrorStack> {
    static INDEX: OnceLock<Index<SslContext, Arc<TicketKeys>>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = SslContext::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

/// Has the sessions of this context sealed with `keys`, whatever they are at that moment.
///
/// # Errors
/// If the library refuses.
pub fn set_ticket_keys(context: &mut SslContextBuilder, keys: Arc<TicketKeys>) -> Result<(), ErrorStack> {
    context.set_ex_data(keys_index()?, keys);
    // SAFETY: `context` is alive, and `ticket_key` has the signature that the library documents for this callback; it
    // is a function, so it lives as long as the program.
    let done = unsafe { install(context.as_ptr()) };
    if done { Ok(()) } else { Err(ErrorStack::get()) }
}

/// # Safety
/// `context` must point to a live context.
#[cfg(not(feature = "fast-tls"))]
unsafe fn install(context: *mut ffi::SSL_CTX) -> bool {
    /// `SSL_CTRL_SET_TLSEXT_TICKET_KEY_CB` of openssl/ssl.h, the same in 1.1.1 and 3.x.
    const SET_TICKET_KEY_CB: c_int = 72;
    type Callback = unsafe extern "C" fn(
        *mut ffi::SSL,
        *mut c_uchar,
        *mut c_uchar,
        *mut ffi::EVP_CIPHER_CTX,
        *mut ffi::HMAC_CTX,
        c_int,
    ) -> c_int;
    let callback: Callback = ticket_key;
    // SAFETY: the library casts the pointer back to the type above before it calls it (ssl/s3_lib.c).
    let callback = unsafe { std::mem::transmute::<Callback, unsafe extern "C" fn()>(callback) };
    // SAFETY: `context` is live by this function's contract.
    unsafe { ffi::SSL_CTX_callback_ctrl__fixed_rust(context, SET_TICKET_KEY_CB, Some(callback)) == 1 }
}

/// # Safety
/// `context` must point to a live context.
#[cfg(feature = "fast-tls")]
unsafe fn install(context: *mut ffi::SSL_CTX) -> bool {
    // SAFETY: `context` is live by this function's contract.
    unsafe { ffi::SSL_CTX_set_tlsext_ticket_key_cb(context, Some(ticket_key)) == 1 }
}

/// The library's callback: chooses the key, and sets up the two contexts with it.
///
/// # Safety
/// Only the library calls it, with pointers that are valid for this call: `name` and `iv` to 16 octets each.
unsafe extern "C" fn ticket_key(
    ssl: *mut ffi::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut ffi::HMAC_CTX,
    seal: c_int,
) -> c_int {
    // SAFETY: the library hands over the session that it works on, and nobody else uses it meanwhile.
    let ssl = unsafe { SslRef::from_ptr(ssl) };
    // SAFETY: the library's buffers, of the length that it documents.
    let (name, iv) = unsafe {
        (std::slice::from_raw_parts_mut(name, NAME_LEN), std::slice::from_raw_parts_mut(iv, IV_LEN))
    };
    // SAFETY: the library's own context, not shared during this call.
    let cipher = unsafe { CipherCtxRef::from_ptr_mut(cipher) };
    let Some(keys) = keys_index().ok().and_then(|index| ssl.ssl_context().ex_data(index)) else {
        return Answer::Failed as c_int;
    };
    let keys = keys.0.load();
    let found = if seal == 1 { keys.first() } else { keys.iter().find(|key| key.name() == &*name) };
    let Some(key) = found else { return Answer::Unknown as c_int };
    // SAFETY: `mac` is the library's own context, not shared during this call.
    let prepared = unsafe { prepare(key, name, iv, cipher, mac, seal == 1) };
    match prepared {
        Err(_) => Answer::Failed as c_int,
        Ok(()) if keys.first() == Some(key) => Answer::Ready as c_int,
        Ok(()) => Answer::Renew as c_int,
    }
}

/// # Safety
/// `mac` must point to a context of the library that nobody else uses.
unsafe fn prepare(
    key: &TicketKey,
    name: &mut [u8],
    iv: &mut [u8],
    cipher: &mut CipherCtxRef,
    mac: *mut ffi::HMAC_CTX,
    seal: bool,
) -> Result<(), ErrorStack> {
    if seal {
        name.copy_from_slice(key.name());
        openssl::rand::rand_bytes(iv)?;
        cipher.encrypt_init(Some(Cipher::aes_256_cbc()), Some(key.cipher_key()), Some(iv))?;
    } else {
        cipher.decrypt_init(Some(Cipher::aes_256_cbc()), Some(key.cipher_key()), Some(iv))?;
    }
    let secret = key.mac_key();
    // SAFETY: `mac` is live by this function's contract, the key is copied by the call, no engine is asked for.
    let done = unsafe {
        ffi::HMAC_Init_ex(
            mac,
            secret.as_ptr().cast(),
            SECRET_LEN as _,
            ffi::EVP_sha256(),
            std::ptr::null_mut(),
        )
    };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// How many tickets a TLS 1.3 client gets after a full handshake.
///
/// # Errors
/// If the library refuses.
pub fn set_num_tickets(context: &mut SslContextBuilder, tickets: usize) -> Result<(), ErrorStack> {
    // SAFETY: `context` is alive and not yet shared.
    let done = unsafe { ffi::SSL_CTX_set_num_tickets(context.as_ptr(), tickets) };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// The cipher suites of TLS 1.3, most wanted first, in OpenSSL's words.
///
/// # Errors
/// If the library knows none of them.
pub fn set_ciphersuites(context: &mut SslContextBuilder, suites: &str) -> Result<(), ErrorStack> {
    let Ok(suites) = CString::new(suites) else { return Err(ErrorStack::get()) };
    // SAFETY: `context` is alive and not yet shared; the library copies the list.
    let done = unsafe { ffi::SSL_CTX_set_ciphersuites(context.as_ptr(), suites.as_ptr()) };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// What may sign a handshake, most wanted first, in OpenSSL's words. AWS-LC only: the `openssl` crate has it for OpenSSL.
///
/// # Errors
/// If the library knows one of them not.
#[cfg(feature = "fast-tls")]
pub fn set_signatures(context: &mut SslContextBuilder, signatures: &str) -> Result<(), ErrorStack> {
    let Ok(signatures) = CString::new(signatures) else { return Err(ErrorStack::get()) };
    // SAFETY: `context` is alive and not yet shared; the library copies the list.
    let done = unsafe { ffi::SSL_CTX_set1_sigalgs_list(context.as_ptr(), signatures.as_ptr()) };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Has this session staple `response` (DER) if the client asks for it. AWS-LC only: OpenSSL has a callback for it, and
/// the `openssl` crate knows that.
///
/// # Errors
/// If there is no memory for the copy.
#[cfg(feature = "fast-tls")]
pub fn set_ocsp_response(ssl: &mut SslRef, response: &[u8]) -> Result<(), ErrorStack> {
    // SAFETY: `ssl` is alive and ours alone; the library copies the octets.
    let done = unsafe { ffi::SSL_set_ocsp_response(ssl.as_ptr(), response.as_ptr(), response.len()) };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// Lets go of what only a handshake needs as soon as it is over. AWS-LC only.
#[cfg(feature = "fast-tls")]
pub fn shed_handshake_config(ssl: &mut SslRef) {
    // SAFETY: `ssl` is alive and ours alone.
    unsafe { ffi::SSL_set_shed_handshake_config(ssl.as_ptr(), 1) };
}

/// Has a client offer to go on with `session`, which must come from a context with the same rules.
///
/// # Errors
/// If the library refuses.
pub fn resume(ssl: &mut SslRef, session: &SslSessionRef) -> Result<(), ErrorStack> {
    // SAFETY: both are alive, and the library counts its own reference. That the session should come from the same
    // context is a matter of what it vouches for (the verified peer), not of memory.
    unsafe { ssl.set_session(session) }
}

/// Adds a directory of certificates under the hashes of their names. AWS-LC only: the `openssl` crate has it for OpenSSL.
///
/// # Errors
/// If the library refuses.
#[cfg(feature = "fast-tls")]
pub fn add_directory(store: &mut X509StoreBuilderRef, directory: &str) -> Result<(), ErrorStack> {
    let Ok(directory) = CString::new(directory) else { return Err(ErrorStack::get()) };
    // SAFETY: `store` is alive and ours alone; the library copies the path, and no file is named.
    let done =
        unsafe { ffi::X509_STORE_load_locations(store.as_ptr(), std::ptr::null(), directory.as_ptr()) };
    if done == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// The OCSP response (DER) that a client was handed. AWS-LC only: the `openssl` crate has it for OpenSSL.
#[cfg(feature = "fast-tls")]
#[must_use]
pub fn ocsp_response(ssl: &SslRef) -> Option<&[u8]> {
    let (mut response, mut length) = (std::ptr::null(), 0);
    // SAFETY: `ssl` is alive; both pointers are to places of ours.
    unsafe { ffi::SSL_get0_ocsp_response(ssl.as_ptr(), &raw mut response, &raw mut length) };
    if response.is_null() || length == 0 {
        return None;
    }
    // SAFETY: the library says that there are so many octets, which live as long as the session.
    Some(unsafe { std::slice::from_raw_parts(response, length) })
}
