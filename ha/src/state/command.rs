//! Commands: what a log entry says. Protobuf by hand-written structs, so that old and new versions read each other.
//!
//! Tags are for ever: a removed field's tag is never used again. A new kind of command gets a new tag and raises
//! [`FEATURE_LEVEL`]; the leader proposes it only when every member has announced that level. A node that meets
//! an entry which it does not understand stops applying with an error: skipping it would let the states drift apart.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::chronicle::{BATCH_EVENTS_MAX, TEXT_MAX, WireEvent};
use super::clients::ClientFact;
use super::configuration::CONFIRM_WITHIN_MAX_MS;
use super::keys::SEALED_MAX;
use super::members::{HASH_BYTES, MEMBERS_MAX, Token, WireMember};
use super::servers::Admin;

/// The newest kind of command that this version understands. Announced to the other nodes on every connection.
///
/// 1: configuration, drained servers, sticky clients. 2: members and tokens in the log. 3: a configuration that returns
/// unless it is confirmed. 4: keys of session tickets. 5: what happened.
pub const FEATURE_LEVEL: u32 = 5;

/// The longest cluster configuration, bytes. Thousands of servers fit into a tenth of it; an entry has to travel
/// within one raft message.
pub const CONFIG_TEXT_MAX: usize = 1024 * 1024;

/// The longest name or comment in a command, bytes.
pub const NAME_MAX: usize = 1024;

/// The most client facts in one entry. At some 20 bytes each an entry stays near 64 KiB, which a slow link carries
/// within a heartbeat.
pub const BATCH_FACTS_MAX: usize = 3072;

/// One log entry.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// A node below this feature level must not apply the entry.
    #[prost(uint32, tag = "1")]
    pub level: u32,
    /// Who proposed it. An entry that arrives twice with the same origin is applied once.
    #[prost(message, optional, tag = "2")]
    pub origin: Option<Origin>,
    /// What is to be done.
    #[prost(oneof = "Kind", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22")]
    pub kind: Option<Kind>,
}

/// The proposer of a command and its number there; unique for the life of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Origin {
    /// The node.
    #[prost(uint64, tag = "1")]
    pub node: u64,
    /// Begins anywhere in each life of that node and grows with each proposal.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
}

/// The kinds of command.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// A new cluster configuration (level 1; level 3 if it is to be confirmed).
    #[prost(message, tag = "10")]
    PutConfig(PutConfig),
    /// A server is drained or made ready (level 1).
    #[prost(message, tag = "11")]
    SetServer(SetServer),
    /// Sticky clients, many at once (level 1).
    #[prost(message, tag = "12")]
    Clients(ClientBatch),
    /// The list of members moves from the nodes' files into the log (level 2).
    #[prost(message, tag = "13")]
    AdoptMembers(AdoptMembers),
    /// A token that lets one node in (level 2).
    #[prost(message, tag = "14")]
    CreateToken(CreateToken),
    /// A node is let in, as a learner (level 2).
    #[prost(message, tag = "15")]
    AddMember(AddMember),
    /// A node leaves for good (level 2).
    #[prost(message, tag = "16")]
    RemoveMember(MemberId),
    /// A learner becomes a voter (level 2).
    #[prost(message, tag = "17")]
    PromoteMember(MemberId),
    /// A configuration that waits for it is confirmed (level 3).
    #[prost(message, tag = "18")]
    ConfirmConfig(ConfirmConfig),
    /// It is not, and the one before comes back (level 3).
    #[prost(message, tag = "19")]
    ReturnConfig(ReturnConfig),
    /// A new key for session tickets, which opens from now on (level 4).
    #[prost(message, tag = "20")]
    AnnounceTicketKey(AnnounceTicketKey),
    /// It seals from now on (level 4).
    #[prost(message, tag = "21")]
    UseTicketKey(UseTicketKey),
    /// What happened on the node that proposes it, many events at once (level 5).
    #[prost(message, tag = "22")]
    Events(EventBatch),
}

/// What happened on one node, oldest first; which one, the origin says.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EventBatch {
    /// Drawn anew at each start of the node: its events are counted from 1 again.
    #[prost(fixed64, tag = "1")]
    pub life: u64,
    /// The events.
    #[prost(message, repeated, tag = "2")]
    pub events: Vec<WireEvent>,
}

