//! The state as bytes: versioned, checksummed, and the same bytes for the same state.
//!
//! ```text
//!  0       4         8             16            24
//!  | CYGS  | version | length      | checksum    | protobuf ...
//! ```
//! All numbers are little-endian; the checksum covers the protobuf part.

use std::sync::Arc;

use prost::Message;

use super::chronicle::{Chronicle, WireChronicle};
use super::command::{Dictionary, Origin, WireFact};
use super::keys::{SealedKey, TicketKeyring};
use super::members::{Members, Token, WireMember};
use super::{Admin, Clients, RESULTS_KEPT, Refusal, State, Unconfirmed, Version};

const MAGIC: &[u8; 4] = b"CYGS";
/// What every version reads.
const FORMAT_FIRST: u32 = 1;
/// With what a version that only knows [`FORMAT_FIRST`] would pass over, and then apply the log to another state: a
/// configuration that waits for its confirmation.
const FORMAT_TRIAL: u32 = 2;
/// The same with keys of session tickets.
const FORMAT_TICKETS: u32 = 3;
/// The same with what happened.
const FORMAT: u32 = 4;
const HEADER: usize = 24;

/// Why bytes are not a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Too short, or not a snapshot at all.
    #[error("not a snapshot of the cluster state")]
    NotASnapshot,
    /// Written by a newer version.
    #[error("the snapshot has format {0}, this version reads {FORMAT}; update this node")]
    TooNew(u32),
    /// Cut off or longer than it says.
    #[error("the snapshot should be {expected} bytes long and is {found}")]
    Length {
        /// By its header.
        expected: u64,
        /// In fact.
        found: u64,
    },
    /// The checksum does not match.
    #[error("the snapshot is damaged: its checksum does not match")]
    Checksum,
    /// The content makes no sense.
    #[error("the snapshot cannot be decoded: {0}")]
    Content(String),
}

#[derive(Clone, PartialEq, Message)]
struct Content {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(message, repeated, tag = "2")]
    versions: Vec<WireVersion>,
    #[prost(message, repeated, tag = "3")]
    servers: Vec<WireServer>,
    #[prost(string, repeated, tag = "4")]
    names: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    clients: Vec<WireFact>,
    #[prost(message, repeated, tag = "6")]
    results: Vec<WireResult>,
    #[prost(uint64, tag = "7")]
    client_limit: u64,
    #[prost(message, repeated, tag = "8")]
    members: Vec<WireMember>,
    #[prost(uint64, tag = "9")]
    last_member: u64,
    #[prost(message, repeated, tag = "10")]
    tokens: Vec<Token>,
    /// Format 2.
    #[prost(message, optional, tag = "11")]
    unconfirmed: Option<WireUnconfirmed>,
    /// Format 3.
    #[prost(message, optional, tag = "12")]
    tickets: Option<WireTickets>,
    /// Format 4.
    #[prost(message, optional, tag = "13")]
    chronicle: Option<WireChronicle>,
}

#[derive(Clone, PartialEq, Message)]
struct WireTickets {
    #[prost(uint64, tag = "1")]
    newest: u64,
    #[prost(bool, tag = "2")]
    hurry: bool,
    #[prost(message, optional, tag = "3")]
    next: Option<WireTicketKey>,
    #[prost(message, optional, tag = "4")]
    current: Option<WireTicketKey>,
    #[prost(message, optional, tag = "5")]
    previous: Option<WireTicketKey>,
}

#[derive(Clone, PartialEq, Message)]
struct WireTicketKey {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    announced_ms: u64,
    #[prost(uint64, tag = "3")]
    used_ms: u64,
    #[prost(bytes = "vec", tag = "4")]
    sealed: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct WireUnconfirmed {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(uint64, tag = "2")]
    within_ms: u64,
    #[prost(message, optional, tag = "3")]
    back_to: Option<WireVersion>,
}

#[derive(Clone, PartialEq, Message)]
struct WireVersion {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(string, tag = "2")]
    text: String,
    #[prost(string, tag = "3")]
    author: String,
    #[prost(uint64, tag = "4")]
    unix_ms: u64,
    #[prost(string, tag = "5")]
    comment: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireServer {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    server: String,
    #[prost(enumeration = "Admin", tag = "3")]
    admin: i32,
}

