//! What a move of an address cost, noted at the moment when it is still known.

use std::collections::BTreeMap;
use std::sync::Arc;

use cygnet_ha::events::Severity;
use cygnet_ha::vip::driver::VipHandle;
use cygnet_ha::vip::{Role, VipView};

use super::facts;
use super::node::Node;
use crate::control::status::{Facts, age};
use crate::control::why::COST;

/// Notes the connections of the former holder whenever this node takes an address over. Runs until it is dropped.
pub(crate) async fn note(node: Arc<Node>) {
    let Some(mut views) = node.vips.as_ref().map(VipHandle::views) else {
        return std::future::pending().await;
    };
    let mut before = BTreeMap::new();
    loop {
        let now = Arc::clone(&views.borrow_and_update());
        if now.iter().any(|view| is_new(&before, view)) {
            let facts = facts::facts(&node);
            for view in now.iter().filter(|view| is_new(&before, view)) {
                for what in costs(&facts, &view.name) {
                    let why =
                        "they end with a node that died; from one that lives they end when clients send next";
                    node.events.record_kind(Severity::Info, &format!("vip {}", view.name), COST, what, why);
                }
            }
        }
        before = now.iter().map(|view| (view.name.clone(), view.role)).collect();
        if views.changed().await.is_err() {
            // The elections have ended, and the node is about to.
            return std::future::pending().await;
        }
    }
}

/// This node took the address over, rather than having it from the start.
fn is_new(before: &BTreeMap<String, Role>, view: &VipView) -> bool {
    view.role == Role::Active && before.get(&view.name) == Some(&Role::Standby)
}

/// What those who called themselves active carried.
fn costs(facts: &Facts, vip: &str) -> Vec<String> {
    let others = facts.members.iter().filter(|member| !member.here);
    let cost = others.filter_map(|member| {
        let report = member.report.as_ref().filter(|report| report.roles.get(vip) == Some(&Role::Active))?;
        let (name, connections) = (&member.name, report.connections);
        let before = age(member.report_age_ms.unwrap_or(0));
        Some(format!("{name} carried {connections} connections when it last reported, {before} before"))
    });
    cost.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::fake::{facts, vip};

    #[test]
    fn the_cost_is_what_the_former_holder_reported_last() {
        let mut facts = facts();
        assert!(costs(&facts, "www").is_empty(), "it stood by");
        let report = facts.members[1].report.as_mut().expect("a report");
        (report.connections, report.roles) = (25, [("www".to_owned(), Role::Active)].into());
        let told = costs(&facts, "www");
        assert_eq!(told, ["lb2 carried 25 connections when it last reported, 300ms before"]);
        assert!(costs(&facts, "mail").is_empty());
    }

    #[test]
    fn only_a_standby_that_becomes_active_has_taken_over() {
        let before = |role| BTreeMap::from([("www".to_owned(), role)]);
        assert!(is_new(&before(Role::Standby), &vip()));
        assert!(!is_new(&before(Role::Active), &vip()));
        assert!(!is_new(&BTreeMap::new(), &vip()));
    }
}
