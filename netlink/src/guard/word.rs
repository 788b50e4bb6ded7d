//! The last word of a dead node: a secret that only its guard tells, and only when the node is dead and its addresses are gone.
//!
//! ```text
//!   node ── SHA-256(secret) ──> peers      over the nodes' own connection, while it lives
//!   node ── secret ───────────> guard      over the guard's pipe
//!   guard ─ secret ───────────> peers      one datagram, when the node has died and the addresses are gone
//! ```
//! Nobody can make the word up who has not seen it, and it is said once: whoever repeats it repeats what is true, for the life
//! that it ends does not come back (the next one has another secret). A word that is lost costs what the protocol costs: the
//! peers wait.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use openssl::rand::rand_bytes;
use openssl::sha::sha256;

/// Bytes of the secret: more than anybody can guess.
const SECRET_LEN: usize = 32;

/// What a datagram begins with: the program, and the version of the format.
const MAGIC: [u8; 5] = *b"CYGW\x01";

/// Bytes of the datagram.
pub const WORD_LEN: usize = MAGIC.len() + SECRET_LEN;

/// Peers that are told at most: their line to the guard must be shorter than the kernel's unit of a pipe (4096 bytes).
pub const PEERS_MAX: usize = 32;

/// A datagram may be lost: it is said again after these pauses. Long after that the peers have taken over anyhow.
const AGAIN: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(20)];

/// By what a peer recognises a last word: the SHA-256 of its secret.
pub type Seal = [u8; 32];

/// A secret for one life of a node.
#[derive(Clone, PartialEq, Eq)]
pub struct LastWord {
    secret: [u8; SECRET_LEN],
}

impl std::fmt::Debug for LastWord {
    /// Without the secret: it must not come into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastWord").finish_non_exhaustive()
    }
}

impl LastWord {
    /// A new one.
    ///
    /// # Errors
    /// OpenSSL has no random numbers.
    pub fn new() -> io::Result<Self> {
        let mut secret = [0; SECRET_LEN];
        rand_bytes(&mut secret).map_err(io::Error::other)?;
        Ok(Self { secret })
    }

    /// What the peers are told beforehand.
    #[must_use]
    pub fn seal(&self) -> Seal {
        sha256(&self.secret)
    }

    /// The datagram.
    pub(super) fn datagram(&self) -> [u8; WORD_LEN] {
        let mut bytes = [0; WORD_LEN];
        let (magic, secret) = bytes.split_at_mut(MAGIC.len());
        magic.copy_from_slice(&MAGIC);
        secret.copy_from_slice(&self.secret);
        bytes
    }

    /// As hexadecimal digits, for the pipe.
    pub(super) fn to_hex(&self) -> String {
        self.secret.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Back from [`LastWord::to_hex`].
    pub(super) fn from_hex(digits: &str) -> Option<Self> {
        if digits.len() != 2 * SECRET_LEN || !digits.is_ascii() {
            return None;
        }
        let mut secret = [0; SECRET_LEN];
        for (at, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self { secret })
    }
}

/// The seal of the word in a datagram; `None` if it is no last word. What it is worth says who has been told of the seal.
#[must_use]
pub fn seal_of(datagram: &[u8]) -> Option<Seal> {
    let secret = datagram.strip_prefix(&MAGIC)?;
    (secret.len() == SECRET_LEN).then(|| sha256(secret))
}

/// Says it to all of them, from `own`, some times over. A peer that cannot be reached is passed over.
pub(super) fn say(word: &LastWord, own: SocketAddr, peers: &[SocketAddr]) -> io::Result<()> {
    // Its own address, any port: a firewall knows the node by it.
    let socket = UdpSocket::bind(SocketAddr::new(own.ip(), 0))?;
    socket.set_nonblocking(true)?;
    let datagram = word.datagram();
    let mut told = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for pause in std::iter::once(Duration::ZERO).chain(AGAIN) {
        std::thread::sleep(pause);
        for peer in peers.iter().filter(|peer| peer.is_ipv4() == own.is_ipv4()) {
            match socket.send_to(&datagram, peer) {
                Ok(_) => told = Ok(()),
                Err(error) if told.is_err() => told = Err(error),
                Err(_) => {}
            }
        }
    }
    told
}
