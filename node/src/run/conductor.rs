//! The conductor: turns what was agreed on, and what the kernel says, into a plan, elections and readiness.
//!
//! It wakes when the log has something new, when addresses, links or routes change, and once a second for what has no
//! wake-up of its own (a virtual address heard on the wire, a listener that could not be opened). Traffic never waits
//! for it: the workers run the last plan, for ever if need be (invariant 1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_netlink::kernel::{Changes, Kernel, Snapshot};
use tokio::sync::watch;

use super::node::Node;
use super::replica::Replicated;
use super::sources::source_towards;
use crate::config::model::ClusterConfig;
use crate::config::{Problem, parse_cluster_for, vip_settings};
use crate::proxy::ListenError;

/// How often conditions without a wake-up of their own are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What this node made of the last configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    /// The version that traffic runs with; 0: none.
    pub(crate) version: u64,
    /// The checked model of that version.
    pub(crate) cluster: Arc<ClusterConfig>,
    /// Why the committed version does not run here.
    pub(crate) problem: Option<String>,
    /// Addresses that cannot be listened on: service, and the reason.
    pub(crate) listen_problems: Vec<(Arc<str>, String)>,
    /// Whether this node may hold addresses.
    pub(crate) ready: bool,
    /// Why, in one line.
    pub(crate) ready_reason: String,
}

/// The sources of all servers, by (service, server).
type Sources = BTreeMap<(String, String), Result<IpAddr, String>>;

/// Checks a configuration against this node: what preflight answers, and what is checked again before it runs.
pub(crate) fn check(node: &crate::config::model::NodeConfig, text: &str) -> Result<ClusterConfig, String> {
    let told =
        |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let cluster = parse_cluster_for(node, text, "cluster.toml").map_err(told)?;
    for settings in vip_settings(node, &cluster).map_err(told)? {
        cygnet_ha::vip::driver::supported(&settings)
            .map_err(|reason| format!("vip {}: {reason}", settings.name))?;
    }
    Ok(cluster)
}

/// The conductor's own memory.
pub(crate) struct Conductor {
    node: Arc<Node>,
    kernel: Kernel,
    running: watch::Sender<Arc<Running>>,
    replicated: watch::Receiver<Arc<Replicated>>,
    snapshot: Snapshot,
    /// What the current plan was made from.
    made_from: Option<(Arc<Replicated>, Sources)>,
    snapshot_failed: bool,
}

impl Conductor {
    pub(crate) fn new(
        node: Arc<Node>,
        kernel: Kernel,
        running: watch::Sender<Arc<Running>>,
        replicated: watch::Receiver<Arc<Replicated>>,
    ) -> Self {
        Self {
            node,
            kernel,
            running,
            replicated,
            snapshot: Snapshot::default(),
            made_from: None,
            snapshot_failed: false,
        }
    }

