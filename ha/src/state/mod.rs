//! What the nodes agree on: the replicated state and the commands that change it.
//!
//! [`State::apply`] is deterministic: no clock, no I/O, no randomness. Two nodes that applied the same entries have
//! equal states.

pub mod chronicle;
pub mod clients;
pub mod command;
pub mod configuration;
pub mod keys;
pub mod members;
pub mod servers;
pub mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use chronicle::{Chronicle, Remembered, WireEvent};
pub use clients::{CLIENTS_MAX, ClientFact, Clients};
pub use command::{
    AddMember, AdoptMembers, AnnounceTicketKey, ClientBatch, Command, CommandError, ConfirmConfig,
    CreateToken, EventBatch, FEATURE_LEVEL, Kind, MemberId, Origin, PutConfig, ReturnConfig, SetServer,
    UseTicketKey,
};
pub use configuration::{Configuration, Unconfirmed, Version};
pub use keys::{SealedKey, TicketKeyring};
pub use members::{MemberRecord, Members, Standing, Token, WireMember};
pub use servers::{Admin, Servers};
pub use snapshot::SnapshotError;

/// How many results of hard commands are remembered, so that one that arrives twice is applied once. A proposer
/// gives up long before as many others have been applied.
pub const RESULTS_KEPT: usize = 256;

/// The replicated state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    index: u64,
    configuration: Configuration,
    servers: Servers,
    clients: Clients,
    members: Members,
    tickets: TicketKeyring,
    /// Shared with whoever shows it: a batch of events copies it, nothing else does.
    chronicle: Arc<Chronicle>,
    results: VecDeque<(Origin, Result<u64, Refusal>)>,
}

/// What an entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is a new configuration.
    Config {
        /// Its version.
        version: u64,
    },
    /// The current version was confirmed.
    Confirmed {
        /// Which.
        version: u64,
        /// By whom.
        author: String,
    },
    /// The version that waited for its confirmation has given way to the one before.
    Returned {
        /// The new version.
        version: u64,
        /// The one whose text it has.
        back_to: u64,
        /// Nobody asked for it: the time was over.
        unasked: bool,
    },
    /// The wish for a server was noted.
    Server {
        /// The configuration version at that moment.
        version: u64,
    },
    /// Members or tokens are others than before.
    Members {
        /// The configuration version at that moment.
        version: u64,
    },
    /// A key of session tickets was announced.
    TicketKeyAnnounced {
        /// The key that comes next.
        number: u64,
        /// Who wants it before its time; empty: nobody.
        author: String,
        /// The configuration version at that moment.
        version: u64,
    },
    /// It is in use.
    TicketKeyUsed {
        /// Which.
        number: u64,
        /// The configuration version at that moment.
        version: u64,
    },
    /// These facts were taken over; older ones than those known were not.
    Clients(Vec<ClientFact>),
    /// So many events were new.
    Events {
        /// How many.
        new: usize,
    },
    /// The command was understood and refused; nothing changed.
    Refused(Refusal),
    /// The entry was applied before, with this result; nothing changed.
    Repeated(Result<u64, Refusal>),
}

