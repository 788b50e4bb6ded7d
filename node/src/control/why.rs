//! The last move of a virtual address, told from what this node and the others remember. Pure.
//!
//! No clock is compared with another where a node tells the age of its events by its own clock, and the age of what it told is
//! known here. What is only remembered (of a node that is gone, or of a life before a restart) has the time of that node's
//! clock; how far that is from ours is known if it has told anything since, and taken for nothing else.

use std::collections::HashSet;
use std::net::IpAddr;

use cygnet_ha::events::{Event, Severity};
use serde::{Deserialize, Serialize};

use super::status::{Facts, MemberFacts, age};

/// What happened up to so long before the move belongs to its story ...
const BEFORE_MS: u64 = 30_000;
/// ... and up to so long after.
const AFTER_MS: u64 = 10_000;
/// Two events of one move are no further apart.
const ONE_MOVE_MS: u64 = 15_000;

/// What an event says that one node became the holder of an address, and what says that it is it no more.
const TAKES: &str = "active";
const GIVES: [&str; 2] = ["standby", "down"];
/// What an event about connections of a former holder is called.
pub const COST: &str = "cost";

/// How an address came to be where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The name of the virtual address.
    pub vip: String,
    /// The address; of several, the first.
    pub address: IpAddr,
    /// All of them, in the order of the configuration.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Who holds it now, by what is heard here.
    pub holder: Option<IpAddr>,
    /// The last move that anybody remembers.
    pub last_move: Option<Move>,
    /// What was noticed around it, oldest first.
    pub course: Vec<Told>,
    /// Whose part is missing, or old.
    pub silent: Vec<String>,
}

/// One node became the holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Who took the address.
    pub to: String,
    /// Who had it before, if anybody remembers.
    pub from: Option<String>,
    /// How long ago, ms.
    pub age_ms: u64,
    /// Why, in the new holder's words.
    pub why: String,
    /// The former holder gave up so long before the new one took over, by its own word; `None`: it has not said so.
    pub gap_ms: Option<u64>,
    /// What it cost, as far as is known.
    pub cost: Option<String>,
}

/// An event with who told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The node.
    pub node: String,
    /// How long ago, ms.
    pub age_ms: u64,
    /// How much it matters.
    pub severity: Severity,
    /// Its word, if it has one.
    pub kind: String,
    /// What happened.
    pub what: String,
    /// Why.
    pub why: String,
}

/// The stories of all virtual addresses, or of one.
#[must_use]
pub fn stories(facts: &Facts, vip: Option<&str>) -> Vec<Story> {
    let told = told(facts);
    let silent = silent(facts);
    let vips = facts.vips.iter().filter(|view| vip.is_none_or(|name| view.name == name));
    let story = |view: &cygnet_ha::vip::VipView| {
        let subject = format!("vip {}", view.name);
        let of_vip = told.iter().filter(|(about, _)| *about == subject).map(|(_, told)| told.clone());
        let (last_move, course) = tell(of_vip.collect());
        let (vip, address, holder) = (view.name.clone(), view.address, view.holder);
        let addresses = view.addresses.clone();
        Story { vip, address, addresses, holder, last_move, course, silent: silent.clone() }
    };
    vips.map(story).collect()
}

/// Everything that anybody tells, or has told before, oldest first.
fn told(facts: &Facts) -> Vec<(String, Told)> {
    let mut all = Vec::new();
    let mut fresh = HashSet::new();
    let mut tell = |node: &str, now_ms: u64, event: &Event| {
        if !fresh.insert((node.to_owned(), event.unix_ms, event.sequence, event.kind.clone())) {
            return;
        }
        let age_ms = now_ms.saturating_sub(event.unix_ms);
        let Event { subject, severity, kind, what, why, .. } = event.clone();
        all.push((subject, Told { node: node.to_owned(), age_ms, severity, kind, what, why }));
    };
    // What the clock of a node says now, as far as it is known.
    let clock =
        |member: &MemberFacts| Some(member.report.as_ref()?.unix_ms + member.report_age_ms.unwrap_or(0));
    for member in &facts.members {
        let (Some(report), Some(now_ms)) = (&member.report, clock(member)) else { continue };
        report.moves.iter().for_each(|event| tell(&member.name, now_ms, event));
    }
    let here = facts.members.iter().find(|member| member.here).and_then(clock).unwrap_or(0);
    for (node, event) in &facts.remembered {
        let member = facts.members.iter().find(|member| member.name == *node);
        tell(node, member.and_then(clock).unwrap_or(here), event);
    }
    all.sort_by_key(|(_, told)| std::cmp::Reverse(told.age_ms));
    all
}

fn silent(facts: &Facts) -> Vec<String> {
    let balancers = facts.members.iter().filter(|member| !member.witness && !member.here);
    let silent = balancers.filter_map(|member| match (&member.report, member.report_age_ms) {
        (None, _) => {
            let remembered = facts.remembered.iter().any(|(node, _)| *node == member.name);
            let rest = if remembered { "; its part is what all remember, by its own clock" } else { "" };
            Some(format!("{} has told nothing{rest}", member.name))
        }
        (Some(_), Some(ms)) if !member.connected => {
            Some(format!("{} is not connected; its part is as of {} ago", member.name, age(ms)))
        }
        _ => None,
    });
    silent.collect()
}

fn tell(told: Vec<Told>) -> (Option<Move>, Vec<Told>) {
    let Some(at) = told.iter().rposition(|told| told.kind == TAKES) else { return (None, told) };
    let taken = told[at].clone();
    let near = |other: &&Told| other.age_ms.abs_diff(taken.age_ms) <= ONE_MOVE_MS;
    let of_others = || told.iter().filter(|other| other.node != taken.node);
    let gave = of_others().filter(near).rfind(|other| GIVES.contains(&other.kind.as_str()));
    let had = of_others().rfind(|other| other.kind == TAKES);
    let cost = told.iter().filter(near).rfind(|told| told.node == taken.node && told.kind == COST);
    let last_move = Move {
        to: taken.node.clone(),
        from: gave.or(had).map(|other| other.node.clone()),
        age_ms: taken.age_ms,
        why: taken.why.clone(),
        // One that noticed only afterwards that it was replaced left no gap by giving up.
        gap_ms: gave.and_then(|gave| gave.age_ms.checked_sub(taken.age_ms)),
        cost: cost.map(|cost| cost.what.clone()),
    };
    let belongs =
        |told: &Told| told.age_ms <= taken.age_ms + BEFORE_MS && told.age_ms + AFTER_MS >= taken.age_ms;
    (Some(last_move), told.into_iter().filter(belongs).collect())
}