    /// Runs until it is dropped. `changes` was opened before the first snapshot, so that nothing falls between them.
    pub(crate) async fn run(mut self, mut changes: Changes) {
        self.look().await;
        loop {
            self.conduct();
            tokio::select! {
                new = self.replicated.changed() => {
                    if new.is_err() {
                        // The log has ended; traffic goes on with the last plan.
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                }
                _ = changes.changed() => self.look().await,
                () = tokio::time::sleep(LOOK_AGAIN) => {
                    if self.snapshot_failed {
                        self.look().await;
                    }
                }
            }
        }
    }

    async fn look(&mut self) {
        match self.kernel.snapshot().await {
            Ok(snapshot) => {
                self.snapshot = snapshot;
                self.snapshot_failed = false;
            }
            Err(error) => {
                if !self.snapshot_failed {
                    let what = "addresses and routes cannot be read; the last known ones are used";
                    self.node.events.record(Severity::Warning, "node", what, error.to_string());
                }
                self.snapshot_failed = true;
            }
        }
    }

    /// One round: nothing happens unless something that matters is different.
    fn conduct(&mut self) {
        let replicated = Arc::clone(&self.replicated.borrow_and_update());
        let same_log = self.made_from.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, &replicated));
        let mut running = Running::clone(&self.running.borrow());
        if !same_log && !self.take_configuration(&replicated, &mut running) {
            self.made_from = Some((replicated, Sources::new()));
            self.publish(running);
            return;
        }
        let sources = self.sources(&running.cluster);
        let same_sources = self.made_from.as_ref().is_some_and(|(_, last)| *last == sources);
        if same_log && (running.problem.is_some() || (same_sources && running.listen_problems.is_empty())) {
            return;
        }
        if !same_sources {
            self.tell_missing_sources(&sources);
        }
        self.make_plan(&replicated, &sources, &mut running);
        self.made_from = Some((replicated, sources));
        self.publish(running);
    }

    /// Reads the committed version. False: it does not run here, and the old one goes on.
    fn take_configuration(&self, replicated: &Replicated, running: &mut Running) -> bool {
        let version = replicated.version();
        if version == 0 || (version == running.version && running.problem.is_none()) {
            return true;
        }
        match check(&self.node.config, &replicated.text()) {
            Ok(cluster) => {
                let settings = vip_settings(&self.node.config, &cluster).unwrap_or_default();
                if let Some(vips) = &self.node.vips {
                    vips.configure(settings);
                }
                running.version = version;
                running.cluster = Arc::new(cluster);
                running.problem = None;
                let what = format!("configuration v{version} runs");
                self.node.events.record(Severity::Info, "config", what, author(replicated));
                true
            }
            Err(problem) => {
                let what =
                    format!("configuration v{version} does not run here; v{} goes on", running.version);
                self.node.events.record(Severity::Alert, "config", what, problem.clone());
                running.problem = Some(problem);
                false
            }
        }
    }

    fn sources(&self, cluster: &ClusterConfig) -> Sources {
        let mut known: BTreeSet<IpAddr> = cluster.vips.iter().map(|vip| vip.address).collect();
        if let Some(vips) = &self.node.vips {
            known.extend(vips.known_virtual().iter());
        }
        let wish = &self.node.config.source;
        let servers = |service: &'_ crate::config::model::Service| {
            let name = service.name.clone();
            let each = service.servers.iter().map(|server| {
                let source = source_towards(server.address.ip(), wish, &self.snapshot, &known);
                ((name.clone(), server.name.clone()), source)
            });
            each.collect::<Vec<_>>()
        };
        cluster.services.iter().flat_map(servers).collect()
    }

    fn tell_missing_sources(&self, sources: &Sources) {
        let before = self.made_from.as_ref().map(|(_, last)| last);
        for ((service, server), source) in sources {
            let key = (service.clone(), server.clone());
            let known = before.and_then(|last| last.get(&key));
            if let Err(reason) = source
                && known != Some(source)
            {
                let what = format!("no connection to {server} can be made: no source address");
                self.node.events.record(Severity::Alert, &format!("service {service}"), what, reason.clone());
            }
        }
    }

    fn make_plan(&self, replicated: &Replicated, sources: &Sources, running: &mut Running) {
        let Some(traffic) = &self.node.traffic else {
            running.ready_reason = "a witness carries no traffic".to_owned();
            return;
        };
        let plan = traffic.registry.plan(
            &running.cluster,
            &traffic.clients,
            &|service, server| replicated.admin(service, server),
            &|service, server| {
                sources
                    .get(&(service.name.clone(), server.name.clone()))
                    .cloned()
                    .unwrap_or_else(|| Err("the source has not been worked out yet".to_owned()))
            },
        );
        let failed = traffic.workers.apply(&Arc::new(plan)).err().unwrap_or_default();
        self.take_listeners(&failed, running);
        if let Some(vips) = &self.node.vips {
            vips.set_ready(running.ready, &running.ready_reason);
        }
    }

    /// A node that can serve nothing does not hold an address; one that serves most of it is better than none.
    fn take_listeners(&self, failed: &[ListenError], running: &mut Running) {
        let problems: Vec<_> =
            failed.iter().map(|error| (Arc::clone(&error.service), error.to_string())).collect();
        for (service, problem) in &problems {
            if !running.listen_problems.iter().any(|(_, known)| known == problem) {
                let subject = format!("service {service}");
                self.node.events.record(
                    Severity::Alert,
                    &subject,
                    problem.clone(),
                    "tried again every second",
                );
            }
        }
        let wanted: usize = running.cluster.services.iter().map(|service| service.listen.len()).sum();
        let open = wanted.saturating_sub(problems.len());
        (running.ready, running.ready_reason) = match () {
            () if running.version == 0 => (false, "no configuration has been applied yet".to_owned()),
            () if wanted > 0 && open == 0 => (false, "no service can listen".to_owned()),
            () => (true, format!("listening on {open} of {wanted} addresses")),
        };
        running.listen_problems = problems;
    }

    fn publish(&self, running: Running) {
        self.running.send_replace(Arc::new(running));
    }
}

fn author(replicated: &Replicated) -> String {
    let current = replicated.configuration.current();
    current.map_or_else(String::new, |version| match version.comment.as_str() {
        "" => format!("applied by {}", version.author),
        comment => format!("applied by {}: {comment}", version.author),
    })
}

/// The addresses of `running`'s services that cannot be listened on, for one service.
pub(crate) fn listen_problems(running: &Running, service: &str) -> Vec<String> {
    let of = running.listen_problems.iter().filter(|(name, _)| &**name == service);
    of.map(|(_, problem)| problem.clone()).collect()
}
