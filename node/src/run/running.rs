//! What this node made of what was agreed on, and the decisions on the way there. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use cygnet_ha::time::Time;
use cygnet_ha::vip::VipSettings;

use super::replica::Replicated;
use crate::config::model::{ClusterConfig, NodeConfig, Service};
use crate::config::{Problem, parse_cluster_for, vip_settings};
use crate::plan::{Fault, ListenAt, Plan, Start};

/// A worker that has not turned for so many looks, a second each, hangs. It turns ten times a second; three seconds are
/// beyond what a busy machine does to it.
const STILL_LOOKS: u32 = 3;

/// What runs on this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    /// What it was made from.
    pub(crate) made_from: Arc<Replicated>,
    /// The version that traffic runs with; 0: none.
    pub(crate) version: u64,
    /// The checked model of that version.
    pub(crate) cluster: Arc<ClusterConfig>,
    /// Why the committed version does not run here.
    pub(crate) problem: Option<String>,
    /// Where connections to the servers start from.
    pub(crate) sources: Arc<Sources>,
    /// Addresses that cannot be listened on.
    pub(crate) listen_problems: Vec<ListenProblem>,
    /// What could not be had from this node's files.
    pub(crate) faults: Vec<Fault>,
    /// Whether this node may hold addresses.
    pub(crate) ready: bool,
    /// Why, in one line.
    pub(crate) ready_reason: String,
}

/// An address that cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenProblem {
    /// The service.
    pub(crate) service: Arc<str>,
    /// The address.
    pub(crate) address: ListenAt,
    /// All of it in one line.
    pub(crate) text: String,
}

/// The sources of all servers, by (service, server).
pub(crate) type Sources = BTreeMap<(String, String), Result<Start, String>>;

/// A configuration that this node can run.
pub(crate) struct Checked {
    /// The model.
    pub(crate) cluster: ClusterConfig,
    /// Its virtual addresses as this node is to treat them.
    pub(crate) vips: Vec<VipSettings>,
}

/// What the cluster's text is called in messages.
pub(crate) const FILE: &str = "cluster.toml";

/// All problems, one a line.
pub(crate) fn told(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Checks a configuration against this node: before it is committed, and again before it runs.
pub(crate) fn check(node: &NodeConfig, text: &str) -> Result<Checked, String> {
    let cluster = parse_cluster_for(node, text, FILE).map_err(|problems| told(&problems))?;
    let vips = vip_settings(node, &cluster).map_err(|problems| told(&problems))?;
    for settings in &vips {
        cygnet_ha::vip::driver::supported(settings)
            .map_err(|reason| format!("vip {}: {reason}", settings.name))?;
    }
    Ok(Checked { cluster, vips })
}

/// What news from the log mean for the configuration.
pub(crate) enum Verdict {
    /// It is the one that was looked at before.
    Known,
    /// A new one, and it runs here.
    Runs(Checked),
    /// A new one that does not run here, and why. The old one goes on.
    Refused(String),
}

/// Judges what was agreed on. `running` is what was made of it before.
pub(crate) fn judge(node: &NodeConfig, replicated: &Replicated, running: &Running) -> Verdict {
    let version = replicated.version();
    // A version's text never changes, nor does the node's file while the node runs: one look is enough.
    if version == 0 || version == running.version || version == running.made_from.version() {
        return Verdict::Known;
    }
    check(node, &replicated.text()).map_or_else(Verdict::Refused, Verdict::Runs)
}

impl Running {
    /// Whether this node may hold addresses, and why. A node that can serve nothing does not; one that serves most of it
    /// is better than none. `still`: a worker that hangs; the kernel goes on giving it its share of the clients.
    pub(crate) fn readiness(&self, still: Option<usize>) -> (bool, String) {
        let wanted: usize = self.cluster.services.iter().map(|service| service.listen.len()).sum();
        let open = wanted.saturating_sub(self.listen_problems.len());
        match (self.version, still) {
            (0, _) if self.problem.is_some() => {
                (false, format!("configuration v{} does not run here", self.made_from.version()))
            }
            (0, _) => (false, "no configuration has been applied yet".to_owned()),
            (_, Some(worker)) => (false, format!("worker {worker} hangs")),
            _ if wanted > 0 && open == 0 => (false, "no service can listen".to_owned()),
            _ => (true, format!("listening on {open} of {wanted} addresses")),
        }
    }

    /// The addresses that cannot be listened on, for one service.
    pub(crate) fn listen_problems_of(&self, service: &str) -> Vec<String> {
        let of = self.listen_problems.iter().filter(|problem| &*problem.service == service);
        of.map(|problem| problem.text.clone()).collect()
    }

    /// Whether an address is still one to listen on.
    pub(crate) fn wants(&self, address: &ListenAt) -> bool {
        let at = |service: &Service| {
            service.transport == address.transport && service.listen.contains(&address.endpoint)
        };
        self.cluster.services.iter().any(at)
    }
}

/// The addresses on which nobody listens because the service lacks a file.
pub(crate) fn held_back(plan: &Plan) -> Vec<ListenProblem> {
    let mut problems = Vec::new();
    for service in plan.services.iter().filter(|service| !service.may_listen) {
        let lacks = |fault: &&Fault| fault.service == service.name && fault.server.is_none() && !fault.kept;
        let why = plan.faults.iter().find(lacks).map_or("a file of it is missing", |fault| &fault.text);
        for address in service.addresses() {
            let text = format!("service {} does not listen on {address}: {why}", service.name);
            problems.push(ListenProblem { service: Arc::clone(&service.name), address, text });
        }
    }
    problems
}

/// Those of `now` that were not among `before`.
pub(crate) fn news<'p, P: PartialEq>(before: &[P], now: &'p [P]) -> Vec<&'p P> {
    now.iter().filter(|problem| !before.contains(problem)).collect()
}

/// Servers that have lost their source address since `before`: service, server, and why.
pub(crate) fn lost<'s>(before: &Sources, now: &'s Sources) -> Vec<(&'s str, &'s str, &'s str)> {
    let lost = now.iter().filter(|(key, source)| before.get(*key) != Some(source));
    let told = lost.filter_map(|((service, server), source)| {
        source.as_ref().err().map(|reason| (service.as_str(), server.as_str(), reason.as_str()))
    });
    told.collect()
}

/// Notices workers that do not turn, in looks at regular times. It counts looks without progress rather than time: after
/// a pause of the whole process, or of the machine, nobody is blamed.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// When each worker last turned, and in how many looks that has not changed.
    workers: Vec<(Time, u32)>,
}

impl Pulse {
    /// Takes the times at which the workers last turned.
    pub(crate) fn look(&mut self, turned: impl IntoIterator<Item = Time>) {
        let before = std::mem::take(&mut self.workers);
        let count = |(index, time): (usize, Time)| match before.get(index) {
            Some((last, looks)) if *last == time => (time, looks.saturating_add(1)),
            _ => (time, 0),
        };
        self.workers = turned.into_iter().enumerate().map(count).collect();
    }

    /// The first worker that hangs.
    pub(crate) fn still(&self) -> Option<usize> {
        self.workers.iter().position(|(_, looks)| *looks >= STILL_LOOKS)
    }
}

#[cfg(test)]
mod tests;
