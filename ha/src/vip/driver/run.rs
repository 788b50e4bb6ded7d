//! The loop of the thread `vip`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_netlink::kernel::{Kernel, Snapshot};
use cygnet_netlink::scheduling::Urgency;
use cygnet_netlink::wire::{Mac, Message};
use tokio::sync::mpsc;

use super::bequest::Bequest;
use super::facts::Sources;
use super::guardian::Guardian;
use super::heard::Heard;
use super::peers::{HAND_OVER_PATIENCE, HandOver, Link};
use super::port::{Frame, Port};
use super::preferred::Preferred;
use super::scout::{Order, Scouted, scout};
use super::survey::open;
use super::transfer::{Steering, Transfers};
use super::views::{Sent, view};
use super::{DriverSettings, End, Outputs};
use crate::events::{EventLog, Severity};
use crate::time::Time;
use crate::vip::group::Group;
use crate::vip::holder::{Action, Holder, LINGER_MAX};
use crate::vip::speaker::vrrp::PRIORITY_RESIGNS;
use crate::vip::transfer::PREPARE_MAX;
use crate::vip::watch::{WatchEvent, is_virtual};
use crate::vip::{Mode, Role, shown};

/// Views are at least so fresh.
const VIEW_REFRESH: Duration = Duration::from_millis(100);

/// Frames that wait for the loop, of all interfaces together: at most 2 MB.
const FRAMES_WAITING: usize = 1024;

/// Frames that are dealt with before a timer acts; a flood must not keep the timers waiting.
const HEAR_BURST: usize = 256;

/// Turns of the runtime that are given to the capture tasks before a timer acts: one in which the sockets are found to be
/// readable, one in which they are read.
const YIELDS: usize = 2;

/// An end waits so long for addresses that cannot be removed; after that the guard does it.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// An end waits so long for connections that go on here although the address has moved.
const LAST_FLOWS: Duration = Duration::from_secs(2);

/// Within this time a claim of the same rival is reported once.
const RIVAL_REPORT: Duration = Duration::from_secs(10);

/// A claim by ARP is answered after this time, or an interval if that is longer, and so not more often either: against
/// somebody who answers each of our announcements.
const CLAIM_ANSWER_AFTER: Duration = Duration::from_secs(1);

/// Somebody else says that it has the address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    address: IpAddr,
    mac: Mac,
    answer_at: Time,
}

/// One virtual address with what the driver keeps for it.
pub(super) struct Vip {
    pub(super) holder: Holder,
    /// The subject of its events.
    pub(super) subject: String,
    /// Its index in the watcher of its interface.
    pub(super) router: Option<usize>,
    pub(super) sent: Sent,
    /// Not configured any more; kept until its address is gone.
    pub(super) leaving: bool,
    pub(super) rival_reported: Option<Time>,
    /// A foreign claim by ARP that waits for its explanation; when one was told last.
    pub(super) claim: Option<Claim>,
    pub(super) claim_reported: Option<Time>,
    /// The role of which an event was made last.
    pub(super) told_role: Role,
    pub(super) announce_failed: bool,
    /// The priority that is configured.
    pub(super) base_priority: u8,
    /// The role when its last actions were done.
    pub(super) acted_as: Role,
    /// The last source that it had.
    pub(super) spoke_from: Option<IpAddr>,
    pub(super) transfers: Transfers,
    /// What the guard says of it should this process be killed.
    pub(super) bequest: Bequest,
    pub(super) preferred: Preferred,
}

