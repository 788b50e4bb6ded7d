//! A pair of one contender, lb1 holding the address.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Contender;
use crate::command::Signal;
use crate::pair::{BALANCERS, Pair, VIP};
use crate::peers::cygnet::{ClusterSettings, Cygnet, NodeSettings};
use crate::peers::keepalived::{Keepalived, Settings, haproxy};
use crate::peers::ucarp::{Ucarp, pen};
use crate::process::Process;
use crate::wait;

/// How long a pair may take until one node holds the address: ucarp with its skew needs some five seconds.
const LIMIT: Duration = Duration::from_secs(40);
/// Longer than any of them hesitates after its election.
const STEADY: Duration = Duration::from_secs(2);
/// The priorities, and the skews that mean the same to ucarp.
const PREFERRED: (u8, u8) = (150, 0);
const OTHER: (u8, u8) = (100, 100);
/// keepalived gives way with this one.
const LOWERED: u8 = 50;

pub(super) struct Stage {
    pub(super) pair: Pair,
    balancers: Vec<Balancer>,
}

/// What runs on one node.
pub(super) enum Balancer {
    Cygnet(Cygnet),
    Keepalived { vrrp: Keepalived, proxy: Process, interval: Duration },
    Ucarp { carp: Ucarp, proxy: Process },
}

impl Stage {
    /// Starts both nodes and waits until lb1 holds the address and the other one takes part.
    pub(super) fn start(contender: Contender, interval: Duration) -> Result<Self> {
        let pair = Pair::build()?;
        let balancers = match contender {
            Contender::Cygnet => {
                let interval_ms = u64::try_from(interval.as_millis())?;
                let cluster = ClusterSettings { interval_ms, ..ClusterSettings::default() };
                let nodes = Cygnet::start_all(&NodeSettings::pair(), &cluster)?;
                nodes.into_iter().map(Balancer::Cygnet).collect()
            }
            Contender::Keepalived => start_each(|node, (priority, _)| {
                let settings = Settings { interval, ..Settings::new(priority) };
                let proxy = haproxy(node)?;
                Ok(Balancer::Keepalived { vrrp: Keepalived::start(node, &settings)?, proxy, interval })
            })?,
            Contender::Ucarp => start_each(|node, (_, skew)| {
                Ok(Balancer::Ucarp { proxy: pen(node)?, carp: Ucarp::start(node, skew)? })
            })?,
        };
        let stage = Self { pair, balancers };
        wait::until(LIMIT, "lb1 to hold the address", || {
            Ok((stage.pair.lab.holders(VIP)? == ["lb1"]).then_some(()))
        })?;
        let holder = stage.pair.lab.one_holder(VIP, STEADY, LIMIT)?;
        ensure!(holder == "lb1", "{holder} holds the address");
        for balancer in &stage.balancers {
            if let Balancer::Cygnet(node) = balancer {
                let what = format!("{} to take part", node.name);
                node.wait_vip(LIMIT, &what, |vip| {
                    vip.holder.is_some() && (vip.role == "active" || vip.role == "standby")
                })?;
            }
        }
        Ok(stage)
    }

    /// The holder.
    pub(super) fn first(&mut self) -> &mut Balancer {
        &mut self.balancers[0]
    }
}

fn start_each(start: impl Fn(&str, (u8, u8)) -> Result<Balancer>) -> Result<Vec<Balancer>> {
    BALANCERS.iter().zip([PREFERRED, OTHER]).map(|(node, rank)| start(node, rank)).collect()
}

impl Balancer {
    /// Kills the balancing process alone.
    pub(super) fn kill_process(&mut self) -> Result<()> {
        match self {
            Self::Cygnet(node) => node.kill(),
            // HAProxy has a worker besides.
            Self::Keepalived { proxy, .. } | Self::Ucarp { proxy, .. } => proxy.signal_all(Signal::Kill),
        }
    }

    /// A signal for all processes of the node at once.
    pub(super) fn signal_all(&self, signal: Signal) -> Result<()> {
        match self {
            Self::Cygnet(node) => node.process.signal_all(signal),
            Self::Keepalived { vrrp, proxy, .. } => vrrp.signal(signal).and(proxy.signal_all(signal)),
            Self::Ucarp { carp, proxy } => carp.signal(signal).and(proxy.signal_all(signal)),
        }
    }

    /// Stops what holds the address, as an operator would.
    pub(super) fn stop(&mut self) -> Result<()> {
        match self {
            // It lets connections end for a while: its address must be gone at once, its process need not.
            Self::Cygnet(node) => node.signal(Signal::Term),
            Self::Keepalived { vrrp, .. } => vrrp.stop(),
            Self::Ucarp { carp, .. } => carp.stop(),
        }
    }

    /// Moves the address to the other node on purpose.
    pub(super) fn hand_over(&self) -> Result<()> {
        match self {
            Self::Cygnet(node) => {
                let output = node.command(&HAND_OVER)?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "cygnet {}: {said}", HAND_OVER.join(" "));
                Ok(())
            }
            Self::Keepalived { vrrp, interval, .. } => {
                let lowered = Settings { interval: *interval, ..Settings::new(LOWERED) };
                vrrp.reconfigure(&lowered).context("keepalived")
            }
            Self::Ucarp { carp, .. } => carp.signal(Signal::User2),
        }
    }
}

/// The command that moves Cygnet's address.
const HAND_OVER: [&str; 4] = ["switchover", "--to", "lb2", "--yes"];
