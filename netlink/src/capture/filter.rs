//! The classic BPF program of the capture. On a `SOCK_DGRAM` packet socket offset 0 is the header of the network layer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::SockFilter;

use super::{PACKET_OUTGOING, TAKE, VLAN_ID, ancillary, op};

/// Addresses whose neighbours can be heard: with IPv6 nine instructions each, and the kernel takes 4,096 (BPF_MAXINSNS).
pub const NEIGHBOURS_MAX: usize = 400;

/// The IP protocol of VRRP and of CARP.
const PROTOCOL_VRRP: u32 = 112;
const PROTOCOL_ICMPV6: u32 = 58;
/// Where IPv4 and IPv6 carry the protocol, bytes from the IP header.
const V4_PROTOCOL_AT: u32 = 9;
const V6_NEXT_HEADER_AT: u32 = 6;
/// The sender's address in ARP for IPv4 over Ethernet (RFC 826).
const ARP_SENDER_IP_AT: u32 = 14;
/// Type and target of a neighbour advertisement that follows the IPv6 header at once (RFC 4861 section 4.4).
const ICMPV6_TYPE_AT: u32 = 40;
const NEIGHBOUR_ADVERTISEMENT: u32 = 136;
const TARGET_AT: u32 = 48;

const fn load(at: u32) -> (u32, u32) {
    (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at)
}

const fn load_byte(at: u32) -> (u32, u32) {
    (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at)
}

/// A program under construction. Each test that ends it is followed by its answer, so that no jump is longer than its
/// offset of 8 bits allows.
#[derive(Default)]
struct Program(Vec<SockFilter>);

impl Program {
    fn load(&mut self, (code, at): (u32, u32)) {
        self.0.push(op(code, 0, 0, at));
    }

    fn answer(&mut self, value: u32) {
        self.0.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, value));
    }

    /// Ends with `answer` if the test holds.
    fn ends_if(&mut self, test: u32, value: u32, answer: u32) {
        self.0.push(op(libc::BPF_JMP | test | libc::BPF_K, 0, 1, value));
        self.answer(answer);
    }

    /// Ends with 0 unless the value is this.
    fn needs(&mut self, value: u32) {
        self.0.push(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, value));
        self.answer(0);
    }

    /// Runs `then`, which must end with an answer, if the value is this; goes on behind it otherwise.
    fn when(&mut self, value: u32, then: Self) {
        self.0.push(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, value));
        self.0.push(op(libc::BPF_JMP | libc::BPF_JA, 0, 0, then.0.len() as u32));
        self.0.extend(then.0);
    }
}

/// Takes packets of other hosts, outside of any VLAN above this interface, of protocol 112; and what says who has one of
/// `addresses`.
pub(super) fn program(addresses: &[IpAddr]) -> Vec<SockFilter> {
    let addresses = || addresses.iter().take(NEIGHBOURS_MAX);
    let of_v4 = addresses().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let of_v6 = addresses().filter_map(|address| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(*address),
    });
    let mut program = Program::default();
    program.load(load(ancillary(libc::SKF_AD_PKTTYPE)));
    program.ends_if(libc::BPF_JGE, PACKET_OUTGOING, 0);
    program.load(load(ancillary(libc::SKF_AD_VLAN_TAG)));
    program.ends_if(libc::BPF_JSET, VLAN_ID, 0);
    program.load(load(ancillary(libc::SKF_AD_PROTOCOL)));
    program.when(libc::ETH_P_IP as u32, ipv4());
    program.when(libc::ETH_P_ARP as u32, arp(of_v4));
    program.when(libc::ETH_P_IPV6 as u32, ipv6(of_v6));
    program.answer(0);
    program.0
}

fn ipv4() -> Program {
    let mut program = Program::default();
    program.load(load_byte(V4_PROTOCOL_AT));
    program.needs(PROTOCOL_VRRP);
    program.answer(TAKE);
    program
}

fn arp(addresses: impl Iterator<Item = Ipv4Addr>) -> Program {
    let mut program = Program::default();
    program.load(load(ARP_SENDER_IP_AT));
    for address in addresses {
        program.ends_if(libc::BPF_JEQ, address.into(), TAKE);
    }
    program.answer(0);
    program
}

fn ipv6(addresses: impl Iterator<Item = Ipv6Addr>) -> Program {
    let mut program = Program::default();
    program.load(load_byte(V6_NEXT_HEADER_AT));
    program.ends_if(libc::BPF_JEQ, PROTOCOL_VRRP, TAKE);
    program.needs(PROTOCOL_ICMPV6);
    program.load(load_byte(ICMPV6_TYPE_AT));
    program.needs(NEIGHBOUR_ADVERTISEMENT);
    for address in addresses {
        let octets = address.octets();
        let (words, _) = octets.as_chunks::<4>();
        for (at, word) in words.iter().enumerate() {
            program.load(load(TARGET_AT + 4 * at as u32));
            // From the first word that differs, on to what follows this address: its other words and the answer.
            let rest = 2 * (words.len() - 1 - at) + 1;
            let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
            program.0.push(op(equal, 0, rest as u8, u32::from_be_bytes(*word)));
        }
        program.answer(TAKE);
    }
    program.answer(0);
    program
}
