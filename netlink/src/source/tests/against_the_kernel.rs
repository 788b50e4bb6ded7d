//! The measured cases in which Linux takes the virtual address, and those in which it does not: each is set up in a
//! namespace, the kernel is asked for its choice, and ours is compared.

use std::net::IpAddr;

use super::ip as addr;
use crate::kernel::Kernel;
use crate::source::{NoSource, choose};
use crate::testns::{in_namespace, ip, runtime, settle, veth};

struct Case {
    name: &'static str,
    /// Arguments of `ip`, in order; first those of `address`, then a default route.
    addresses: &'static [&'static str],
    default_route: bool,
    /// Whether the kernel keeps the other addresses of a subnet when its first one goes.
    promote: bool,
    target: &'static str,
    /// The kernel's choice; `None`: no route.
    kernel: Option<&'static str>,
    /// Ours.
    ours: Option<&'static str>,
}

const OWN: &str = "10.9.0.1";
const ELSEWHERE: &str = "172.16.0.1";
const VIRTUAL: &str = "10.9.0.100";
const OWN6: &str = "fd00::1";
const VIRTUAL6: &str = "fd00::100";

/// Without further ado: the target is in the subnet, the kernel takes the virtual address, we take our own.
const CASE: Case = Case {
    name: "",
    addresses: &[],
    default_route: false,
    promote: false,
    target: "10.9.0.50",
    kernel: Some(VIRTUAL),
    ours: Some(OWN),
};

const VIA_ROUTER: Case = Case { default_route: true, target: "198.51.100.7", ..CASE };
const CASE6: Case = Case { target: "fd00::50", kernel: Some(VIRTUAL6), ours: Some(OWN6), ..CASE };

const CASES: [Case; 15] = [
    Case {
        name: "own, then virtual /24 (secondary)",
        addresses: &["add 10.9.0.1/24 dev eth0", "add 10.9.0.100/24 dev eth0"],
        kernel: Some(OWN),
        ..CASE
    },
    Case {
        name: "own, then virtual /32",
        addresses: &["add 10.9.0.1/24 dev eth0", "add 10.9.0.100/32 dev eth0"],
        kernel: Some(OWN),
        ..CASE
    },
    Case {
        name: "virtual /24 first",
        addresses: &["add 10.9.0.100/24 dev eth0", "add 10.9.0.1/24 dev eth0"],
        ..CASE
    },
    Case {
        name: "virtual /24 first, through a default route",
        addresses: &["add 10.9.0.100/24 dev eth0", "add 10.9.0.1/24 dev eth0"],
        ..VIA_ROUTER
    },
    Case {
        name: "virtual /32 first",
        addresses: &["add 10.9.0.100/32 dev eth0", "add 10.9.0.1/24 dev eth0"],
        kernel: Some(OWN),
        ..CASE
    },
    Case {
        name: "virtual /32 first, through a default route",
        addresses: &["add 10.9.0.100/32 dev eth0", "add 10.9.0.1/24 dev eth0"],
        kernel: Some(OWN),
        ..VIA_ROUTER
    },
    Case {
        name: "own removed without promotion, which takes the virtual one along",
        addresses: &["add 10.9.0.1/24 dev eth0", "add 10.9.0.100/24 dev eth0", "delete 10.9.0.1/24 dev eth0"],
        kernel: None,
        ours: None,
        ..CASE
    },
    Case {
        name: "own removed with promotion, and added again",
        addresses: &[
            "add 10.9.0.1/24 dev eth0",
            "add 10.9.0.100/24 dev eth0",
            "delete 10.9.0.1/24 dev eth0",
            "add 10.9.0.1/24 dev eth0",
        ],
        promote: true,
        ..CASE
    },
    Case {
        name: "own only in another subnet",
        addresses: &["add 172.16.0.1/24 dev eth0", "add 10.9.0.100/24 dev eth0"],
        ours: Some(ELSEWHERE),
        ..CASE
    },
    Case {
        name: "own only on another interface",
        addresses: &["add 172.16.0.1/24 dev eth1", "add 10.9.0.100/24 dev eth0"],
        ours: Some(ELSEWHERE),
        ..CASE
    },
    Case {
        name: "own /32, virtual /24",
        addresses: &["add 10.9.0.1/32 dev eth0", "add 10.9.0.100/24 dev eth0"],
        ..CASE
    },
    Case { name: "only the virtual address", addresses: &["add 10.9.0.100/24 dev eth0"], ours: None, ..CASE },
    Case {
        name: "IPv6, virtual /64 added later",
        addresses: &["add fd00::1/64 dev eth0", "add fd00::100/64 dev eth0"],
        ..CASE6
    },
    Case {
        name: "IPv6, virtual /128 added later",
        addresses: &["add fd00::1/64 dev eth0", "add fd00::100/128 dev eth0"],
        ..CASE6
    },
    Case {
        name: "IPv6, virtual /128 with preferred lifetime 0",
        addresses: &[
            "add fd00::1/64 dev eth0",
            "add fd00::100/128 dev eth0 preferred_lft 0 valid_lft forever",
        ],
        kernel: Some(OWN6),
        ..CASE6
    },
];

