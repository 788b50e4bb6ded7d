//! The node's own file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;

use cygnet_ha::consensus::LogLimits;
use toml::Spanned;
use toml::de::DeValue;

use super::model::{Member, NodeConfig, NodeVip, Source};
use super::problem::{Fault, Problem, Report};
use super::section::{Section, Taken, document, wrong_type};
use super::values::{self, PATH_BYTES_MAX, SOCKET_PATH_BYTES_MAX};
use super::{TEXT_BYTES_MAX, roles, too_long};

/// Where the state lives when the file does not say.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/cygnet";
/// The API's socket when the file does not say.
pub const DEFAULT_API: &str = "/run/cygnet/cygnet.sock";
/// The priority when the file does not say (RFC 9568 section 5.2.4: the default for a backup).
pub const DEFAULT_PRIORITY: u8 = 100;
/// Most data path threads: more than that is a slip, not a machine.
pub const WORKERS_MAX: usize = 256;
/// Most voters: each commit waits for a majority of them.
pub const MEMBERS_MAX: usize = 7;

/// Fewest entries after which the log is cut: below, a busy log would be nothing but snapshots.
const LOG_ENTRIES_MIN: u64 = 64;
/// Most: an entry takes some 200 bytes of memory beside its content.
const LOG_ENTRIES_MAX: u64 = 1_000_000;
/// Most log, and most of it behind a snapshot, MiB: the log is held in memory as well.
const LOG_MIB_MAX: u64 = 256;
const MIB: u64 = 1024 * 1024;

/// Reads a node file. `file` is its name in messages.
///
/// # Errors
/// Every problem found, in the order of the text.
pub fn parse_node(text: &str, file: &str) -> Result<NodeConfig, Vec<Problem>> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(vec![too_long(text, file)]);
    }
    let mut report = Report::new(text, file);
    let config =
        document(text, &mut report).and_then(|document| node(&Section::root(&document), &mut report));
    match config {
        Some(config) if report.is_clean() => Ok(config),
        _ => Err(report.finish()),
    }
}

fn node(root: &Section<'_>, report: &mut Report<'_>) -> Option<NodeConfig> {
    let known = [
        "name",
        "state_dir",
        "api",
        "workers",
        "source",
        "interface",
        "priority",
        "countries",
        "roles",
        "storage",
        "vip",
        "cluster",
    ];
    root.refuse_unknown(report, &known);
    let name = root.required(report, "name", "\"lb1\"", values::name);
    let state_dir = root.given(report, "state_dir", |v| values::path(v, PATH_BYTES_MAX));
    let api = root.given(report, "api", |v| values::path(v, SOCKET_PATH_BYTES_MAX));
    let workers = root.given(report, "workers", |v| values::integer(v, 1..=WORKERS_MAX, "number of workers"));
    let source = source(root, report);
    let interface = root.given(report, "interface", values::interface);
    let priority = root.given(report, "priority", priority);
    let countries = root.given(report, "countries", |v| values::path(v, PATH_BYTES_MAX));
    let roles = roles::roles(root, report);
    let storage = storage(root, report);
    let per_vip = per_vip(root, report);
    let cluster = cluster(root, report, name.as_deref());
    let config = NodeConfig {
        name: name?,
        state_dir: state_dir.or(PathBuf::from(DEFAULT_STATE_DIR))?,
        api: api.or(PathBuf::from(DEFAULT_API))?,
        workers: workers.or(thread::available_parallelism().map_or(1, |n| n.get().min(WORKERS_MAX)))?,
        source: source?,
        interface: interface.optional()?,
        priority: priority.or(DEFAULT_PRIORITY)?,
        per_vip,
        countries: countries.optional()?,
        cluster: cluster.name?,
        roles: roles?,
        storage: storage?,
        insecure: cluster.insecure,
        members: cluster.members,
    };
    if report.is_clean() && !config.members.iter().any(|member| member.name == config.name) {
        let names: Vec<&str> = config.members.iter().map(|member| member.name.as_str()).collect();
        let remedy = format!("the members are {}: use one of these names, or add a member", names.join(", "));
        root.fault(report, "name", Fault::new(format!("\"{}\" is not a member", config.name), remedy));
    }
    Some(config)
}