#[derive(Clone, PartialEq, Message)]
struct WireResult {
    #[prost(message, optional, tag = "1")]
    origin: Option<Origin>,
    #[prost(uint64, tag = "2")]
    version: u64,
    /// The refusal as JSON; absent when the command was applied.
    #[prost(string, optional, tag = "3")]
    refusal: Option<String>,
}

impl State {
    /// The state as bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let content = self.content();
        let mut bytes = Vec::with_capacity(HEADER + content.encoded_len());
        bytes.resize(HEADER, 0);
        // Encoding into a growing vector cannot fail.
        let _ = content.encode(&mut bytes);
        let length = (bytes.len() - HEADER) as u64;
        let sum = checksum(&bytes[HEADER..]);
        bytes[0..4].copy_from_slice(MAGIC);
        let format = match (&content.tickets, &content.unconfirmed) {
            _ if content.chronicle.is_some() => FORMAT,
            (Some(_), _) => FORMAT_TICKETS,
            (None, Some(_)) => FORMAT_TRIAL,
            (None, None) => FORMAT_FIRST,
        };
        bytes[4..8].copy_from_slice(&format.to_le_bytes());
        bytes[8..16].copy_from_slice(&length.to_le_bytes());
        bytes[16..24].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The state from bytes.
    ///
    /// # Errors
    /// Truncated, damaged, or newer than this version. Never panics.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (header, body) = bytes.split_at_checked(HEADER).ok_or(SnapshotError::NotASnapshot)?;
        if &header[0..4] != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        let format = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if !(FORMAT_FIRST..=FORMAT).contains(&format) {
            return Err(SnapshotError::TooNew(format));
        }
        let (expected, found) = (number(&header[8..16]), body.len() as u64);
        if expected != found {
            return Err(SnapshotError::Length { expected, found });
        }
        if number(&header[16..24]) != checksum(body) {
            return Err(SnapshotError::Checksum);
        }
        let content = Content::decode(body).map_err(|error| SnapshotError::Content(error.to_string()))?;
        Self::from_content(content)
    }

    fn content(&self) -> Content {
        let mut dictionary = Dictionary::default();
        let clients = self.clients.iter().map(|fact| dictionary.fact(&fact)).collect();
        Content {
            index: self.index,
            versions: self.configuration.history().map(WireVersion::from_version).collect(),
            servers: self
                .servers
                .iter()
                .map(|(service, server, admin)| WireServer {
                    service: service.to_owned(),
                    server: server.to_owned(),
                    admin: admin as i32,
                })
                .collect(),
            names: dictionary.names,
            clients,
            results: self.results.iter().map(WireResult::from_result).collect(),
            client_limit: self.clients.limit() as u64,
            members: self.members.iter().map(WireMember::from).collect(),
            last_member: self.members.last_id(),
            tokens: self.members.tokens().to_vec(),
            unconfirmed: self.configuration.unconfirmed().map(WireUnconfirmed::from_unconfirmed),
            tickets: (!self.tickets.is_empty()).then(|| WireTickets::from_keyring(&self.tickets)),
            chronicle: (!self.chronicle.is_empty()).then(|| self.chronicle.to_wire()),
        }
    }

    fn from_content(content: Content) -> Result<Self, SnapshotError> {
        let wrong = |what: &str| SnapshotError::Content(what.to_owned());
        let limit = usize::try_from(content.client_limit).map_err(|_| wrong("the client limit"))?;
        let mut state = Self { index: content.index, clients: Clients::with_limit(limit), ..Self::default() };
        for version in content.versions {
            if version.version <= state.version() {
                return Err(wrong("the configuration versions are not in order"));
            }
            state.configuration.push(version.into_version());
        }
        if let Some(unconfirmed) = content.unconfirmed {
            let unconfirmed = unconfirmed.into_unconfirmed().ok_or_else(|| wrong("nothing to return to"))?;
            if !state.configuration.restore_unconfirmed(unconfirmed) {
                return Err(wrong("what waits for its confirmation is not the current configuration"));
            }
        }
        for server in content.servers {
            let admin = Admin::from_i32(server.admin).ok_or_else(|| wrong("an unknown server state"))?;
            if !state.servers.set(&server.service, &server.server, admin) {
                return Err(wrong("too many drained servers"));
            }
        }
        let names: Vec<Arc<str>> = content.names.iter().map(|name| state.clients.intern(name)).collect();
        for fact in content.clients {
            state
                .clients
                .put(&fact.resolve(&names).ok_or_else(|| wrong("a client without name or address"))?);
        }
        state.members = Members::restore(&content.members, content.last_member, content.tokens)
            .ok_or_else(|| wrong("the members"))?;
        if let Some(tickets) = content.tickets {
            state.tickets = tickets.into_keyring().ok_or_else(|| wrong("the keys of session tickets"))?;
        }
        if let Some(chronicle) = content.chronicle {
            state.chronicle = Arc::new(Chronicle::from_wire(chronicle).ok_or_else(|| wrong("the events"))?);
        }
        if content.results.len() > RESULTS_KEPT {
            return Err(wrong("too many results"));
        }
        for result in content.results {
            state.results.push_back(result.into_result().ok_or_else(|| wrong("a result"))?);
        }
        Ok(state)
    }
}

