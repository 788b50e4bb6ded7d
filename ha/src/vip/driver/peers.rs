//! The other nodes' elections at work: what they say, what they leave when they die, and what is handed over to them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cygnet_netlink::flows;
use cygnet_netlink::guard::{LastWord, Seal, WORD_LEN, seal_of};
use cygnet_netlink::steer::FLOWS_MAX;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Readiness;
use super::left::Leftover;
use super::run::{Driver, Vip};
use crate::events::Severity;
use crate::time::Time;
use crate::vip::Role;
use crate::vip::fitness::{Change, Judge, LOST_MAX};
use crate::vip::peers::word::{Standing, VipStanding, Word};
use crate::vip::peers::{PeerNode, Peers, STANDING_EVERY};
use crate::vip::speaker::Reason;
use crate::vip::speaker::vrrp::PRIORITY_OWNER;
use crate::vip::transfer::PREPARE_MAX;

/// The peer that is asked to take an address over has so long; it needs some milliseconds, and a busy machine some more.
pub(super) const HAND_OVER_PATIENCE: Duration = Duration::from_secs(1);

/// A node that yields, and whose addresses the better one did not take, asks again after this time.
const YIELD_AGAIN: Duration = Duration::from_secs(5);

/// Orders to hand over that run at a time; an operator has few hands.
const ORDERS_MAX: usize = 8;

/// Words, last words and orders that wait for the loop. A few come a second; what does not fit is said again, or is lost as a
/// datagram may be.
pub(super) const WORDS_WAITING: usize = 64;

/// Last words that are read within [`WINDOW`]; the rest waits in the kernel. The thread is scheduled before the data path, and a
/// flood must not make it busy.
const BUDGET: u32 = 20;

/// See [`BUDGET`].
const WINDOW: Duration = Duration::from_millis(10);

/// Says a word to one of the other nodes, or to all; false if it could not be queued. Never waits.
pub type Say = Box<dyn Fn(Option<u64>, &[u8]) -> bool + Send>;

/// The other nodes, and where last words are said and heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Our own address and port in the cluster. Last words are heard there, over UDP.
    pub own: SocketAddr,
    /// The others, with their addresses.
    pub others: Vec<(PeerNode, SocketAddr)>,
}

/// What is to be handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Names in the configuration; empty: all that this node holds.
    pub vips: Vec<String>,
    /// The node; `None`: for each address the best one that stands by.
    pub to: Option<String>,
    /// Only says what would happen.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOverReply {
    /// Handed over (dry run: could be).
    pub moved: Vec<Moved>,
    /// Still here.
    pub refused: Vec<Kept>,
}

/// An address that has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The name in the configuration.
    pub vip: String,
    /// The node that has it now.
    pub to: String,
    /// From the question to the new holder's first advert, ms; 0 in a dry run.
    pub took_ms: u64,
    /// Connections of the address at that moment.
    #[serde(default)]
    pub connections: usize,
    /// Why they could not be counted, and `connections` says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncounted: Option<String>,
    /// Why they break when their clients send next; `None`: they go on until they end.
    #[serde(default)]
    pub breaks: Option<String>,
}

/// An address that has not moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The name in the configuration.
    pub vip: String,
    /// Why.
    pub why: String,
}

/// A question with the way back for its answer.
pub(super) enum Asked {
    HandOver { what: HandOver, reply: oneshot::Sender<HandOverReply> },
    Left { limit: usize, reply: oneshot::Sender<Vec<Leftover>> },
    Settle,
}

/// An order under way.
struct Order {
    reply: Option<oneshot::Sender<HandOverReply>>,
    result: HandOverReply,
    moves: Vec<Move>,
}

struct Move {
    vip: String,
    to: u64,
    since: Time,
    /// The peer was asked to take it, then.
    asked: Option<Time>,
    /// The peer has said no.
    refused: Option<String>,
    /// Why connections break; `None`: they go on.
    breaks: Option<String>,
    connections: usize,
    uncounted: Option<String>,
}