/// The first members, as the nodes' files list them.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AdoptMembers {
    /// All of them, voters.
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<WireMember>,
}

/// A new token.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CreateToken {
    /// The token, without its secret.
    #[prost(message, optional, tag = "1")]
    pub token: Option<Token>,
    /// By the clock of the node that was asked, ms since 1970: tokens that ended before make room.
    #[prost(uint64, tag = "2")]
    pub unix_ms: u64,
}

/// A node is let in.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AddMember {
    /// The node; what its standing is, the token decides.
    #[prost(message, optional, tag = "1")]
    pub member: Option<WireMember>,
    /// The token that it has shown.
    #[prost(fixed64, tag = "2")]
    pub token: u64,
    /// By the clock of the node that was asked, ms since 1970.
    #[prost(uint64, tag = "3")]
    pub unix_ms: u64,
}

/// A member by its number.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MemberId {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// A new cluster configuration.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub struct PutConfig {
    /// The TOML text, as the operator wrote it.
    #[prost(string, tag = "1")]
    pub text: String,
    /// Who applied it.
    #[prost(string, tag = "2")]
    pub author: String,
    /// When, by the clock of the node that was asked; milliseconds since 1970. Information only.
    #[prost(uint64, tag = "3")]
    pub unix_ms: u64,
    /// Why.
    #[prost(string, tag = "4")]
    pub comment: String,
    /// Refuse unless this is the current version.
    #[prost(uint64, optional, tag = "5")]
    pub if_version: Option<u64>,
    /// Unless it is confirmed within so many milliseconds, the version before comes back. Level 3.
    #[prost(uint64, optional, tag = "6")]
    pub confirm_within_ms: Option<u64>,
}

/// The version that waits for it is confirmed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfirmConfig {
    /// Which; refused if another one, or none, waits.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Who confirms it.
    #[prost(string, tag = "2")]
    pub author: String,
}

/// The version that waits for its confirmation gives way to the one before. Proposed by an operator, or by whichever node
/// leads when the time is over; the second of two such commands finds nothing to do.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReturnConfig {
    /// Which one gives way; refused if another one, or none, waits.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Who wants it, for the history; empty: nobody confirmed it in time.
    #[prost(string, tag = "2")]
    pub author: String,
    /// When, by the clock of the node that proposes it; milliseconds since 1970. Information only.
    #[prost(uint64, tag = "3")]
    pub unix_ms: u64,
    /// Why, for the history.
    #[prost(string, tag = "4")]
    pub comment: String,
}

/// A new key for session tickets. Refused if another one was made meanwhile: two nodes may think that it is time.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AnnounceTicketKey {
    /// The number of the key that was the newest.
    #[prost(uint64, tag = "1")]
    pub after: u64,
    /// When, by the clock of the node that made it; ms since 1970.
    #[prost(uint64, tag = "2")]
    pub unix_ms: u64,
    /// The key, sealed for the nodes of the cluster.
    #[prost(bytes = "vec", tag = "3")]
    pub sealed: Vec<u8>,
    /// It comes into use as soon as every node can have it. If one is announced already, that one does.
    #[prost(bool, tag = "4")]
    pub hurry: bool,
    /// Who wants that; empty: nobody, it is time.
    #[prost(string, tag = "5")]
    pub author: String,
}

/// The key that was announced seals from now on.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct UseTicketKey {
    /// Which; refused if another one, or none, is announced.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// When, by the clock of the node that proposes it; ms since 1970.
    #[prost(uint64, tag = "2")]
    pub unix_ms: u64,
}

/// A server is drained or made ready.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
pub struct SetServer {
    /// Name of the service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Name of the server.
    #[prost(string, tag = "2")]
    pub server: String,
    /// The wish.
    #[prost(enumeration = "Admin", tag = "3")]
    pub state: i32,
}

/// Client facts, with the names given once per batch.
#[derive(Clone, PartialEq, Message)]
pub struct ClientBatch {
    /// Names of services and servers, referred to by position.
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
    /// The facts, in the order in which they are applied.
    #[prost(message, repeated, tag = "2")]
    pub facts: Vec<WireFact>,
}

