//! What `status` is made of.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use cygnet_ha::consensus::{self, MemberStatus};
use cygnet_ha::events::Event;

use super::memory;
use super::node::Node;
use super::running::Running;
use crate::balance::{CLIENTS_DEFAULT, ClientTable};
use crate::config::all_servers;
use crate::control::health::{CheckView, Elsewhere, ServerCheck};
use crate::control::status::{
    CHECKS_SHOWN, ConfigFacts, DirectFacts, Facts, MOVES_REPORTED, MemberFacts, NodeReport, QuorumFacts,
    ServiceFacts, SoftFacts,
};
use crate::proxy::{ServerStats, ServiceStats};

/// Everything that this node knows at this moment.
pub(crate) fn facts(node: &Node) -> Facts {
    let running = node.running.borrow().clone();
    let status = node.log.status();
    Facts {
        node: node.config.name.clone(),
        cluster: node.config.cluster.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: millis(node.started.elapsed()),
        ready: running.ready,
        ready_reason: running.ready_reason.clone(),
        config: ConfigFacts {
            running: running.version,
            committed: node.replicated.borrow().version(),
            problem: running.problem.clone(),
            confirmation: status.confirmation,
        },
        quorum: quorum(&status),
        insecure: !status.secure,
        tickets: node.traffic.as_ref().map(|_| status.tickets.clone()),
        members: members(node, &status),
        vips: node.vips.as_ref().map_or_else(Vec::new, |vips| vips.views().borrow().to_vec()),
        services: services(node, &running),
        remembered: memory::newest(node, &status, MOVES_REPORTED, is_move),
        soft: soft(node, &status),
        before: node.upgrade.before(),
    }
}

/// What this node tells the others about itself.
pub(crate) fn report(node: &Node) -> NodeReport {
    let running = node.running.borrow();
    let roles = node.vips.as_ref().map_or_else(BTreeMap::new, |vips| {
        vips.views().borrow().iter().map(|view| (view.name.clone(), view.role)).collect()
    });
    let stats = node.traffic.as_ref().map(|traffic| traffic.workers.stats());
    let servers = stats.iter().flat_map(|stats| &stats.services).flat_map(|service| &service.servers);
    NodeReport {
        ready: running.ready,
        ready_reason: running.ready_reason.clone(),
        config_version: running.version,
        roles,
        connections: servers.map(|server| u64::from(server.connections)).sum(),
        servers_usable: own_services(node, &running)
            .iter()
            .map(|service| service.servers_usable as u64)
            .sum(),
        unix_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
        health: node.health.report(),
        moves: node.events.newest(MOVES_REPORTED, is_move),
    }
}

/// Whether an event is about a virtual address, and says what a program can read.
fn is_move(event: &Event) -> bool {
    !event.kind.is_empty() && event.subject.starts_with("vip ")
}

fn quorum(status: &consensus::Status) -> QuorumFacts {
    let leader = status.leader.and_then(|id| status.members.iter().find(|member| member.id == id));
    let voters = status.members.iter().filter(|member| member.voter).count();
    QuorumFacts {
        reached: status.quorum,
        connected: status.reachable,
        voters,
        needed: status.needed,
        leader: leader.map(|member| member.name.clone()),
        term: status.term,
        stopped: status.stopped.clone(),
    }
}

fn members(node: &Node, status: &consensus::Status) -> Vec<MemberFacts> {
    let reports: HashMap<u64, (Vec<u8>, u64)> =
        node.log.reports().into_iter().map(|(id, bytes, age_ms)| (id, (bytes, age_ms))).collect();
    let member = |member: &MemberStatus| {
        let here = member.name == node.config.name;
        let heard = reports.get(&member.id);
        let told = heard.and_then(|(bytes, _)| NodeReport::decode(bytes));
        MemberFacts {
            id: member.id,
            name: member.name.clone(),
            address: member.address,
            witness: member.witness,
            here,
            connected: here || member.connected,
            heard_age_ms: member.last_heard_ms.filter(|_| !here),
            report_age_ms: heard.map(|(_, age_ms)| *age_ms).filter(|_| !here),
            report: if here { Some(report(node)) } else { told },
        }
    };
    status.members.iter().map(member).collect()
}