/// What the driver keeps for the other nodes.
pub(super) struct Link {
    say: Option<Say>,
    pub(super) peers: Peers,
    word: Option<LastWord>,
    /// The last standing, and when it is to be said again.
    said: Vec<u8>,
    next: Time,
    listener: Option<Listener>,
    pub(super) deaths: mpsc::Receiver<Seal>,
    death_sender: mpsc::Sender<Seal>,
    orders: Vec<Order>,
    judge: Judge,
    /// The last time that this node wanted to hand over because another is better.
    yielded: Option<Time>,
}

/// Hears last words on this address.
struct Listener {
    own: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub(super) fn new(say: Option<Say>) -> Self {
        let (death_sender, deaths) = mpsc::channel(WORDS_WAITING);
        Self {
            say,
            peers: Peers::default(),
            word: None,
            said: Vec::new(),
            next: Time::ZERO,
            listener: None,
            deaths,
            death_sender,
            orders: Vec::new(),
            judge: Judge::default(),
            yielded: None,
        }
    }

    /// The priority of this node, which was configured with `base`.
    pub(super) fn priority(&self, base: u8) -> u8 {
        self.judge.priority(base)
    }

    /// When [`Driver::look_after_the_peers`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let moves = self.orders.iter().flat_map(|order| &order.moves);
        let moves = moves.filter_map(|one| one.asked).map(|asked| asked + HAND_OVER_PATIENCE).min();
        self.say.as_ref().map(|_| self.next).into_iter().chain(moves).min()
    }

    /// Whether an order to move it is under way.
    pub(super) fn has_move(&self, vip: &str) -> bool {
        self.orders.iter().flat_map(|order| &order.moves).any(|one| one.vip == vip)
    }

    pub(super) fn say(&self, to: Option<u64>, word: &Word) -> bool {
        self.say.as_ref().is_some_and(|say| say(to, &word.encode()))
    }
}

impl Driver {
    /// The other nodes are others now.
    pub(super) fn meet(&mut self) {
        if self.succeeds.is_some() {
            // The process before this one speaks for the node.
            return;
        }
        let Some(cluster) = self.outputs.cluster.borrow_and_update().clone() else { return };
        let nodes: Vec<PeerNode> = cluster.others.iter().map(|(node, _)| node.clone()).collect();
        self.link.peers.set(&nodes);
        if let Err(error) = self.expect_last_words(&cluster) {
            let what = "a dead node is noticed by its silence only, here or on the others";
            self.events.record(Severity::Warning, "vip", what, error.to_string());
        }
        self.link.next = self.now();
    }

    fn expect_last_words(&mut self, cluster: &Cluster) -> io::Result<()> {
        if cluster.others.is_empty() {
            self.link.listener = None;
            return Ok(());
        }
        let word = match self.link.word.take() {
            Some(word) => word,
            None => LastWord::new()?,
        };
        let addresses: Vec<SocketAddr> = cluster.others.iter().map(|(_, address)| *address).collect();
        self.guardian.last_word(&word, cluster.own, &addresses);
        self.link.word = Some(word);
        // Others may come and go: a socket of the same address would be refused while this one closes.
        if self.link.listener.as_ref().is_none_or(|listener| listener.own != cluster.own) {
            self.link.listener = None;
            let task = hear_last_words(socket(cluster.own)?, self.link.death_sender.clone());
            self.link.listener = Some(Listener { own: cluster.own, task: tokio::spawn(task) });
        }
        Ok(())
    }

    /// A last word was said.
    pub(super) async fn death(&mut self, seal: Seal) {
        self.notice_a_freeze().await;
        let now = self.now();
        let Some((id, bereft)) = self.link.peers.last_word(now, &seal) else { return };
        let what = format!("{} has died", self.link.peers.name(id));
        let why = "its guard says that its process has ended, and that its addresses are gone";
        self.events.record(Severity::Warning, "vip", what, why);
        for one in bereft {
            self.bereft(&one.vip, one.source, one.rival, Reason::Died(one.source)).await;
        }
    }

