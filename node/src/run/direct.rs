//! Direct server return on this node: which services are passed on here, and what became of them.
//!
//! A service that goes with a virtual address is passed on by the holder alone; the standby answers nothing for it. Nothing has
//! to be handed over when the address moves: both nodes choose the same server for a client (`proxy::dsr`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_ha::vip::driver::VipHandle;
use cygnet_ha::vip::{Role, VipView};
use tokio::time::{MissedTickBehavior, interval};

use super::node::{Node, Traffic};
use crate::config::model::{Algorithm, Place};
use crate::control::status::DirectFacts;
use crate::plan::{DirectPlan, Plan, ServicePlan};
use crate::proxy::dsr::{self, Clock, Dsr, Settings};

/// How often it is tried again to open an interface, and looked whether other nodes have joined.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What runs, by the name of its service.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BTreeMap<Arc<str>, Entry>>);

#[derive(Debug)]
enum Entry {
    /// Frames are passed on.
    Serves(Settings, Dsr),
    /// Another node does, or nobody yet.
    Waits(String),
    /// It should, and cannot.
    Fails(String),
}

impl Board {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Entry>> {
        // Each change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another process of this node does it from now on.
    pub(super) fn end(&self) {
        let all = std::mem::take(&mut *self.entries());
        all.into_values().for_each(end);
    }

    /// What became of a service; `None`: it has no direct server return, or was not looked at yet.
    pub(crate) fn facts(&self, service: &str) -> Option<DirectFacts> {
        let facts = match self.entries().get(service)? {
            Entry::Serves(settings, dsr) => {
                let stats = dsr.stats();
                DirectFacts {
                    interface: Some(settings.interface.clone()),
                    serving: true,
                    received: stats.received,
                    sent: stats.sent,
                    lost: stats.lost,
                    reachable: stats.reachable,
                    ..DirectFacts::default()
                }
            }
            Entry::Waits(reason) => DirectFacts { reason: reason.clone(), ..DirectFacts::default() },
            Entry::Fails(problem) => DirectFacts { problem: Some(problem.clone()), ..DirectFacts::default() },
        };
        Some(facts)
    }
}

/// Starts and ends what the plan and the roles ask for. Runs until it is dropped.
pub(crate) async fn serve(node: Arc<Node>) {
    let (Some(traffic), Some(mut views)) = (&node.traffic, node.vips.as_ref().map(VipHandle::views)) else {
        return std::future::pending().await;
    };
    let mut running = node.running.clone();
    let mut tick = interval(LOOK_AGAIN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let seen = Arc::clone(&views.borrow_and_update());
        turn(&node, traffic, &seen);
        let alive = tokio::select! {
            new = running.changed() => new.is_ok(),
            new = views.changed() => new.is_ok(),
            _ = tick.tick() => true,
        };
        if !alive {
            // The node is about to end.
            return std::future::pending().await;
        }
    }
}

fn turn(node: &Node, traffic: &Traffic, views: &[VipView]) {
    let plan = traffic.workers.plan();
    let mut entries = node.direct.entries();
    let gone: Vec<Arc<str>> = entries.keys().filter(|name| !is_direct(&plan, name)).cloned().collect();
    gone.iter().filter_map(|name| entries.remove(name)).for_each(end);
    let direct = plan.services.iter().filter_map(|service| Some((service, service.direct.as_ref()?)));
    for (service, direct) in direct {
        let is_alone = || node.log.status().members.iter().filter(|member| !member.witness).count() <= 1;
        let wish = place(&direct.settings.place, views, is_alone);
        let before = entries.remove(&service.name);
        let now = next(before, wish, service, direct, &traffic.workers.clock(), &|severity, what| {
            let subject = format!("service {}", service.name);
            node.events.record(severity, &subject, what, "direct server return");
        });
        entries.insert(Arc::clone(&service.name), now);
    }
}

fn is_direct(plan: &Plan, name: &str) -> bool {
    plan.services.iter().any(|service| service.direct.is_some() && *service.name == *name)
}

/// Where this node is to serve, or why it is not to.
fn place(place: &Place, views: &[VipView], is_alone: impl Fn() -> bool) -> Result<String, Entry> {
    match place {
        Place::Vip(name) => match views.iter().find(|view| view.name == *name) {
            Some(view) if view.role == Role::Active => Ok(view.interface.clone()),
            Some(_) => Err(Entry::Waits(format!("the holder of vip {name} serves, and this node is not it"))),
            None => Err(Entry::Waits(format!("vip {name} is not set up here yet"))),
        },
        Place::Interface(interface) if is_alone() => Ok(interface.clone()),
        Place::Interface(_) => {
            let what =
                "the other nodes would answer for the address, too; name a vip instead of an interface";
            Err(Entry::Fails(what.to_owned()))
        }
    }
}

/// What a service comes to.
fn next(
    before: Option<Entry>,
    wish: Result<String, Entry>,
    service: &Arc<ServicePlan>,
    direct: &DirectPlan,
    clock: &Clock,
    tell: &dyn Fn(Severity, String),
) -> Entry {
    let told = match &before {
        Some(Entry::Fails(problem)) => Some(problem.clone()),
        _ => None,
    };
    let now = match wish.map(|interface| settings(interface, service, direct)) {
        Ok(wanted) => match before {
            Some(Entry::Serves(settings, dsr)) if settings == wanted => {
                dsr.serve(Arc::clone(service));
                dsr.set_tarpit(direct.tarpit.clone());
                Entry::Serves(settings, dsr)
            }
            before => {
                before.into_iter().for_each(end);
                start(wanted, service, direct, clock)
            }
        },
        Err(entry) => {
            before.into_iter().for_each(end);
            entry
        }
    };
    match &now {
        Entry::Fails(problem) if told.as_ref() != Some(problem) => {
            tell(Severity::Alert, format!("{} is not passed on: {problem}", direct.settings));
        }
        _ => {}
    }
    now
}

fn settings(interface: String, service: &ServicePlan, direct: &DirectPlan) -> Settings {
    Settings {
        interface,
        address: direct.settings.address,
        port: direct.settings.port,
        transport: service.transport,
        with_port: matches!(service.algorithm, Algorithm::SourceHash { with_port: true }),
        tarpit: direct.tarpit.is_some(),
    }
}

fn start(settings: Settings, service: &Arc<ServicePlan>, direct: &DirectPlan, clock: &Clock) -> Entry {
    match dsr::start(settings.clone(), Arc::clone(service), Arc::clone(clock)) {
        Ok(dsr) => {
            dsr.set_tarpit(direct.tarpit.clone());
            Entry::Serves(settings, dsr)
        }
        Err(error) => Entry::Fails(format!("{}: {error}; tried again every second", settings.interface)),
    }
}

/// Ends what runs. Its thread may take a tenth of a second, which is not the caller's to wait for.
fn end(entry: Entry) {
    if matches!(entry, Entry::Serves(..)) {
        tokio::task::spawn_blocking(move || drop(entry));
    }
}

#[cfg(test)]
mod tests;