/// One fact on the wire. Exactly one of `v4` and `v6` is set.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WireFact {
    /// Position of the service in `names`.
    #[prost(uint32, tag = "1")]
    pub service: u32,
    /// Position of the server in `names`.
    #[prost(uint32, tag = "2")]
    pub server: u32,
    /// IPv4 address of the client.
    #[prost(fixed32, optional, tag = "3")]
    pub v4: Option<u32>,
    /// IPv6 address of the client, 16 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub v6: Vec<u8>,
    /// Last seen, seconds since 1970.
    #[prost(fixed32, tag = "5")]
    pub seen: u32,
}

/// Why bytes are not a command that can be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not protobuf, or not this message.
    #[error("the entry cannot be decoded: {0}")]
    Garbled(String),
    /// A newer version wrote it.
    #[error("the entry needs feature level {needed}, this version has {FEATURE_LEVEL}; update this node")]
    TooNew {
        /// The level that the entry names.
        needed: u32,
    },
    /// A kind that this version does not know.
    #[error("the entry holds a command that this version does not know; update this node")]
    Unknown,
    /// Over one of the limits.
    #[error("{what} is {size} bytes or items long, the limit is {limit}")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

impl Command {
    /// A command of this version, without an origin.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { level: kind.level(), origin: None, kind: Some(kind) }
    }

    /// The bytes of the log entry.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Reads a log entry.
    ///
    /// # Errors
    /// Garbled bytes, a newer feature level, or an unknown kind. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let command =
            <Self as Message>::decode(bytes).map_err(|error| CommandError::Garbled(error.to_string()))?;
        if command.level > FEATURE_LEVEL {
            return Err(CommandError::TooNew { needed: command.level });
        }
        if command.kind.is_none() {
            return Err(CommandError::Unknown);
        }
        Ok(command)
    }

    /// Checks the limits; a leader proposes nothing that does not pass.
    ///
    /// # Errors
    /// Names the part that is too long.
    pub fn check(&self) -> Result<(), CommandError> {
        match &self.kind {
            None => Err(CommandError::Unknown),
            Some(Kind::PutConfig(put)) => {
                within("the configuration", put.text.len(), CONFIG_TEXT_MAX)?;
                within("the author", put.author.len(), NAME_MAX)?;
                within("the comment", put.comment.len(), NAME_MAX)?;
                let size = |ms: u64| usize::try_from(ms).unwrap_or(usize::MAX);
                let ms = put.confirm_within_ms.unwrap_or(0);
                within("the time to confirm, in ms,", size(ms), size(CONFIRM_WITHIN_MAX_MS))
            }
            Some(Kind::ConfirmConfig(confirm)) => within("the author", confirm.author.len(), NAME_MAX),
            Some(Kind::ReturnConfig(back)) => {
                within("the author", back.author.len(), NAME_MAX)?;
                within("the comment", back.comment.len(), NAME_MAX)
            }
            Some(Kind::SetServer(set)) => {
                within("the service name", set.service.len(), NAME_MAX)?;
                within("the server name", set.server.len(), NAME_MAX)
            }
            Some(Kind::Clients(batch)) => {
                within("the batch of clients", batch.facts.len(), BATCH_FACTS_MAX)?;
                within("the dictionary of names", batch.names.len(), 2 * BATCH_FACTS_MAX)?;
                let longest = batch.names.iter().map(String::len).max().unwrap_or(0);
                within("a name", longest, NAME_MAX)
            }
            Some(Kind::AdoptMembers(adopt)) => {
                within("the list of members", adopt.members.len(), MEMBERS_MAX)?;
                adopt.members.iter().try_for_each(check_member)
            }
            Some(Kind::CreateToken(create)) => {
                let token = create.token.as_ref();
                within("the hash of the token", token.map_or(0, |token| token.hash.len()), HASH_BYTES)?;
                within("the author", token.map_or(0, |token| token.author.len()), NAME_MAX)
            }
            Some(Kind::AddMember(add)) => add.member.as_ref().map_or(Ok(()), check_member),
            Some(Kind::AnnounceTicketKey(announce)) => {
                within("the sealed key", announce.sealed.len(), SEALED_MAX)?;
                within("the author", announce.author.len(), NAME_MAX)
            }
            Some(Kind::Events(batch)) => {
                within("the batch of events", batch.events.len(), BATCH_EVENTS_MAX)?;
                let longest = batch.events.iter().map(WireEvent::longest).max().unwrap_or(0);
                within("the text of an event", longest, TEXT_MAX)
            }
            Some(Kind::RemoveMember(_) | Kind::PromoteMember(_) | Kind::UseTicketKey(_)) => Ok(()),
        }
    }

    /// Whether this is soft state: its loss costs a client its server, or an event its place in the memory of all.
    #[must_use]
    pub fn is_soft(&self) -> bool {
        matches!(self.kind, Some(Kind::Clients(_) | Kind::Events(_)))
    }
}

