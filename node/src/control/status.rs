//! The state of the pair, with a verdict. The facts are gathered by the node; the judgement is here, and pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use cygnet_ha::consensus::{Confirmation, TicketStatus};
use cygnet_ha::events::Event;
use cygnet_ha::vip::{Mode, Role, VipView, shown};
use serde::{Deserialize, Serialize};

use super::health::{HealthReport, ServerCheck};
use super::types::ProcessBefore;
use crate::proxy::tls::Stage;

/// Longest report of a node in bytes: it is sent several times a minute, and kept once per node.
pub const REPORT_BYTES_MAX: usize = 16 * 1024;

/// Whether service is given, and would survive one more failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// All is as it should be.
    Ok,
    /// Service is given; something else is lost: redundancy, a server, the ability to change things.
    Degraded,
    /// Some service is not given.
    Down,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
            Self::Down => "DOWN",
        })
    }
}

/// One reason why the verdict is not better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// How bad it alone is.
    pub verdict: Verdict,
    /// What is wrong.
    pub what: String,
    /// What to do next; may be empty.
    pub remedy: String,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The worst of the reasons.
    pub verdict: Verdict,
    /// The first line for people, without the verdict: `active=lb1 standby=lb2(ready) quorum=2/2 config=v41 in sync`.
    pub summary: String,
    /// Why it is not OK; the worst first.
    pub reasons: Vec<Reason>,
    /// What the judgement rests on.
    #[serde(flatten)]
    pub facts: Facts,
}

impl Status {
    /// Judges the facts.
    #[must_use]
    pub fn of(facts: Facts) -> Self {
        let reasons = reasons(&facts);
        let verdict = reasons.iter().map(|reason| reason.verdict).max().unwrap_or(Verdict::Ok);
        Self { verdict, summary: summary(&facts), reasons, facts }
    }
}

/// What a node knows of itself and the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// This node.
    pub node: String,
    /// The cluster.
    pub cluster: String,
    /// The program's version.
    pub program: String,
    /// How long this process has been running.
    pub uptime_ms: u64,
    /// Whether this node may hold addresses.
    pub ready: bool,
    /// Why, in one line.
    pub ready_reason: String,
    /// The configuration here.
    pub config: ConfigFacts,
    /// Whether changes can be decided.
    pub quorum: QuorumFacts,
    /// The links between the nodes are plain.
    #[serde(default)]
    pub insecure: bool,
    /// The keys of session tickets, without the keys; `None`: a witness seals none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tickets: Option<TicketStatus>,
    /// All members in the order of the node file, this node among them.
    pub members: Vec<MemberFacts>,
    /// The virtual addresses as seen from here; a witness sees none.
    pub vips: Vec<VipView>,
    /// The services here.
    pub services: Vec<ServiceFacts>,
    /// The newest events about virtual addresses that all nodes remember together, with who tells them, oldest first.
    #[serde(skip)]
    pub remembered: Vec<(String, Event)>,
    /// The soft state here.
    pub soft: SoftFacts,
    /// Processes that ran as this node before, and have connections still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<ProcessBefore>,
}

/// The configuration on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFacts {
    /// The version that traffic runs with; 0: none was ever applied.
    pub running: u64,
    /// The newest version that this node knows to be committed.
    pub committed: u64,
    /// Why the committed version does not run here.
    pub problem: Option<String>,
    /// The committed version waits for its confirmation.
    #[serde(default)]
    pub confirmation: Option<Confirmation>,
}

/// The voters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumFacts {
    /// Whether enough of them can be reached.
    pub reached: bool,
    /// Connected voters, this node included.
    pub connected: usize,
    /// All voters.
    pub voters: usize,
    /// How many are needed.
    pub needed: usize,
    /// Who leads.
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// Why this node itself takes no part any more: a fault, or its disk.
    #[serde(default)]
    pub stopped: Option<String>,
}

