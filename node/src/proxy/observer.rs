//! Who looks on.

use std::fmt::Debug;
use std::net::SocketAddr;

/// Wants to see what passes: Pen's log, its statistics of clients. Called on the worker's thread, so it must not block.
/// A client of a Unix socket has the address 0.0.0.0:0.
pub trait Observer: Send + Sync + Debug {
    /// A client was accepted.
    fn opened(&self, worker: usize, peer: SocketAddr);

    /// Whether [`Observer::chunk`] is to be called. Asked each time before bytes are moved; what nobody wants to see may
    /// pass without coming to user space.
    fn wants_chunks(&self) -> bool;

    /// Bytes were read from the client (after decryption, and after headers were added), and are about to be sent on to
    /// the server at this position.
    fn chunk(&self, peer: SocketAddr, server: usize, bytes: &[u8]);

    /// The connection has ended. `server`: `None` when none was found. Bytes as they were counted for the client.
    fn closed(
        &self,
        worker: usize,
        peer: SocketAddr,
        server: Option<usize>,
        to_client: u64,
        from_client: u64,
    );
}
