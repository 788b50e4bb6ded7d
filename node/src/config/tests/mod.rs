//! Good files, wrong files with the exact words, pairs, differences, and arbitrary text.

mod good;
mod page;
mod pair;
mod properties;
mod wrong_cluster;
mod wrong_node;
mod wrong_services;

use super::*;

pub(super) const NODE: &str = r#"name = "lb1"
interface = "eth0"
[cluster]
name = "demo"
insecure = true
[[cluster.member]]
id = 1
name = "lb1"
address = "10.0.0.1:7300"
[[cluster.member]]
id = 2
name = "lb2"
address = "10.0.0.2:7300"
"#;

pub(super) const CLUSTER: &str = r#"[[vip]]
name = "www"
address = "192.0.2.100"
protocol = "vrrp3"
id = 51
mode = "hold"
[[service]]
name = "web"
listen = ["192.0.2.100:80"]
[[service.server]]
name = "s1"
address = "10.1.0.11:8080"
"#;

/// The sample with one line replaced; the line must be there.
pub(super) fn with(sample: &str, line: &str, replacement: &str) -> String {
    assert!(sample.contains(line), "the sample has no {line}");
    sample.replacen(line, replacement, 1)
}

/// The problems as printed, one a line.
pub(super) fn printed(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
