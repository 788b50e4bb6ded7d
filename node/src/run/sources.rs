//! Where upstream connections start from: worked out once per plan, never per connection.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cygnet_netlink::kernel::Snapshot;
use cygnet_netlink::source;

use crate::config::model::Source;

/// The address from which this node connects to `target`; never a virtual one (invariant 2).
///
/// # Errors
/// No own address can be used; the text says why, and what to set.
pub(crate) fn source_towards(
    target: IpAddr,
    wish: &Source,
    snapshot: &Snapshot,
    known_virtual: &BTreeSet<IpAddr>,
) -> Result<IpAddr, String> {
    match wish {
        Source::Auto => source::choose(target, snapshot, &|address| known_virtual.contains(&address))
            .map_err(|reason| reason.to_string()),
        Source::Fixed(addresses) => {
            let fixed = addresses.iter().find(|address| address.is_ipv4() == target.is_ipv4());
            let Some(fixed) = fixed else {
                let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
                return Err(format!("`source` names no {family} address; add one, or set source = \"auto\""));
            };
            if known_virtual.contains(fixed) {
                return Err(format!(
                    "`source` {fixed} is a virtual address; set it to an address that stays on this node"
                ));
            }
            let present = snapshot.addresses.iter().any(|own| own.address == *fixed);
            if !present && !fixed.is_loopback() {
                return Err(format!(
                    "`source` {fixed} is on no interface of this node; add it, or change `source`"
                ));
            }
            Ok(*fixed)
        }
    }
}

#[cfg(test)]
mod tests {
    use cygnet_netlink::kernel::Address;

    use super::*;

    fn own(address: &str) -> Snapshot {
        let address = Address {
            interface: 2,
            address: address.parse().unwrap(),
            prefix: 24,
            peer: None,
            tentative: false,
            deprecated: false,
            temporary: false,
            global: true,
            ours: false,
        };
        Snapshot { addresses: vec![address], ..Snapshot::default() }
    }

    fn fixed(address: &str) -> Source {
        Source::Fixed(vec![address.parse().unwrap()])
    }

    #[test]
    fn a_fixed_source_must_be_here_must_stay_and_must_fit_the_family() {
        let target = "10.0.0.9".parse().unwrap();
        let snapshot = own("10.0.0.1");
        let none = BTreeSet::new();
        let virtuals = BTreeSet::from(["10.0.0.1".parse().unwrap()]);
        assert_eq!(
            source_towards(target, &fixed("10.0.0.1"), &snapshot, &none),
            Ok("10.0.0.1".parse().unwrap())
        );
        let refused =
            |wish: &str, virtuals| source_towards(target, &fixed(wish), &snapshot, virtuals).unwrap_err();
        assert!(refused("10.0.0.1", &virtuals).contains("is a virtual address"));
        assert!(refused("10.0.0.2", &none).contains("on no interface"));
        assert!(refused("fd00::1", &none).contains("names no IPv4 address"));
    }
}
