//! Where upstream connections start from: worked out once per plan, never per connection.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cygnet_netlink::kernel::Snapshot;
use cygnet_netlink::source;

use crate::config::model::{ClusterConfig, Source};

/// Every address that is known to be virtual: configured, heard of, or one that Cygnet itself has put there. The last
/// are also those of a configuration, or of a life, that has just ended.
pub(crate) fn virtual_addresses(
    cluster: &ClusterConfig,
    heard: &BTreeSet<IpAddr>,
    snapshot: &Snapshot,
) -> BTreeSet<IpAddr> {
    let configured = cluster.vips.iter().flat_map(|vip| &vip.addresses).copied();
    let ours = snapshot.addresses.iter().filter(|own| own.ours).map(|own| own.address);
    configured.chain(heard.iter().copied()).chain(ours).collect()
}

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

    #[test]
    fn an_address_that_we_hold_is_virtual_also_when_no_configuration_names_it() {
        let mut snapshot = own("10.0.0.1");
        let heard = BTreeSet::from(["10.0.0.7".parse().unwrap()]);
        let known = |snapshot: &Snapshot| virtual_addresses(&ClusterConfig::default(), &heard, snapshot);
        assert_eq!(known(&snapshot), heard);
        snapshot.addresses[0].ours = true;
        assert!(known(&snapshot).contains(&"10.0.0.1".parse().unwrap()));
        assert_eq!(known(&snapshot).len(), 2);
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
