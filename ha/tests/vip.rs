//! The driver at work: nodes in network namespaces on a bridge, which elect, move, die and freeze.
//!
//! Each test runs again inside namespaces of its own. A node is a process of this very binary (`node_process`), told what
//! to do by lines; its guard is another (`guard_process`).

#[path = "vip/carp.rs"]
mod carp;
#[path = "vip/election.rs"]
mod election;
#[path = "vip/faults.rs"]
mod faults;
#[path = "vip/keepalived.rs"]
mod keepalived;
#[path = "vip/lab.rs"]
mod lab;
#[path = "vip/node.rs"]
mod node;
#[path = "vip/stranger.rs"]
mod stranger;

/// Not a test: the life of a node, when a test starts one.
#[test]
#[ignore = "a part of the other tests"]
fn node_process() {
    node::live();
}

/// Not a test: the guard of such a node.
#[test]
#[ignore = "a part of the other tests"]
fn guard_process() {
    if std::env::var_os(node::SETTINGS).is_some() {
        cygnet_netlink::guard::run().expect("the guard runs");
    }
}
