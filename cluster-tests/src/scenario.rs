//! A pair of Cygnet nodes under a prober: what most scenarios begin with.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::Signal;
use crate::figures::figure;
use crate::pair::{BALANCERS, CLIENT, Pair, SERVICE, VIP, WITNESS};
use crate::peers::cygnet::{ClusterSettings, Cygnet, LIMIT, NodeSettings};
use crate::probe::{self, Probe, Report, unix_ms};

/// An address that stays on one node for so long has arrived. Ten advertisements of 50 ms.
pub const STEADY: Duration = Duration::from_millis(500);
/// After a fault the service must have worked for so long before a measurement ends: whatever the fault breaks shows
/// itself by then (three advertisements, the prober's deadline, and some).
const QUIET: Duration = Duration::from_millis(1000);

/// The topology with Cygnet on the balancers (and the witness, if it is a member).
#[derive(Debug)]
pub struct CygnetPair {
    /// Nodes, links, servers.
    pub pair: Pair,
    /// The Cygnet nodes, in the order of their settings.
    pub nodes: Vec<Cygnet>,
    /// What each was started with.
    pub settings: Vec<NodeSettings>,
}

impl CygnetPair {
    /// Starts two voters with `cluster` and waits until lb1 holds the address and serves.
    ///
    /// # Errors
    /// If that does not come about.
    pub fn start(cluster: &ClusterSettings) -> Result<Self> {
        Self::start_with(&NodeSettings::pair(), cluster)
    }

    /// Two voters and the witness.
    ///
    /// # Errors
    /// If that does not come about.
    pub fn start_with_witness(cluster: &ClusterSettings) -> Result<Self> {
        let members = [BALANCERS[0], BALANCERS[1], WITNESS];
        Self::start_with(&members.map(|name| NodeSettings::new(name, &members)), cluster)
    }

    /// Starts nodes with these settings, the first one being preferred.
    ///
    /// # Errors
    /// If the first node does not come to hold the address.
    pub fn start_with(settings: &[NodeSettings], cluster: &ClusterSettings) -> Result<Self> {
        let pair = Pair::build()?;
        let nodes = Cygnet::start_all(settings, cluster)?;
        let all = Self { pair, nodes, settings: settings.to_vec() };
        if cluster.mode == "hold" {
            all.holder_is(&all.settings[0].name)?;
            all.redundant()?;
        }
        Ok(all)
    }

    /// A node by its name.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&self, name: &str) -> Result<&Cygnet> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node {name}"))
    }

    /// A node by its name, to be killed.
    ///
    /// # Errors
    /// If there is none.
    pub fn node_mut(&mut self, name: &str) -> Result<&mut Cygnet> {
        self.nodes.iter_mut().find(|node| node.name == name).with_context(|| format!("no node {name}"))
    }

    /// Starts a node again that has ended, with its old settings and state.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self, name: &str) -> Result<()> {
        let at = self
            .settings
            .iter()
            .position(|node| node.name == name)
            .with_context(|| format!("no node {name}"))?;
        self.nodes[at] = Cygnet::start(&self.settings[at])?;
        Ok(())
    }

    /// Waits until exactly one node's kernel has the address, steadily, and checks that it is `node`.
    ///
    /// # Errors
    /// If it is another one, or not one.
    pub fn holder_is(&self, node: &str) -> Result<()> {
        // The address may be on another node for a while before a preferred one takes it.
        let outcome = crate::wait::until(LIMIT, &format!("{node} to hold {VIP}"), || {
            Ok((self.pair.lab.holders(VIP)? == [node]).then_some(()))
        });
        outcome.with_context(|| format!("holders: {:?}", self.pair.lab.holders(VIP)))?;
        let holder = self.pair.lab.one_holder(VIP, STEADY, LIMIT)?;
        ensure!(holder == node, "{holder} holds the address, not {node}");
        Ok(())
    }

    /// Waits until each balancer holds the address or stands by and hears the holder: one of them may fail now.
    ///
    /// # Errors
    /// If one does not come so far.
    pub fn redundant(&self) -> Result<()> {
        for node in self.nodes.iter().filter(|node| node.name != WITNESS) {
            let what = format!("{} to take part", node.name);
            node.wait_vip(LIMIT, &what, |vip| {
                vip.holder.is_some() && (vip.role == "active" || vip.role == "standby")
            })?;
        }
        Ok(())
    }

    /// Runs `faults` one after the other under a prober; after each the service must work again.
    ///
    /// # Errors
    /// If the service does not come back, or a fault cannot be made.
    pub fn measure(&mut self, faults: &mut [Fault<'_>]) -> Result<Report> {
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        for fault in faults {
            let since = unix_ms();
            fault(self)?;
            probe.settled(since, QUIET, LIMIT)?;
        }
        probe.finish()
    }

    /// Freezes a node or lets it go on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.node(name)?.signal(signal)
    }
}

/// One thing that goes wrong, or right again.
pub type Fault<'a> = &'a mut dyn FnMut(&mut CygnetPair) -> Result<()>;

/// Prints what a prober saw.
pub fn print_report(what: &str, report: &Report) {
    let value = format!(
        "longest gap {:.0} ms (prober late by {:.1} ms in it), {} of {} requests failed {:?}, sessions: {}",
        report.longest_gap_ms,
        report.late_in_gap_ms,
        report.failures(),
        report.requests,
        report.failed,
        report.fates()
    );
    figure(what, &value);
}
