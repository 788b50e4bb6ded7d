//! What the operator sees of one virtual address; pure.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::time::Time;
use crate::vip::holder::Holder;
use crate::vip::speaker::carp::advskew_of;
use crate::vip::{Mode, MovedView, Protocol, Role, VipSettings, VipView, WireView};

/// What the wire says of a virtual router.
#[derive(Clone, Debug, Default)]
pub(super) struct OnTheWire {
    /// Who advertises as active, and with which priority.
    pub(super) holder: Option<(IpAddr, u8)>,
    /// When it was heard last.
    pub(super) heard: Option<Time>,
    /// Others that claim the address at this moment.
    pub(super) rivals: Vec<IpAddr>,
    pub(super) valid: u64,
    pub(super) discarded: Vec<(String, u64)>,
    pub(super) more: WireView,
}

/// What we have sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) count: u64,
    pub(super) last: Option<Time>,
    /// The source of our adverts.
    pub(super) source: Option<IpAddr>,
}

pub(super) fn milliseconds(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// Puts the view together.
pub(super) fn view(now: Time, holder: &Holder, wire: OnTheWire, sent: Sent, moved: MovedView) -> VipView {
    let settings = holder.settings();
    let shown = shown(now, holder, &wire, sent);
    VipView {
        name: settings.name.clone(),
        address: settings.addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        addresses: settings.addresses.clone(),
        interface: settings.interface.clone(),
        protocol: settings.protocol,
        mode: settings.mode,
        id: settings.id,
        sync_group: settings.sync_group.clone(),
        role: holder.role(),
        reason: holder.reason().to_owned(),
        role_age_ms: milliseconds(now.since(holder.since())),
        priority: settings.priority,
        holder: shown.holder,
        holder_priority: shown.priority,
        holder_heard_ms: shown.heard.map(|heard| milliseconds(now.since(heard))),
        rivals: shown.rivals,
        address_present: holder.is_present(),
        adverts_heard: wire.valid,
        adverts_sent: sent.count,
        discarded: wire.discarded,
        wire: wire.more,
        moved,
    }
}

/// Our own priority, as it goes over the wire: CARP has the advskew in its place.
fn advertised(settings: &VipSettings) -> u8 {
    match settings.protocol {
        Protocol::Carp => advskew_of(settings.priority),
        Protocol::Vrrp2 | Protocol::Vrrp3 => settings.priority,
    }
}

/// Who holds the address, as far as can be seen from here.
#[derive(Debug, Default)]
struct Shown {
    holder: Option<IpAddr>,
    priority: Option<u8>,
    heard: Option<Time>,
    rivals: Vec<IpAddr>,
}

fn shown(now: Time, holder: &Holder, wire: &OnTheWire, sent: Sent) -> Shown {
    let settings = holder.settings();
    let heard = wire.heard.filter(|_| wire.holder.is_some());
    match (settings.mode, holder.role()) {
        (Mode::Hold, Role::Active) => Shown {
            holder: sent.source,
            priority: sent.source.map(|_| advertised(settings)),
            heard: sent.last,
            rivals: rivals_of_ours(now, holder, wire, sent.source),
        },
        // A daemon of this very node is not heard: it is known by the address that it has put on our interface. Whoever
        // was heard before has lost it; whoever is heard after that claims it as well.
        (Mode::Watch, Role::Active) if heard.is_none_or(|heard| heard <= holder.since()) => {
            Shown { holder: holder.source(), ..Shown::default() }
        }
        (mode, role) => {
            let mut rivals = wire.rivals.clone();
            let claimed_twice = heard.is_some_and(|heard| heard > holder.since() + settings.interval);
            if mode == Mode::Watch && role == Role::Active && claimed_twice && rivals.is_empty() {
                rivals = holder.source().into_iter().chain(wire.holder.map(|(source, _)| source)).collect();
            }
            Shown {
                holder: wire.holder.map(|(source, _)| source),
                priority: wire.holder.map(|(_, priority)| priority),
                heard,
                rivals,
            }
        }
    }
}

/// While we are Active, whoever was heard since is a rival, until it has been silent for two intervals. Who was heard before
/// is the one that we follow.
fn rivals_of_ours(now: Time, holder: &Holder, wire: &OnTheWire, own: Option<IpAddr>) -> Vec<IpAddr> {
    let fresh = |heard: Time| {
        heard > holder.since() + holder.settings().interval
            && now.since(heard) <= holder.settings().interval * 2
    };
    if !wire.heard.is_some_and(fresh) {
        return Vec::new();
    }
    let others = wire.holder.map(|(source, _)| source).into_iter().chain(wire.rivals.iter().copied());
    own.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vip::holder::{Ground, Link, Presence};

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn ms(count: u64) -> Time {
        Time(count * 1_000_000)
    }

    fn settings(mode: Mode) -> VipSettings {
        VipSettings { mode, priority: 255, ..VipSettings::new("www", "eth0", Protocol::Vrrp3, 51, vec![VIP]) }
    }

    /// Active since the start: the owner is at once.
    fn active() -> Holder {
        let mut holder = Holder::new(Time::ZERO, settings(Mode::Hold), 7);
        let source = Some(OWN);
        holder.ready(Time::ZERO, true, "");
        holder.ground(Time::ZERO, Ground { link: Link::Up, source, socket_error: None });
        holder.added(Time::ZERO, VIP, Ok(true));
        assert_eq!(holder.role(), Role::Active);
        holder
    }

    fn heard(at: u64) -> OnTheWire {
        OnTheWire { holder: Some((PEER, 100)), heard: Some(ms(at)), valid: 7, ..OnTheWire::default() }
    }

    #[test]
    fn an_active_node_is_the_holder_with_the_age_of_its_own_advert() {
        let sent = Sent { count: 3, last: Some(ms(9_600)), source: Some(OWN) };
        let view = view(ms(10_000), &active(), heard(0), sent, MovedView::default());
        assert_eq!((view.holder, view.holder_priority), (Some(OWN), Some(255)));
        assert_eq!((view.holder_heard_ms, view.role_age_ms), (Some(400), 10_000));
        assert_eq!((view.adverts_sent, view.adverts_heard), (3, 7));
        assert!(view.rivals.is_empty(), "whom it followed before is no rival");
    }

    #[test]
    fn who_claims_the_address_of_an_active_node_is_a_rival_for_two_intervals() {
        let sent = Sent { count: 3, last: None, source: Some(OWN) };
        let rivals = |now: u64| view(ms(now), &active(), heard(5_000), sent, MovedView::default()).rivals;
        assert_eq!(rivals(5_000), [OWN, PEER]);
        assert_eq!(rivals(7_000), [OWN, PEER]);
        assert!(rivals(7_001).is_empty());
    }

    /// The daemon beside us has had the address since 1 s.
    fn watching() -> Holder {
        let mut holder = Holder::new(Time::ZERO, settings(Mode::Watch), 7);
        let source = Some(OWN);
        holder.ground(Time::ZERO, Ground { link: Link::Up, source, socket_error: None });
        holder.presence_seen(ms(1_000), &[Presence { shorter: Some(24), ..Presence::default() }]);
        holder
    }

    #[test]
    fn a_watching_node_shows_the_wire() {
        let mut holder = watching();
        holder.presence_seen(ms(2_000), &[Presence::default()]);
        let wire = OnTheWire { rivals: vec![OWN], ..heard(2_500) };
        let view = view(ms(3_000), &holder, wire, Sent::default(), MovedView::default());
        assert_eq!((view.holder, view.holder_heard_ms), (Some(PEER), Some(500)));
        assert_eq!((view.role, view.address_present), (Role::Standby, false));
        assert_eq!(view.rivals, [OWN]);
    }

    #[test]
    fn a_watching_node_names_itself_when_the_daemon_beside_it_has_taken_the_address() {
        let view = view(ms(1_100), &watching(), heard(900), Sent::default(), MovedView::default());
        assert_eq!((view.holder, view.holder_heard_ms), (Some(OWN), None));
        assert_eq!((view.role, view.address_present), (Role::Active, true));
        assert!(view.rivals.is_empty());
    }

    #[test]
    fn a_watching_node_names_both_when_another_goes_on_claiming_the_address_that_is_here() {
        let view = view(ms(2_600), &watching(), heard(2_500), Sent::default(), MovedView::default());
        assert_eq!(view.holder, Some(PEER));
        assert_eq!(view.rivals, [OWN, PEER]);
    }
}