    /// A peer has let go of an address, for certain.
    async fn bereft(&mut self, vip: &str, source: IpAddr, rival: Option<(u8, IpAddr)>, reason: Reason) {
        let now = self.now();
        let Some(which) = self.named(vip) else { return };
        let Some(vip) = self.vips.get_mut(which) else { return };
        let own = vip.holder.source().map(|own| (vip.holder.settings().priority, own));
        let at_once = rival.is_none_or(|rival| own > Some(rival));
        let actions = vip.holder.bereft(now, source, at_once, reason);
        self.act(which, actions).await;
    }

    /// A virtual router of this name that is to stay.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.vips.iter().position(|vip| !vip.leaving && vip.holder.settings().name == name)
    }

    /// A word of another node. One that makes no sense is passed over.
    pub(super) async fn word(&mut self, from: u64, bytes: &[u8]) {
        self.notice_a_freeze().await;
        let now = self.now();
        let Some(word) = Word::decode(bytes) else { return };
        if let Some(standing) = word.standing {
            self.link.peers.hear(now, from, standing.clone());
            self.compare_transfers(from, &standing).await;
        }
        if let Some((vip, source)) = word.released.and_then(|it| Some((it.vip, it.source.parse().ok()?))) {
            let rival = self.link.peers.rival(now, &vip, from);
            self.bereft(&vip, source, rival, Reason::Released(source)).await;
        }
        if let Some((vip, source)) = word.take.and_then(|take| Some((take.vip, take.source.parse().ok()?)))
            && let Err(why) = self.take(&vip, source).await
        {
            self.link.say(Some(from), &Word::refused(&vip, &why));
        }
        if let Some(transfer) = &word.transfer {
            self.hear_of_transfer(from, transfer).await;
        }
        if let Some(refused) = word.refused {
            let moves = self.link.orders.iter_mut().flat_map(|order| &mut order.moves);
            moves
                .filter(|one| one.to == from && one.vip == refused.vip)
                .for_each(|one| one.refused = Some(refused.why.clone()));
        }
    }

    async fn take(&mut self, vip: &str, source: IpAddr) -> Result<(), String> {
        if self.stopping {
            return Err("it is being stopped".to_owned());
        }
        let now = self.now();
        let which = self.named(vip).ok_or("there is no such address here")?;
        let vip = self.vips.get_mut(which).ok_or("there is no such address here")?;
        let actions = vip.holder.take(now, source)?;
        self.act(which, actions).await;
        Ok(())
    }

    /// Hands over, or says why not; or says what is left.
    pub(super) async fn asked(&mut self, asked: Asked) {
        let (what, reply) = match asked {
            Asked::HandOver { what, reply } => (what, reply),
            // Whoever asked may be gone.
            Asked::Left { limit, reply } => return drop(reply.send(self.leftovers(limit))),
            Asked::Settle => return self.settle(),
        };
        if self.link.orders.len() >= ORDERS_MAX {
            let kept = |vip: &String| Kept { vip: vip.clone(), why: "other orders are under way".to_owned() };
            let refused = what.vips.iter().map(kept).collect();
            // Whoever asked may be gone.
            let _ = reply.send(HandOverReply { refused, ..HandOverReply::default() });
            return;
        }
        self.hand_over(&what, Some(reply)).await;
    }

    /// Begins an order. Without a reply it is one of our own.
    pub(super) async fn hand_over(&mut self, what: &HandOver, reply: Option<oneshot::Sender<HandOverReply>>) {
        let held = self.vips.iter().filter(|vip| !vip.leaving && vip.holder.role() == Role::Active);
        let held = held.map(|vip| vip.holder.settings().name.clone());
        let names: Vec<String> = if what.vips.is_empty() { held.collect() } else { what.vips.clone() };
        let names = self.with_their_groups(names);
        let mut order = Order { reply, result: HandOverReply::default(), moves: Vec::new() };
        for vip in names {
            match self.begin_move(&vip, what).await {
                Ok(one) if what.dry_run => {
                    let to = self.link.peers.name(one.to);
                    let Move { connections, breaks, uncounted, .. } = one;
                    order.result.moved.push(Moved { vip, to, took_ms: 0, connections, uncounted, breaks });
                }
                Ok(one) => order.moves.push(one),
                Err(why) => order.result.refused.push(Kept { vip, why }),
            }
        }
        if !order.moves.is_empty() {
            self.link.orders.push(order);
        } else if let Some(reply) = order.reply {
            // Whoever asked may be gone.
            let _ = reply.send(order.result);
        }
    }

    async fn begin_move(&mut self, name: &str, what: &HandOver) -> Result<Move, String> {
        let now = self.now();
        let which = self.named(name).ok_or("there is no such address in the configuration")?;
        let vip = self.vips.get_mut(which).ok_or("it is gone")?;
        // Says why not, if this node does not hold it.
        vip.holder.set_heir(None)?;
        let addresses = vip.holder.settings().addresses.clone();
        let to = self.successor(now, name, what.to.as_deref())?;
        let breaks = self.cannot_keep(to);
        let mut one = Move {
            vip: name.to_owned(),
            to,
            since: now,
            asked: None,
            refused: None,
            breaks,
            connections: 0,
            uncounted: None,
        };
        if what.dry_run || one.breaks.is_some() {
            // A quarter of a second for the longest list: the others advertise meanwhile.
            let list = tokio::task::spawn_blocking(move || flows::of(&addresses, FLOWS_MAX));
            match self.meanwhile(list).await {
                Some(Ok(Ok((list, beyond)))) => one.connections = list.len() + beyond,
                Some(Ok(Err(error))) => one.uncounted = Some(error.to_string()),
                Some(Err(error)) => one.uncounted = Some(error.to_string()),
                None => one.uncounted = Some("the kernel did not list them in time".to_owned()),
            }
        }
        if what.dry_run {
            return Ok(one);
        }
        if one.breaks.is_some() {
            self.ask_to_take(name, to)?;
            one.asked = Some(now);
        } else {
            self.begin_transfer(which, to).await;
        }
        Ok(one)
    }

    /// The preparations of a move have failed.
    pub(super) fn transfer_failed(&mut self, name: &str, why: &str) {
        let moves = self.link.orders.iter_mut().flat_map(|order| &mut order.moves);
        moves.filter(|one| one.vip == name).for_each(|one| one.refused = Some(why.to_owned()));
    }

    /// Asks another node to take an address, and gives way to it then.
    pub(super) fn ask_to_take(&mut self, name: &str, to: u64) -> Result<(), String> {
        let now = self.now();
        let which = self.named(name).ok_or("it is not configured any more")?;
        let source = self.link.peers.source(to, name).ok_or("the other node has no address there")?;
        let vip = self.vips.get_mut(which).ok_or("it is gone")?;
        vip.holder.set_heir(Some(source))?;
        let moves = self.link.orders.iter_mut().flat_map(|order| &mut order.moves);
        moves.filter(|one| one.vip == name).for_each(|one| one.asked = Some(now));
        let own = vip.holder.source().map_or_else(String::new, |own| own.to_string());
        if self.link.say(Some(to), &Word::take(name, &own)) {
            return Ok(());
        }
        if let Some(vip) = self.vips.get_mut(which) {
            vip.holder.set_heir(None)?;
        }
        Err(format!("{} cannot be reached", self.link.peers.name(to)))
    }

    /// Whether an order is under way.
    pub(super) fn has_orders(&self) -> bool {
        !self.link.orders.is_empty()
    }

    /// Whether something is being handed over, or lingers.
    pub(super) fn moves(&self) -> bool {
        !self.link.orders.is_empty() || self.vips.iter().any(|vip| vip.holder.lingers())
    }

    /// Says how we are, and sees how the moves go.
    pub(super) async fn look_after_the_peers(&mut self) {
        if self.succeeds.is_some() {
            return;
        }
        let now = self.now();
        let mut orders = std::mem::take(&mut self.link.orders);
        for order in &mut orders {
            let moves = std::mem::take(&mut order.moves);
            for one in moves {
                match self.move_goes(now, &one).await {
                    None => order.moves.push(one),
                    Some(Ok(moved)) => order.result.moved.push(moved),
                    Some(Err(why)) => order.result.refused.push(Kept { vip: one.vip, why }),
                }
            }
        }
        for order in orders {
            match (order.moves.is_empty(), order.reply) {
                (false, reply) => self.link.orders.push(Order { reply, ..order }),
                // Whoever asked may be gone.
                (true, reply) => drop(reply.map(|reply| reply.send(order.result))),
            }
        }
        self.compare(now).await;
        self.give_way(now).await;
        self.say_standing(now);
    }

    /// Whether another node would serve better, and what follows from it.
    async fn compare(&mut self, now: Time) {
        let own = self.outputs.fitness.borrow().clone();
        let holds = self.vips.iter().any(|vip| vip.holder.role() == Role::Active);
        let rivals = self.link.peers.rivals(now);
        match self.link.judge.look(now, &own, holds, &rivals) {
            Some(Change::Yields(yields)) => {
                let to = self.link.peers.name(yields.to);
                self.events.record(Severity::Warning, "vip", format!("yields to {to}"), yields.why);
            }
            Some(Change::Recovers(why)) => {
                self.events.record(Severity::Info, "vip", "does not yield any more", why);
                self.link.yielded = None;
            }
            None => {}
        }
        for which in 0..self.vips.len() {
            let Some(vip) = self.vips.get_mut(which) else { continue };
            let priority = self.link.judge.priority(vip.base_priority);
            if priority != vip.holder.settings().priority && vip.base_priority != PRIORITY_OWNER {
                let what = format!("priority {priority} instead of {}", vip.holder.settings().priority);
                let why = self.link.judge.yields().map_or("as configured", |yields| yields.why.as_str());
                self.events.record(Severity::Info, &vip.subject, what, why);
                let actions = vip.holder.set_priority(now, priority);
                self.act(which, actions).await;
            }
        }
        let Some(yields) = self.link.judge.yields() else { return };
        let again = self.link.yielded.is_none_or(|last| now.since(last) >= YIELD_AGAIN);
        let better =
            rivals.iter().find(|rival| rival.node == yields.to && rival.fitness.lost.len() < own.lost.len());
        if let Some(better) = better.filter(|_| holds && again && self.link.orders.is_empty()) {
            let to = Some(better.name.clone());
            self.link.yielded = Some(now);
            self.hand_over(&HandOver { to, ..HandOver::default() }, None).await;
        }
    }

    /// `None`: it is under way.
    async fn move_goes(&mut self, now: Time, one: &Move) -> Option<Result<Moved, String>> {
        let to = self.link.peers.name(one.to);
        let gone = || Some(Err("it is not configured any more".to_owned()));
        let Some(which) = self.named(&one.vip) else { return gone() };
        let Some(vip) = self.vips.get_mut(which) else { return gone() };
        if vip.holder.role() != Role::Active {
            let took = now.since(one.since);
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let kept = vip.transfers.kept();
            return Some(Ok(Moved {
                vip: one.vip.clone(),
                to,
                took_ms,
                connections: kept.unwrap_or(one.connections),
                uncounted: one.uncounted.clone().filter(|_| kept.is_none()),
                breaks: one.breaks.clone(),
            }));
        }
        let over = match one.asked {
            Some(asked) => now.since(asked) >= HAND_OVER_PATIENCE,
            None => now.since(one.since) >= PREPARE_MAX + HAND_OVER_PATIENCE,
        };
        let why = match &one.refused {
            Some(why) => format!("{to} does not take it: {why}"),
            None if over => format!("{to} did not take it within {} ms", HAND_OVER_PATIENCE.as_millis()),
            None => return None,
        };
        // Cannot fail: the node is Active, and nothing is asked of it.
        let _ = vip.holder.set_heir(None);
        let what = format!("{} was not handed over and stays here", one.vip);
        self.events.record(Severity::Warning, &vip.subject, what, why.as_str());
        self.stays(which, &why).await;
        Some(Err(why))
    }

    fn say_standing(&mut self, now: Time) {
        if self.link.say.is_none() || (!self.changed && self.link.next > now) {
            return;
        }
        let mut ready = self.outputs.ready.borrow().clone();
        if self.stopping {
            ready = Readiness { ready: false, reason: "it is being stopped".to_owned() };
        }
        let vips = self.vips.iter().filter(|vip| !vip.leaving).map(standing).collect();
        let seal = self.link.word.as_ref().map(|word| word.seal().to_vec()).unwrap_or_default();
        let lost = self.outputs.fitness.borrow().lost.iter().take(LOST_MAX).cloned().collect();
        let keeps = Some(self.steering.keeps());
        let transfers = self.vips.iter().flat_map(|vip| vip.transfers.ids()).collect();
        let (ready, reason) = (ready.ready, ready.reason);
        let word = Word::standing(Standing { seal, ready, reason, vips, lost, keeps, transfers });
        let bytes = word.encode();
        if bytes == self.link.said && self.link.next > now {
            return;
        }
        self.link.say.as_ref().map(|say| say(None, &bytes));
        (self.link.said, self.link.next) = (bytes, now + STANDING_EVERY);
    }

    /// Tells the peers of an address that this node does not hold any more, and that nobody has taken: they need not wait.
    pub(super) fn tell_release(&mut self, which: usize, was: Role) {
        let Some(vip) = self.vips.get(which) else { return };
        let holder = &vip.holder;
        if was != Role::Active || holder.role() != Role::Down || holder.is_ours() {
            return;
        }
        if let Some(source) = vip.spoke_from {
            let name = holder.settings().name.clone();
            self.link.say(None, &Word::released(&name, &source.to_string()));
        }
    }
}

