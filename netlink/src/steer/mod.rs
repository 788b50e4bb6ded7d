//! Packets of one address, sent on to a neighbour: what a planned move of a virtual address needs of the kernel.
//!
//! Connections stay where they are when an address moves. Their packets come to the new holder, which sends them on to the old
//! one ([`Steer::forward`]: a set of flows and `dup`); new connections are handed to the new holder before the address moves
//! ([`Steer::hand_over`]). An old holder that keeps the address on its loopback answers no ARP for it ([`Steer::quiet`]).
//!
//! All of it stands in tables of our own, named [`TABLE`], one a family; nothing else of the host is touched. A table is
//! deleted with the last thing in it; [`Steer::clear`] deletes those that an earlier process left. A table of this name that does
//! not have our comment is not ours: nothing is put into it, and nothing taken away. Spoken to the kernel in its own
//! words (nfnetlink): each call is one transaction, done or refused as a whole, within microseconds.
//!
//! | chain | hook | what it does |
//! |---|---|---|
//! | `keep_ADDRESS` | prerouting | flows in the set of the same name, and errors about them, go to the old holder |
//! | `hand_ADDRESS` | prerouting | a new connection is noted in the set of the same name; flows in it go to the new holder |
//! | `still_ADDRESS` | output | answers to new connections are held back: the new holder answers |
//! | `ask_ADDRESS`, `say_ADDRESS` | arp input, output | requests for the address are not heard; ours name our real address |
//!
//! Two nodes that send one packet to each other would never stop; so what comes from the neighbour's MAC is never sent on.

mod list;
mod message;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use rtnetlink::sys::{Socket, SocketAddr as PortAddress};

use crate::guard::LOOPBACK;
use crate::wire::Mac;
use list::{TABLE_DATA, comment, list_tables, tables};
use message::{Ask, Attributes, Batch, FAMILIES, Family, answer};
use rule::{End, ITEM, Note, Rule, Verdict, octets};

/// The name of our tables.
pub const TABLE: &str = "cygnet";

/// Their comment. A table of this name without it is somebody else's, and left alone.
const MARK: &str = "made by Cygnet for a planned move";

/// Flows of one address that a set holds; about 300 bytes each in the kernel, so at most 80 MB.
pub const FLOWS_MAX: usize = 262_144;

/// New connections that are remembered as the new holder's while neighbours still believe the old one.
const HANDED_MAX: u32 = 65_536;

/// ... for so long after their first packet, ms: an ARP entry is believed for a minute or two.
const HANDED_MS: u64 = 120_000;

/// Flows in one message: an attribute is shorter than 64 KiB, and one element takes 28 or 52 bytes.
const FLOWS_IN_MESSAGE: usize = 1000;

/// Flows in one transaction: twice 52 bytes each when they are taken out, and the socket takes 212,992 by default.
pub const FLOWS_AT_ONCE: usize = 1500;

/// Before connection tracking's helpers and whatever else the host has; the two differ so that their order is sure.
const KEEP_PRIORITY: i32 = -350;
const HAND_PRIORITY: i32 = -340;

/// NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT, NF_ARP_IN, NF_ARP_OUT.
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const ARP_IN: u32 = 0;
const ARP_OUT: u32 = 1;

/// NETLINK_NETFILTER.
const NETFILTER: isize = 12;

/// One TCP connection, as its packets have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The client.
    pub client: SocketAddr,
    /// Our end.
    pub service: SocketAddr,
}

/// The node at the other end of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its own address on the link, of the family of what is sent on.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: Mac,
    /// The link, by our number for it.
    pub interface: u32,
}

/// What becomes of new connections to an address that is being handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handing {
    /// Each goes to the new holder.
    New,
    /// Those that went there stay there; new ones are ours again.
    Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Keep,
    Hand,
    Still,
    Ask,
    Say,
}

impl Part {
    fn name(self, address: IpAddr) -> String {
        let part = match self {
            Self::Keep => "keep",
            Self::Hand => "hand",
            Self::Still => "still",
            Self::Ask => "ask",
            Self::Say => "say",
        };
        // A colon ends a word in nft's language.
        format!("{part}_{address}").replace(':', "_")
    }

