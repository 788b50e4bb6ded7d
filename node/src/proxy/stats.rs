//! The workers' figures, for status and metrics. Plain data; ages in milliseconds.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use cygnet_ha::time::Time;
use serde::{Deserialize, Serialize};

use super::worker::Worker;
use crate::config::model::Transport;
use crate::plan::{Admin, Plan, Role, ServicePlan, Standing};

/// All figures at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The plan in force.
    pub generation: u64,
    /// In the order of the configuration.
    pub services: Vec<ServiceStats>,
    /// One a thread.
    pub workers: Vec<WorkerStats>,
}

/// A service's figures since the node's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStats {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Clients accepted.
    pub accepted: u64,
    /// Clients for whom no server was left.
    pub refused: u64,
    /// Clients that were served by another server than the one tried first.
    pub failovers: u64,
    /// Connections closed for having been silent.
    pub idle: u64,
    /// Connections that ended by a reset or an error.
    pub aborted: u64,
    /// In the order of the configuration.
    pub servers: Vec<ServerStats>,
}

/// A server's figures since the node's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStats {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// One of those among which is chosen: not for emergencies, nor for abuse.
    pub regular: bool,
    /// Its weight.
    pub weight: u16,
    /// Its limit; 0: none.
    pub max: u32,
    /// Where connections to it start from; `None`: none can be made, for the reason in `source_missing`.
    pub source: Option<IpAddr>,
    /// Why there is no source.
    pub source_missing: Option<String>,
    /// Connections now, with those that are being made.
    pub connections: u32,
    /// Connections made.
    pub connected: u64,
    /// Connects that failed.
    pub failed: u64,
    /// Bytes from clients.
    pub to_server: u64,
    /// Bytes to clients.
    pub to_client: u64,
    /// Being drained.
    pub drained: bool,
    /// Its health checks fail.
    pub down: bool,
    /// For how long it will be left alone, ms; 0: the time is over and the next client tries it. `None`: it stands well.
    pub blacklisted_ms: Option<u64>,
}

/// A worker's figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStats {
    /// Clients now.
    pub connections: usize,
    /// Clients accepted since its start.
    pub accepted: u64,
    /// When it last turned, ms ago. More than a second: it hangs.
    pub turned_ms: u64,
}

pub(super) fn collect<'a>(plan: &Plan, workers: impl Iterator<Item = &'a Worker>, now: Time) -> Stats {
    Stats {
        generation: plan.generation,
        services: plan.services.iter().map(|service| service_stats(service, now)).collect(),
        workers: workers.map(|worker| worker_stats(worker, now)).collect(),
    }
}

fn service_stats(service: &ServicePlan, now: Time) -> ServiceStats {
    let state = &service.state;
    ServiceStats {
        name: service.name.to_string(),
        listen: listens(service),
        accepted: state.sum(|shard| &shard.accepted),
        refused: state.sum(|shard| &shard.refused),
        failovers: state.sum(|shard| &shard.failovers),
        idle: state.sum(|shard| &shard.idle),
        aborted: state.sum(|shard| &shard.aborted),
        servers: (0..service.servers.len()).map(|n| server_stats(service, n, now)).collect(),
    }
}

fn listens(service: &ServicePlan) -> Vec<String> {
    let direct = service.direct.iter().map(|direct| match service.transport {
        Transport::Tcp => format!("dsr {}", direct.settings),
        Transport::Udp => format!("udp dsr {}", direct.settings),
    });
    service.addresses().map(|at| at.to_string()).chain(direct).collect()
}

fn server_stats(service: &ServicePlan, position: usize, now: Time) -> ServerStats {
    let server = &service.servers[position];
    let state = &server.state;
    ServerStats {
        name: server.name.to_string(),
        address: server.address.to_string(),
        regular: service.role(position) == Role::Regular,
        weight: server.weight,
        max: server.max,
        source: server.source.as_ref().ok().and_then(|start| start.address()),
        source_missing: server.source.as_ref().err().map(ToString::to_string),
        connections: state.connections(),
        connected: state.sum(|shard| &shard.connected),
        failed: state.sum(|shard| &shard.failed),
        to_server: state.sum(|shard| &shard.to_server),
        to_client: state.sum(|shard| &shard.to_client),
        drained: server.admin == Admin::Drain,
        down: state.is_down(),
        blacklisted_ms: match service.standing(position, now) {
            Standing::Good | Standing::Down => None,
            Standing::OnTrial => Some(0),
            // Rounded up: 0 means that the time is over.
            Standing::Blacklisted(until) => Some(millis(until, now) + 1),
        },
    }
}

fn worker_stats(worker: &Worker, now: Time) -> WorkerStats {
    let figures = &worker.figures;
    WorkerStats {
        connections: figures.connections.load(Ordering::Relaxed),
        accepted: figures.accepted.load(Ordering::Relaxed),
        turned_ms: millis(now, Time(figures.turned.load(Ordering::Relaxed))),
    }
}

fn millis(later: Time, earlier: Time) -> u64 {
    u64::try_from(later.since(earlier).as_millis()).unwrap_or(u64::MAX)
}