/// All of the thread's state.
pub(super) struct Driver {
    pub(super) origin: Instant,
    pub(super) events: EventLog,
    pub(super) outputs: Outputs,
    pub(super) kernel: Kernel,
    pub(super) order: Order,
    pub(super) scouted: mpsc::Receiver<Scouted>,
    pub(super) scout_failed: bool,
    pub(super) frames: mpsc::Receiver<Frame>,
    pub(super) frame_sender: mpsc::Sender<Frame>,
    /// The last picture, and the epoch that it shows.
    pub(super) snapshot: Option<(u64, Snapshot)>,
    pub(super) sources: Sources,
    pub(super) ports: BTreeMap<String, Port>,
    pub(super) vips: Vec<Vip>,
    pub(super) guardian: Guardian,
    pub(super) heard: Heard,
    pub(super) link: Link,
    pub(super) steering: Steering,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) stopping: bool,
    /// What the process before this one still holds; `None`: there is none.
    pub(super) succeeds: Option<BTreeSet<String>>,
    pub(super) published: Time,
    pub(super) changed: bool,
    /// Sockets failed: the elections on the interfaces must be told.
    pub(super) reground: bool,
}

impl Driver {
    /// Must be called within the runtime of the thread.
    pub(super) fn new(
        settings: DriverSettings,
        outputs: Outputs,
        urgency: Option<Urgency>,
    ) -> io::Result<Self> {
        let kernel = Kernel::connect()?;
        let order = Order::default();
        let (report, scouted) = mpsc::channel(1);
        tokio::spawn(scout(order.clone(), report));
        let (frame_sender, frames) = mpsc::channel(FRAMES_WAITING);
        let steering = Steering::open(settings.guard.is_some());
        let guardian = Guardian::new(settings.guard, urgency);
        Ok(Self {
            origin: Instant::now(),
            events: settings.events,
            outputs,
            kernel,
            order,
            scouted,
            scout_failed: false,
            frames,
            frame_sender,
            snapshot: None,
            sources: Sources { preferred: settings.own_fixed, ..Sources::default() },
            ports: BTreeMap::new(),
            vips: Vec::new(),
            guardian,
            heard: Heard::default(),
            link: Link::new(settings.say),
            steering,
            groups: BTreeMap::new(),
            stopping: false,
            succeeds: settings.succeeds,
            published: Time::ZERO,
            changed: true,
            reground: false,
        })
    }

    /// Until the stop, or until every handle is dropped.
    pub(super) async fn run(mut self) {
        // What was set before the thread ran counts as a change.
        self.outputs.settings.mark_changed();
        self.outputs.ready.mark_changed();
        self.outputs.cluster.mark_changed();
        while self.turn().await.is_continue() {}
        if *self.outputs.stop.borrow() == Some(End::Cedes) {
            return self.guardian.cede();
        }
        self.stopping = true;
        self.hand_over_all().await;
        self.end().await;
    }

    /// Waits for whatever comes next, and deals with it. Breaks at the stop, and when every handle is dropped.
    async fn turn(&mut self) -> ControlFlow<()> {
        let deadline = self.instant(self.deadline());
        tokio::select! {
            biased;
            _ = self.outputs.stop.changed(), if !self.stopping => return ControlFlow::Break(()),
            changed = self.outputs.settings.changed(), if !self.stopping => match changed {
                Ok(()) => self.configure().await,
                Err(_) => return ControlFlow::Break(()),
            },
            changed = self.outputs.ready.changed(), if !self.stopping => match changed {
                Ok(()) => self.readiness().await,
                Err(_) => return ControlFlow::Break(()),
            },
            changed = self.outputs.cluster.changed(), if !self.stopping => match changed {
                Ok(()) => self.meet(),
                Err(_) => return ControlFlow::Break(()),
            },
            Some(scouted) = self.scouted.recv() => self.look(scouted).await,
            Some(seal) = self.link.deaths.recv() => self.death(seal).await,
            Some((from, word)) = self.outputs.words.recv() => self.word(from, &word).await,
            Some(asked) = self.outputs.asked.recv() => self.asked(asked).await,
            Some(listed) = self.steering.lists.recv() => self.listed(listed).await,
            Some(frame) = self.frames.recv() => self.hear(frame).await,
            () = tokio::time::sleep_until(deadline) => {}
        }
        self.timers().await;
        self.look_after_the_groups().await;
        self.look_after_transfers().await;
        self.look_after_the_peers().await;
        self.look_after_the_guard();
        self.publish();
        ControlFlow::Continue(())
    }

