//! Many clients, each with an address of its own, at a bounded rate.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::probe::{Quantiles, quantiles, request};
use crate::{command, process};

/// What the many clients do.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Where they connect.
    pub target: SocketAddr,
    /// The first one's address; the others follow.
    pub first: Ipv4Addr,
    /// How many.
    pub count: u32,
    /// Connections started per second, at most.
    pub rate: u32,
    /// Connections open at once, at most.
    pub at_once: usize,
    /// A client without its answer after this time has failed.
    pub deadline: Duration,
    /// Whether the report names each client's server.
    pub list: bool,
}

impl Crowd {
    /// `count` clients from 10.128.0.1 on, 2,000 per second, 64 at once, 5 s deadline.
    #[must_use]
    pub fn new(target: SocketAddr, count: u32) -> Self {
        Self {
            target,
            first: Ipv4Addr::new(10, 128, 0, 1),
            count,
            rate: 2000,
            at_once: 64,
            deadline: Duration::from_secs(5),
            list: false,
        }
    }

    /// Runs them in `node` and waits for the last one.
    ///
    /// # Errors
    /// If the program fails; failed clients are in the report instead.
    pub fn run_in(&self, node: &str) -> Result<CrowdReport> {
        let program = process::lab_program()?;
        let mut args = vec![format!("--net=/run/netns/{node}"), "--".into(), program.display().to_string()];
        args.extend(["clients", "--target"].map(str::to_owned));
        args.extend([self.target.to_string(), "--first".into(), self.first.to_string()]);
        args.extend(["--count".into(), self.count.to_string(), "--rate".into(), self.rate.to_string()]);
        args.extend(["--at-once".into(), self.at_once.to_string()]);
        args.extend(["--deadline-ms".into(), self.deadline.as_millis().to_string()]);
        if self.list {
            args.push("--list".into());
        }
        let said = command::run("nsenter", &args)?;
        serde_json::from_str(&said).with_context(|| said.clone())
    }
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrowdReport {
    /// Clients that were answered.
    pub succeeded: u64,
    /// Failures by kind.
    pub failed: BTreeMap<String, u64>,
    /// From start to answer, µs.
    pub latency_us: Quantiles,
    /// From the first start to the last answer, ms.
    pub took_ms: u64,
    /// Answers by server.
    pub servers: BTreeMap<String, u64>,
    /// Each client's server, if asked for.
    pub list: BTreeMap<IpAddr, String>,
}

/// Runs them in this node and gives the report.
///
/// # Errors
/// If a task of ours dies.
pub async fn run(crowd: Crowd) -> Result<CrowdReport> {
    let start = Instant::now();
    let slots = Arc::new(Semaphore::new(crowd.at_once));
    // Steps of 5 ms: a timer tick per client would cost more than the client.
    let step = Duration::from_millis(5);
    let per_step = (u64::from(crowd.rate) * 5).div_ceil(1000);
    let mut every = interval(step);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tasks = JoinSet::new();
    let mut report = CrowdReport::default();
    let mut latencies = Vec::new();
    let mut next = u64::from(u32::from(crowd.first));
    let end = next + u64::from(crowd.count);
    while next < end {
        every.tick().await;
        for _ in 0..per_step.min(end - next) {
            let address = IpAddr::V4(Ipv4Addr::from(u32::try_from(next)?));
            let slot = Arc::clone(&slots).acquire_owned().await?;
            let (target, deadline) = (crowd.target, crowd.deadline);
            tasks.spawn(async move {
                let start = Instant::now();
                let outcome = request(target, Some(address), deadline).await;
                drop(slot);
                (address, start.elapsed(), outcome)
            });
            next += 1;
        }
        while let Some(done) = tasks.try_join_next() {
            report.note(done?, crowd.list, &mut latencies);
        }
    }
    while let Some(done) = tasks.join_next().await {
        report.note(done?, crowd.list, &mut latencies);
    }
    report.took_ms = u64::try_from(start.elapsed().as_millis())?;
    report.latency_us = quantiles(latencies);
    Ok(report)
}

type Done = (IpAddr, Duration, Result<crate::probe::Answer, crate::probe::Failure>);

impl CrowdReport {
    fn note(&mut self, (address, took, outcome): Done, list: bool, latencies: &mut Vec<u64>) {
        match outcome {
            Ok(answer) => {
                self.succeeded += 1;
                latencies.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                *self.servers.entry(answer.server.clone()).or_default() += 1;
                if list {
                    self.list.insert(address, answer.server);
                }
            }
            Err(failure) => *self.failed.entry(failure.name()).or_default() += 1,
        }
    }
}