impl WireVersion {
    fn from_version(version: &Version) -> Self {
        Self {
            version: version.version,
            text: version.text.to_string(),
            author: version.author.clone(),
            unix_ms: version.unix_ms,
            comment: version.comment.clone(),
        }
    }

    fn into_version(self) -> Version {
        Version {
            version: self.version,
            text: Arc::from(self.text),
            author: self.author,
            unix_ms: self.unix_ms,
            comment: self.comment,
        }
    }
}

impl WireUnconfirmed {
    fn from_unconfirmed(unconfirmed: &Unconfirmed) -> Self {
        let Unconfirmed { version, within_ms, back_to } = unconfirmed;
        let back_to = Some(WireVersion::from_version(back_to));
        Self { version: *version, within_ms: *within_ms, back_to }
    }

    fn into_unconfirmed(self) -> Option<Unconfirmed> {
        let Self { version, within_ms, back_to } = self;
        Some(Unconfirmed { version, within_ms, back_to: back_to?.into_version() })
    }
}

impl WireTickets {
    fn from_keyring(keyring: &TicketKeyring) -> Self {
        let wire = |key: &SealedKey| {
            let SealedKey { number, announced_ms, used_ms, sealed } = key.clone();
            WireTicketKey { number, announced_ms, used_ms, sealed }
        };
        Self {
            newest: keyring.newest(),
            hurry: keyring.hurries(),
            next: keyring.next().map(wire),
            current: keyring.current().map(wire),
            previous: keyring.previous().map(wire),
        }
    }

    fn into_keyring(self) -> Option<TicketKeyring> {
        let key = |wire: Option<WireTicketKey>| {
            wire.map(|WireTicketKey { number, announced_ms, used_ms, sealed }| SealedKey {
                number,
                announced_ms,
                used_ms,
                sealed,
            })
        };
        let keys = [key(self.next), key(self.current), key(self.previous)];
        TicketKeyring::restore(self.newest, self.hurry, keys)
    }
}

impl WireResult {
    fn from_result((origin, result): &(Origin, Result<u64, Refusal>)) -> Self {
        let (version, refusal) = match result {
            Ok(version) => (*version, None),
            Err(refusal) => (0, Some(serde_json::to_string(refusal).unwrap_or_default())),
        };
        Self { origin: Some(*origin), version, refusal }
    }

    fn into_result(self) -> Option<(Origin, Result<u64, Refusal>)> {
        let result = match self.refusal {
            None => Ok(self.version),
            Some(refusal) => Err(serde_json::from_str(&refusal).ok()?),
        };
        Some((self.origin?, result))
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Finds accidents, not attackers. Each step is a bijection of the running value, so damage that is confined to
/// eight bytes is always found.
fn checksum(bytes: &[u8]) -> u64 {
    let mut sum: u64 = 0x9e37_79b9_7f4a_7c15 ^ bytes.len() as u64;
    let mut step = |word: u64| {
        sum = (sum ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        sum ^= sum >> 32;
    };
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        step(u64::from_le_bytes([
            chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7],
        ]));
    }
    step(number(rest));
    sum
}