/// A member as seen from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFacts {
    /// Its identifier.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it listens for the other nodes.
    pub address: SocketAddr,
    /// A voter without traffic.
    pub witness: bool,
    /// This node itself.
    pub here: bool,
    /// Whether the connection stands; true for this node.
    pub connected: bool,
    /// When something was last heard from it; `None`: never, or this node.
    pub heard_age_ms: Option<u64>,
    /// What it says of itself; `None`: it has not said anything yet.
    pub report: Option<NodeReport>,
    /// How old that is; `None` for this node.
    pub report_age_ms: Option<u64>,
}

/// What a node tells the others about itself, every now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Whether it may hold addresses.
    pub ready: bool,
    /// Why, in one line.
    pub ready_reason: String,
    /// The configuration that it runs.
    pub config_version: u64,
    /// Its role for each virtual address.
    pub roles: BTreeMap<String, Role>,
    /// Client connections at that moment.
    #[serde(default)]
    pub connections: u64,
    /// Servers to which it may send a new client.
    #[serde(default)]
    pub servers_usable: u64,
    /// Its clock at that moment, ms since 1970, for the ages of what follows.
    #[serde(default)]
    pub unix_ms: u64,
    /// What its health checks say; `None`: it does not tell, or checks nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthReport>,
    /// The newest events about its virtual addresses, oldest first: the other nodes can tell its part when it is gone.
    #[serde(default)]
    pub moves: Vec<Event>,
}

/// So many events go with a report. At some 400 bytes each, half of what a report may have.
pub const MOVES_REPORTED: usize = 16;

impl NodeReport {
    /// For the way to the other nodes. A report that would be longer than [`REPORT_BYTES_MAX`] goes without its events, then
    /// without its view of servers and its roles, and says so: rather less than everything than nothing.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let whole = serde_json::to_vec(self).unwrap_or_default();
        if whole.len() <= REPORT_BYTES_MAX {
            return whole;
        }
        let short = Self { moves: Vec::new(), ..self.clone() };
        let bytes = serde_json::to_vec(&short).unwrap_or_default();
        if bytes.len() <= REPORT_BYTES_MAX {
            return bytes;
        }
        let ready_reason = "too many virtual addresses for a report of their roles".to_owned();
        let short = Self { ready_reason, roles: BTreeMap::new(), health: None, ..short };
        serde_json::to_vec(&short).unwrap_or_default()
    }

    /// Reads another node's report; `None` if it is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > REPORT_BYTES_MAX { None } else { serde_json::from_slice(bytes).ok() }
    }
}

/// A service on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Addresses on which it should listen and cannot, with the reason.
    pub listen_problems: Vec<String>,
    /// Connections now.
    pub connections: u64,
    /// Connections since start.
    pub total: u64,
    /// Connections since start that no server took.
    pub failed: u64,
    /// Its servers.
    pub servers: usize,
    /// Servers to which a new client may be sent.
    pub servers_usable: usize,
    /// Servers that the operator has drained.
    pub servers_drained: usize,
    /// Servers that are down by their health checks, left alone because they failed, or that cannot be reached for want
    /// of a source address.
    pub servers_failed: Vec<String>,
    /// Direct server return, if that is how the service is passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<DirectFacts>,
    /// Servers that are down here or on another node, by their health checks; at most [`CHECKS_SHOWN`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<ServerCheck>,
    /// The certificates that it shows, those that end first; at most [`CERTIFICATES_SHOWN`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateFacts>,
}

/// A certificate that clients see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// Its file.
    pub file: String,
    /// When it, or one that it rests on, ends; s since 1970.
    pub not_after: i64,
    /// How long that is from now by the clock of the node, s; negative: it has ended.
    pub left_s: i64,
    /// How near that is.
    pub stage: Stage,
}

/// So many certificates of a service are shown.
pub const CERTIFICATES_SHOWN: usize = 8;

/// Direct server return on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectFacts {
    /// Frames are passed on here.
    pub serving: bool,
    /// Why not, when that is as it should be.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why it should, and cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// On which interface.
    pub interface: Option<String>,
    /// Frames that came in, since this node serves.
    pub received: u64,
    /// Frames that went on to servers, and answers.
    pub sent: u64,
    /// Frames that were too long, or that the interface had no room for.
    pub lost: u64,
    /// Servers that have answered in ARP and may get clients.
    pub reachable: usize,
}

