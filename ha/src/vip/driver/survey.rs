//! New settings, and what the kernel shows: who is to be on which interface.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cygnet_netlink::kernel::Snapshot;
use tokio::sync::mpsc;

use super::bequest::Bequest;
use super::port::{Frame, Port, Speaks};
use super::preferred::Preferred;
use super::run::{Driver, Vip};
use super::scout::Scouted;
use super::transfer::Transfers;
use super::views::Sent;
use super::{VIPS_MAX, facts, supported};
use crate::events::{EventLog, Severity};
use crate::time::Time;
use crate::vip::holder::{Holder, Presence};
use crate::vip::speaker::vrrp::PRIORITY_OWNER;
use crate::vip::watch::WatchSettings;
use crate::vip::{Mode, Protocol, Role, VipSettings};

/// Why an election ends while the program goes on.
const NOT_CONFIGURED: &str = "it is not configured any more";
const OTHER_SETTINGS: &str = "its settings have changed; a new election begins";

impl Driver {
    /// Takes over the new set of addresses.
    pub(super) async fn configure(&mut self) {
        let wanted = Arc::clone(&self.outputs.settings.borrow_and_update());
        let wanted = self.acceptable(&wanted);
        let now = self.now();
        for which in 0..self.vips.len() {
            let Some(vip) = self.vips.get_mut(which).filter(|vip| !vip.leaving) else { continue };
            match wanted.iter().find(|settings| is_same_election(settings, vip.holder.settings())) {
                Some(settings) => {
                    vip.base_priority = settings.priority;
                    vip.transfers.set_patience(settings.patience);
                    let priority = self.link.priority(settings.priority);
                    let mut actions = vip.holder.set_priority(now, priority);
                    if vip.holder.settings().sync_group != settings.sync_group {
                        actions.extend(vip.holder.set_group(now, settings.sync_group.clone()));
                    }
                    self.act(which, actions).await;
                }
                None => {
                    vip.leaving = true;
                    let goes_on = wanted.iter().any(|settings| settings.name == vip.holder.settings().name);
                    let actions = vip.holder.stop(now, if goes_on { OTHER_SETTINGS } else { NOT_CONFIGURED });
                    self.act(which, actions).await;
                }
            }
        }
        for settings in wanted {
            let goes_on = |vip: &Vip| !vip.leaving && is_same_election(&settings, vip.holder.settings());
            if self.vips.iter().any(goes_on) {
                continue;
            }
            // One that could not remove an address must not remove it from its successor, which sees the mark and deals
            // with it.
            let leaving = self.vips.iter_mut().filter(|vip| vip.leaving);
            leaving.for_each(|vip| vip.holder.cede(&settings.addresses));
            let (base_priority, patience) = (settings.priority, settings.patience);
            let succeeds = self.succeeds.as_ref().is_some_and(|held| held.contains(&settings.name));
            let mut holder = Holder::new(now, settings, salt());
            if succeeds {
                holder.succeed();
            }
            self.vips.push(Vip {
                subject: format!("vip {}", holder.settings().name),
                holder,
                router: None,
                sent: Sent::default(),
                leaving: false,
                rival_reported: None,
                claim: None,
                claim_reported: None,
                told_role: Role::Down,
                announce_failed: false,
                base_priority,
                acted_as: Role::Down,
                spoke_from: None,
                transfers: Transfers::new(patience),
                preferred: Preferred::default(),
                bequest: Bequest::default(),
            });
        }
        self.vips.retain(|vip| !vip.leaving || vip.holder.is_ours());
        self.changed = true;
        self.readiness().await;
        self.survey().await;
        self.order.again.notify_one();
    }

    /// Leaves out, with an event, what the driver cannot do.
    fn acceptable(&self, wanted: &[VipSettings]) -> Vec<VipSettings> {
        let mut accepted: Vec<VipSettings> = Vec::new();
        for settings in wanted {
            let refused = match supported(settings) {
                _ if accepted.len() == VIPS_MAX => Some(format!("more than {VIPS_MAX} virtual addresses")),
                Err(why) => Some(why),
                Ok(()) => accepted.iter().find_map(|other| conflict(settings, other)),
            };
            match refused {
                None => accepted.push(settings.clone()),
                Some(why) => {
                    let subject = format!("vip {}", settings.name);
                    self.events.record(Severity::Alert, &subject, "is left out: it cannot be handled", why);
                }
            }
        }
        accepted
    }

    /// Tells every holder whether this node can serve.
    pub(super) async fn readiness(&mut self) {
        let readiness = self.outputs.ready.borrow_and_update().clone();
        let now = self.now();
        for which in 0..self.vips.len() {
            let Some(vip) = self.vips.get_mut(which) else { continue };
            let actions = vip.holder.ready(now, readiness.ready, &readiness.reason);
            self.act(which, actions).await;
        }
        self.changed = true;
    }

    /// A new picture of the kernel.
    pub(super) async fn look(&mut self, scouted: Scouted) {
        match scouted {
            Scouted::Failed(error) => {
                if !std::mem::replace(&mut self.scout_failed, true) {
                    let what = "the kernel cannot be asked for links and addresses; it is tried again";
                    self.events.record(Severity::Alert, "vip", what, error);
                }
            }
            Scouted::Picture { epoch, snapshot } => {
                self.scout_failed = false;
                if epoch != self.order.epoch.load(Ordering::Acquire) {
                    // Begun before our last change: it may lack it.
                    self.order.again.notify_one();
                    return;
                }
                self.snapshot = Some((epoch, snapshot));
                self.survey().await;
            }
        }
    }

