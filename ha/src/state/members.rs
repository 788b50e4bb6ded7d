//! Who belongs to the cluster, and who may join it.
//!
//! A node comes in as a learner with a token that is used once, and becomes a voter when it has caught up. Raft's own
//! list of voters is changed by the same log entry as this one; the two always say the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::Refusal;
use super::command::{AddMember, CreateToken};

/// Most members, learners included: what one operator can look after, and far beyond a pair.
pub const MEMBERS_MAX: usize = 16;

/// Most voters: each commit waits for a majority of them.
pub const VOTERS_MAX: usize = 7;

/// Most tokens that are remembered, used ones included. The oldest used or expired one goes first.
pub const TOKENS_MAX: usize = 32;

/// Length of a hash (SHA-256), bytes.
pub const HASH_BYTES: usize = 32;

/// How a member counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, prost::Enumeration)]
#[serde(rename_all = "lowercase")]
#[repr(i32)]
pub enum Standing {
    /// Gets the log and does not vote; it becomes a voter when it has caught up.
    Joining = 0,
    /// Gets the log and does not vote until it is promoted by hand.
    Learner = 1,
    /// Votes.
    Voter = 2,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its number, from 1; never given to another node.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it listens for the other nodes.
    pub address: SocketAddr,
    /// It votes and stores the log, but carries no traffic.
    pub witness: bool,
    /// How it counts.
    pub standing: Standing,
    /// SHA-256 of its public key; empty where the link is not encrypted.
    pub key: Vec<u8>,
}

/// A member in a log entry or a snapshot.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WireMember {
    /// Number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Address and port as text.
    #[prost(string, tag = "3")]
    pub address: String,
    /// Without traffic.
    #[prost(bool, tag = "4")]
    pub witness: bool,
    /// How it counts.
    #[prost(enumeration = "Standing", tag = "5")]
    pub standing: i32,
    /// SHA-256 of its public key.
    #[prost(bytes = "vec", tag = "6")]
    pub key: Vec<u8>,
}

/// A token that lets one node in, once.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Token {
    /// Its number, drawn at random.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// SHA-256 of its secret.
    #[prost(bytes = "vec", tag = "2")]
    pub hash: Vec<u8>,
    /// For a witness.
    #[prost(bool, tag = "3")]
    pub witness: bool,
    /// For a node that stays a learner.
    #[prost(bool, tag = "4")]
    pub learner: bool,
    /// When it ends, ms since 1970.
    #[prost(uint64, tag = "5")]
    pub expires_unix_ms: u64,
    /// Who made it.
    #[prost(string, tag = "6")]
    pub author: String,
    /// The member that used it; 0: nobody yet.
    #[prost(uint64, tag = "7")]
    pub used_by: u64,
}

/// Members and tokens. Empty in a cluster that was begun from a list in the nodes' files, until its leader adopts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    members: BTreeMap<u64, MemberRecord>,
    /// The highest number that was ever given away.
    last_id: u64,
    tokens: Vec<Token>,
}

impl WireMember {
    /// The member, if its parts make sense.
    #[must_use]
    pub fn resolve(&self) -> Option<MemberRecord> {
        let record = MemberRecord {
            id: self.id,
            name: self.name.clone(),
            address: self.address.parse().ok()?,
            witness: self.witness,
            standing: Standing::from_i32(self.standing)?,
            key: self.key.clone(),
        };
        (self.id != 0 && !self.name.is_empty()).then_some(record)
    }
}

impl From<&MemberRecord> for WireMember {
    fn from(member: &MemberRecord) -> Self {
        Self {
            id: member.id,
            name: member.name.clone(),
            address: member.address.to_string(),
            witness: member.witness,
            standing: member.standing as i32,
            key: member.key.clone(),
        }
    }
}

impl Members {
    /// The first members of a cluster.
    #[must_use]
    pub fn of(first: impl IntoIterator<Item = MemberRecord>) -> Self {
        let members: BTreeMap<u64, MemberRecord> =
            first.into_iter().map(|member| (member.id, member)).collect();
        let last_id = members.last_key_value().map_or(0, |(id, _)| *id);
        Self { members, last_id, tokens: Vec::new() }
    }

    /// Whether the list still stands in the nodes' files only.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = &MemberRecord> {
        self.members.values()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&MemberRecord> {
        self.members.get(&id)
    }

