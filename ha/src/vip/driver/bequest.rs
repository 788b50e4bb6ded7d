//! What the guard says on the wire for this node when its process is gone: that it holds the address no more. Routers that are
//! no nodes of the cluster (keepalived, ucarp) do not hear the guard's other word, and would wait for three intervals.
//!
//! The guard knows of it only while it is true. It is taken back before an address is given up, so that a death in between says
//! nothing rather than something wrong.

use std::net::IpAddr;

use cygnet_netlink::guard::Resignation;
use cygnet_netlink::wire::Message;

use super::port::Speaks;
use super::run::Driver;

/// What the guard knows of one virtual router.
#[derive(Default)]
pub(super) struct Bequest {
    /// What it was made of.
    told: Option<(IpAddr, Message)>,
    /// One for the group, or for each peer.
    resignations: Vec<Resignation>,
}

impl Driver {
    /// Tells the guard what is true now.
    pub(super) fn bequeath(&mut self, which: usize) {
        let Some(vip) = self.vips.get(which) else { return };
        let settings = vip.holder.settings();
        let (speaks, name) = (Speaks::of(settings), settings.interface.clone());
        let port = self.ports.get(&name);
        let now = vip.holder.resignation().zip(port.and_then(|port| port.source(&speaks)));
        let now = now.map(|(message, source)| (source, message));
        if vip.bequest.told == now {
            return;
        }
        self.disinherit(which);
        let Some((_, message)) = &now else { return };
        let written = self.ports.get(&name).and_then(|port| port.written(&speaks, message));
        let Some((source, adverts)) = written else { return };
        let resignation = |(destination, payload)| {
            let interface = name.clone();
            Resignation { interface, source, destination, payload }
        };
        let resignations: Vec<Resignation> = adverts.into_iter().map(resignation).collect();
        for resignation in &resignations {
            self.guardian.resign(resignation);
        }
        if let Some(vip) = self.vips.get_mut(which) {
            vip.bequest = Bequest { told: now, resignations };
        }
    }

    /// Takes it back.
    pub(super) fn disinherit(&mut self, which: usize) {
        let Some(vip) = self.vips.get_mut(which) else { return };
        for resignation in std::mem::take(&mut vip.bequest).resignations {
            self.guardian.unresign(&resignation);
        }
    }
}
