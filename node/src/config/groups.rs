//! Virtual addresses of one group: what they must have in common to move as one.

use std::collections::BTreeMap;

use cygnet_ha::vip::Mode;
use cygnet_ha::vip::speaker::vrrp::PRIORITY_OWNER;

use super::model::{ClusterConfig, NodeConfig, Vip};
use super::pair::{NODE_FILE, is_witness, priority, problem};
use super::problem::{Fault, Problem, Report};
use super::section::Section;

const KEY: &str = "sync_group";

/// Refuses members that differ in what decides when they move, and groups of one. `read` is what came of the sections.
pub(super) fn refuse_unlike(sections: &[Section<'_>], read: &[Option<Vip>], report: &mut Report<'_>) {
    if read.iter().any(Option::is_none) {
        // Told already; what is missing may be the other member.
        return;
    }
    let all: Vec<(&Section<'_>, &Vip)> =
        sections.iter().zip(read).filter_map(|(section, vip)| Some((section, vip.as_ref()?))).collect();
    for (section, vip) in &all {
        let Some(group) = &vip.sync_group else { continue };
        let members = || all.iter().map(|(_, vip)| *vip).filter(|vip| vip.sync_group.as_ref() == Some(group));
        if members().count() == 1 {
            let remedy =
                format!("write `sync_group = \"{group}\"` in another [[vip]] too, or remove it here");
            section.fault(report, KEY, Fault::new(format!("group {group} has no other member"), remedy));
        }
        if vip.mode == Mode::Watch {
            let what = format!("{} is moved by another daemon, which knows nothing of the group", vip.name);
            section.fault(report, KEY, Fault::new(what, "remove it, or write mode = \"hold\""));
        }
        let Some(first) = members().next() else { continue };
        for (key, differs) in [
            ("preempt", vip.preempt != first.preempt),
            ("preempt_delay", vip.preempt_delay != first.preempt_delay),
        ] {
            if differs {
                let what = format!("{} and {} of group {group} differ in it", first.name, vip.name);
                let fault = Fault::new(
                    what,
                    format!("write the same `{key}` in all of its [[vip]]: they move together"),
                );
                section.fault(report, key, fault);
            }
        }
    }
}

/// One priority for all members on a node: the better of two would wait for the other.
pub(super) fn differing_priorities(node: &NodeConfig, cluster: &ClusterConfig) -> Vec<Problem> {
    let (mut problems, mut firsts) = (Vec::new(), BTreeMap::new());
    if is_witness(node) {
        return problems;
    }
    for vip in &cluster.vips {
        let Some(group) = &vip.sync_group else { continue };
        let own = priority(node, vip);
        let (first, of_first) = *firsts.entry(group).or_insert((&vip.name, own));
        let key = || format!("vip[{}].priority", vip.name);
        if own == PRIORITY_OWNER {
            let what =
                format!("the owner of {} would take it at once, whatever its group {group} does", vip.name);
            problems.push(problem(NODE_FILE, key(), what, "write 1 to 254"));
        } else if own != of_first {
            let what = format!(
                "{first} has priority {of_first} here, {} has {own}, and both are of group {group}",
                vip.name
            );
            problems.push(problem(
                NODE_FILE,
                key(),
                what,
                "give all members of a group the same priority on a node",
            ));
        }
    }
    problems
}