    /// Before the end: a peer that can takes over while this node still holds the address.
    async fn hand_over_all(&mut self) {
        let until = self.now() + PREPARE_MAX + HAND_OVER_PATIENCE + LINGER_MAX;
        self.hand_over(&HandOver::default(), None).await;
        while self.moves() && self.now() < until && self.turn().await.is_continue() {}
        let until = self.now() + LAST_FLOWS;
        let busy = |vip: &Vip| vip.transfers.kept().is_some_and(|kept| kept > 0);
        while self.vips.iter().any(busy) && self.now() < until && self.turn().await.is_continue() {}
    }

    pub(super) fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// A time of the cores on the runtime's clock.
    pub(super) fn instant(&self, time: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.origin + Duration::from_nanos(time.0))
    }

    /// When something is to be done next.
    fn deadline(&self) -> Time {
        let holders = self.vips.iter().filter_map(|vip| vip.holder.poll_timeout());
        let claims = self.vips.iter().filter_map(|vip| vip.claim.map(|claim| claim.answer_at));
        let vips = holders.chain(claims);
        let ports = self.ports.values().filter_map(Port::poll_timeout);
        let views =
            if self.changed || self.reground { self.published } else { self.published + VIEW_REFRESH };
        vips.chain(ports)
            .chain(self.guardian.poll_timeout())
            .chain(self.link.poll_timeout().filter(|_| self.succeeds.is_none()))
            .chain(self.group_timeout())
            .chain(self.vips.iter().filter_map(|vip| vip.transfers.poll_timeout()))
            .min()
            .unwrap_or(views)
            .min(views)
    }

    /// To be called before anything is dealt with: if the guard may have taken our addresses away, the holders must know why
    /// they are gone.
    pub(super) async fn notice_a_freeze(&mut self) {
        let now = self.now();
        let Some(time) = self.guardian.lapsed(now) else { return };
        for which in 0..self.vips.len() {
            let Some(vip) = self.vips.get_mut(which).filter(|vip| vip.holder.is_ours()) else { continue };
            let actions = vip.holder.frozen(now, time);
            // The guard has forgotten it; a new one must not know it either.
            self.disinherit(which);
            self.act(which, actions).await;
        }
    }

    /// A frame off the wire: to the watcher, and what it finds valid to the election.
    async fn hear(&mut self, frame: Frame) {
        self.notice_a_freeze().await;
        let now = self.now();
        let Some(port) = self.ports.get_mut(&*frame.interface) else { return };
        if port.generation != frame.generation {
            return;
        }
        let heard = port.watcher.packet(now, frame.source_mac, &frame.bytes);
        self.tell(&frame.interface, &heard.events);
        if let Some((router, address, mac)) = heard.answered {
            self.answered(now, &frame.interface, router, address, mac);
        }
        let Some(valid) = heard.valid else { return };
        let source = valid.source;
        let Some(which) = self.find(&frame.interface, valid.router) else { return };
        let Some(vip) = self.vips.get_mut(which) else { return };
        let actions = vip.holder.advert(now, source, &valid.message);
        if !resigns(&valid.message) {
            report_rival(now, vip, source, &self.events);
        }
        self.act(which, actions).await;
    }

    /// Somebody else says by ARP or neighbour advertisement that it has an address that this node holds. It may be the node that
    /// takes it over, whose advert comes next; so it is answered later, if this node still holds it. The MAC of a virtual
    /// router is everybody's, and so perhaps our own.
    fn answered(&mut self, now: Time, interface: &str, router: usize, address: IpAddr, mac: Mac) {
        let ours = self.ports.get(interface).map(|port| port.seen.mac);
        let Some(which) = self.find(interface, router) else { return };
        let Some(vip) = self.vips.get_mut(which).filter(|_| ours != Some(mac)) else { return };
        let settings = vip.holder.settings();
        if settings.mode == Mode::Hold
            && vip.holder.role() == Role::Active
            && vip.claim.is_none()
            && !is_virtual(mac)
        {
            let answer_at = now + settings.interval.max(CLAIM_ANSWER_AFTER);
            vip.claim = Some(Claim { address, mac, answer_at });
        }
    }

    /// Tells of claims by ARP that have not been explained, and announces the address again: hosts must learn the right place.
    async fn answer_claims(&mut self, now: Time) {
        for which in 0..self.vips.len() {
            let Some(vip) = self.vips.get_mut(which) else { continue };
            let Some(claim) = vip.claim.filter(|claim| claim.answer_at <= now) else { continue };
            vip.claim = None;
            let settled = vip.holder.since() + vip.holder.settings().interval.max(CLAIM_ANSWER_AFTER) <= now;
            if vip.holder.role() != Role::Active || !settled {
                continue;
            }
            if vip.claim_reported.is_none_or(|last| now.since(last) >= RIVAL_REPORT) {
                vip.claim_reported = Some(now);
                let Claim { address, mac, .. } = claim;
                let what = format!("{mac} says that it has {address}, which is held here");
                let why = "answered with an announcement; an address left behind, or a conflict";
                self.events.record_kind(Severity::Alert, &vip.subject, "other-answers", what, why);
            }
            self.act(which, vec![Action::Announce]).await;
        }
    }

    /// The address that the watcher of an interface knows by this index.
    fn find(&self, interface: &str, router: usize) -> Option<usize> {
        let is_it = |vip: &Vip| vip.router == Some(router) && vip.holder.settings().interface == interface;
        self.vips.iter().position(is_it)
    }

    /// What the watcher has to say.
    fn tell(&mut self, interface: &str, events: &[WatchEvent]) {
        for event in events {
            let vip = event.router().and_then(|router| self.find(interface, router));
            let vip = vip.and_then(|which| self.vips.get(which));
            let subject = match vip {
                Some(vip) if !matters(event, &vip.holder) => continue,
                Some(vip) => vip.subject.clone(),
                None => format!("interface {interface}"),
            };
            self.events.record_kind(event.severity(), &subject, event.name(), event.to_string(), "");
            self.changed = true;
        }
    }

    /// Whatever is due. Before that, whatever was heard.
    async fn timers(&mut self) {
        if self.deadline() > self.now() {
            return;
        }
        for _ in 0..YIELDS {
            tokio::task::yield_now().await;
        }
        for _ in 0..HEAR_BURST {
            let Ok(frame) = self.frames.try_recv() else { break };
            self.hear(frame).await;
        }
        self.notice_a_freeze().await;
        let now = self.now();
        for which in 0..self.vips.len() {
            let Some(vip) = self.vips.get_mut(which) else { continue };
            if vip.holder.poll_timeout().is_some_and(|due| due <= now) {
                let actions = vip.holder.timeout(now);
                self.act(which, actions).await;
            }
        }
        self.answer_claims(now).await;
        let names: Vec<String> = self.ports.keys().cloned().collect();
        for name in names {
            let Some(port) = self.ports.get_mut(&name) else { continue };
            if port.poll_timeout().is_none_or(|due| due > now) {
                continue;
            }
            let before = port.error().map(str::to_owned);
            open(port, now, &self.frame_sender, &self.events);
            self.reground |= port.error() != before.as_deref();
            let events = port.watcher.timeout(now);
            self.tell(&name, &events);
        }
        if self.reground {
            self.tell_ground().await;
        }
        self.vips.retain(|vip| !vip.leaving || vip.holder.is_ours());
    }

    /// Comes after the timers: a process that was frozen gives way before it claims to be well.
    fn look_after_the_guard(&mut self) {
        let held = self.vips.iter().map(|vip| &vip.holder).filter(|holder| holder.is_ours());
        let interval = held.map(|holder| holder.settings().interval).max();
        self.guardian.check(self.now(), interval, &self.events);
    }

    /// Shows what is the case, on change at once, else when it gets old.
    fn publish(&mut self) {
        let now = self.now();
        if !self.changed && now.since(self.published) < VIEW_REFRESH {
            return;
        }
        (self.changed, self.published) = (false, now);
        let mut views = Vec::with_capacity(self.vips.len());
        // Also what cannot be handled here is virtual.
        let configured = self.outputs.settings.borrow();
        let mut known: BTreeSet<IpAddr> =
            configured.iter().flat_map(|settings| &settings.addresses).copied().collect();
        drop(configured);
        for vip in self.vips.iter().filter(|vip| !vip.leaving) {
            let port = self.ports.get(&vip.holder.settings().interface);
            let wire =
                port.zip(vip.router).map(|(port, router)| port.on_the_wire(now, router)).unwrap_or_default();
            views.push(view(now, &vip.holder, wire, vip.sent, self.moved(now, vip)));
        }
        self.outputs.views.send_replace(Arc::new(views));
        for port in self.ports.values() {
            self.heard.hear(now, port.watcher.heard_addresses());
        }
        let here = |address| {
            let snapshot = self.snapshot.as_ref();
            snapshot.is_some_and(|(_, snapshot)| snapshot.addresses.iter().any(|own| own.address == address))
        };
        self.heard.forget(now, here);
        known.extend(self.heard.addresses());
        if **self.outputs.known.load() != known {
            self.outputs.known.store(Arc::new(known));
        }
    }

    /// Resigns everywhere, and waits a little for what cannot be removed.
    async fn end(&mut self) {
        let until = self.now() + STOP_PATIENCE;
        for which in 0..self.vips.len() {
            let now = self.now();
            let Some(vip) = self.vips.get_mut(which) else { continue };
            let actions = vip.holder.stop(now, "this program is being stopped");
            self.act(which, actions).await;
        }
        while self.vips.iter().any(|vip| vip.holder.is_ours()) && self.now() < until {
            let wait = self.deadline().since(self.now()).max(Duration::from_millis(1));
            tokio::time::sleep(wait).await;
            self.timers().await;
        }
        self.end_transfers().await;
        self.guardian.end();
        self.changed = true;
        self.publish();
    }
}

