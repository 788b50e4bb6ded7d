use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use super::{Address, Changes, Kernel, RouteKind, Snapshot};
use crate::testns::{DEADLINE, in_namespace, ip, runtime, veth};
use crate::{sys, wire::Mac};

const NO_INTERFACE: u32 = 9999;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// In a namespace with the cable `eth0`-`eth1`: the kernel, and the index of `eth0`.
fn with_kernel<F: Future<Output = ()>>(test: impl FnOnce(Kernel, u32) -> F) {
    veth("eth0", "eth1");
    let index = sys::interface_index("eth0").expect("eth0");
    runtime().block_on(async { test(Kernel::connect().expect("a kernel"), index).await });
}

async fn entry(kernel: &Kernel, interface: u32, wanted: IpAddr) -> Vec<Address> {
    let snapshot = kernel.snapshot().await.expect("a snapshot");
    let found = snapshot.addresses.into_iter().filter(|a| a.interface == interface && a.address == wanted);
    found.collect()
}

#[test]
fn an_address_is_added_once_and_removed_once() {
    in_namespace(|| {
        with_kernel(|kernel, index| async move {
            for wanted in [address("10.9.0.100"), address("fd00::100")] {
                assert!(kernel.add_address(index, wanted).await.expect("added"), "{wanted} is new");
                assert!(!kernel.add_address(index, wanted).await.expect("added"), "{wanted} was there");
                let found = entry(&kernel, index, wanted).await;
                let [found] = found.as_slice() else { panic!("not once: {found:?}") };
                assert_eq!(found.prefix, if wanted.is_ipv4() { 32 } else { 128 });
                assert_eq!((found.ours, found.tentative, found.peer), (true, false, None));
                assert_eq!(found.deprecated, wanted.is_ipv6(), "the kernel must not pick it as a source");
                assert!(kernel.remove_address(index, wanted).await.expect("removed"), "{wanted} was there");
                assert!(!kernel.remove_address(index, wanted).await.expect("removed"), "{wanted} is gone");
                assert_eq!(entry(&kernel, index, wanted).await, []);
            }
            let routes = kernel.snapshot().await.expect("a snapshot").routes;
            assert!(routes.iter().all(|route| route.prefix != 128 && route.prefix != 32), "{routes:?}");
        });
    });
}

#[test]
fn an_address_with_a_wider_prefix_is_never_removed() {
    in_namespace(|| {
        with_kernel(|kernel, index| async move {
            for (wanted, prefix) in [(address("10.9.0.100"), 24), (address("fd00::100"), 64)] {
                ip(&format!("address add {wanted}/{prefix} dev eth0"));
                assert!(!kernel.remove_address(index, wanted).await.expect("removed"), "{wanted}");
                let _ = kernel.add_address(index, wanted).await.expect("added");
                let _ = kernel.remove_address(index, wanted).await.expect("removed");
                let found = entry(&kernel, index, wanted).await;
                let [found] = found.as_slice() else { panic!("the operator's {wanted}: {found:?}") };
                assert_eq!((found.prefix, found.ours), (prefix, false));
            }
            ip("address add 10.9.0.7 peer 10.9.0.8/32 dev eth0");
            assert!(
                !kernel.remove_address(index, address("10.9.0.7")).await.expect("removed"),
                "its peer differs"
            );
        });
    });
}

#[test]
fn an_interface_that_is_gone_has_no_address_to_remove_and_takes_none() {
    in_namespace(|| {
        with_kernel(|kernel, _| async move {
            let wanted = address("10.9.0.100");
            assert!(!kernel.remove_address(NO_INTERFACE, wanted).await.expect("removed"));
            let refused = kernel.add_address(NO_INTERFACE, wanted).await.expect_err("no interface");
            assert_eq!(refused.raw_os_error(), Some(libc::ENODEV));
        });
    });
}