/// Why the state refuses a command. The same on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// `if_version` did not match.
    #[error(
        "the configuration is at version {current}, not {expected}; look at the difference and apply again"
    )]
    VersionMismatch {
        /// What the operator expected.
        expected: u64,
        /// What there is.
        current: u64,
    },
    /// Another version is on trial.
    #[error(
        "v{version} waits for its confirmation; `cygnet config confirm` or `cygnet config rollback` first, or try \
         this one with --confirm-within too"
    )]
    Unconfirmed {
        /// Which.
        version: u64,
    },
    /// No version waits for a confirmation.
    #[error("nothing waits for a confirmation: v{current} is for good; see `cygnet config history`")]
    NothingToConfirm {
        /// The current version.
        current: u64,
    },
    /// The first configuration cannot be on trial.
    #[error(
        "there is no configuration yet that could come back; apply the first one without --confirm-within"
    )]
    NothingToReturnTo,
    /// Over one of the limits.
    #[error("{0}")]
    TooLong(String),
    /// No room for another drained server.
    #[error("{} servers are drained already; make some of them ready first", servers::DRAINED_MAX)]
    TooManyDrained,
    /// A wish that this version does not know.
    #[error("a server state with the number {0} is not known to this version")]
    UnknownAdmin(i32),
    /// The members were adopted before.
    #[error("the members are known already")]
    MembersKnown,
    /// A member or token whose parts make no sense.
    #[error("a member or token that makes no sense; update the older node")]
    BadMember,
    /// Too many tokens at a time.
    #[error("there are {} tokens that were not used yet; wait until some have ended", members::TOKENS_MAX)]
    TooManyTokens,
    /// Nobody made this token here, or it was forgotten.
    #[error("the token is not known here; make a new one with `cygnet token create`")]
    UnknownToken,
    /// A token lets one node in.
    #[error("the token was used already, by {by}; make a new one with `cygnet token create`")]
    TokenUsed {
        /// Whom it let in.
        by: String,
    },
    /// The token's time is over.
    #[error("the token has ended; make a new one with `cygnet token create`")]
    TokenEnded,
    /// The token is for the other kind of node.
    #[error(
        "the token is for {}; make the right one with `cygnet token create{}`",
        if *witness { "a witness" } else { "a node with traffic" },
        if *witness { "" } else { " --witness" }
    )]
    WitnessMismatch {
        /// What the token is for.
        witness: bool,
    },
    /// A member of that name is there.
    #[error("{name} is a member already; choose another name, or `cygnet cluster remove {name}` first")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A member of that address is there.
    #[error(
        "{address} is the address of {name}; correct the address, or `cygnet cluster remove {name}` first"
    )]
    AddressTaken {
        /// The address.
        address: std::net::SocketAddr,
        /// Whose.
        name: String,
    },
    /// Another node was let in at the same moment.
    #[error("the next member has the number {next}; try again")]
    IdTaken {
        /// The number that is free.
        next: u64,
    },
    /// No room for another member.
    #[error("there are {} members already; remove one first", members::MEMBERS_MAX)]
    TooManyMembers,
    /// No room for another voter.
    #[error("there are {} voters already; remove one first", members::VOTERS_MAX)]
    TooManyVoters,
    /// It is not there.
    #[error("node {id} is no member; see `cygnet cluster members`")]
    UnknownMember {
        /// The number.
        id: u64,
    },
    /// Without voters nothing could be decided any more.
    #[error("it is the only voter; nothing could be decided without it")]
    LastVoter,
    /// Without a voter with traffic the witness would be alone.
    #[error("only witnesses would be left to vote; add another node first")]
    OnlyWitnessesLeft,
    /// Another node has made one at the same moment.
    #[error("ticket key {newest} was made meanwhile; nothing needs to be done")]
    TicketKeyKnown {
        /// The newest key.
        newest: u64,
    },
    /// It is in use already, or was never announced.
    #[error("ticket key {number} does not wait to be used")]
    TicketKeyUnknown {
        /// Which.
        number: u64,
    },
    /// Nothing to do.
    #[error("{name} is a voter already")]
    VoterAlready {
        /// Who.
        name: String,
    },
}

/// Why an entry cannot be applied. The node must stop applying, or its state would differ from the others'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The entry does not decode, or is newer than this version.
    #[error("log entry {index}: {error}")]
    Command {
        /// Where.
        index: u64,
        /// Why.
        error: CommandError,
    },
    /// An entry out of order.
    #[error("log entry {index} does not come after {applied}")]
    OutOfOrder {
        /// Where.
        index: u64,
        /// What was applied last.
        applied: u64,
    },
}

impl State {
    /// An empty state whose client table has another size. All nodes must use the same.
    #[must_use]
    pub fn with_client_limit(limit: usize) -> Self {
        Self { clients: Clients::with_limit(limit), ..Self::default() }
    }

