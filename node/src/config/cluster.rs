//! The cluster's file as a whole.

use std::time::Duration;

use super::model::ClusterConfig;
use super::problem::{Problem, Report};
use super::section::{Section, Taken, document};
use super::vip::vip;
use super::{TEXT_BYTES_MAX, cross, direct, groups, lists, service, too_long};

/// Most virtual addresses: as many as there are identifiers of one protocol.
pub const VIPS_MAX: usize = 255;
/// Most services: each has its listening sockets on each worker.
pub const SERVICES_MAX: usize = 256;
/// Most addresses one service listens on.
pub const LISTENS_MAX: usize = 64;
/// Most servers of one service: choosing may look at all of them.
pub const SERVERS_MAX: usize = 1024;
/// Largest weight of a server.
pub const WEIGHT_MAX: u16 = 256;
/// Most connections at once that a limit can name.
pub const CONNECTIONS_MAX: u32 = 1_000_000;
/// Most access lists.
pub const ACLS_MAX: usize = 256;
/// Most entries of one access list: each client is compared with them one by one.
pub const ACL_ENTRIES_MAX: usize = 4096;
/// Most routes of one service.
pub const ROUTES_MAX: usize = 256;
/// Most names of one route.
pub const ROUTE_NAMES_MAX: usize = 256;
/// Most connections that are kept open without a client.
pub const IDLERS_MAX: u32 = 1000;

/// Time to connect to a server when the file does not say.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for which a failed server is left alone when the file does not say.
pub const DEFAULT_BLACKLIST: Duration = Duration::from_secs(30);
/// Time after which a silent connection is closed when the file does not say: without it, the connections of
/// clients that vanished would never end.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// The same for UDP, where a client never says that it is done, and each takes a socket meanwhile.
pub const DEFAULT_UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a cluster file. `file` is its name in messages.
///
/// # Errors
/// Every problem found, in the order of the text.
pub fn parse_cluster(text: &str, file: &str) -> Result<ClusterConfig, Vec<Problem>> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(vec![too_long(text, file)]);
    }
    let mut report = Report::new(text, file);
    let config = document(text, &mut report).map(|document| cluster(&Section::root(&document), &mut report));
    match config {
        Some(config) if report.is_clean() => Ok(config),
        _ => Err(report.finish()),
    }
}

/// What is left after faults is incomplete, and thrown away by the caller.
fn cluster(root: &Section<'_>, report: &mut Report<'_>) -> ClusterConfig {
    root.refuse_unknown(report, &["vip", "service", "acl"]);
    let mut taken = Taken::default();
    let vips = root.tables(report, "vip", "name", VIPS_MAX);
    let read: Vec<_> = vips.iter().map(|section| vip(section, report, &mut taken)).collect();
    groups::refuse_unlike(&vips, &read, report);
    let vips = read.into_iter().flatten().collect();
    let mut taken = Taken::default();
    let acls = root.tables(report, "acl", "name", ACLS_MAX);
    let acls = acls.iter().filter_map(|section| lists::acl(section, report, &mut taken)).collect();
    let mut taken = Taken::default();
    let mut listeners = Vec::new();
    let sections = root.tables(report, "service", "name", SERVICES_MAX);
    let services: Vec<_> = sections
        .iter()
        .map(|section| service::service(section, report, &mut taken, &mut listeners))
        .collect();
    let named = cross::Named::new(root, &sections);
    for (section, service) in sections.iter().zip(&services) {
        cross::check(section, service.as_ref(), report, &named, &listeners);
    }
    let cluster = ClusterConfig { vips, services: services.into_iter().flatten().collect(), acls };
    direct::refuse_conflicts(&cluster, &sections, report);
    cluster
}
