//! Planned moves that keep connections ([`crate::vip::transfer`]): the machines' wishes done, and what follows told to them.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;

use cygnet_netlink::flows;
use cygnet_netlink::guard::LOOPBACK;
use cygnet_netlink::kernel::Snapshot;
use cygnet_netlink::steer::{FLOWS_MAX, Flow, Handing, Neighbour, Steer};
use cygnet_netlink::wire::Mac;
use tokio::sync::mpsc;

use super::run::{Driver, Vip};
use crate::events::Severity;
use crate::time::Time;
use crate::vip::Role;
use crate::vip::peers::STANDING_FRESH;
use crate::vip::peers::word::{Keeps, Standing, Transfer, Word};
use crate::vip::transfer::{Given, Giver, Hand, Patience, Said, Taker, Taking, Wanted};

/// Lists of connections that wait for the loop: one is made at a time for each part of a transfer.
const LISTS_WAITING: usize = 16;

/// One part of a transfer, with what only the driver knows of it.
pub(super) struct Part<M> {
    id: u64,
    /// The other node.
    pub(super) peer: u64,
    /// When it began: a node that has just come back may say how it is a little later.
    pub(super) since: Time,
    /// ... on the link, once it has said so.
    neighbour: Option<(IpAddr, Mac)>,
    pub(super) machine: M,
}

/// The transfers of one virtual router.
#[derive(Default)]
pub(super) struct Transfers {
    pub(super) giver: Option<Part<Giver>>,
    pub(super) taker: Option<Part<Taker>>,
    applied: Wanted,
    /// The kernel refused to undo something; it is tried again then.
    again: Option<Time>,
    patience: Patience,
    /// That connections cannot be closed was told.
    pub(super) close_failed: bool,
}

/// What the driver keeps for all of them.
pub(super) struct Steering {
    /// Or why connections cannot be kept.
    steer: Result<Steer, String>,
    pub(super) lists: mpsc::Receiver<Listed>,
    pub(super) list_sender: mpsc::Sender<Listed>,
    guarded: bool,
}

/// A list of connections has been made.
pub(super) struct Listed {
    pub(super) vip: String,
    pub(super) id: u64,
    pub(super) giver: bool,
    pub(super) list: Result<Vec<Flow>, String>,
    /// So many were closed before, or why not; `None`: none were to be.
    pub(super) closed: Option<Result<usize, String>>,
}

/// The connections of these addresses. Waits for the kernel.
///
/// # Errors
/// The kernel's, or that there are too many.
pub(super) fn all_of(addresses: &[IpAddr]) -> Result<Vec<Flow>, String> {
    match flows::of(addresses, FLOWS_MAX) {
        Ok((list, 0)) => Ok(list),
        Ok((_, beyond)) => Err(format!("{beyond} more than {FLOWS_MAX}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Undoing what the kernel refused to undo is tried again after this time.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

impl Steering {
    /// `wanted`: this node may hold addresses.
    pub(super) fn open(wanted: bool) -> Self {
        let (list_sender, lists) = mpsc::channel(LISTS_WAITING);
        let steer = match wanted {
            true => Steer::open().map_err(|error| format!("nf_tables cannot be used: {error}")),
            false => Err("it holds no addresses".to_owned()),
        };
        Self { steer, lists, list_sender, guarded: false }
    }

    /// For the standing of this node.
    pub(super) fn keeps(&self) -> Keeps {
        Keeps { why_not: self.steer.as_ref().err().cloned().unwrap_or_default() }
    }

    /// What is in the kernel for these addresses.
    pub(super) fn rules(&self, addresses: &[IpAddr]) -> Vec<String> {
        let steer = self.steer.iter();
        steer.flat_map(|steer| addresses.iter().flat_map(|address| steer.chains(*address))).collect()
    }

    fn steer(&mut self) -> Result<&mut Steer, String> {
        self.steer.as_mut().map_err(|why| why.clone())
    }
}

impl Transfers {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, ..Self::default() }
    }

    /// The operator has set another one; it counts for connections that go on here too.
    pub(super) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
        self.giver.iter_mut().for_each(|part| part.machine.set_patience(patience));
    }

    /// The transfers that this node takes part in.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        let giver = self.giver.as_ref().filter(|part| !part.machine.is_over()).map(|part| part.id);
        let taker = self.taker.as_ref().filter(|part| !part.machine.is_over()).map(|part| part.id);
        giver.into_iter().chain(taker)
    }

    /// The address has moved, and so many connections go on here.
    pub(super) fn kept(&self) -> Option<usize> {
        self.giver.as_ref().filter(|part| part.machine.keeps()).map(|part| part.machine.flows())
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let giver = self.giver.as_ref().and_then(|part| part.machine.poll_timeout());
        let taker = self.taker.as_ref().and_then(|part| part.machine.poll_timeout());
        giver.into_iter().chain(taker).chain(self.again).min()
    }

    fn wanted(&self, active: bool) -> Wanted {
        Wanted::of(
            active,
            self.giver.as_ref().map(|part| &part.machine),
            self.taker.as_ref().map(|part| &part.machine),
        )
    }
}