    /// The index of the last entry that was applied.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The version of the configuration; 0 before the first one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.configuration.version()
    }

    /// The feature level of what is in it: every member has to know that level already, whoever can be asked now.
    #[must_use]
    pub fn level(&self) -> u32 {
        match (self.configuration.unconfirmed(), self.members.is_empty()) {
            _ if !self.chronicle.is_empty() => 5,
            _ if !self.tickets.is_empty() => 4,
            (Some(_), _) => 3,
            (None, false) => 2,
            (None, true) => 1,
        }
    }

    /// Configuration and history.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Drained servers.
    #[must_use]
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Sticky clients.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Members and tokens.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Keys of session tickets.
    #[must_use]
    pub fn tickets(&self) -> &TicketKeyring {
        &self.tickets
    }

    /// What happened on any node.
    #[must_use]
    pub fn chronicle(&self) -> &Arc<Chronicle> {
        &self.chronicle
    }

    /// The state in which a cluster of these members begins, with these tokens.
    ///
    /// # Errors
    /// Too many tokens, or a token that makes no sense.
    pub fn begin(
        members: impl IntoIterator<Item = MemberRecord>,
        tokens: &[CreateToken],
    ) -> Result<Self, Refusal> {
        let mut state = Self { members: Members::of(members), ..Self::default() };
        tokens.iter().try_for_each(|token| state.members.create_token(token))?;
        Ok(state)
    }

    /// Takes the members from the nodes' files, outside of the log: for the same.
    pub fn set_members(&mut self, members: Members) {
        self.members = members;
    }

    /// Makes `id` the only voter, outside of the log: for the recovery of a cluster that lost its quorum.
    pub fn recover_members(&mut self, id: u64) {
        self.members.recover(id);
    }

    /// Applies the bytes of a log entry.
    ///
    /// # Errors
    /// The entry is garbled, newer than this version, or out of order. The state is unchanged.
    pub fn apply_bytes(&mut self, index: u64, bytes: &[u8]) -> Result<(Option<Origin>, Outcome), ApplyError> {
        let command = Command::decode(bytes).map_err(|error| ApplyError::Command { index, error })?;
        let origin = command.origin;
        Ok((origin, self.apply(index, &command)?))
    }

    /// Applies a command as log entry `index`.
    ///
    /// # Errors
    /// The command is newer than this version or out of order. The state is unchanged.
    pub fn apply(&mut self, index: u64, command: &Command) -> Result<Outcome, ApplyError> {
        if index <= self.index {
            return Err(ApplyError::OutOfOrder { index, applied: self.index });
        }
        if command.level > FEATURE_LEVEL {
            let error = CommandError::TooNew { needed: command.level };
            return Err(ApplyError::Command { index, error });
        }
        let Some(kind) = &command.kind else {
            return Err(ApplyError::Command { index, error: CommandError::Unknown });
        };
        self.index = index;
        if let Kind::Clients(batch) = kind {
            let mut facts = batch.unpack_with(|name| self.clients.intern(name));
            facts.retain(|fact| self.clients.put(fact));
            return Ok(Outcome::Clients(facts));
        }
        if let Kind::Events(batch) = kind {
            let node = command.origin.filter(|_| command.check().is_ok()).map(|origin| origin.node);
            let new = node.map_or(0, |node| Arc::make_mut(&mut self.chronicle).put(node, batch));
            return Ok(Outcome::Events { new });
        }
        if let Some(earlier) = self.result_of(command.origin) {
            return Ok(Outcome::Repeated(earlier));
        }
        let outcome = match command.check() {
            Err(error) => Outcome::Refused(Refusal::TooLong(error.to_string())),
            Ok(()) => self.apply_hard(kind),
        };
        self.remember_result(command.origin, &outcome);
        Ok(outcome)
    }

    /// An entry without a command (a new leader's first) moves the index on.
    pub fn skip_to(&mut self, index: u64) {
        self.index = self.index.max(index);
    }

    fn apply_hard(&mut self, kind: &Kind) -> Outcome {
        match kind {
            Kind::PutConfig(put) => match self.configuration.put(put) {
                Ok(version) => Outcome::Config { version },
                Err(refusal) => Outcome::Refused(refusal),
            },
            Kind::ConfirmConfig(confirm) => match self.configuration.confirm(confirm) {
                Ok(version) => Outcome::Confirmed { version, author: confirm.author.clone() },
                Err(refusal) => Outcome::Refused(refusal),
            },
            Kind::ReturnConfig(back) => self.return_config(back),
            Kind::SetServer(set) => match Admin::from_i32(set.state) {
                None => Outcome::Refused(Refusal::UnknownAdmin(set.state)),
                Some(admin) if self.servers.set(&set.service, &set.server, admin) => {
                    Outcome::Server { version: self.version() }
                }
                Some(_) => Outcome::Refused(Refusal::TooManyDrained),
            },
            Kind::AdoptMembers(adopt) => self.members_outcome(|members| members.adopt(&adopt.members)),
            Kind::CreateToken(create) => self.members_outcome(|members| members.create_token(create)),
            Kind::AddMember(add) => self.members_outcome(|members| members.add(add)),
            Kind::RemoveMember(which) => {
                let outcome = self.members_outcome(|members| members.remove(which.id));
                if matches!(outcome, Outcome::Members { .. }) {
                    Arc::make_mut(&mut self.chronicle).forget(which.id);
                }
                outcome
            }
            Kind::PromoteMember(which) => self.members_outcome(|members| members.promote(which.id)),
            Kind::AnnounceTicketKey(announce) => self.announce_ticket_key(announce),
            Kind::UseTicketKey(switch) => match self.tickets.switch(switch) {
                Ok(number) => Outcome::TicketKeyUsed { number, version: self.version() },
                Err(refusal) => Outcome::Refused(refusal),
            },
            Kind::Clients(_) => Outcome::Clients(Vec::new()),
            Kind::Events(_) => Outcome::Events { new: 0 },
        }
    }

    fn announce_ticket_key(&mut self, announce: &AnnounceTicketKey) -> Outcome {
        match self.tickets.announce(announce) {
            Ok(number) => {
                let (author, version) = (announce.author.clone(), self.version());
                Outcome::TicketKeyAnnounced { number, author, version }
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn return_config(&mut self, back: &ReturnConfig) -> Outcome {
        let back_to = self.configuration.unconfirmed().map_or(0, |waiting| waiting.back_to.version);
        match self.configuration.return_back(back) {
            Ok(version) => Outcome::Returned { version, back_to, unasked: back.author.is_empty() },
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn members_outcome(&mut self, change: impl FnOnce(&mut Members) -> Result<(), Refusal>) -> Outcome {
        match change(&mut self.members) {
            Ok(()) => Outcome::Members { version: self.version() },
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn result_of(&self, origin: Option<Origin>) -> Option<Result<u64, Refusal>> {
        let origin = origin?;
        self.results.iter().find(|(known, _)| *known == origin).map(|(_, result)| result.clone())
    }

    fn remember_result(&mut self, origin: Option<Origin>, outcome: &Outcome) {
        let (Some(origin), Some(result)) = (origin, outcome.result()) else { return };
        if self.results.len() == RESULTS_KEPT {
            self.results.pop_front();
        }
        self.results.push_back((origin, result));
    }
}

impl Outcome {
    /// For hard commands: the configuration version, or the refusal.
    #[must_use]
    pub fn result(&self) -> Option<Result<u64, Refusal>> {
        match self {
            Self::Config { version }
            | Self::Confirmed { version, .. }
            | Self::Returned { version, .. }
            | Self::Server { version }
            | Self::Members { version }
            | Self::TicketKeyAnnounced { version, .. }
            | Self::TicketKeyUsed { version, .. } => Some(Ok(*version)),
            Self::Refused(refusal) => Some(Err(refusal.clone())),
            Self::Repeated(result) => Some(result.clone()),
            Self::Clients(_) | Self::Events { .. } => None,
        }
    }
}