/// The soft state on this node: what may be lost, and is shared without waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftFacts {
    /// Clients remembered.
    pub clients: u64,
    /// Room for clients; the oldest go first.
    pub clients_max: u64,
    /// Clients forgotten before their time since the node started, because others needed their place.
    #[serde(default)]
    pub evicted: u64,
    /// Look-ups and changes given up since the node started, because another thread was at the same place.
    #[serde(default)]
    pub busy: u64,
    /// Facts waiting to be shared.
    pub queued: u64,
    /// Room in that queue; what does not fit is found again later.
    pub queued_max: u64,
    /// Facts that were not shared, because that queue was full.
    #[serde(default)]
    pub dropped: u64,
}

/// So many servers of a service are shown with what their health checks say. Their names are all in `servers_failed`.
pub const CHECKS_SHOWN: usize = 8;

/// The reason of a node that is not ready because the operator wants it so begins with this.
pub const DRAINED: &str = "drained";

/// All that keeps the verdict from being OK, the worst first.
fn reasons(facts: &Facts) -> Vec<Reason> {
    let mut found = Vec::new();
    node_reasons(facts, &mut found);
    quorum_reasons(facts, &mut found);
    for vip in &facts.vips {
        vip_reasons(facts, vip, &mut found);
    }
    for service in &facts.services {
        service_reasons(service, &mut found);
    }
    found.sort_by_key(|reason| std::cmp::Reverse(reason.verdict));
    found
}

fn degraded(found: &mut Vec<Reason>, what: String, remedy: impl Into<String>) {
    found.push(Reason { verdict: Verdict::Degraded, what, remedy: remedy.into() });
}

fn down(found: &mut Vec<Reason>, what: String, remedy: impl Into<String>) {
    found.push(Reason { verdict: Verdict::Down, what, remedy: remedy.into() });
}

fn node_reasons(facts: &Facts, found: &mut Vec<Reason>) {
    let this_is_witness = facts.members.iter().any(|member| member.here && member.witness);
    if !facts.ready && !this_is_witness {
        let what = format!("{} is not ready to hold addresses: {}", facts.node, facts.ready_reason);
        let drained = facts.ready_reason.starts_with(DRAINED);
        degraded(found, what, if drained { "cygnet node ready" } else { "cygnet events" });
    }
    if facts.config.committed == 0 {
        degraded(found, "no configuration was ever applied".to_owned(), "cygnet config apply FILE");
    }
    if let Some(waiting) = &facts.config.confirmation {
        // Somebody is at it, and nothing is broken: it is told, and the verdict stays.
        let (version, back_to, left) = (waiting.version, waiting.back_to, age(waiting.left_ms));
        let what =
            format!("config v{version} is on trial: v{back_to} comes back in {left} unless it is confirmed");
        let remedy = "cygnet config confirm".to_owned();
        found.push(Reason { verdict: Verdict::Ok, what, remedy });
    }
    if let Some(problem) = &facts.config.problem {
        let what = format!("config v{} does not run here: {problem}", facts.config.committed);
        degraded(found, what, "correct it with `cygnet config apply FILE`");
    }
}

fn quorum_reasons(facts: &Facts, found: &mut Vec<Reason>) {
    if facts.insecure {
        // The operator has said so, and nothing is broken: it is told, and the verdict stays.
        let what = "warning: the links between the nodes are not encrypted (`insecure = true`)".to_owned();
        let remedy = "keep them on a network of their own, or begin with `cygnet cluster init`".to_owned();
        found.push(Reason { verdict: Verdict::Ok, what, remedy });
    }
    let quorum = &facts.quorum;
    if let Some(why) = &quorum.stopped {
        let what = format!("{} takes no part in the cluster any more: {why}; traffic goes on", facts.node);
        degraded(found, what, "see to the cause, and restart the node");
    } else if !quorum.reached {
        let what = format!(
            "no quorum: {} of {} voters connected, {} needed; traffic goes on, changes are refused",
            quorum.connected, quorum.voters, quorum.needed
        );
        degraded(found, what, "start the missing nodes");
    }
    if let Some(TicketStatus { current: Some(key), late: true, .. }) = &facts.tickets {
        let (number, age) = (key.number, age(key.age_ms));
        let what = format!("session tickets are sealed with key {number} for {age} already");
        degraded(found, what, "it is replaced when there is a quorum; see `cygnet events`");
    }
    for member in facts.members.iter().filter(|member| !member.here) {
        if !member.connected {
            let heard = member
                .heard_age_ms
                .map_or_else(|| "never heard".to_owned(), |ms| format!("last heard {} ago", age(ms)));
            let what = format!("{} is not connected ({heard})", member.name);
            let remedy = format!(
                "check `systemctl status cygnet` on {} and the way to {}",
                member.name, member.address
            );
            degraded(found, what, remedy);
        } else if let Some(version) = version_behind(facts, member) {
            let what = format!("{} runs config v{version}, not v{}", member.name, facts.config.committed);
            degraded(found, what, format!("cygnet events on {}", member.name));
        }
    }
}