impl Driver {
    /// Why connections cannot go on if an address moves to that node; `None`: they can.
    pub(super) fn cannot_keep(&self, to: u64) -> Option<String> {
        let own = self.steering.keeps().why_not;
        if !own.is_empty() {
            return Some(own);
        }
        self.link.peers.keeps(to).err()
    }

    /// Begins to move an address so that its connections go on.
    pub(super) async fn begin_transfer(&mut self, which: usize, to: u64) {
        let now = self.now();
        let Some(vip) = self.vips.get_mut(which) else { return };
        let (mut machine, given) = Giver::begin(now);
        machine.set_patience(vip.transfers.patience);
        vip.transfers.close_failed = false;
        vip.transfers.giver = Some(Part { id: random(), peer: to, since: now, neighbour: None, machine });
        self.given(which, given).await;
    }

    /// Does what the old holder's part says.
    async fn given(&mut self, which: usize, given: Vec<Given>) {
        let mut queue = VecDeque::from(given);
        while let Some(next) = queue.pop_front() {
            let Some(vip) = self.vips.get(which) else { return };
            let Some(part) = &vip.transfers.giver else { return };
            let (id, peer, name) = (part.id, part.peer, vip.holder.settings().name.clone());
            match next {
                Given::Say(said) => self.say_of_transfer(which, peer, id, &said),
                Given::List => self.list(which, id, true),
                Given::Ask => {
                    if let Err(why) = self.ask_to_take(&name, peer) {
                        queue.extend(self.giver(which, |giver| giver.failed(&why)));
                    }
                }
                Given::Stays(why) => self.transfer_failed(&name, &why),
                Given::Close(flows) => self.close(which, id, flows),
                Given::Tell(told) => self.tell_left(which, &told),
            }
        }
        let _ = self.follow(which).await;
    }

    /// The address was not taken, and why.
    pub(super) async fn stays(&mut self, which: usize, why: &str) {
        let given = self.giver(which, |giver| giver.failed(why));
        self.given(which, given).await;
    }

    fn giver(&mut self, which: usize, input: impl FnOnce(&mut Giver) -> Vec<Given>) -> Vec<Given> {
        let giver = self.vips.get_mut(which).and_then(|vip| vip.transfers.giver.as_mut());
        giver.map(|part| input(&mut part.machine)).unwrap_or_default()
    }

    fn taker(&mut self, which: usize, input: impl FnOnce(&mut Taker) -> Vec<Taking>) -> Vec<Taking> {
        let taker = self.vips.get_mut(which).and_then(|vip| vip.transfers.taker.as_mut());
        taker.map(|part| input(&mut part.machine)).unwrap_or_default()
    }

    fn say_of_transfer(&self, which: usize, to: u64, id: u64, said: &Said) {
        let Some(vip) = self.vips.get(which) else { return };
        let settings = vip.holder.settings();
        let mac = self.ports.get(&settings.interface).map(|port| port.seen.mac).unwrap_or_default();
        let any = if settings.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let own = (vip.holder.source().unwrap_or(any), mac);
        // What is lost is noticed by its number, or by what the standings name.
        self.link.say(Some(to), &Word::transfer(Transfer::of(&settings.name, id, own, said)));
    }