    fn has_set(self) -> bool {
        matches!(self, Self::Keep | Self::Hand)
    }

    fn family(self, address: IpAddr) -> Family {
        match self {
            Self::Ask | Self::Say => Family::Arp,
            Self::Keep | Self::Hand | Self::Still => family(address),
        }
    }
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ip } else { Family::Ip6 }
}

/// The rules of this process. Dropping it leaves them: the guard or the next start removes them.
#[derive(Debug)]
pub struct Steer {
    socket: Socket,
    parts: BTreeSet<(Part, IpAddr)>,
}

impl Steer {
    /// Connects to the kernel. Deletes what an earlier process left, and tries every kind of rule once, on an address that no
    /// packet has, so that a kernel that lacks something is known before it is needed.
    ///
    /// # Errors
    /// No CAP_NET_ADMIN, no nf_tables with `dup`, sets and comments of tables in this kernel (Linux 5.10), or a table of our name
    /// that is not ours.
    pub fn open() -> io::Result<Self> {
        let mut steer = Self { socket: connect()?, parts: BTreeSet::new() };
        steer.clear()?;
        let tried = steer.try_all().and_then(|()| steer.marked());
        steer.clear()?;
        // What could not be told from another's table after a crash would stay for ever.
        match tried?.len() {
            FAMILIES => Ok(steer),
            _ => Err(io::Error::other("this kernel keeps no comments of tables; Linux 5.10 does")),
        }
    }

    fn try_all(&mut self) -> io::Result<()> {
        for address in [IpAddr::from([0; 4]), IpAddr::from([0; 16])] {
            let to = Neighbour { address, mac: Mac::default(), interface: LOOPBACK };
            self.forward(address, &to)?;
            self.hand_over(address, &to, Handing::New)?;
            self.hold_answers(address)?;
            self.quiet(address, address)?;
        }
        Ok(())
    }

    /// Sends the flows that [`Steer::add_flows`] names on to the old holder of the address. None at first; what was there for
    /// this address before is forgotten.
    ///
    /// # Errors
    /// The kernel's; nothing has changed then. So with all others.
    pub fn forward(&mut self, address: IpAddr, to: &Neighbour) -> io::Result<()> {
        let mut batch = self.begin(&[Part::Keep], address);
        let (family, name) = (family(address), Part::Keep.name(address));
        new_set(&mut batch, family, &name, FLOWS_MAX as u32, None);
        new_chain(&mut batch, family, &name, PREROUTING, KEEP_PRIORITY);
        self.pass_by(&mut batch, &name, address, to);
        let mut rule = |fill: &dyn Fn(&mut Rule<'_, '_>)| new_rule(&mut batch, family, &name, fill);
        rule(&|it| _ = it.syn(false).note(Note::Delete, &name));
        rule(&|it| _ = it.syn(false).verdict(Verdict::Accept));
        rule(&|it| _ = it.known(&name).copy_to(to.address, to.interface).verdict(Verdict::Drop));
        // Destination unreachable, time exceeded, parameter problem; version 6 has the too big packet among them.
        let errors: &[(u8, u8)] = if family == Family::Ip6 { &[(1, 4)] } else { &[(3, 3), (11, 12)] };
        for &(from, to_type) in errors {
            rule(&|it| _ = it.icmp(from, to_type).copy_to(to.address, to.interface));
        }
        self.commit(batch)?;
        self.parts.insert((Part::Keep, address));
        Ok(())
    }

    /// Adds flows to those that go to the old holder; what is there already stays. At most [`FLOWS_AT_ONCE`] is one transaction.
    ///
    /// # Errors
    /// The kernel's; also when the set is full (`ENFILE`).
    pub fn add_flows(&mut self, address: IpAddr, flows: &[Flow]) -> io::Result<()> {
        self.elements(&[Ask::NewElements], address, flows)
    }