/// The version of a connected member that carries traffic and is behind.
fn version_behind(facts: &Facts, member: &MemberFacts) -> Option<u64> {
    let version = member.report.as_ref()?.config_version;
    (!member.witness && version < facts.config.committed).then_some(version)
}

fn vip_reasons(facts: &Facts, vip: &VipView, found: &mut Vec<Reason>) {
    let name = format!("vip {} ({})", vip.name, shown(&vip.addresses));
    if !vip.rivals.is_empty() {
        let rivals: Vec<String> = vip.rivals.iter().map(ToString::to_string).collect();
        down(found, format!("{name} has several holders: {}", rivals.join(", ")), "cygnet events");
    }
    match vip.role {
        Role::Active if !vip.address_present => {
            down(
                found,
                format!("{name} is active here, but the address is not on {}", vip.interface),
                "cygnet events",
            );
        }
        Role::Down => degraded(found, format!("{name} is down here: {}", vip.reason), "cygnet vip"),
        _ => {}
    }
    if vip.role != Role::Active && vip.holder.is_none() {
        down(found, format!("{name} has no holder"), "cygnet vip");
    } else if vip.mode == Mode::Hold && !has_standby(facts, vip) {
        degraded(found, format!("{name} has no standby that is ready"), "cygnet status on the other nodes");
    }
}

/// Whether some node could take the address over. A cluster of one was never meant to have one.
pub(super) fn has_standby(facts: &Facts, vip: &VipView) -> bool {
    if facts.members.iter().filter(|member| !member.witness).count() < 2 {
        return true;
    }
    let elsewhere = facts.members.iter().filter(|member| !member.here && member.connected).any(|member| {
        let report = member.report.as_ref();
        report.is_some_and(|report| report.ready && report.roles.get(&vip.name) == Some(&Role::Standby))
    });
    elsewhere || (vip.role == Role::Standby && facts.ready)
}

fn service_reasons(service: &ServiceFacts, found: &mut Vec<Reason>) {
    for problem in &service.listen_problems {
        down(found, format!("service {} does not listen: {problem}", service.name), "cygnet events");
    }
    // A service without any server at all is one that needs none.
    if service.servers > 0 && service.servers_usable == 0 {
        let what = format!(
            "service {} has no usable server ({} drained, {} failed)",
            service.name,
            service.servers_drained,
            service.servers_failed.len()
        );
        down(found, what, "cygnet server list");
    } else if !service.servers_failed.is_empty() {
        let (count, all) = (service.servers_failed.len(), service.servers);
        let names = service.servers_failed.join(", ");
        degraded(
            found,
            format!("service {}: {count} of {all} servers failed ({names})", service.name),
            "cygnet server list",
        );
    }
    for certificate in &service.certificates {
        let (verdict, text) = match certificate.stage {
            Stage::Good => continue,
            // Nothing is broken, and there is time: it is told, and the verdict stays.
            Stage::Soon => (Verdict::Ok, format!("ends in {}", left(certificate))),
            Stage::Urgent => (Verdict::Degraded, format!("ends in {}", left(certificate))),
            Stage::Ended => (Verdict::Down, "has ended: clients refuse it".to_owned()),
        };
        let what = format!("service {}: the certificate {} {text}", service.name, certificate.file);
        let remedy = "renew it; a new file is in use within seconds".to_owned();
        found.push(Reason { verdict, what, remedy });
    }
    for ServerCheck { server, check } in &service.checks {
        let what = format!("service {}: server {server} is {}", service.name, check.told());
        degraded(found, what, check.remedy());
    }
}