fn standing(vip: &Vip) -> VipStanding {
    let holder = &vip.holder;
    VipStanding {
        name: holder.settings().name.clone(),
        source: holder.source().map_or_else(String::new, |source| source.to_string()),
        standby: holder.role() == Role::Standby,
        priority: holder.settings().priority.into(),
    }
}

/// On our own address, also if that is not there yet.
fn socket(own: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(own), Type::DGRAM, Some(Protocol::UDP))?;
    if own.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&own.into())?;
    UdpSocket::from_std(socket.into())
}

async fn hear_last_words(socket: UdpSocket, deaths: mpsc::Sender<Seal>) {
    // One byte more than a word has: what is longer is none.
    let mut buffer = [0; WORD_LEN + 1];
    let (mut window, mut left) = (Instant::now(), BUDGET);
    loop {
        if window.elapsed() >= WINDOW {
            (window, left) = (Instant::now(), BUDGET);
        } else if left == 0 {
            tokio::time::sleep_until(window + WINDOW).await;
        }
        left = left.saturating_sub(1);
        let Ok(length) = socket.recv(&mut buffer).await else { continue };
        let seal = buffer.get(..length).and_then(seal_of);
        if let Some(seal) = seal
            && deaths.send(seal).await.is_err()
        {
            return;
        }
    }
}

/// What the handle gives to the loop.
pub(super) type Heard = (u64, Vec<u8>);

/// The cluster as the handle sets it.
pub(super) type Known = Option<Arc<Cluster>>;
