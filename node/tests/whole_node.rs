//! Whole nodes, the built program, on the loopback interface and without holding virtual addresses.

mod node;

use std::net::TcpListener;

use node::{Node, Servers, until};

#[test]
fn a_node_serves_drains_and_finds_everything_again_after_a_stop_and_after_a_kill() {
    let servers = Servers::start(["s1", "s2"]);
    let mut node = Node::new("source = \"127.0.0.1\"");
    node.start();
    node.apply(&node.service(&servers));
    assert_eq!(node.answers(4), ["s1", "s2"]);

    let drained = node.cygnet(&["server", "drain", "web", "s1", "--yes"]);
    assert!(drained.ok(), "{drained:?}");
    assert_eq!(node.answers(6), ["s2"], "from the moment that the command has returned");

    assert!(node.terminate().success(), "{}", node.log());
    assert!(!node.api().exists(), "the socket is gone");
    node.start();
    until("it serves again", || node.ask().is_ok());
    assert_eq!(node.answers(6), ["s2"], "the drain is still there");
    assert_eq!(node.cygnet(&["config", "show"]).out, node.service(&servers));

    node.kill();
    assert!(node.api().exists(), "left behind");
    node.start();
    until("it serves again", || node.ask().is_ok());
    assert!(node.cygnet(&["server", "ready", "web", "s1"]).ok());
    assert_eq!(node.answers(4), ["s1", "s2"]);
    assert!(node.cygnet(&["events"]).out.contains("connections fit"));
}

#[test]
fn a_stop_during_the_start_is_a_stop() {
    let mut node = Node::new("");
    node.spawn();
    // As early as can be seen from outside: the socket is bound before the log is opened.
    until("the socket is there", || node.api().exists());
    assert!(node.terminate().success(), "{}", node.log());
    assert!(!node.api().exists());
}

#[test]
fn a_taken_port_is_told_and_is_used_when_it_is_free() {
    let servers = Servers::start(["s1"]);
    let mut node = Node::new("source = \"127.0.0.1\"");
    node.start();
    let taken = TcpListener::bind(node.listen()).unwrap();
    node.apply(&node.service(&servers));
    let status = node.cygnet(&["status"]).out;
    assert!(status.starts_with("DOWN"), "{status}");
    assert!(
        status.contains("service web cannot listen on") && status.contains("no service can listen"),
        "{status}"
    );
    drop(taken);
    until("it serves", || node.ask().is_ok());
    let events = node.cygnet(&["events"]).out;
    assert_eq!(events.matches("cannot listen on").count(), 1, "told once: {events}");
    assert!(events.contains(&format!("listens on {} now", node.listen())), "{events}");
}

#[test]
fn a_second_node_on_the_same_socket_is_refused() {
    let mut node = Node::new("");
    node.start();
    let refused = node.second();
    let why = format!(
        "error: another process listens on {}; stop it, or give this node another socket with `api`\n",
        node.api().display()
    );
    assert_eq!((refused.code, &*refused.err), (Some(1), &*why));
    assert!(node.cygnet(&["status"]).ok(), "the first one is not disturbed");
}

#[test]
fn a_source_that_is_a_virtual_address_is_refused_when_applied_and_when_started() {
    let text = "[[vip]]\nname = \"www\"\naddress = \"192.0.2.100\"\nprotocol = \"vrrp3\"\nid = 51\nmode = \"watch\"\n";
    let why = "source: \"192.0.2.100\" is virtual (vip www): it moves away with the address and breaks every backend \
               session; write this node's own address, or \"auto\"";

    let mut fixed = Node::new("interface = \"lo\"\nsource = \"192.0.2.100\"");
    fixed.start();
    let refused = fixed.try_apply(text);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains(why), "{refused:?}");

    let mut node = Node::new("interface = \"lo\"");
    node.start();
    node.apply(text);
    assert!(node.terminate().success(), "{}", node.log());
    node.write("interface = \"lo\"\nsource = \"192.0.2.100\"");
    let refused = node.second();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.ends_with(&format!("error: node: {why}\n")), "{refused:?}");
    assert!(!node.api().exists(), "nothing stays behind");
    node.write("interface = \"lo\"");
    node.start();
    assert_eq!(node.cygnet(&["config", "show"]).out, text);
}

#[test]
fn a_witness_decides_with_the_others_carries_nothing_and_complains_of_nothing() {
    let servers = Servers::start(["s1"]);
    // The balancer may not reach the server either, for it has no such source; the witness does not care.
    let [mut balancer, mut witness] =
        Node::cluster([("lb1", "source = \"192.0.2.1\""), ("witness", "source = \"192.0.2.1\"")]);
    balancer.spawn();
    witness.spawn();
    balancer.decides();
    let text = balancer.service(&servers);
    balancer.apply(&text);
    until("the balancer misses its source", || {
        balancer.cygnet(&["events"]).out.contains("no source address")
    });
    until("the witness has it", || witness.cygnet(&["config", "show"]).out == text);
    let list = witness.cygnet(&["server", "list"]);
    assert_eq!(list.code, Some(1), "{list:?}");
    assert!(
        list.err.contains(
            "this node is a witness and carries no traffic
  ask one of the balancers"
        ),
        "{list:?}"
    );
    let events = witness.cygnet(&["events"]).out;
    assert!(!events.contains("source") && !events.contains("alert"), "{events}");
    assert!(witness.terminate().success(), "{}", witness.log());
}

#[test]
fn a_node_that_cannot_run_a_version_goes_on_with_its_old_one_and_still_hears_of_drains() {
    // It has no interface for the virtual address.
    const BAD_FOR_LB2: &str = "[[vip]]\nname = \"www\"\naddress = \"192.0.2.100\"\nprotocol = \"vrrp3\"\nid = 51\nmode = \"watch\"\n";
    let servers = Servers::start(["s1", "s2"]);
    let [mut one, mut two, mut witness] = Node::cluster([
        ("lb1", "interface = \"lo\"\nsource = \"127.0.0.1\""),
        ("lb2", "source = \"127.0.0.1\""),
        ("witness", ""),
    ]);
    for node in [&mut one, &mut two, &mut witness] {
        node.spawn();
    }
    two.decides();
    let good = two.service(&servers);
    one.decides();
    one.apply(&good);
    until("both run it", || two.cygnet(&["events"]).out.contains("configuration v1 runs"));
    // It does not hear of the next version, and cannot object.
    assert!(two.terminate().success(), "{}", two.log());
    let bad = format!("{good}{BAD_FOR_LB2}");
    until("the others agree without it", || one.try_apply(&bad).ok());
    two.spawn();
    until("it is refused", || two.cygnet(&["status"]).out.contains("config v2 does not run here"));
    assert!(two.cygnet(&["events"]).out.contains("configuration v2 does not run here; v1 goes on"));

    assert!(one.cygnet(&["server", "drain", "web", "s1", "--yes"]).ok());
    until("the drain comes through", || two.cygnet(&["server", "list"]).out.contains("drain"));
    let events = two.cygnet(&["events"]).out;
    assert_eq!(events.matches("configuration v2 does not run here").count(), 1, "told once: {events}");

    one.apply(&good);
    until("the next version runs", || two.cygnet(&["events"]).out.contains("configuration v3 runs"));
    assert!(!two.cygnet(&["status"]).out.contains("does not run here"));
}