fn left(certificate: &CertificateFacts) -> String {
    age(u64::try_from(certificate.left_s).unwrap_or(0) * 1000)
}

/// `active=lb1 standby=lb2(ready) quorum=2/2 config=v41 in sync`.
fn summary(facts: &Facts) -> String {
    let nodes: Vec<NodeRoles<'_>> = facts
        .members
        .iter()
        .filter(|member| !member.witness)
        .map(|member| NodeRoles::of(facts, member))
        .collect();
    let total =
        nodes.iter().flat_map(|node| node.roles.keys()).collect::<std::collections::BTreeSet<_>>().len();
    let list = |words: Vec<String>| if words.is_empty() { "none".to_owned() } else { words.join(",") };
    let active = nodes.iter().filter_map(|node| {
        let held: Vec<&str> = node.with_role(Role::Active);
        match held.len() {
            0 => None,
            count if count == total => Some(node.name.to_owned()),
            _ => Some(format!("{}({})", node.name, held.join("+"))),
        }
    });
    let active = list(active.collect());
    let standby = nodes.iter().filter(|node| node.with_role(Role::Active).is_empty());
    let standby = list(standby.map(|node| format!("{}({})", node.name, node.state)).collect());
    let quorum = &facts.quorum;
    format!(
        "active={active} standby={standby} quorum={}/{} config=v{} {}",
        quorum.connected,
        quorum.voters,
        facts.config.running,
        sync(facts)
    )
}

/// Whether all nodes run the newest configuration, as far as can be known.
fn sync(facts: &Facts) -> String {
    if facts.config.running < facts.config.committed {
        return format!("behind v{}", facts.config.committed);
    }
    let others = || facts.members.iter().filter(|member| !member.here && !member.witness);
    let behind: Vec<&str> = others()
        .filter(|member| member.connected && version_behind(facts, member).is_some())
        .map(|member| member.name.as_str())
        .collect();
    if !behind.is_empty() {
        return format!("behind on {}", behind.join(","));
    }
    let unknown: Vec<&str> = others()
        .filter(|member| !member.connected || member.report.is_none())
        .map(|member| member.name.as_str())
        .collect();
    if unknown.is_empty() { "in sync".to_owned() } else { format!("unknown on {}", unknown.join(",")) }
}

/// What a node does, by its own word.
struct NodeRoles<'f> {
    name: &'f str,
    roles: BTreeMap<&'f str, Role>,
    state: &'static str,
}

impl<'f> NodeRoles<'f> {
    fn of(facts: &'f Facts, member: &'f MemberFacts) -> Self {
        let name = member.name.as_str();
        if member.here {
            let roles = facts.vips.iter().map(|vip| (vip.name.as_str(), vip.role)).collect();
            return Self { name, roles, state: if facts.ready { "ready" } else { "not ready" } };
        }
        // The last word of a node that is gone says nothing about now.
        match member.report.as_ref().filter(|_| member.connected) {
            Some(report) => {
                let roles = report.roles.iter().map(|(vip, role)| (vip.as_str(), *role)).collect();
                Self { name, roles, state: if report.ready { "ready" } else { "not ready" } }
            }
            None => Self {
                name,
                roles: BTreeMap::new(),
                state: if member.connected { "unknown" } else { "unreachable" },
            },
        }
    }

    fn with_role(&self, role: Role) -> Vec<&'f str> {
        self.roles.iter().filter(|(_, is)| **is == role).map(|(vip, _)| *vip).collect()
    }
}

/// An age for people: the two largest units.
#[must_use]
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if ms < 1000 => format!("{ms}ms"),
        () if seconds < 60 => format!("{seconds}s"),
        () if minutes < 60 => format!("{minutes}m{}s", seconds % 60),
        () if hours < 24 => format!("{hours}h{}m", minutes % 60),
        () => format!("{days}d{}h", hours % 24),
    }
}