/// The services, without what other nodes see of their servers.
fn own_services(node: &Node, running: &Running) -> Vec<ServiceFacts> {
    let stats = node.traffic.as_ref().map(|traffic| traffic.workers.stats());
    stats.map_or_else(Vec::new, |stats| {
        let direct = |service: &ServiceStats| node.direct.facts(&service.name);
        stats.services.iter().map(|service| service_facts(service, running, direct(service))).collect()
    })
}

fn services(node: &Node, running: &Running) -> Vec<ServiceFacts> {
    let mut services = own_services(node, running);
    let others = others(node);
    for service in services.iter_mut().filter(|_| node.health.is_busy()) {
        let configured = running.cluster.services.iter().find(|known| known.name == service.name);
        let servers = configured.into_iter().flat_map(all_servers).map(|server| server.name.as_str());
        let bad = servers.filter_map(|server| {
            let check = check_view(node, &others, &service.name, server)?;
            (check.is_down() || check.is_down_elsewhere())
                .then(|| ServerCheck { server: server.to_owned(), check })
        });
        service.checks = bad.take(CHECKS_SHOWN).collect();
    }
    for service in &mut services {
        service.certificates = node.certificates.of(&service.name);
    }
    services
}

/// The last words of the other nodes that are connected and run the same configuration as this one, with their names and
/// ages in ms.
pub(crate) fn others(node: &Node) -> Vec<(String, u64, NodeReport)> {
    let version = node.running.borrow().version;
    let status = node.log.status();
    let told = node.log.reports().into_iter().filter_map(|(id, bytes, age_ms)| {
        let member = status.members.iter().find(|member| member.id == id && member.connected)?;
        let report = NodeReport::decode(&bytes)?;
        (report.config_version == version).then(|| (member.name.clone(), age_ms, report))
    });
    told.collect()
}

/// What the health checks of all nodes say of a server; `None`: it has none.
pub(crate) fn check_view(
    node: &Node,
    others: &[(String, u64, NodeReport)],
    service: &str,
    server: &str,
) -> Option<CheckView> {
    let mut view = node.health.view(service, server)?;
    view.elsewhere = others
        .iter()
        .filter_map(|(name, age_ms, report)| {
            let up = report.health.as_ref()?.says(service, server)?;
            Some(Elsewhere { node: name.clone(), up, age_ms: *age_ms })
        })
        .collect();
    Some(view)
}

fn service_facts(service: &ServiceStats, running: &Running, direct: Option<DirectFacts>) -> ServiceFacts {
    let regular = || service.servers.iter().filter(|server| server.regular);
    let failed = |server: &&ServerStats| {
        server.source_missing.is_some() || server.blacklisted_ms.is_some() || server.down
    };
    let usable = |server: &&ServerStats| !failed(server) && !server.drained;
    let connections: u64 = service.servers.iter().map(|server| u64::from(server.connections)).sum();
    let mut listen_problems = running.listen_problems_of(&service.name);
    listen_problems.extend(direct.as_ref().and_then(|direct| direct.problem.clone()));
    // Those that are well, and of them those that ARP knows.
    let well = regular().filter(usable).count();
    let servers_usable =
        direct.as_ref().filter(|direct| direct.serving).map_or(well, |direct| well.min(direct.reachable));
    ServiceFacts {
        name: service.name.clone(),
        listen: service.listen.clone(),
        listen_problems,
        connections,
        total: service.accepted,
        failed: service.refused,
        servers: regular().count(),
        servers_usable,
        servers_drained: regular().filter(|server| server.drained).count(),
        servers_failed: service.servers.iter().filter(failed).map(|server| server.name.clone()).collect(),
        direct,
        checks: Vec::new(),
        certificates: Vec::new(),
    }
}

fn soft(node: &Node, status: &consensus::Status) -> SoftFacts {
    let of =
        |figure: fn(&ClientTable) -> u64| node.traffic.as_ref().map_or(0, |traffic| figure(&traffic.clients));
    SoftFacts {
        clients: of(ClientTable::len),
        evicted: of(ClientTable::evicted),
        busy: of(ClientTable::contended),
        clients_max: CLIENTS_DEFAULT as u64,
        queued: status.soft.waiting,
        queued_max: consensus::soft::SOFT_MAX as u64,
        dropped: status.soft.dropped,
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