    /// One of them.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&MemberRecord> {
        self.members.values().find(|member| member.name == name)
    }

    /// Whether this number once was a member's and is none now.
    #[must_use]
    pub fn was_removed(&self, id: u64) -> bool {
        id != 0 && id <= self.last_id && !self.members.is_empty() && !self.members.contains_key(&id)
    }

    /// The number that the next member gets.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.last_id + 1
    }

    /// The voters, by number.
    #[must_use]
    pub fn voters(&self) -> Vec<u64> {
        self.with(true)
    }

    /// Those that do not vote, by number.
    #[must_use]
    pub fn learners(&self) -> Vec<u64> {
        self.with(false)
    }

    fn with(&self, voter: bool) -> Vec<u64> {
        let wanted = |member: &&MemberRecord| (member.standing == Standing::Voter) == voter;
        self.members.values().filter(wanted).map(|member| member.id).collect()
    }

    /// The tokens, used ones included.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// A token by its number.
    #[must_use]
    pub fn token(&self, id: u64) -> Option<&Token> {
        self.tokens.iter().find(|token| token.id == id)
    }

    /// Whether a token may be used at `unix_ms`.
    ///
    /// # Errors
    /// Unknown, used, or ended.
    pub fn usable(&self, id: u64, unix_ms: u64) -> Result<&Token, Refusal> {
        let token = self.token(id).ok_or(Refusal::UnknownToken)?;
        if token.used_by != 0 {
            let by =
                self.get(token.used_by).map_or_else(|| "a node that is gone".into(), |by| by.name.clone());
            return Err(Refusal::TokenUsed { by });
        }
        if token.expires_unix_ms <= unix_ms {
            return Err(Refusal::TokenEnded);
        }
        Ok(token)
    }

    pub(super) fn adopt(&mut self, first: &[WireMember]) -> Result<(), Refusal> {
        if !self.is_empty() {
            return Err(Refusal::MembersKnown);
        }
        let first: Option<Vec<MemberRecord>> = first.iter().map(WireMember::resolve).collect();
        let first = first.filter(|first| !first.is_empty()).ok_or(Refusal::BadMember)?;
        *self = Self { tokens: std::mem::take(&mut self.tokens), ..Self::of(first) };
        Ok(())
    }

    pub(super) fn create_token(&mut self, new: &CreateToken) -> Result<(), Refusal> {
        let Some(token) = new.token.as_ref().filter(|token| token.hash.len() == HASH_BYTES) else {
            return Err(Refusal::BadMember);
        };
        if self.tokens.len() >= TOKENS_MAX {
            let over = |token: &Token| token.used_by != 0 || token.expires_unix_ms <= new.unix_ms;
            let Some(at) = self.tokens.iter().position(over) else { return Err(Refusal::TooManyTokens) };
            self.tokens.remove(at);
        }
        self.tokens.push(Token { used_by: 0, ..token.clone() });
        Ok(())
    }

    pub(super) fn add(&mut self, add: &AddMember) -> Result<(), Refusal> {
        let member = add.member.as_ref().and_then(WireMember::resolve).ok_or(Refusal::BadMember)?;
        let token = self.usable(add.token, add.unix_ms)?;
        let standing = if token.learner { Standing::Learner } else { Standing::Joining };
        if token.witness != member.witness {
            return Err(Refusal::WitnessMismatch { witness: token.witness });
        }
        if let Some(known) = self.by_name(&member.name) {
            return Err(Refusal::NameTaken { name: known.name.clone() });
        }
        if let Some(known) = self.members.values().find(|known| known.address == member.address) {
            return Err(Refusal::AddressTaken { address: member.address, name: known.name.clone() });
        }
        if self.members.len() >= MEMBERS_MAX {
            return Err(Refusal::TooManyMembers);
        }
        // Two nodes that let somebody in at the same moment chose the same number; the later one chooses anew.
        if member.id != self.next_id() {
            return Err(Refusal::IdTaken { next: self.next_id() });
        }
        if let Some(token) = self.tokens.iter_mut().find(|token| token.id == add.token) {
            token.used_by = member.id;
        }
        self.last_id = member.id;
        self.members.insert(member.id, MemberRecord { standing, ..member });
        Ok(())
    }

    pub(super) fn remove(&mut self, id: u64) -> Result<(), Refusal> {
        let member = self.get(id).ok_or(Refusal::UnknownMember { id })?;
        if member.standing == Standing::Voter && self.voters().len() == 1 {
            return Err(Refusal::LastVoter);
        }
        let carries = |member: &&MemberRecord| !member.witness && member.standing == Standing::Voter;
        if self.members.values().filter(carries).all(|other| other.id == id) {
            return Err(Refusal::OnlyWitnessesLeft);
        }
        self.members.remove(&id);
        Ok(())
    }

    pub(super) fn promote(&mut self, id: u64) -> Result<(), Refusal> {
        let voters = self.voters().len();
        let member = self.members.get_mut(&id).ok_or(Refusal::UnknownMember { id })?;
        if member.standing == Standing::Voter {
            return Err(Refusal::VoterAlready { name: member.name.clone() });
        }
        if voters >= VOTERS_MAX {
            return Err(Refusal::TooManyVoters);
        }
        member.standing = Standing::Voter;
        Ok(())
    }

    /// Makes `id` the only voter; the others come back as learners and are promoted when they have caught up.
    pub(super) fn recover(&mut self, id: u64) {
        for member in self.members.values_mut() {
            if member.id == id {
                member.standing = Standing::Voter;
            } else if member.standing == Standing::Voter {
                member.standing = Standing::Joining;
            }
        }
    }

    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    pub(super) fn restore(members: &[WireMember], last_id: u64, tokens: Vec<Token>) -> Option<Self> {
        let all: Vec<MemberRecord> = members.iter().map(WireMember::resolve).collect::<Option<_>>()?;
        let fits = all.len() <= MEMBERS_MAX && tokens.len() <= TOKENS_MAX;
        let mut restored = Self { tokens, ..Self::of(all) };
        let sound = fits && restored.members.len() == members.len() && restored.last_id <= last_id;
        restored.last_id = last_id;
        sound.then_some(restored)
    }
}