    fn list(&self, which: usize, id: u64, giver: bool) {
        let Some(vip) = self.vips.get(which) else { return };
        let (addresses, vip) = (vip.holder.settings().addresses.clone(), vip.holder.settings().name.clone());
        let sender = self.steering.list_sender.clone();
        tokio::spawn(async move {
            let listed = tokio::task::spawn_blocking(move || all_of(&addresses)).await;
            let list = listed.unwrap_or_else(|error| Err(error.to_string()));
            // The driver may have ended.
            let _ = sender.send(Listed { vip, id, giver, list, closed: None }).await;
        });
    }

    /// A list is there.
    pub(super) async fn listed(&mut self, listed: Listed) {
        let now = self.now();
        let Some(which) = self.named(&listed.vip) else { return };
        let Some(vip) = self.vips.get_mut(which) else { return };
        if listed.giver {
            if vip.transfers.giver.as_ref().is_some_and(|part| part.id == listed.id) {
                self.closed(which, listed.closed);
                let given = self.giver(which, |giver| giver.listed(now, listed.list));
                self.given(which, given).await;
            }
        } else if let Some(part) = vip.transfers.taker.as_mut().filter(|part| part.id == listed.id) {
            part.machine.listed(now, listed.list.ok().map(|list| list.len()));
            let _ = self.follow(which).await;
        }
    }

    /// A word about a transfer.
    pub(super) async fn hear_of_transfer(&mut self, from: u64, word: &Transfer) {
        let now = self.now();
        let (Some(said), Some(which)) = (word.said(), self.named(&word.vip)) else { return };
        if said == Said::Prepare {
            return self.prepare(which, from, word).await;
        }
        let Some(vip) = self.vips.get_mut(which) else { return };
        let is_it = |id, peer| id == word.id && peer == from;
        if let Some(part) = vip.transfers.giver.as_mut().filter(|part| is_it(part.id, part.peer)) {
            match said {
                Said::Confirm(number) => {
                    part.neighbour = part.neighbour.or_else(|| word.own());
                    let given = self.giver(which, |giver| giver.confirmed(now, number));
                    return self.given(which, given).await;
                }
                Said::Refuse(why) => {
                    let why = format!("{}: {why}", self.link.peers.name(from));
                    let given = self.giver(which, |giver| giver.failed(&why));
                    return self.given(which, given).await;
                }
                _ => return,
            }
        }
        if vip.transfers.taker.as_ref().is_some_and(|part| is_it(part.id, part.peer)) {
            let addresses = vip.holder.settings().addresses.clone();
            let taking = self.taker(which, |taker| taker.hear(now, said, &addresses));
            self.taking(which, taking).await;
        }
    }

    /// The holder is about to move an address here.
    async fn prepare(&mut self, which: usize, from: u64, word: &Transfer) {
        let now = self.now();
        let Some(vip) = self.vips.get_mut(which) else { return };
        if vip.transfers.taker.as_ref().is_some_and(|part| (part.id, part.peer) == (word.id, from)) {
            // Said again: the answer is under way.
            return;
        }
        let own = self.steering.keeps().why_not;
        let standby = vip.holder.role() == Role::Standby && !self.stopping;
        let Some(neighbour) = word.own().filter(|_| standby && own.is_empty()) else {
            let why = if own.is_empty() { "it does not stand by".to_owned() } else { own };
            return self.say_of_transfer(which, from, word.id, &Said::Refuse(why));
        };
        // What an earlier move the other way has left must not send back what comes from there.
        if let Some(part) = &mut vip.transfers.giver {
            part.machine.stop_handing();
        }
        vip.transfers.applied.forward = false;
        let part =
            Part { id: word.id, peer: from, since: now, neighbour: Some(neighbour), machine: Taker::begin() };
        vip.transfers.taker = Some(part);
        let done = self.follow(which).await;
        let now = self.now();
        let taking = self.taker(which, |taker| taker.done(now, 0, done));
        self.taking(which, taking).await;
    }

