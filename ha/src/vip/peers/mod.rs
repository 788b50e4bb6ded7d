//! What is known of the other nodes' elections, and who takes over from whom; pure.
//!
//! Two things follow from it that the protocols on the wire cannot say. A peer whose guard has said its last word is dead, and
//! its addresses are gone: whoever follows it takes over at once. And a node that lets go of an address on purpose asks a peer
//! to take it first, so that there is no moment in which nobody has it.
//!
//! All of it rests on the nodes' own connection. Where that is down, or the other side is no Cygnet, nothing here is known
//! and the protocol decides alone.

pub mod transfer_word;
pub mod word;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::guard::Seal;

use crate::time::Time;
use crate::vip::fitness::{Fitness, Rival};
use word::{Standing, VipStanding};

/// A standing is said at least so often.
pub const STANDING_EVERY: Duration = Duration::from_millis(500);

/// A standing older than this says nothing about now: four were missed.
pub const STANDING_FRESH: Duration = Duration::from_secs(2);

/// Another node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNode {
    /// Its number in the cluster.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// What a peer has said, and when.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    heard: Option<(Time, Standing)>,
}

/// A virtual router that a dead node may have held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bereft {
    /// The name in the configuration.
    pub vip: String,
    /// The source of the dead node's adverts.
    pub source: IpAddr,
    /// The best priority, with its source, among the peers that live and stand by.
    pub rival: Option<(u8, IpAddr)>,
}

/// The other nodes.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    known: BTreeMap<u64, Known>,
}

impl Peers {
    /// These are the nodes. What was heard of those that stay is kept.
    pub fn set(&mut self, nodes: &[PeerNode]) {
        self.known.retain(|id, known| nodes.iter().any(|node| node.id == *id && node.name == known.name));
        for node in nodes {
            let fresh = || Known { name: node.name.clone(), heard: None };
            self.known.entry(node.id).or_insert_with(fresh);
        }
    }

    /// The name of a node.
    #[must_use]
    pub fn name(&self, id: u64) -> String {
        self.known.get(&id).map_or_else(|| format!("node {id}"), |known| known.name.clone())
    }

    /// A node has said how it is. One that is no peer is not heard.
    pub fn hear(&mut self, now: Time, from: u64, standing: Standing) {
        if let Some(known) = self.known.get_mut(&from) {
            known.heard = Some((now, standing));
        }
    }

    /// Somebody has said a last word with this seal. The node that it belongs to, and what it leaves. It counts once: what the
    /// node said of itself is forgotten, so that saying it again means nothing.
    pub fn last_word(&mut self, now: Time, seal: &Seal) -> Option<(u64, Vec<Bereft>)> {
        let is_it = |known: &Known| known.heard.as_ref().is_some_and(|(_, standing)| standing.seal == seal);
        let id = self.known.iter().find(|(_, known)| is_it(known)).map(|(id, _)| *id)?;
        let (_, last) = self.known.get_mut(&id)?.heard.take()?;
        let bereft = last.vips.into_iter().filter_map(|vip| {
            let source = vip.source.parse().ok()?;
            Some(Bereft { rival: self.rival(now, &vip.name, id), vip: vip.name, source })
        });
        Some((id, bereft.collect()))
    }

    /// The best priority, with its source, among the peers that can take a virtual router over from `gone`.
    #[must_use]
    pub fn rival(&self, now: Time, vip: &str, gone: u64) -> Option<(u8, IpAddr)> {
        let others = self.known.iter().filter(|(id, _)| **id != gone);
        others.filter_map(|(_, known)| standby(now, known, vip)).max()
    }

    /// The nodes that serve, as they were heard just now, to be compared with this one.
    #[must_use]
    pub fn rivals(&self, now: Time) -> Vec<Rival> {
        let rival = |(id, known): (&u64, &Known)| {
            let (heard, standing) = known.heard.as_ref()?;
            let fresh = now.since(*heard) <= STANDING_FRESH && standing.ready;
            // Below the lowest is below all.
            let priority = standing.vips.iter().map(|vip| vip.priority).min()?;
            fresh.then(|| Rival {
                node: *id,
                name: known.name.clone(),
                priority: u8::try_from(priority).unwrap_or(u8::MAX),
                fitness: Fitness { lost: standing.lost.iter().cloned().collect() },
            })
        };
        self.known.iter().filter_map(rival).collect()
    }