    /// Brings ports and holders in line with settings and kernel.
    async fn survey(&mut self) {
        let Some((epoch, snapshot)) = self.snapshot.take() else { return };
        self.notice_a_freeze().await;
        self.survey_ports(&snapshot);
        self.tell_ground().await;
        self.tidy_loopback(&snapshot).await;
        let now = self.now();
        for which in 0..self.vips.len() {
            // A change of ours since then makes the picture old.
            if self.order.epoch.load(Ordering::Acquire) != epoch {
                self.order.again.notify_one();
                break;
            }
            let Some(vip) = self.vips.get_mut(which) else { continue };
            let settings = vip.holder.settings();
            let index = self.ports.get(&settings.interface).and_then(|port| port.seen.index);
            let presence = |address: &_| facts::presence(&snapshot, index, *address);
            let presences: Vec<Presence> = settings.addresses.iter().map(presence).collect();
            let actions = vip.holder.presence_seen(now, &presences);
            self.act(which, actions).await;
        }
        self.snapshot = Some((epoch, snapshot));
        self.changed = true;
    }

    fn survey_ports(&mut self, snapshot: &Snapshot) {
        let now = self.now();
        let settings = || self.vips.iter().map(|vip| vip.holder.settings());
        self.sources.virtual_addresses =
            settings().flat_map(|settings| &settings.addresses).copied().collect();
        let owned = settings().filter(|settings| settings.priority == PRIORITY_OWNER);
        self.sources.owned = owned.flat_map(|settings| &settings.addresses).copied().collect();
        let own = facts::own_addresses(snapshot, &self.sources);
        let names: BTreeSet<String> = settings().map(|settings| settings.interface.clone()).collect();
        self.ports.retain(|name, _| names.contains(name));
        for name in names {
            let mut routers = Vec::new();
            let mut speaks = BTreeSet::new();
            for vip in self.vips.iter_mut().filter(|vip| vip.holder.settings().interface == name) {
                if vip.leaving {
                    vip.router = None;
                    continue;
                }
                vip.router = Some(routers.len());
                if vip.holder.settings().mode == Mode::Hold {
                    speaks.insert(Speaks::of(vip.holder.settings()));
                }
                routers.push(WatchSettings::of(vip.holder.settings()));
            }
            let port = self.ports.entry(name).or_insert_with_key(|name| Port::new(name));
            port.watch(own.clone(), routers, speaks);
            port.update(facts::interface(snapshot, &port.name, port.seen.index, &self.sources));
            open(port, now, &self.frame_sender, &self.events);
        }
    }

    /// Tells every holder about its interface.
    pub(super) async fn tell_ground(&mut self) {
        self.reground = false;
        let now = self.now();
        for which in 0..self.vips.len() {
            let Some(vip) = self.vips.get_mut(which) else { continue };
            let Some(port) = self.ports.get(&vip.holder.settings().interface) else { continue };
            let speaks = Speaks::of(vip.holder.settings());
            vip.sent.source = port.source(&speaks);
            vip.spoke_from = vip.sent.source.or(vip.spoke_from);
            let actions = vip.holder.ground(now, port.ground(&speaks));
            self.act(which, actions).await;
        }
    }
}

/// A random number.
fn salt() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Opens the sockets of an interface, with an event for what newly fails.
pub(super) fn open(port: &mut Port, now: Time, frames: &mpsc::Sender<Frame>, events: &EventLog) {
    if let Some(error) = port.open(now, frames) {
        let subject = format!("interface {}", port.name);
        let what = "no socket for advertisements; it is tried again every second";
        events.record(Severity::Alert, &subject, what, error);
    }
}

/// Why two virtual addresses cannot be handled beside each other: two holders of one address would remove it from each other, and
/// of two with one number the second would never hear an advert.
fn conflict(new: &VipSettings, other: &VipSettings) -> Option<String> {
    let name = &other.name;
    if new.name == *name {
        return Some("there are two of this name".to_owned());
    }
    if new.interface != other.interface {
        return None;
    }
    if let Some(address) = new.addresses.iter().find(|address| other.addresses.contains(address)) {
        return Some(format!("`{name}` has the address {address} on {} already", new.interface));
    }
    let family = |vip: &VipSettings| (vip.id, vip.is_ipv4(), vip.protocol == Protocol::Carp);
    let number = || format!("`{name}` has the identifier {} on {} already", new.id, new.interface);
    (family(new) == family(other)).then(number)
}

/// Whether an election can go on under the new settings: all is the same, but perhaps the priority, and what it does not know
/// of.
fn is_same_election(new: &VipSettings, running: &VipSettings) -> bool {
    let ownership = (new.priority == PRIORITY_OWNER) == (running.priority == PRIORITY_OWNER);
    let VipSettings { priority, patience, ref sync_group, .. } = *running;
    let sync_group = sync_group.clone();
    ownership && VipSettings { priority, patience, sync_group, ..new.clone() } == *running
}

#[cfg(test)]
mod tests;