    /// Does what the new holder's part says.
    async fn taking(&mut self, which: usize, taking: Vec<Taking>) {
        let mut queue = VecDeque::from(taking);
        while let Some(next) = queue.pop_front() {
            let Some(part) = self.vips.get(which).and_then(|vip| vip.transfers.taker.as_ref()) else {
                return;
            };
            let (id, peer) = (part.id, part.peer);
            match next {
                Taking::Say(said) => self.say_of_transfer(which, peer, id, &said),
                Taking::List => self.list(which, id, false),
                Taking::Change(Said::Flows { number, last, add, remove }) => {
                    let done = self.change_flows(which, last, &add, &remove).await;
                    let now = self.now();
                    queue.extend(self.taker(which, |taker| taker.done(now, number, done)));
                }
                Taking::Change(Said::Ended(flows)) => {
                    if let Err(error) = self.change_flows(which, false, &[], &flows).await {
                        tracing::debug!(%error, "flows that have ended stay in the set");
                    }
                }
                Taking::Change(_) => {}
            }
        }
        let _ = self.follow(which).await;
    }

    async fn change_flows(
        &mut self,
        which: usize,
        last: bool,
        add: &[Flow],
        remove: &[Flow],
    ) -> Result<(), String> {
        let Some(vip) = self.vips.get(which) else { return Ok(()) };
        let addresses = vip.holder.settings().addresses.clone();
        let mut gone = remove.to_vec();
        if last {
            // A client that came again is ours now. The others advertise while the kernel is asked.
            let of = addresses.clone();
            let own = self.meanwhile(tokio::task::spawn_blocking(move || all_of(&of))).await;
            let own = own.ok_or("the kernel did not list connections in time")?;
            gone.extend(own.map_err(|error| error.to_string())??);
        }
        let steer = self.steering.steer()?;
        for address in addresses {
            let of = |flows: &[Flow]| -> Vec<Flow> {
                flows.iter().filter(|flow| flow.service.ip() == address).copied().collect()
            };
            steer.add_flows(address, &of(add)).map_err(|error| error.to_string())?;
            steer.remove_flows(address, &of(&gone)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Tells the machines whether the address is here, and makes the kernel follow.
    ///
    /// # Errors
    /// What the kernel refused, of what is newly wanted.
    pub(super) async fn follow(&mut self, which: usize) -> Result<(), String> {
        let now = self.now();
        let Some(vip) = self.vips.get_mut(which) else { return Ok(()) };
        let none = vip.transfers.giver.is_none() && vip.transfers.taker.is_none();
        let applied = vip.transfers.applied;
        if none && applied == Wanted::default() {
            return Ok(());
        }
        let active = vip.holder.role() == Role::Active;
        if let Some(part) = &mut vip.transfers.taker {
            part.machine.active(active);
        }
        let kept_before = vip.transfers.kept().is_some();
        let mut given = self.giver(which, |giver| giver.active(now, active));
        if let Some(count) =
            self.vips.get(which).and_then(|vip| vip.transfers.kept()).filter(|_| !kept_before)
        {
            self.tell_kept(which, count);
        }
        let done = self.apply(which).await;
        if let Err(why) = &done {
            given.extend(self.giver(which, |giver| giver.failed(why)));
            let _ = self.apply(which).await;
        }
        for next in given {
            let Some((id, peer, name)) = self.vips.get(which).and_then(|vip| {
                let part = vip.transfers.giver.as_ref()?;
                Some((part.id, part.peer, vip.holder.settings().name.clone()))
            }) else {
                break;
            };
            match next {
                Given::Say(said) => self.say_of_transfer(which, peer, id, &said),
                Given::Stays(why) => self.transfer_failed(&name, &why),
                Given::Tell(told) => self.tell_left(which, &told),
                // A machine that hears of its end begins nothing.
                Given::List | Given::Ask | Given::Close(_) => {}
            }
        }
        if let Some(vip) = self.vips.get_mut(which) {
            vip.transfers.giver.take_if(|part| part.machine.is_over());
            vip.transfers.taker.take_if(|part| part.machine.is_over() && !vip.transfers.applied.forward);
        }
        self.changed |= self.vips.get(which).is_some_and(|vip| vip.transfers.applied != applied);
        done
    }

    /// Makes the kernel have what is wanted: first what is new, then away with what is not wanted any more.
    async fn apply(&mut self, which: usize) -> Result<(), String> {
        let Some(vip) = self.vips.get(which) else { return Ok(()) };
        let active = vip.holder.role() == Role::Active;
        let (wanted, before) = (vip.transfers.wanted(active), vip.transfers.applied);
        if wanted == before {
            return Ok(());
        }
        let addresses = vip.holder.settings().addresses.clone();
        let own = vip.holder.source();
        let done = self.apply_new(which, &addresses, own, wanted, before).await;
        let mut undone = Ok(());
        if !wanted.forward && before.forward {
            undone = self.each(&addresses, Steer::stop_forwarding);
        }
        if wanted.hand == Hand::None && before.hand != Hand::None {
            let stopped = self.each(&addresses, |steer, address| {
                steer.answer_again(address)?;
                steer.stop_handing_over(address)
            });
            undone = undone.and(stopped);
        }
        if !wanted.loopback && before.loopback {
            undone = undone.and(self.leave_loopback(&addresses).await);
        }
        let now = self.now();
        if let Some(vip) = self.vips.get_mut(which) {
            vip.transfers.again = undone.as_ref().err().map(|_| now + AGAIN);
            if done.is_ok() && undone.is_ok() {
                vip.transfers.applied = wanted;
            } else {
                // Any of it may be there; what is not is no error when it is taken away.
                vip.transfers.applied = Wanted {
                    loopback: wanted.loopback || before.loopback,
                    hand: if wanted.hand == Hand::None { before.hand } else { wanted.hand },
                    forward: wanted.forward || before.forward,
                };
            }
        }
        done.and(undone)
    }

    async fn apply_new(
        &mut self,
        which: usize,
        addresses: &[IpAddr],
        own: Option<IpAddr>,
        wanted: Wanted,
        before: Wanted,
    ) -> Result<(), String> {
        if wanted != Wanted::default() && !std::mem::replace(&mut self.steering.guarded, true) {
            self.guardian.rules();
        }
        if wanted.loopback && !before.loopback {
            let own = own.ok_or("this node has no address on the link")?;
            self.each(addresses, |steer, address| steer.quiet(address, own))?;
            for address in addresses {
                self.guardian.hold(LOOPBACK, *address);
                let kernel = self.kernel.clone();
                let answer = self.meanwhile(kernel.add_address(LOOPBACK, *address)).await;
                self.kernel_answer(answer)?;
            }
        }
        let interface = self.place(which);
        let vip = self.vips.get(which).ok_or("it is gone")?;
        let neighbour = |other: Option<(IpAddr, Mac)>| {
            let (address, mac) = other.ok_or("the other node has not said where it is")?;
            let interface = interface.ok_or("the interface is gone")?;
            Ok::<_, String>(Neighbour { address, mac, interface })
        };
        if wanted.forward && !before.forward {
            let to = neighbour(vip.transfers.taker.as_ref().and_then(|part| part.neighbour))?;
            self.each(addresses, |steer, address| steer.forward(address, &to))?;
        } else if wanted.hand != before.hand && wanted.hand != Hand::None {
            let to = neighbour(vip.transfers.giver.as_ref().and_then(|part| part.neighbour))?;
            self.each(addresses, |steer, address| match wanted.hand {
                Hand::New => steer.hand_over(address, &to, Handing::New),
                Hand::Silent => steer.hold_answers(address),
                Hand::Known => {
                    steer.answer_again(address)?;
                    steer.hand_over(address, &to, Handing::Known)
                }
                Hand::None => Ok(()),
            })?;
        }
        Ok(())
    }

    fn each(
        &mut self,
        addresses: &[IpAddr],
        change: impl Fn(&mut Steer, IpAddr) -> std::io::Result<()>,
    ) -> Result<(), String> {
        let steer = self.steering.steer()?;
        addresses.iter().try_for_each(|address| change(steer, *address)).map_err(|error| error.to_string())
    }

    async fn leave_loopback(&mut self, addresses: &[IpAddr]) -> Result<(), String> {
        for address in addresses {
            let kernel = self.kernel.clone();
            let answer = self.meanwhile(kernel.remove_address(LOOPBACK, *address)).await;
            self.kernel_answer(answer)?;
            self.guardian.release_loopback(*address);
        }
        self.each(addresses, Steer::speak_again)
    }

    /// A node has said how it is: what it does not take part in any more ends here too.
    pub(super) async fn compare_transfers(&mut self, from: u64, standing: &Standing) {
        for which in 0..self.vips.len() {
            self.forget(which, "it does not take part any more", |id, peer| {
                peer == from && !standing.transfers.contains(&id)
            })
            .await;
        }
    }

    /// Whatever is due, and who is not heard any more.
    pub(super) async fn look_after_transfers(&mut self) {
        for which in 0..self.vips.len() {
            let now = self.now();
            let Some(vip) = self.vips.get_mut(which) else { continue };
            let due = vip.transfers.poll_timeout().is_some_and(|due| due <= now);
            let peers = &self.link.peers;
            let giver = vip.transfers.giver.iter().map(|part| (part.peer, part.since));
            let taker = vip.transfers.taker.iter().map(|part| (part.peer, part.since));
            let gone = |(peer, since): &(u64, Time)| {
                !peers.is_fresh(now, *peer) && now.since(*since) > STANDING_FRESH
            };
            let lost: Vec<u64> = giver.chain(taker).filter(gone).map(|(peer, _)| peer).collect();
            if !lost.is_empty() {
                self.forget(which, "it is not heard any more", |_, peer| lost.contains(&peer)).await;
            }
            if due {
                let given = self.giver(which, |giver| giver.timeout(now));
                self.given(which, given).await;
                let taking = self.taker(which, |taker| taker.timeout(now));
                self.taking(which, taking).await;
                let _ = self.follow(which).await;
            }
        }
    }

    async fn forget(&mut self, which: usize, why: &str, is_it: impl Fn(u64, u64) -> bool) {
        let now = self.now();
        let Some(vip) = self.vips.get_mut(which) else { return };
        let taker = vip.transfers.taker.as_mut().filter(|part| is_it(part.id, part.peer));
        let gives = vip.transfers.giver.as_ref().is_some_and(|part| {
            // Until it has confirmed it cannot name it.
            is_it(part.id, part.peer) && (part.neighbour.is_some() || !part.machine.is_under_way())
        });
        if taker.is_none() && !gives {
            return;
        }
        if let Some(part) = taker {
            part.machine.forgotten(now);
        }
        let given = if gives { self.giver(which, |giver| giver.forgotten(why)) } else { Vec::new() };
        self.given(which, given).await;
    }

    /// An earlier process has left an address of ours on the loopback.
    pub(super) async fn tidy_loopback(&mut self, snapshot: &Snapshot) {
        let left = snapshot.addresses.iter().filter(|entry| entry.interface == LOOPBACK && entry.ours);
        let wanted = |address: IpAddr| {
            let of = |vip: &Vip| vip.holder.settings().addresses.contains(&address);
            self.vips.iter().any(|vip| of(vip) && vip.transfers.applied.loopback)
        };
        let left: Vec<IpAddr> = left.map(|entry| entry.address).filter(|address| !wanted(*address)).collect();
        for address in left {
            let kernel = self.kernel.clone();
            let answer = self.meanwhile(kernel.remove_address(LOOPBACK, address)).await;
            let answer = self.kernel_answer(answer);
            let what = format!("removes {address} from the loopback");
            let why = answer.err().unwrap_or_else(|| "an earlier process of Cygnet left it there".to_owned());
            self.events.record(Severity::Warning, "vip", what, why);
        }
    }

    /// The end: whatever is left goes.
    pub(super) async fn end_transfers(&mut self) {
        for which in 0..self.vips.len() {
            let Some(vip) = self.vips.get_mut(which) else { continue };
            (vip.transfers.giver, vip.transfers.taker) = (None, None);
            // What stays is the guard's.
            let _ = self.apply(which).await;
        }
    }
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}
