//! The election that a virtual router takes part in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cygnet_netlink::wire::vrrp::{Auth, Version, padded};

use crate::vip::speaker::{Speaker, carp, vrrp};
use crate::vip::{Protocol, VipSettings};

/// The election that the settings ask for. Our source comes later, with the ground.
pub(super) fn election(settings: &VipSettings, salt: u64) -> Speaker {
    let source = if settings.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let (addresses, preempt) = (settings.addresses.clone(), settings.preempt);
    let version = match settings.protocol {
        Protocol::Vrrp2 => Version::V2,
        Protocol::Vrrp3 => Version::V3,
        Protocol::Carp => {
            return Speaker::Carp(carp::Speaker::new(carp::Settings {
                vhid: settings.id,
                addresses,
                source,
                advbase: u8::try_from(settings.interval.as_secs()).unwrap_or(u8::MAX),
                advskew: carp::advskew_of(settings.priority),
                preempt,
                preempt_delay: settings.preempt_delay,
                password: settings.password.clone().unwrap_or_default(),
                counter: salt,
            }));
        }
    };
    let password = |word: &String| Auth::Simple(padded(word));
    Speaker::Vrrp(vrrp::Speaker::new(vrrp::Settings {
        version,
        vrid: settings.id,
        addresses,
        source,
        priority: settings.priority,
        interval_cs: u16::try_from(settings.interval.as_millis() / 10).unwrap_or(u16::MAX),
        preempt,
        preempt_delay: settings.preempt_delay,
        auth: settings.password.as_ref().map_or(Auth::None, password),
        checksum: settings.checksum,
    }))
}