    /// The best peer that can take this virtual router over: it stands by, is ready, and was heard just now; `to`: this one and
    /// no other.
    ///
    /// # Errors
    /// Why there is none, in one line.
    pub fn successor(&self, now: Time, vip: &str, to: Option<&str>) -> Result<u64, String> {
        let mut refusals = Vec::new();
        let mut best = None;
        for (id, known) in &self.known {
            if to.is_some_and(|to| to != known.name) {
                continue;
            }
            match can_take(now, known, vip) {
                Ok(priority) => best = best.max(Some((priority, *id))),
                Err(why) => refusals.push(format!("{} {why}", known.name)),
            }
        }
        match (best, to) {
            (Some((_, id)), _) => Ok(id),
            (None, Some(to)) if refusals.is_empty() => Err(format!("{to} is no other node of this cluster")),
            (None, _) if refusals.is_empty() => Err("there is no other node".to_owned()),
            (None, _) => Err(refusals.join("; ")),
        }
    }

    /// The best peer that can take this virtual router over and has a higher priority than `own`: where the nodes preempt, it will.
    #[must_use]
    pub fn preferred(&self, now: Time, vip: &str, own: u8) -> Option<u64> {
        let better = self.known.iter().filter_map(|(id, known)| Some((standby(now, known, vip)?.0, *id)));
        better.filter(|(priority, _)| *priority > own).max().map(|(_, id)| id)
    }

    /// Whether a node was heard just now.
    #[must_use]
    pub fn is_fresh(&self, now: Time, id: u64) -> bool {
        let heard = self.known.get(&id).and_then(|known| known.heard.as_ref());
        heard.is_some_and(|(heard, _)| now.since(*heard) <= STANDING_FRESH)
    }

    /// Whether a node can take an address over so that connections go on.
    ///
    /// # Errors
    /// Why not.
    pub fn keeps(&self, id: u64) -> Result<(), String> {
        let Some(known) = self.known.get(&id) else { return Err("it is not known".to_owned()) };
        let keeps = known.heard.as_ref().and_then(|(_, standing)| standing.keeps.as_ref());
        match keeps {
            None => Err(format!("{} is of an older version", known.name)),
            Some(keeps) if !keeps.why_not.is_empty() => Err(format!("{}: {}", known.name, keeps.why_not)),
            Some(_) => Ok(()),
        }
    }

    /// The source of a node's adverts for a virtual router, by its own word.
    #[must_use]
    pub fn source(&self, id: u64, vip: &str) -> Option<IpAddr> {
        let (_, standing) = self.known.get(&id)?.heard.as_ref()?;
        of(standing, vip)?.source.parse().ok()
    }
}

fn of<'s>(standing: &'s Standing, vip: &str) -> Option<&'s VipStanding> {
    standing.vips.iter().find(|standing| standing.name == vip)
}

/// Its priority, or why it cannot take over.
fn can_take(now: Time, known: &Known, vip: &str) -> Result<u32, String> {
    let Some((heard, standing)) = &known.heard else { return Err("has not been heard".to_owned()) };
    let age = now.since(*heard);
    if age > STANDING_FRESH {
        return Err(format!("was last heard {} ms ago", age.as_millis()));
    }
    if !standing.ready {
        return Err(format!("cannot serve: {}", standing.reason));
    }
    match of(standing, vip) {
        None => Err(format!("does not know {vip}")),
        Some(vip) if !vip.standby => Err("does not stand by".to_owned()),
        Some(vip) => Ok(vip.priority),
    }
}

fn standby(now: Time, known: &Known, vip: &str) -> Option<(u8, IpAddr)> {
    let priority = can_take(now, known, vip).ok()?;
    let (_, standing) = known.heard.as_ref()?;
    Some((u8::try_from(priority).ok()?, of(standing, vip)?.source.parse().ok()?))
}

#[cfg(test)]
mod tests;
