//! Configuration: files in, one checked model out.
//!
//! [`parse_node`] and [`parse_cluster`] read the two files and report everything that is wrong at once;
//! [`check_pair`] looks at both together; [`vip_settings`] is what the elections get; [`diff`] says what a change
//! changes, [`removal`] whether it removes suspiciously much; [`to_toml`] writes a model down. Nothing here reads a file, a clock or the network.

mod check;
mod cluster;
mod cross;
pub mod diff;
mod direct;
mod groups;
mod lists;
mod locate;
pub mod model;
mod node;
mod pair;
mod print;
mod problem;
pub mod removal;
mod roles;
mod section;
mod secure;
mod server;
mod service;
mod values;
mod vip;

#[cfg(test)]
mod tests;

pub use check::{CHECK_BYTES_MAX, CHECK_INTERVAL_MAX, CHECK_INTERVAL_MIN, CHECK_PATH_MAX, CHECK_ROW_MAX};
pub use cluster::{
    ACL_ENTRIES_MAX, ACLS_MAX, CONNECTIONS_MAX, DEFAULT_BLACKLIST, DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_IDLE_TIMEOUT, DEFAULT_UDP_IDLE_TIMEOUT, IDLERS_MAX, LISTENS_MAX, ROUTE_NAMES_MAX, ROUTES_MAX,
    SERVERS_MAX, SERVICES_MAX, VIPS_MAX, WEIGHT_MAX, parse_cluster,
};
pub(crate) use cross::all_servers;
pub use locate::{FileKind, file_kind, locate};
pub use node::{DEFAULT_API, DEFAULT_PRIORITY, DEFAULT_STATE_DIR, MEMBERS_MAX, WORKERS_MAX, parse_node};
pub use pair::{CLUSTER_FILE, NODE_FILE, check_pair, parse_cluster_for, vip_settings, virtual_source};
pub use print::to_toml;
pub use problem::{PROBLEMS_MAX, Problem};
pub(crate) use section::shortened;
pub use secure::{ALPN_BYTES_MAX, ALPN_MAX, WORDS_BYTES_MAX};
pub use values::{
    HOST_BYTES_MAX, INTERFACE_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, SOCKET_PATH_BYTES_MAX,
};
pub use vip::{ADDRESSES_MAX, DEFAULT_INTERVAL, PASSWORD_BYTES_MAX, PREEMPT_DELAY_MAX, protocol_word};

/// Longest configuration text in bytes. The cluster's text is one entry of the replicated log, kept in memory a few
/// times over.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

fn too_long(text: &str, file: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        line: 0,
        column: 0,
        key: String::new(),
        what: format!("the text has {} bytes, and {TEXT_BYTES_MAX} is the limit", text.len()),
        remedy: "split it over several clusters".to_owned(),
    }
}