/// Whether what the watcher noticed is news. Where we hold elections ourselves, the holder tells of every change of role
/// with its reason, and while we are Active the watcher hears only the others.
fn matters(event: &WatchEvent, holder: &Holder) -> bool {
    match holder.settings().mode {
        Mode::Watch => true,
        Mode::Hold => match event {
            WatchEvent::NothingHeard { .. } => false,
            WatchEvent::Appeared { .. }
            | WatchEvent::Changed { .. }
            | WatchEvent::Resigned { .. }
            | WatchEvent::TimedOut { .. } => holder.role() == Role::Standby,
            _ => true,
        },
    }
}

/// Whether the sender lets go of the address.
fn resigns(message: &Message) -> bool {
    match message {
        Message::Vrrp(advert) => advert.priority == PRIORITY_RESIGNS,
        Message::Carp(advert) => advert.is_resignation(),
    }
}

/// Another node claims the address although we are, and stay, Active. Not within the first interval: the one that we
/// followed has its last word then.
fn report_rival(now: Time, vip: &mut Vip, rival: IpAddr, events: &EventLog) {
    let holder = &vip.holder;
    let settled = holder.role() == Role::Active && now.since(holder.since()) > holder.settings().interval;
    if !settled || vip.rival_reported.is_some_and(|last| now.since(last) < RIVAL_REPORT) {
        return;
    }
    vip.rival_reported = Some(now);
    let what = format!("{rival} claims {} as well", shown(&holder.settings().addresses));
    events.record(Severity::Alert, &vip.subject, what, "answered with an advertisement and an announcement");
}