    /// Takes flows out; those that are not there are no error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_flows(&mut self, address: IpAddr, flows: &[Flow]) -> io::Result<()> {
        // What a packet has taken out meanwhile is put in again, so that there is always something to take out.
        self.elements(&[Ask::NewElements, Ask::DeleteElements], address, flows)
    }

    fn elements(&mut self, asks: &[Ask], address: IpAddr, flows: &[Flow]) -> io::Result<()> {
        let (family, name) = (family(address), Part::Keep.name(address));
        for some in flows.chunks(FLOWS_AT_ONCE) {
            let mut batch = Batch::new();
            for (ask, some) in
                asks.iter().flat_map(|ask| some.chunks(FLOWS_IN_MESSAGE).map(move |some| (ask, some)))
            {
                batch.ask(*ask, family, |it| {
                    it.text(1, TABLE);
                    it.text(2, &name);
                    it.nest(3, |list| some.iter().for_each(|flow| element(list, flow)));
                });
            }
            self.commit(batch)?;
        }
        Ok(())
    }

    /// Hands new connections to the new holder. Called again, it changes `handing`; what was handed over stays so.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hand_over(&mut self, address: IpAddr, to: &Neighbour, handing: Handing) -> io::Result<()> {
        let (family, name) = (family(address), Part::Hand.name(address));
        let mut batch = Batch::new();
        self.need_table(&mut batch, family);
        if self.parts.contains(&(Part::Hand, address)) {
            delete_chain(&mut batch, family, &name);
        }
        new_set(&mut batch, family, &name, HANDED_MAX, Some(HANDED_MS));
        new_chain(&mut batch, family, &name, PREROUTING, HAND_PRIORITY);
        self.pass_by(&mut batch, &name, address, to);
        if handing == Handing::New {
            new_rule(&mut batch, family, &name, |it| _ = it.syn(false).note(Note::Update, &name));
        }
        new_rule(&mut batch, family, &name, |it| {
            it.known(&name).copy_to(to.address, to.interface).verdict(Verdict::Drop);
        });
        self.commit(batch)?;
        self.parts.insert((Part::Hand, address));
        Ok(())
    }

    /// Holds back our answers to new connections, which are repeated ones: the new holder answers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hold_answers(&mut self, address: IpAddr) -> io::Result<()> {
        let (family, name) = (family(address), Part::Still.name(address));
        let mut batch = self.begin(&[Part::Still], address);
        new_chain(&mut batch, family, &name, OUTPUT, HAND_PRIORITY);
        new_rule(&mut batch, family, &name, |it| {
            it.address(End::Source, address).syn(true).verdict(Verdict::Drop);
        });
        self.commit(batch)?;
        self.parts.insert((Part::Still, address));
        Ok(())
    }

    /// Lets no neighbour learn by ARP that the address is on this host, which has `own` on the link. Over IPv6 nothing is to be
    /// done: an address of the loopback is neither answered for nor asked from.
    ///
    /// # Errors
    /// The kernel's.
    pub fn quiet(&mut self, address: IpAddr, own: IpAddr) -> io::Result<()> {
        if address.is_ipv6() {
            return Ok(());
        }
        let mut batch = self.begin(&[Part::Ask, Part::Say], address);
        let (ask, say) = (Part::Ask.name(address), Part::Say.name(address));
        new_chain(&mut batch, Family::Arp, &ask, ARP_IN, 0);
        new_rule(&mut batch, Family::Arp, &ask, |it| _ = it.arp_asks_for(address).verdict(Verdict::Drop));
        new_chain(&mut batch, Family::Arp, &say, ARP_OUT, 0);
        new_rule(&mut batch, Family::Arp, &say, |it| _ = it.arp_from(address).arp_as(own));
        self.commit(batch)?;
        self.parts.extend([(Part::Ask, address), (Part::Say, address)]);
        Ok(())
    }

    /// Undoes [`Steer::forward`]; nothing if it is not there. So with the following.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop_forwarding(&mut self, address: IpAddr) -> io::Result<()> {
        self.remove(&[Part::Keep], address)
    }

    /// Undoes [`Steer::hand_over`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop_handing_over(&mut self, address: IpAddr) -> io::Result<()> {
        self.remove(&[Part::Hand], address)
    }

    /// Undoes [`Steer::hold_answers`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn answer_again(&mut self, address: IpAddr) -> io::Result<()> {
        self.remove(&[Part::Still], address)
    }

    /// Undoes [`Steer::quiet`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn speak_again(&mut self, address: IpAddr) -> io::Result<()> {
        self.remove(&[Part::Ask, Part::Say], address)
    }

    /// Whether nothing of ours is in the kernel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What is in the kernel for an address, as nft names it: `ip cygnet keep_192.0.2.100`.
    #[must_use]
    pub fn chains(&self, address: IpAddr) -> Vec<String> {
        let here = self.parts.iter().filter(|(_, of)| *of == address);
        here.map(|(part, _)| format!("{} {TABLE} {}", part.family(address).word(), part.name(address)))
            .collect()
    }

    /// Deletes our tables, also those of another process.
    ///
    /// # Errors
    /// The kernel's; that there are none is no error.
    pub fn clear(&mut self) -> io::Result<()> {
        // What this process has made is ours, also where the kernel keeps no comment.
        let made = std::mem::take(&mut self.parts);
        let made = made.into_iter().map(|(part, address)| part.family(address));
        let ours: BTreeSet<Family> = made.chain(self.marked()?).collect();
        for family in ours {
            let mut batch = Batch::new();
            delete_table(&mut batch, family);
            match self.commit(batch) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The families with a table that has our name and our comment.
    fn marked(&mut self) -> io::Result<Vec<Family>> {
        let mut ours = Vec::new();
        self.socket.send(&list_tables(), 0)?;
        loop {
            let (answers, _) = self.socket.recv_from_full()?;
            let all = tables(&answers, &mut |table| {
                if (table.name, table.comment) == (TABLE, MARK) {
                    ours.extend(Family::of(table.family));
                }
            })?;
            if all {
                return Ok(ours);
            }
        }
    }

    /// A batch in which these parts, of one family, are not there (any more), but the table is.
    fn begin(&self, parts: &[Part], address: IpAddr) -> Batch {
        let mut batch = Batch::new();
        if let Some(part) = parts.first() {
            self.need_table(&mut batch, part.family(address));
        }
        for part in parts {
            if self.parts.contains(&(*part, address)) {
                delete_part(&mut batch, *part, address);
            }
        }
        batch
    }

    /// Another's table of our name makes the batch fail: it is not to be shared, nor to be deleted at the end.
    fn need_table(&self, batch: &mut Batch, family: Family) {
        if !self.parts.iter().any(|(part, address)| part.family(*address) == family) {
            new_table(batch, family);
        }
    }

    fn remove(&mut self, parts: &[Part], address: IpAddr) -> io::Result<()> {
        let there: Vec<Part> =
            parts.iter().filter(|part| self.parts.contains(&(**part, address))).copied().collect();
        let Some(family) = there.first().map(|part| part.family(address)) else { return Ok(()) };
        let mut batch = Batch::new();
        there.iter().for_each(|part| delete_part(&mut batch, *part, address));
        let gone = |(part, other): &&(Part, IpAddr)| *other == address && there.contains(part);
        let left = self.parts.iter().filter(|part| !gone(part));
        if left.clone().all(|(part, address)| part.family(*address) != family) {
            delete_table(&mut batch, family);
        }
        self.commit(batch)?;
        self.parts.retain(|part| !gone(&part));
        Ok(())
    }

    /// The first rules of a chain: what is not to be sent on.
    fn pass_by(&self, batch: &mut Batch, chain: &str, address: IpAddr, to: &Neighbour) {
        let family = family(address);
        new_rule(batch, family, chain, |it| _ = it.not_to(address).verdict(Verdict::Accept));
        new_rule(batch, family, chain, |it| _ = it.came_over_loopback().verdict(Verdict::Accept));
        new_rule(batch, family, chain, |it| _ = it.sent_by(to.mac).verdict(Verdict::Accept));
    }

    /// The kernel does it within `send`; its answers are there when that returns.
    fn commit(&mut self, batch: Batch) -> io::Result<()> {
        let (bytes, awaited) = batch.finish();
        self.socket.send(&bytes, 0)?;
        let (mut done, mut failed) = (false, None);
        loop {
            let answers = match self.socket.recv_from_full() {
                Ok((answers, _)) => answers,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let mut rest = answers.as_slice();
            while let Some((sequence, code, after)) = answer(rest) {
                if code != 0 && failed.is_none() {
                    failed = Some(io::Error::from_raw_os_error(-code));
                }
                done |= sequence == awaited;
                rest = after;
            }
        }
        match failed {
            Some(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let what = format!("there is a table or chain named {TABLE} that another program has made");
                Err(io::Error::new(io::ErrorKind::AlreadyExists, what))
            }
            Some(error) => Err(error),
            None if done => Ok(()),
            None => Err(io::Error::other("nf_tables did not answer")),
        }
    }
}

/// Deletes our tables, and no other's; for the guard, which has nothing else to remember.
///
/// # Errors
/// The kernel's.
pub(crate) fn clear() -> io::Result<()> {
    Steer { socket: connect()?, parts: BTreeSet::new() }.clear()
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&PortAddress::new(0, 0))?;
    socket.set_non_blocking(true)?;
    // Answers without a copy of what they answer.
    socket.set_cap_ack(true)?;
    Ok(socket)
}

fn new_table(batch: &mut Batch, family: Family) {
    batch.ask(Ask::NewTable, family, |it| {
        it.text(1, TABLE);
        it.number(2, 0);
        it.bytes(TABLE_DATA, &comment(MARK));
    });
}

fn delete_table(batch: &mut Batch, family: Family) {
    batch.ask(Ask::DeleteTable, family, |it| it.text(1, TABLE));
}

/// A set of flows. `timeout`: ms that an element stays after it was put in last.
fn new_set(batch: &mut Batch, family: Family, name: &str, size: u32, timeout: Option<u64>) {
    /// NFT_SET_TIMEOUT; NFT_SET_EVAL: packets may change it.
    const TIMEOUT: u32 = 0x10;
    const EVAL: u32 = 0x20;
    /// The numbers of nft's data types, for `nft list`.
    const PORT: u32 = 13;
    let (address, bytes) = if family == Family::Ip6 { (8, 16) } else { (7, 4) };
    batch.ask(Ask::NewSet, family, |it| {
        it.text(1, TABLE);
        it.text(2, name);
        it.number(3, EVAL | timeout.map_or(0, |_| TIMEOUT));
        it.number(4, address << 18 | PORT << 12 | address << 6 | PORT);
        it.number(5, 2 * (bytes + 4));
        it.nest(9, |description| description.number(1, size));
        // Tells sets of one batch apart; each of ours has one.
        it.number(10, 1);
        if let Some(timeout) = timeout {
            it.bytes(11, &timeout.to_be_bytes());
        }
    });
}

fn new_chain(batch: &mut Batch, family: Family, name: &str, hook: u32, priority: i32) {
    batch.ask(Ask::NewChain, family, |it| {
        it.text(1, TABLE);
        it.text(3, name);
        it.nest(4, |at| {
            at.number(1, hook);
            at.number(2, priority.cast_unsigned());
        });
        it.number(5, Verdict::Accept as u32);
        it.text(7, "filter");
    });
}

fn new_rule(batch: &mut Batch, family: Family, chain: &str, fill: impl FnOnce(&mut Rule<'_, '_>)) {
    batch.ask(Ask::NewRule, family, |it| {
        it.text(1, TABLE);
        it.text(2, chain);
        it.nest(4, |list| fill(&mut Rule::new(list, family)));
    });
}

fn delete_chain(batch: &mut Batch, family: Family, name: &str) {
    batch.ask(Ask::DeleteChain, family, |it| {
        it.text(1, TABLE);
        it.text(3, name);
    });
}

/// Its chain with the rules in it, and its set.
fn delete_part(batch: &mut Batch, part: Part, address: IpAddr) {
    let (family, name) = (part.family(address), part.name(address));
    delete_chain(batch, family, &name);
    if part.has_set() {
        batch.ask(Ask::DeleteSet, family, |it| {
            it.text(1, TABLE);
            it.text(2, &name);
        });
    }
}

fn element(list: &mut Attributes<'_>, flow: &Flow) {
    let mut key = octets(flow.client.ip());
    key.extend(flow.client.port().to_be_bytes());
    key.extend([0, 0]);
    key.extend(octets(flow.service.ip()));
    key.extend(flow.service.port().to_be_bytes());
    key.extend([0, 0]);
    list.nest(ITEM, |element| element.nest(1, |data| data.bytes(1, &key)));
}