#[test]
fn a_snapshot_shows_links_addresses_and_the_routes_of_the_main_table() {
    in_namespace(|| {
        with_kernel(|kernel, index| async move {
            ip("link set eth0 address 02:00:00:00:00:aa");
            ip("address add 10.9.0.1/24 dev eth0");
            ip("route add default via 10.9.0.254 metric 7");
            ip("route add 10.20.0.0/16 via 10.9.0.253 src 10.9.0.1");
            ip("route add unreachable 10.30.0.0/16");
            ip("route add 10.40.0.0/16 nexthop via 10.9.0.2 nexthop via 10.9.0.3");
            ip("route add 10.50.0.0/16 via 10.9.0.2 table 77");
            ip("link set eth1 down");
            let snapshot = kernel.snapshot().await.expect("a snapshot");
            assert!(!snapshot.truncated);
            let a = snapshot.link("eth0").expect("eth0");
            assert_eq!((a.index, a.mac, a.up), (index, Mac([2, 0, 0, 0, 0, 0xaa]), false), "no carrier");
            assert_eq!(snapshot.link_at(index), Some(a));
            assert!(snapshot.link("lo").is_some_and(|lo| lo.up));
            assert!(snapshot.has_address(index, address("10.9.0.1")));
            assert!(!snapshot.has_address(index, address("127.0.0.1")), "that is of lo");
            assert_eq!(v4_routes(&snapshot), EXPECTED_ROUTES);
        });
    });
}

const EXPECTED_ROUTES: [&str; 6] = [
    "0.0.0.0/0 via 10.9.0.254 metric 7",
    "10.9.0.0/24 src 10.9.0.1 metric 0",
    "10.20.0.0/16 via 10.9.0.253 src 10.9.0.1 metric 0",
    "10.30.0.0/16 reject metric 0",
    "10.40.0.0/16 via 10.9.0.2 metric 0",
    "10.40.0.0/16 via 10.9.0.3 metric 0",
];

fn v4_routes(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for route in snapshot.routes.iter().filter(|route| route.destination.is_ipv4()) {
        let mut line = format!("{}/{}", route.destination, route.prefix);
        if let Some(gateway) = route.gateway {
            line += &format!(" via {gateway}");
        }
        if let Some(source) = route.preferred_source {
            line += &format!(" src {source}");
        }
        if route.kind == RouteKind::Reject {
            line += " reject";
        }
        lines.push(format!("{line} metric {}", route.metric));
    }
    lines
}

async fn is_told(changes: &mut Changes) -> bool {
    match tokio::time::timeout(DEADLINE, changes.changed()).await {
        Ok(result) => result.map(|()| true).expect("a working socket"),
        Err(_) => false,
    }
}

/// Nothing more is waiting.
async fn is_quiet(changes: &mut Changes) -> bool {
    tokio::time::timeout(Duration::from_millis(50), changes.changed()).await.is_err()
}

#[test]
fn each_kind_of_change_wakes_the_watcher() {
    in_namespace(|| {
        veth("eth0", "eth1");
        runtime().block_on(async {
            let mut changes = Kernel::watch().expect("a watch");
            for change in [
                "link set eth0 down",
                "link set eth0 up",
                "address add 10.9.0.1/24 dev eth0",
                "address delete 10.9.0.1/24 dev eth0",
                "address add fd00::1/64 dev eth0",
                "route add 10.20.0.0/16 dev eth0",
                "link add new type veth",
                "link delete eth0",
            ] {
                ip(change);
                assert!(is_told(&mut changes).await, "{change}");
                while !is_quiet(&mut changes).await {}
            }
        });
    });
}

#[test]
fn a_burst_is_one_wake_up() {
    in_namespace(|| {
        veth("eth0", "eth1");
        runtime().block_on(async {
            let mut changes = Kernel::watch().expect("a watch");
            for host in 1..20 {
                ip(&format!("address add 10.9.0.{host}/32 dev eth0"));
            }
            assert!(is_told(&mut changes).await);
            assert!(is_quiet(&mut changes).await, "everything was taken");
        });
    });
}

#[test]
fn news_that_the_kernel_had_to_drop_is_a_wake_up() {
    in_namespace(|| {
        veth("eth0", "eth1");
        runtime().block_on(async {
            let mut changes = Kernel::watch().expect("a watch");
            let smallest = 1;
            sys::set_option(changes.socket.get_ref(), libc::SOL_SOCKET, libc::SO_RCVBUF, smallest)
                .expect("a small buffer");
            for host in 1..40 {
                ip(&format!("address add 10.9.0.{host}/32 dev eth0"));
            }
            let first = sys::receive_packet(changes.socket.get_ref(), &mut []);
            assert_eq!(first.expect_err("too much").raw_os_error(), Some(libc::ENOBUFS));
            ip("address flush dev eth0");
            for host in 1..40 {
                ip(&format!("address add 10.9.1.{host}/32 dev eth0"));
            }
            assert!(is_told(&mut changes).await, "the overflow itself is news");
            while !is_quiet(&mut changes).await {}
            ip("address add 10.9.2.1/32 dev eth0");
            assert!(is_told(&mut changes).await, "and it goes on");
        });
    });
}
