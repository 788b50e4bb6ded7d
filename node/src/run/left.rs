//! The connections that go on through this node although their address was moved: the kernel's list, with what the data path knows of
//! each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use cygnet_ha::vip::driver::{Leftover, VipHandle};
use cygnet_netlink::flows::{self, Idle};

use super::node::Node;
use crate::control::types::{Drain, Drains, LeftConnection};
use crate::proxy::ConnectionInfo;

/// Connections of the data path that are looked through for those that go on, for the workers answer between their turns. What is
/// not among them has no service and no server in the answer.
const LOOKED_THROUGH_MAX: usize = 200_000;

/// At most `limit` connections one by one.
pub(super) async fn drains(node: &Arc<Node>, vips: &VipHandle, limit: usize) -> Drains {
    let left = vips.left(limit).await;
    let name = node.config.name.clone();
    if left.is_empty() {
        return Drains { node: name, drains: Vec::new() };
    }
    let of = Arc::clone(node);
    let known = tokio::task::spawn_blocking(move || {
        let known = of.traffic.as_ref().map(|traffic| traffic.workers.connections(LOOKED_THROUGH_MAX));
        let known = by_client(known.unwrap_or_default());
        let drains = left.into_iter().map(|one| drain(one, &known));
        drains.collect()
    });
    // Fails only when the program ends.
    Drains { node: name, drains: known.await.unwrap_or_default() }
}

type Known = HashMap<SocketAddr, Option<ConnectionInfo>>;

/// By the client's address and port. One that has two connections from them, to two of our addresses, is left out.
fn by_client(infos: Vec<ConnectionInfo>) -> Known {
    let mut known = Known::with_capacity(infos.len());
    for info in infos {
        let client = SocketAddr::new(info.peer.ip().to_canonical(), info.peer.port());
        known.entry(client).and_modify(|twice| *twice = None).or_insert(Some(info));
    }
    known
}

fn drain(left: Leftover, known: &Known) -> Drain {
    let Leftover { vip, view, flows: wanted } = left;
    let mut addresses: Vec<_> = wanted.iter().map(|flow| flow.service.ip()).collect();
    addresses.dedup();
    addresses.sort_unstable();
    addresses.dedup();
    // Without the kernel's word the list is still worth showing.
    let idle = flows::idle(&addresses, &wanted).unwrap_or_default();
    let idle: HashMap<_, _> = idle.into_iter().map(|Idle { flow, idle_ms }| (flow, idle_ms)).collect();
    let connections = wanted.into_iter().map(|flow| {
        let info = known.get(&flow.client).and_then(Option::as_ref);
        LeftConnection {
            client: flow.client,
            to: flow.service,
            service: info.map(|info| info.service.to_string()),
            server: info.and_then(|info| info.server_name.as_ref()).map(ToString::to_string),
            idle_ms: idle.get(&flow).copied().flatten().map(u64::from),
        }
    });
    Drain { vip, left: view, connections: connections.collect() }
}