/// What `ip route get` says, which is what an unbound connection would use.
fn kernels_choice(target: &str) -> Option<IpAddr> {
    let output = std::process::Command::new("ip").args(["route", "get", target]).output().expect("ip runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    words.find(|word| *word == "src")?;
    words.next()?.parse().ok()
}

fn run(case: &Case) {
    veth("eth0", "eth1");
    let promote = if case.promote { "1" } else { "0" };
    for interface in ["all", "eth0"] {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries");
        std::fs::write(path, promote).expect("a setting");
    }
    case.addresses.iter().for_each(|arguments| drop(ip(&format!("address {arguments}"))));
    if case.default_route {
        ip("route add default via 10.9.0.254");
    }
    settle(&["eth0"]);
    assert_eq!(kernels_choice(case.target), case.kernel.map(addr), "the kernel: {}", case.name);

    let snapshot = runtime().block_on(async { Kernel::connect().expect("a kernel").snapshot().await });
    let snapshot = snapshot.expect("a snapshot");
    let is_virtual = |address| [VIRTUAL, VIRTUAL6].map(addr).contains(&address);
    let ours = choose(addr(case.target), &snapshot, &is_virtual);
    match case.ours {
        Some(expected) => assert_eq!(ours, Ok(addr(expected)), "{}", case.name),
        None if case.kernel.is_none() => {
            assert!(matches!(ours, Err(NoSource::NoRoute { .. })), "{}: {ours:?}", case.name);
        }
        None => assert!(matches!(ours, Err(NoSource::OnlyVirtual { .. })), "{}: {ours:?}", case.name),
    }
    ip("link delete eth0");
}

#[test]
fn the_kernel_would_take_the_virtual_address_and_we_do_not() {
    in_namespace(|| {
        CASES.iter().for_each(run);
        let by_kernel = CASES.iter().filter(|case| [Some(VIRTUAL), Some(VIRTUAL6)].contains(&case.kernel));
        println!(
            "{} cases; in {} of them the kernel takes the virtual address",
            CASES.len(),
            by_kernel.count()
        );
    });
}

#[test]
fn an_address_that_we_add_ourselves_never_becomes_the_kernels_choice() {
    in_namespace(|| {
        veth("eth0", "eth1");
        let index = crate::sys::interface_index("eth0").expect("eth0");
        runtime().block_on(async {
            let kernel = Kernel::connect().expect("a kernel");
            for virtual_address in [VIRTUAL, VIRTUAL6] {
                assert!(kernel.add_address(index, addr(virtual_address)).await.expect("added"));
            }
            ip("address add 10.9.0.1/24 dev eth0");
            ip("address add fd00::1/64 dev eth0");
        });
        settle(&["eth0"]);
        assert_eq!(kernels_choice("10.9.0.50"), Some(addr(OWN)));
        assert_eq!(kernels_choice("fd00::50"), Some(addr(OWN6)));
    });
}
