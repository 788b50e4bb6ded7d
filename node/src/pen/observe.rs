//! Looking on at the traffic: accounts of clients, and lines for the log. On the workers' threads; nothing here waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use super::accounts::Accounts;
use super::clock;
use super::logs::{Line, Logs, TEXT_MAX, beginning};
use crate::proxy::observer::Observer;

/// The one who looks on.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) accounts: Accounts,
    pub(super) logs: Logs,
    /// The addresses of the servers by their positions, as the log names them.
    servers: ArcSwap<Vec<Arc<str>>>,
    /// Chunks are dumped.
    dumping: AtomicBool,
    /// As text.
    ascii: AtomicBool,
}

impl Watch {
    pub(super) fn new(accounts: Accounts, logs: Logs) -> Self {
        let (dumping, ascii) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { accounts, logs, servers: ArcSwap::default(), dumping, ascii }
    }

    /// The servers of the plan that is in force now, by their positions.
    pub(super) fn set_servers(&self, servers: Vec<Arc<str>>) {
        self.servers.store(Arc::new(servers));
    }

    /// Whether chunks are dumped, and as text.
    pub(super) fn set_dumping(&self, dumping: bool, ascii: bool) {
        self.dumping.store(dumping, Ordering::Relaxed);
        self.ascii.store(ascii, Ordering::Relaxed);
    }
}

impl Observer for Watch {
    fn opened(&self, worker: usize, peer: SocketAddr) {
        self.accounts.opened(worker, peer.ip(), clock::unix());
    }

    fn wants_chunks(&self) -> bool {
        self.logs.is_open() || self.dumping.load(Ordering::Relaxed)
    }

    fn chunk(&self, peer: SocketAddr, server: usize, bytes: &[u8]) {
        if self.dumping.load(Ordering::Relaxed) {
            self.logs.dump(bytes, self.ascii.load(Ordering::Relaxed));
        }
        if !self.logs.is_open() {
            return;
        }
        let servers = self.servers.load();
        let Some(server) = servers.get(server) else { return };
        let text = beginning(bytes, TEXT_MAX);
        self.logs.line(Line {
            client: peer.ip(),
            unix: clock::unix(),
            server: Arc::clone(server),
            text: Box::from(text),
        });
    }

    fn closed(
        &self,
        worker: usize,
        peer: SocketAddr,
        server: Option<usize>,
        to_client: u64,
        from_client: u64,
    ) {
        self.accounts.closed(worker, peer.ip(), server, to_client, from_client);
    }
}
