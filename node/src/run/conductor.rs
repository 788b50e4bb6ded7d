//! The conductor: turns what was agreed on, and what the kernel says, into a plan, elections and readiness.
//!
//! It wakes when the log has something new, when addresses, links or routes change, and once a second for what has no
//! wake-up of its own (a virtual address heard on the wire, a listener that could not be opened, a worker that hangs).
//! Traffic never waits for it: the workers run the last plan, for ever if need be (invariant 1).

use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_ha::vip::VipSettings;
use cygnet_ha::vip::driver::{Cluster, VipHandle};
use cygnet_netlink::memory;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::files;
use super::maintenance::Drained;
use super::membership;
use super::node::{Node, Traffic};
use super::replica::Replicated;
use super::running::{ListenProblem, Pulse, Running, Sources, Verdict, held_back, judge, lost, news};
use super::sources::{source_towards, virtual_addresses};
use super::surroundings::Surroundings;
use crate::balance::acl::names_countries;
use crate::balance::geo::Countries;
use crate::config::model::{Endpoint, Service, Source};
use crate::plan::{Registry, Start};

/// How often conditions without a wake-up of their own are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The conductor's own memory.
pub(crate) struct Conductor {
    node: Arc<Node>,
    surroundings: Surroundings,
    replicated: watch::Receiver<Arc<Replicated>>,
    drained: watch::Receiver<Option<Drained>>,
    /// The log has ended: nothing new will come from it.
    log_ended: bool,
    publish: watch::Sender<Arc<Running>>,
    running: Running,
    /// The sources of the current plan; `None` before the first plan.
    sources: Option<Sources>,
    pulse: Pulse,
    /// Something was read and checked, with parts of the program that are not needed again soon.
    untidy: bool,
    /// The nodes that the elections were told of.
    neighbours: Option<Cluster>,
}

impl Conductor {
    pub(crate) fn new(
        node: Arc<Node>,
        surroundings: Surroundings,
        publish: watch::Sender<Arc<Running>>,
        replicated: watch::Receiver<Arc<Replicated>>,
    ) -> Self {
        let drained = node.maintenance.wish();
        Self {
            node,
            surroundings,
            drained,
            replicated,
            log_ended: false,
            publish,
            running: Running::default(),
            sources: None,
            pulse: Pulse::default(),
            untidy: true,
            neighbours: None,
        }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(LOOK_AGAIN);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.surroundings.look().await;
        loop {
            self.conduct();
            tokio::select! {
                new = self.replicated.changed(), if !self.log_ended => {
                    if new.is_err() {
                        self.log_has_ended();
                    }
                }
                // The sender lives in the node.
                _ = self.drained.changed() => {}
                () = self.surroundings.stale() => self.surroundings.look().await,
                _ = tick.tick() => {
                    if let Some(traffic) = &self.node.traffic {
                        self.pulse.look(traffic.workers.turned());
                    }
                    self.tidy();
                }
            }
        }
    }

    /// Gives back the memory of what only a start or a change needs, when that is over.
    fn tidy(&mut self) {
        if std::mem::take(&mut self.untidy)
            && let Err(error) = memory::give_code_back()
        {
            tracing::debug!(%error, "no memory was given back");
        }
    }

    fn log_has_ended(&mut self) {
        self.log_ended = true;
        let what =
            "the log has ended by a fault of this program; traffic goes on with the last configuration";
        self.record(Severity::Alert, "cluster", what, "restart the node when that suits");
    }

    /// One round: nothing happens unless something that matters is different.
    fn conduct(&mut self) {
        let replicated = Arc::clone(&self.replicated.borrow_and_update());
        let from_log = !Arc::ptr_eq(&self.running.made_from, &replicated);
        self.untidy |= from_log;
        let vips = if from_log { self.take_configuration(replicated) } else { None };
        let traffic = self.node.traffic.is_some();
        let open_again = !self.running.listen_problems.is_empty() || !self.running.faults.is_empty();
        let planned = traffic && (self.take_sources() || from_log || open_again);
        if planned {
            self.make_plan();
        }
        let readied = traffic && self.take_readiness();
        self.take_members();
        // After the listeners: a new address must not come before those who answer on it.
        if let (Some(settings), Some(handle)) = (vips, &self.node.vips) {
            handle.configure(settings);
        }
        if from_log || planned || readied {
            self.publish.send_replace(Arc::new(self.running.clone()));
        }
    }

    /// Reads what was agreed on. The virtual addresses, if there is a new configuration.
    fn take_configuration(&mut self, replicated: Arc<Replicated>) -> Option<Vec<VipSettings>> {
        let verdict = judge(&self.node.config, &replicated, &self.running);
        let version = replicated.version();
        let by = author(&replicated);
        self.running.made_from = replicated;
        match verdict {
            Verdict::Known => None,
            Verdict::Runs(checked) => {
                let seals = |service: &Service| service.tls.is_some();
                let wanted = self.node.traffic.is_some() && checked.cluster.services.iter().any(seals);
                self.node.log.want_tickets(wanted);
                self.running.version = version;
                self.running.cluster = Arc::new(checked.cluster);
                self.running.problem = None;
                self.record(Severity::Info, "config", format!("configuration v{version} runs"), by);
                Some(checked.vips)
            }
            Verdict::Refused(problem) => {
                let old = self.running.version;
                let what = format!("configuration v{version} does not run here; v{old} goes on");
                self.record(Severity::Alert, "config", what, problem.clone());
                self.running.problem = Some(problem);
                None
            }
        }
    }