fn priority(value: &DeValue<'_>) -> Result<u8, Fault> {
    values::integer(value, 1..=254, "priority").map_err(|fault| {
        Fault::new(fault.what, "write 1 to 254; higher is preferred (0 and 255 have a meaning of their own)")
    })
}

/// The same for one virtual address, which may be this node's own (RFC 9568 section 6.1).
fn priority_or_owner(value: &DeValue<'_>) -> Result<u8, Fault> {
    values::integer(value, 1..=255, "priority").map_err(|fault| {
        let remedy = "write 1 to 254, higher is preferred; or 255 where the address is this node's own";
        Fault::new(fault.what, remedy)
    })
}

/// `"auto"`, one address, or a list with at most one per family.
fn source(root: &Section<'_>, report: &mut Report<'_>) -> Option<Source> {
    let given = root.given(report, "source", |value| match value {
        DeValue::String(word) if word == "auto" => Ok(Source::Auto),
        DeValue::String(_) => values::address(value)
            .map(|address| Source::Fixed(vec![address]))
            .map_err(|fault| Fault::new(fault.what, format!("{}, or \"auto\"", fault.remedy))),
        DeValue::Array(elements) => sources(elements.iter()).map(Source::Fixed),
        _ => Err(wrong_type("\"auto\", an address or a list of addresses", value, "write source = \"auto\"")),
    });
    given.or(Source::Auto)
}

fn sources<'v, 'd: 'v>(
    elements: impl Iterator<Item = &'v Spanned<DeValue<'d>>>,
) -> Result<Vec<IpAddr>, Fault> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for element in elements {
        let address = values::address(element.get_ref())?;
        if let Some(earlier) = addresses.iter().find(|earlier| earlier.is_ipv4() == address.is_ipv4()) {
            let what = format!("both {earlier} and {address} are given for one address family");
            return Err(Fault::new(what, "keep one IPv4 and one IPv6 address at most"));
        }
        addresses.push(address);
    }
    if addresses.is_empty() {
        return Err(Fault::new("the list is empty", "write source = \"auto\""));
    }
    Ok(addresses)
}

/// When the log is cut; each key has a default.
fn storage(root: &Section<'_>, report: &mut Report<'_>) -> Option<LogLimits> {
    let usual = LogLimits::default();
    if !root.has("storage") {
        return Some(usual);
    }
    let section = root.table(report, "storage")?;
    section.refuse_unknown(report, &["snapshot_entries", "snapshot_mib", "tail_entries", "tail_mib"]);
    let mut entries = |key: &str| {
        section.given(report, key, |v| {
            values::integer(v, LOG_ENTRIES_MIN..=LOG_ENTRIES_MAX, "number of entries")
        })
    };
    let (snapshot_entries, tail_entries) = (entries("snapshot_entries"), entries("tail_entries"));
    let mut mib =
        |key: &str| section.given(report, key, |v| values::integer(v, 1..=LOG_MIB_MAX, "number of MiB"));
    let (snapshot_mib, tail_mib) = (mib("snapshot_mib"), mib("tail_mib"));
    Some(LogLimits {
        snapshot_entries: snapshot_entries.or(usual.snapshot_entries)?,
        snapshot_bytes: snapshot_mib.or(usual.snapshot_bytes / MIB)? * MIB,
        tail_entries: tail_entries.or(usual.tail_entries)?,
        tail_bytes: tail_mib.or(usual.tail_bytes / MIB)? * MIB,
    })
}

fn per_vip(root: &Section<'_>, report: &mut Report<'_>) -> BTreeMap<String, NodeVip> {
    let mut all = BTreeMap::new();
    for (name, section) in root.named_tables(report, "vip") {
        section.refuse_unknown(report, &["interface", "priority", "advskew"]);
        if let Err(fault) = values::name_text(&name) {
            section.fault_here(report, fault);
        }
        let interface = section.given(report, "interface", values::interface);
        let priority = section.given(report, "priority", priority_or_owner);
        let advskew = section.given(report, "advskew", |v| values::integer(v, 0..=254, "advskew"));
        if section.has("priority") && section.has("advskew") {
            let what = "`priority` is there as well, and says the same the other way round";
            section.fault(report, "advskew", Fault::new(what, "remove one of the two"));
        }
        if let (Some(interface), Some(priority), Some(advskew)) =
            (interface.optional(), priority.optional(), advskew.optional())
        {
            all.insert(name, NodeVip { interface, priority, advskew });
        }
    }
    all
}

