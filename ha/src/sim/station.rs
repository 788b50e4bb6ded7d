//! The virtual address on one node: the production watcher and holder, a kernel that can refuse, and the guard.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::advert::group_of;
use cygnet_netlink::wire::{Mac, Message, ip};

use super::mutation::Mutation;
use crate::time::Time;
use crate::vip::holder::{Action, Ground, Holder, Link, Presence};
use crate::vip::watch::{WatchSettings, Watcher};
use crate::vip::{Role, VipSettings};

/// IP protocol number of VRRP and CARP (RFC 9568 section 5.1.1.4).
const PROTOCOL: u8 = 112;

/// Frames that wait in the kernel while the process does not run; more are dropped.
const HEARD_MAX: usize = 256;

/// As the driver leases the address from its guard: so many intervals, and at least so long.
const LEASE_INTERVALS: u32 = 4;
const LEASE_MIN: Duration = Duration::from_millis(200);

/// What the kernel has, and whether it does as it is told. It outlives the process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kernel {
    pub(super) present: bool,
    pub(super) refuses_to_add: bool,
    pub(super) refuses_to_remove: bool,
    /// A removal was refused, and has not been made good yet.
    pub(super) stuck: bool,
}

/// The elections of one process.
pub(super) struct Station {
    pub(super) holder: Holder,
    watcher: Watcher,
    own: IpAddr,
    mac: Mac,
    heard: VecDeque<(Mac, Vec<u8>)>,
    /// When the guard last heard of us, by the node's clock.
    told: Time,
    /// What the holder believes that the kernel has.
    seen: Presence,
    mutation: Option<Mutation>,
}

/// What comes of a turn.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// IP packets for everybody on the segment.
    pub(super) packets: Vec<Vec<u8>>,
    /// The address was announced to the hosts.
    pub(super) announced: bool,
    /// It was added.
    pub(super) added: bool,
}

/// The own address of a node.
pub(super) fn own_address(node: u64) -> IpAddr {
    IpAddr::from([192, 0, 2, u8::try_from(node).unwrap_or(u8::MAX)])
}

impl Station {
    pub(super) fn new(
        local: Time,
        node: u64,
        settings: VipSettings,
        salt: u64,
        mutation: Option<Mutation>,
    ) -> Self {
        let own = own_address(node);
        let watched = WatchSettings::of(&settings);
        Self {
            holder: Holder::new(local, settings, salt),
            watcher: Watcher::new(vec![own], vec![watched]),
            own,
            mac: Mac([2, 0, 0, 0, 0, u8::try_from(node).unwrap_or(u8::MAX)]),
            heard: VecDeque::new(),
            told: local,
            seen: Presence::default(),
            mutation,
        }
    }

    /// The process has just started: what the interface is like, what is on it, and that all is well.
    pub(super) fn begin(&mut self, local: Time, kernel: &mut Kernel, ready: bool) -> Said {
        let mut said = Said::default();
        let ground = Ground { link: Link::Up, source: Some(self.own), socket_error: None };
        let actions = self.holder.ground(local, ground);
        self.act(local, actions, kernel, &mut said);
        self.look(local, kernel, &mut said);
        self.ready(local, kernel, ready, &mut said);
        said
    }

    pub(super) fn ready(&mut self, local: Time, kernel: &mut Kernel, ready: bool, said: &mut Said) {
        let actions = self.holder.ready(local, ready, "a listener is gone");
        self.act(local, actions, kernel, said);
    }

    pub(super) fn set_priority(&mut self, local: Time, kernel: &mut Kernel, priority: u8, said: &mut Said) {
        let actions = self.holder.set_priority(local, priority);
        self.act(local, actions, kernel, said);
    }