    /// Works out where connections to the servers start from; true if that has changed.
    fn take_sources(&mut self) -> bool {
        let sources = self.work_out_sources();
        if self.sources.as_ref() == Some(&sources) {
            return false;
        }
        for (service, server, reason) in lost(self.sources.as_ref().unwrap_or(&Sources::new()), &sources) {
            let what = format!("no connection to {server} can be made: no source address");
            self.record(Severity::Alert, &format!("service {service}"), what, reason);
        }
        self.running.sources = Arc::new(sources.clone());
        self.sources = Some(sources);
        true
    }

    fn work_out_sources(&self) -> Sources {
        let cluster = &self.running.cluster;
        let (wish, snapshot) = (&self.node.config.source, self.surroundings.snapshot());
        let heard = self.node.vips.as_ref().map(VipHandle::known_virtual).unwrap_or_default();
        let known = virtual_addresses(cluster, &heard, snapshot);
        let servers = cluster.services.iter().flat_map(|service| {
            let all = service.servers.iter().chain(&service.emergency).chain(&service.abuse);
            all.map(move |server| (service, server))
        });
        let sourced = servers.map(|(service, server)| {
            let own = service.source.map(|address| Source::Fixed(vec![address]));
            let wish = own.as_ref().unwrap_or(wish);
            let source = match &server.address {
                Endpoint::Inet(address) => {
                    source_towards(address.ip(), wish, snapshot, &known).map(Start::At)
                }
                Endpoint::Unix(_) => Ok(Start::Kernel),
            };
            ((service.name.clone(), server.name.clone()), source)
        });
        sourced.collect()
    }

    fn make_plan(&mut self) {
        let Some(Traffic { registry, clients, workers }) = &self.node.traffic else { return };
        self.take_countries(registry);
        let plan = registry.plan(
            &self.running.cluster,
            clients,
            &|service, server| self.running.made_from.admin(service, server),
            &|service, server| {
                let sources = self.sources.as_ref();
                let source = sources.and_then(|all| all.get(&(service.name.clone(), server.name.clone())));
                source.cloned().unwrap_or_else(|| Err("the source has not been worked out yet".to_owned()))
            },
        );
        let plan = Arc::new(plan);
        let failed = workers.apply(&plan).err().unwrap_or_default();
        let problem = |error: crate::proxy::ListenError| ListenProblem {
            text: error.to_string(),
            service: error.service,
            address: error.address,
        };
        let mut problems = held_back(&plan);
        problems.extend(failed.into_iter().map(problem));
        for fault in news(&self.running.faults, &plan.faults) {
            files::record(&self.node.events, fault);
        }
        self.running.faults.clone_from(&plan.faults);
        self.take_listeners(problems);
    }

    /// Reads the country database again if its file has changed. It was there when the configuration was checked.
    fn take_countries(&self, registry: &Registry) {
        let wanted = self.running.cluster.acls.iter().any(names_countries);
        let Some(file) = self.node.config.countries.as_ref().filter(|_| wanted) else {
            return registry.use_countries(None);
        };
        match Countries::open(file, registry.countries().as_ref()) {
            Ok(countries) => registry.use_countries(Some(countries)),
            Err(error) => {
                let what = format!("{}; the one before goes on", error.what());
                self.record(Severity::Alert, "config", what, error.remedy());
            }
        }
    }

    fn take_listeners(&mut self, now: Vec<ListenProblem>) {
        let before = std::mem::replace(&mut self.running.listen_problems, now);
        let now = &self.running.listen_problems;
        for problem in news(&before, now) {
            let subject = format!("service {}", problem.service);
            self.record(Severity::Alert, &subject, problem.text.as_str(), "tried again every second");
        }
        for problem in before {
            let fails = now.iter().any(|other| other.address == problem.address);
            if !fails && self.running.wants(&problem.address) {
                let what = format!("listens on {} now", problem.address);
                self.record(Severity::Info, &format!("service {}", problem.service), what, "");
            }
        }
    }

    /// Tells the elections of nodes that have joined or left.
    fn take_members(&mut self) {
        let Some(vips) = &self.node.vips else { return };
        // None if this node was removed: it holds nothing any more, and needs nobody.
        let Some(cluster) = membership::neighbours(&self.node.log.status()) else { return };
        if self.neighbours.as_ref() != Some(&cluster) {
            vips.set_cluster(cluster.clone());
            self.neighbours = Some(cluster);
        }
    }

    /// Tells the elections whether this node can serve; true if that, or the reason, has changed.
    fn take_readiness(&mut self) -> bool {
        let still = self.pulse.still();
        let drained = self.drained.borrow_and_update().as_ref().map(Drained::reason);
        let (ready, reason) = if self.node.log.status().removed {
            (false, "this node was removed from the cluster".to_owned())
        } else {
            drained.map_or_else(|| self.running.readiness(still), |reason| (false, reason))
        };
        if (ready, &reason) == (self.running.ready, &self.running.ready_reason) {
            return false;
        }
        if self.running.ready && still.is_some() {
            let why = "its share of the clients is lost; the other node takes over";
            self.record(Severity::Alert, "node", reason.as_str(), why);
        }
        if let Some(vips) = &self.node.vips {
            vips.set_ready(ready, &reason);
        }
        (self.running.ready, self.running.ready_reason) = (ready, reason);
        true
    }

    fn record(&self, severity: Severity, subject: &str, what: impl Into<String>, why: impl Into<String>) {
        self.node.events.record(severity, subject, what, why);
    }
}

fn author(replicated: &Replicated) -> String {
    let current = replicated.configuration.current();
    current.map_or_else(String::new, |version| match version.comment.as_str() {
        "" => format!("applied by {}", version.author),
        comment => format!("applied by {}: {comment}", version.author),
    })
}
