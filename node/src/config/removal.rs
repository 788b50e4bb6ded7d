//! A bound on what one change may remove: the wrong file, or half of the right one, is not applied by a tired hand.

use super::model::{ClusterConfig, Service};

/// One change may remove up to this share of the virtual addresses, of the services, and of the servers, in percent. Half:
/// the old half of a fleet may go when the new one has come, while a file for another cluster, or one that was cut off, loses more.
pub const REMOVED_PERCENT_MAX: usize = 50;

/// ... and always so many of each: with one or two of a kind, a share says nothing.
pub const REMOVED_ALWAYS: usize = 1;

/// What a change removes of one kind, when it is too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The kind, in the plural.
    pub kind: &'static str,
    /// How many go.
    pub removed: usize,
    /// Of how many.
    pub of: usize,
}

impl std::fmt::Display for Removal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} of {} {}", self.removed, self.of, self.kind)
    }
}

/// Services by name, servers by service and name.
type Names = Vec<(String, String)>;

/// The kinds of which a change removes more than it may without being forced. Objects are known by their names: one that is
/// renamed is removed.
#[must_use]
pub fn excessive(before: &ClusterConfig, after: &ClusterConfig) -> Vec<Removal> {
    let alone = |name: &String| (name.clone(), String::new());
    let vips = |config: &ClusterConfig| -> Names { config.vips.iter().map(|vip| alone(&vip.name)).collect() };
    let services = |config: &ClusterConfig| -> Names {
        config.services.iter().map(|service| alone(&service.name)).collect()
    };
    let servers = |config: &ClusterConfig| -> Names {
        let of = |service: &Service| -> Names {
            let names = service.servers.iter().map(|server| server.name.clone());
            names.map(|server| (service.name.clone(), server)).collect()
        };
        config.services.iter().flat_map(of).collect()
    };
    let kinds = [
        ("virtual addresses", vips(before), vips(after)),
        ("services", services(before), services(after)),
        ("servers", servers(before), servers(after)),
    ];
    kinds.into_iter().filter_map(|(kind, before, after)| too_much(kind, &before, &after)).collect()
}

fn too_much(kind: &'static str, before: &[(String, String)], after: &[(String, String)]) -> Option<Removal> {
    let stay: std::collections::BTreeSet<_> = after.iter().collect();
    let removed = before.iter().filter(|name| !stay.contains(name)).count();
    let of = before.len();
    let much = removed > REMOVED_ALWAYS && removed * 100 > of * REMOVED_PERCENT_MAX;
    much.then_some(Removal { kind, removed, of })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_cluster;

    /// So many services with so many servers each, from the first one on.
    fn config(services: usize, servers: usize) -> ClusterConfig {
        let mut text = String::new();
        for service in 0..services {
            let port = 8000 + service;
            text.push_str(&format!("[[service]]\nname = \"w{service}\"\nlisten = [\"10.0.0.1:{port}\"]\n"));
            for server in 0..servers {
                let last = server + 1;
                text.push_str(&format!(
                    "[[service.server]]\nname = \"s{server}\"\naddress = \"10.1.0.{last}:80\"\n"
                ));
            }
        }
        parse_cluster(&text, "c.toml").unwrap()
    }

    fn told(before: &ClusterConfig, after: &ClusterConfig) -> Vec<String> {
        excessive(before, after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn up_to_half_of_a_kind_may_go_and_one_always() {
        assert!(told(&config(4, 4), &config(2, 4)).is_empty());
        assert!(told(&config(1, 4), &config(1, 2)).is_empty());
        assert!(told(&config(1, 1), &ClusterConfig::default()).is_empty(), "the only one was meant");
        assert!(told(&config(2, 1), &config(9, 9)).is_empty(), "what comes is no matter");
    }

    #[test]
    fn more_is_told_in_numbers_for_each_kind() {
        assert_eq!(told(&config(4, 2), &config(1, 2)), ["3 of 4 services", "6 of 8 servers"]);
        assert_eq!(told(&config(1, 3), &config(1, 1)), ["2 of 3 servers"]);
        assert_eq!(told(&config(1, 2), &ClusterConfig::default()), ["2 of 2 servers"]);
    }

    #[test]
    fn a_server_that_moves_to_another_service_is_removed_from_the_first() {
        let mut after = config(1, 3);
        after.services[0].name = "other".to_owned();
        assert_eq!(told(&config(1, 3), &after), ["3 of 3 servers"]);
    }
}
