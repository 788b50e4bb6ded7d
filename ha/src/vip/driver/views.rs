//! What the operator sees of one virtual address; pure.

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;
use crate::vip::holder::Holder;
use crate::vip::{Mode, Role, VipView};

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
}

/// What we have sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) count: u64,
    pub(super) last: Option<Time>,
    /// The source of our adverts.
    pub(super) source: Option<IpAddr>,
}

fn milliseconds(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// Puts the view together.
pub(super) fn view(now: Time, holder: &Holder, wire: OnTheWire, sent: Sent) -> VipView {
    let settings = holder.settings();
    let speaks = settings.mode == Mode::Hold && holder.role() == Role::Active;
    let (shown, heard, rivals) = if speaks {
        let rivals = rivals_of_ours(now, holder, &wire, sent.source);
        (sent.source.map(|source| (source, settings.priority)), sent.last, rivals)
    } else {
        (wire.holder, wire.heard, wire.rivals)
    };
    VipView {
        name: settings.name.clone(),
        address: settings.address,
        interface: settings.interface.clone(),
        protocol: settings.protocol,
        mode: settings.mode,
        id: settings.id,
        role: holder.role(),
        reason: holder.reason().to_owned(),
        role_age_ms: milliseconds(now.since(holder.since())),
        priority: settings.priority,
        holder: shown.map(|(source, _)| source),
        holder_priority: shown.map(|(_, priority)| priority),
        holder_heard_ms: heard.filter(|_| shown.is_some()).map(|heard| milliseconds(now.since(heard))),
        rivals,
        address_present: holder.presence().any(),
        adverts_heard: wire.valid,
        adverts_sent: sent.count,
        discarded: wire.discarded,
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