impl Kind {
    /// The feature level that a node needs to understand it.
    #[must_use]
    pub fn level(&self) -> u32 {
        match self {
            Self::PutConfig(PutConfig { confirm_within_ms: Some(_), .. })
            | Self::ConfirmConfig(_)
            | Self::ReturnConfig(_) => 3,
            Self::AnnounceTicketKey(_) | Self::UseTicketKey(_) => 4,
            Self::Events(_) => 5,
            Self::PutConfig(_) | Self::SetServer(_) | Self::Clients(_) => 1,
            Self::AdoptMembers(_)
            | Self::CreateToken(_)
            | Self::AddMember(_)
            | Self::RemoveMember(_)
            | Self::PromoteMember(_) => 2,
        }
    }
}

fn check_member(member: &WireMember) -> Result<(), CommandError> {
    within("the name of a member", member.name.len(), NAME_MAX)?;
    within("the address of a member", member.address.len(), NAME_MAX)?;
    within("the hash of a key", member.key.len(), HASH_BYTES)
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<(), CommandError> {
    if size > limit { Err(CommandError::TooLong { what, size, limit }) } else { Ok(()) }
}

/// Gathers names, each once, while a batch or a snapshot is written.
#[derive(Default)]
pub(super) struct Dictionary {
    positions: HashMap<Arc<str>, u32>,
    pub(super) names: Vec<String>,
}

impl Dictionary {
    pub(super) fn position(&mut self, name: &Arc<str>) -> u32 {
        if let Some(&position) = self.positions.get(name) {
            return position;
        }
        let position = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_string());
        self.positions.insert(Arc::clone(name), position);
        position
    }

    pub(super) fn fact(&mut self, fact: &ClientFact) -> WireFact {
        let (v4, v6) = match fact.client {
            IpAddr::V4(address) => (Some(u32::from(address)), Vec::new()),
            IpAddr::V6(address) => (None, address.octets().to_vec()),
        };
        WireFact {
            service: self.position(&fact.service),
            server: self.position(&fact.server),
            v4,
            v6,
            seen: fact.seen,
        }
    }
}

impl ClientBatch {
    /// Packs facts; the caller keeps to [`BATCH_FACTS_MAX`].
    #[must_use]
    pub fn pack(facts: &[ClientFact]) -> Self {
        let mut dictionary = Dictionary::default();
        let facts = facts.iter().map(|fact| dictionary.fact(fact)).collect();
        Self { names: dictionary.names, facts }
    }

    /// The facts that make sense; one with a bad position or address is passed over, on every node alike.
    #[must_use]
    pub fn unpack(&self) -> Vec<ClientFact> {
        self.unpack_with(|name| Arc::from(name))
    }

    /// The same with names from elsewhere.
    pub(super) fn unpack_with(&self, name: impl FnMut(&str) -> Arc<str>) -> Vec<ClientFact> {
        let names: Vec<Arc<str>> = self.names.iter().map(String::as_str).map(name).collect();
        self.facts.iter().filter_map(|fact| fact.resolve(&names)).collect()
    }
}

impl WireFact {
    pub(super) fn resolve(&self, names: &[Arc<str>]) -> Option<ClientFact> {
        let name = |position: u32| names.get(usize::try_from(position).ok()?).cloned();
        let client = match (self.v4, self.v6.len()) {
            (Some(v4), 0) => IpAddr::V4(Ipv4Addr::from(v4)),
            (None, 16) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(self.v6.as_slice()).ok()?)),
            _ => return None,
        };
        Some(ClientFact { service: name(self.service)?, client, server: name(self.server)?, seen: self.seen })
    }
}