/// The `[cluster]` section.
#[derive(Default)]
struct Cluster {
    name: Option<String>,
    insecure: bool,
    members: Vec<Member>,
}

fn cluster(root: &Section<'_>, report: &mut Report<'_>, own: Option<&str>) -> Cluster {
    let Some(section) = root.table(report, "cluster") else {
        let remedy = "add [cluster] with its name and this node's own address, such as \"10.0.0.1:7300\"";
        root.fault(report, "cluster", Fault::new("missing", remedy));
        return Cluster::default();
    };
    section.refuse_unknown(report, &["name", "address", "witness", "insecure", "member"]);
    let name = section.required(report, "name", "\"demo\"", values::name);
    let address = section.given(report, "address", values::target).optional().flatten();
    let witness = section.given(report, "witness", values::boolean).or(false).unwrap_or_default();
    let insecure = section.given(report, "insecure", values::boolean).or(false).unwrap_or_default();
    let sections = section.tables(report, "member", "name", MEMBERS_MAX);
    if let (Some(address), false) = (address, insecure) {
        if !sections.is_empty() {
            section.fault(report, "member", not_beside_an_address());
        }
        let own = own.map(|own| Member { id: 1, name: own.to_owned(), address, witness });
        return Cluster { name, insecure, members: own.into_iter().collect() };
    }
    if (address.is_some() || witness) && (insecure || !sections.is_empty()) {
        let key = if address.is_some() { "address" } else { "witness" };
        let fault = Fault::new(
            "not beside `insecure` or a list of members",
            "keep it, and remove `insecure` and the list: nodes then join by a token; or write it in the list only",
        );
        section.fault(report, key, fault);
    }
    if sections.is_empty() && !insecure {
        let remedy = "add this node's own address for the other nodes, such as address = \"10.0.0.1:7300\"";
        section.fault(report, "address", Fault::new("missing", remedy));
    } else if sections.is_empty() {
        let fault = Fault::new("no members", "add each node as [[cluster.member]], this one too");
        section.fault(report, "member", fault);
    } else if !insecure {
        section.fault(report, "member", encrypted_needs_no_list());
    }
    let members = members(&section, &sections, report);
    Cluster { name, insecure, members }
}

fn not_beside_an_address() -> Fault {
    Fault::new("a list of members beside `address`", "remove the list: nodes join by `cygnet cluster join`")
}

/// For those whose file comes from before links were encrypted.
fn encrypted_needs_no_list() -> Fault {
    Fault::new(
        "a list of members is only for links without encryption",
        "write this node's own `address` in [cluster] instead, and use `cygnet cluster init` on the first node and \
         `cygnet cluster join` on the others; or add `insecure = true`",
    )
}

fn members(section: &Section<'_>, sections: &[Section<'_>], report: &mut Report<'_>) -> Vec<Member> {
    let mut taken = Taken::default();
    let members: Vec<Member> =
        sections.iter().filter_map(|section| member(section, report, &mut taken)).collect();
    if !members.is_empty() && members.len() == sections.len() && members.iter().all(|member| member.witness) {
        let fault =
            Fault::new("all members are witnesses", "at least one must carry traffic: remove its `witness`");
        section.fault(report, "member", fault);
    }
    members
}

/// One member. `taken` holds the identifiers, names and addresses of earlier ones.
fn member(section: &Section<'_>, report: &mut Report<'_>, taken: &mut Taken) -> Option<Member> {
    section.refuse_unknown(report, &["id", "name", "address", "witness"]);
    let id = section.required(report, "id", "1", |v| values::integer(v, 1..=u64::from(u32::MAX), "id"));
    let name = section.required(report, "name", "\"lb1\"", values::name);
    let address = section.required(report, "address", "\"10.0.0.1:7300\"", values::target);
    let witness = section.given(report, "witness", values::boolean);
    let claims = [
        ("id", id.map(|id| id.to_string())),
        ("name", name.clone()),
        ("address", address.map(|address| address.to_string())),
    ];
    for (key, value) in claims {
        taken.claim(section, report, key, value);
    }
    Some(Member { id: id?, name: name?, address: address?, witness: witness.or(false)? })
}