    /// A packet has come to the socket.
    pub(super) fn hear(&mut self, mac: Mac, packet: Vec<u8>) {
        if self.heard.len() < HEARD_MAX {
            self.heard.push_back((mac, packet));
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.heard.len()
    }

    pub(super) fn mac(&self) -> Mac {
        self.mac
    }

    /// How long the guard trusts this process without a word.
    pub(super) fn lease(&self) -> Duration {
        (self.holder.settings().interval * LEASE_INTERVALS).max(LEASE_MIN)
    }

    /// When the guard takes the address away if nothing more is heard, by the node's clock.
    pub(super) fn lease_ends(&self) -> Time {
        self.told + self.lease()
    }

    /// When the next turn is due, by the node's clock. The lease is renewed four times while it runs.
    pub(super) fn due(&self) -> Time {
        let lease = self.told + self.lease() / 4;
        let Some(due) = self.holder.poll_timeout() else { return lease };
        match (self.mutation, self.holder.role()) {
            (Some(Mutation::TakeOverEarly), Role::Standby) => {
                self.told.max(due - due.since(self.told) * 9 / 10)
            }
            (Some(Mutation::NeverTakeOver), Role::Standby) => lease,
            _ => due.min(lease),
        }
    }

    /// One turn, in the order of the driver: the freeze, then what was heard, then the timers.
    pub(super) fn turn(&mut self, local: Time, kernel: &mut Kernel) -> Said {
        let mut said = Said::default();
        let silent = local.since(self.told);
        if self.holder.is_ours() && silent >= self.lease() {
            let actions = self.holder.frozen(local, silent);
            self.act(local, actions, kernel, &mut said);
        }
        if self.seen != presence(kernel) && self.mutation != Some(Mutation::IgnoreKernel) {
            self.look(local, kernel, &mut said);
        }
        while let Some((mac, packet)) = self.heard.pop_front() {
            let heard = self.watcher.packet(local, mac, &packet);
            let Some(valid) = heard.valid else { continue };
            let active = self.holder.role() == Role::Active;
            if active && self.mutation == Some(Mutation::IgnoreBetter) {
                continue;
            }
            let actions = self.holder.advert(local, valid.source, &valid.message);
            self.act(local, actions, kernel, &mut said);
        }
        let standby = self.holder.role() == Role::Standby;
        let moment = match (self.mutation, self.holder.poll_timeout()) {
            (Some(Mutation::TakeOverEarly), Some(due)) if standby && local >= self.due() => due.max(local),
            (Some(Mutation::NeverTakeOver), _) if standby => Time::ZERO,
            _ => local,
        };
        let actions = self.holder.timeout(moment);
        self.act(local, actions, kernel, &mut said);
        self.watcher.timeout(local);
        self.told = local;
        said
    }

    fn look(&mut self, local: Time, kernel: &mut Kernel, said: &mut Said) {
        self.seen = presence(kernel);
        let actions = self.holder.presence_seen(local, &[self.seen]);
        self.act(local, actions, kernel, said);
    }

    fn act(&mut self, local: Time, actions: Vec<Action>, kernel: &mut Kernel, said: &mut Said) {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                Action::AddAddress(address) if kernel.refuses_to_add => {
                    queue.extend(self.holder.added(local, address, Err("no room".to_owned())));
                }
                Action::AddAddress(address) => {
                    let new = !std::mem::replace(&mut kernel.present, true);
                    said.added = true;
                    (self.seen.exact, self.seen.marked) = (true, new || self.seen.marked);
                    queue.extend(self.holder.added(local, address, Ok(new)));
                }
                Action::RemoveAddress(address) if kernel.refuses_to_remove => {
                    kernel.stuck = true;
                    queue.extend(self.holder.removed(local, address, Err("busy".to_owned())));
                }
                Action::RemoveAddress(address) => {
                    if self.mutation != Some(Mutation::KeepAddress) {
                        kernel.present = false;
                    }
                    kernel.stuck = false;
                    self.seen = Presence::default();
                    queue.extend(self.holder.removed(local, address, Ok(true)));
                }
                Action::Announce => said.announced = true,
                Action::SendAdvert(message) => said.packets.extend(self.packet(&message)),
                Action::Event { .. } => {}
            }
        }
    }

    fn packet(&self, message: &Message) -> Option<Vec<u8>> {
        let (source, destination) = (self.own, group_of(self.own));
        let payload = match message {
            Message::Vrrp(advert) => advert.emit(source, destination),
            Message::Carp(advert) => advert.emit().to_vec(),
        };
        let packet =
            ip::Packet { source, destination, hop_limit: 255, protocol: PROTOCOL, payload: &payload };
        let mut bytes = vec![0; packet.buffer_len()];
        packet.emit(0xc0, &mut bytes).ok()?;
        Some(bytes)
    }
}

fn presence(kernel: &Kernel) -> Presence {
    Presence { exact: kernel.present, marked: kernel.present, shorter: None }
}
