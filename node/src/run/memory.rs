//! What all nodes remember together, as the commands and the stories of moves have it.

use std::sync::Arc;

use cygnet_ha::consensus::Status;
use cygnet_ha::events::Event;
use cygnet_ha::state::Remembered;

use super::node::Node;
use crate::control::types::{ClusterEvent, ClusterEvents, EVENTS_PAGE_MAX, EventsQuery};

/// A page of the shared memory.
pub(crate) fn page(node: &Node, query: &EventsQuery) -> ClusterEvents {
    let (chronicle, status) = (node.log.chronicle(), node.log.status());
    let named = |remembered: &Arc<Remembered>| {
        let Remembered { number, node, event, .. } = remembered.as_ref();
        ClusterEvent { number: *number, node: name(&status, *node), event: event.clone() }
    };
    let events = chronicle.after(query.after).take(query.limit.unwrap_or(EVENTS_PAGE_MAX)).map(named);
    ClusterEvents { events: events.collect(), last: chronicle.newest(), waiting: node.log.events_waiting() }
}

/// The newest events that `wanted` takes, at most `count` of each node, oldest first, with the names of their nodes.
pub(crate) fn newest(
    node: &Node,
    status: &Status,
    count: usize,
    wanted: impl Fn(&Event) -> bool,
) -> Vec<(String, Event)> {
    let chronicle = node.log.chronicle();
    let mut taken = std::collections::HashMap::<u64, usize>::new();
    let mut events: Vec<_> = chronicle
        .after(0)
        .rev()
        .filter(|remembered| wanted(&remembered.event))
        .filter(|remembered| {
            let of_node = taken.entry(remembered.node).or_default();
            *of_node += 1;
            *of_node <= count
        })
        .map(|remembered| (name(status, remembered.node), remembered.event.clone()))
        .collect();
    events.reverse();
    events
}

fn name(status: &Status, id: u64) -> String {
    let member = status.members.iter().find(|member| member.id == id);
    member.map_or_else(|| format!("node {id}"), |member| member.name.clone())
}
