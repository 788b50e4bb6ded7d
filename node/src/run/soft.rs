//! Tells the other nodes what this one has learnt about clients. Nothing waits for it.

use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::consensus;
use cygnet_ha::state::ClientFact;

use crate::balance::{ClientEntry, ClientTable};

/// How often changes are gathered while there are some: many connections of one client within this time make one fact.
const GATHER: Duration = Duration::from_millis(5);
/// How often one looks while there are none. A node without traffic sleeps.
const LOOK: Duration = Duration::from_millis(50);
/// Facts taken from the table at once. At 5 ms: up to 800,000 a second, more than the workers can make.
const GATHERED_MAX: usize = 4096;

/// Runs until it is dropped.
pub(crate) async fn share_clients(clients: Arc<ClientTable>, log: consensus::Handle) {
    loop {
        let changes = clients.changes(GATHERED_MAX);
        let wait = if changes.is_empty() { LOOK } else { GATHER };
        if !changes.is_empty() {
            log.offer_clients(changes.into_iter().map(fact).collect());
        }
        tokio::time::sleep(wait).await;
    }
}

fn fact(entry: ClientEntry) -> ClientFact {
    ClientFact { service: entry.service, client: entry.client, server: entry.server, seen: entry.seen }
}
