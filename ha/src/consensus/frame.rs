//! What travels between nodes, as bytes.
//!
//! ```text
//!  0      1              5
//!  | kind | length (BE)  | body ...
//! ```
//! Each kind has its own limit, so that no peer can make us hold more than it needs. A kind that this version does
//! not know is passed over.

use prost::Message as _;
use raft::eraftpb::{Message, Snapshot};

use super::store::Epoch;
use crate::state::WireMember;
use crate::state::command::CONFIG_TEXT_MAX;

/// Raised when old and new nodes can no longer talk to each other at all.
pub const PROTOCOL: u32 = 1;

/// Kind and length.
pub const HEADER: usize = 5;

/// A hello names a cluster and some numbers.
const HELLO_MAX: usize = 1024;
/// Raft messages: 256 KiB of entries, or a single entry with a configuration.
const RAFT_MAX: usize = 2 * 1024 * 1024;
/// A snapshot: 8 MiB of history, 262,144 clients at some 20 to 40 bytes.
const SNAPSHOT_MAX: usize = 32 * 1024 * 1024;
/// A snapshot message without its data.
const SNAPSHOT_META_MAX: usize = 64 * 1024;
/// A forwarded proposal or preflight: a configuration and its names.
const PROPOSAL_MAX: usize = CONFIG_TEXT_MAX + 16 * 1024;
/// The longest node report and the longest explanation.
pub const REPORT_MAX: usize = 16 * 1024;
/// A question of a node that joins: a key, a name, an address.
const JOIN_MAX: usize = 4 * 1024;
/// Its answer: certificates, a key, and the members.
const JOINED_MAX: usize = 64 * 1024;
/// The longest word between the elections of two nodes: some 60 bytes for each of 256 virtual addresses, and as much again.
pub const WORD_MAX: usize = 32 * 1024;
/// A frame of a kind that this version does not know.
const UNKNOWN_MAX: usize = 64 * 1024;

/// The first frame on a connection, from the node that opened it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// [`PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Name of the cluster.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Who speaks.
    #[prost(uint64, tag = "3")]
    pub node: u64,
    /// Whom it believes to speak to.
    #[prost(uint64, tag = "4")]
    pub to: u64,
    /// [`crate::state::FEATURE_LEVEL`] of the speaker.
    #[prost(uint32, tag = "5")]
    pub level: u32,
    /// The last entry on the speaker's disk.
    #[prost(uint64, tag = "6")]
    pub last: u64,
    /// The life of the log that the speaker lives in.
    #[prost(message, optional, tag = "7")]
    pub epoch: Option<Epoch>,
    /// The speaker's name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Where it listens, as text: for nodes that do not know it yet.
    #[prost(string, tag = "9")]
    pub address: String,
}

/// The first frame of a node that has a token and wants to become a member.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinAsk {
    /// [`PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// [`crate::state::FEATURE_LEVEL`] of the node.
    #[prost(uint32, tag = "2")]
    pub level: u32,
    /// Number of the token.
    #[prost(fixed64, tag = "3")]
    pub token: u64,
    /// Secret of the token.
    #[prost(bytes = "vec", tag = "4")]
    pub secret: Vec<u8>,
    /// How the node wants to be called.
    #[prost(string, tag = "5")]
    pub name: String,
    /// Where it will listen.
    #[prost(string, tag = "6")]
    pub address: String,
    /// Whether it is to be a witness.
    #[prost(bool, tag = "7")]
    pub witness: bool,
    /// Its public key, DER.
    #[prost(bytes = "vec", tag = "8")]
    pub key: Vec<u8>,
    /// The cluster as its own file names it.
    #[prost(string, tag = "9")]
    pub cluster: String,
}

/// What it gets.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinAnswer {
    /// Why not, if not; all else is empty then.
    #[prost(string, optional, tag = "1")]
    pub refused: Option<String>,
    /// The number of the new member.
    #[prost(uint64, tag = "2")]
    pub id: u64,
    /// Its certificate, PEM.
    #[prost(bytes = "vec", tag = "3")]
    pub certificate: Vec<u8>,
    /// The authority's key, PEM; not for a witness.
    #[prost(bytes = "vec", tag = "4")]
    pub authority_key: Vec<u8>,
    /// All members, the new one included.
    #[prost(message, repeated, tag = "5")]
    pub members: Vec<WireMember>,
}

/// Numbers and text of the small frames.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Small {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(string, optional, tag = "2")]
    text: Option<String>,
    #[prost(bytes = "vec", tag = "3")]
    bytes: Vec<u8>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Opens a connection.
    Hello(Box<Hello>),
    /// Answers a hello: go on.
    Welcome,
    /// Answers a hello: the connection is refused, for this reason.
    Refused(String),
    /// A raft message without snapshot.
    Raft(Box<Message>),
    /// A raft message with snapshot.
    Snapshot(Box<Message>),
    /// A command that the leader is asked to propose.
    Propose(Vec<u8>),
    /// A batch of client facts that the leader is asked to propose.
    Soft(Vec<u8>),
    /// The command with this sequence was not proposed; it has no effect.
    NotProposed {
        /// From the command's origin.
        sequence: u64,
    },
    /// The leader is asked to hand over.
    Transfer {
        /// To this node.
        to: u64,
    },
    /// Would this configuration work on your node?
    PreflightAsk {
        /// Comes back in the answer.
        id: u64,
        /// The configuration.
        text: String,
    },
    /// The answer.
    PreflightAnswer {
        /// Of the question.
        id: u64,
        /// Why not, if not.
        problem: Option<String>,
    },
    /// What a node says of itself.
    Report {
        /// How old it was when it was sent, ms.
        age_ms: u64,
        /// For the node's own code to read.
        bytes: Vec<u8>,
    },
    /// A node without a certificate wants to become a member.
    JoinAsk(Box<JoinAsk>),
    /// The answer.
    JoinAnswer(Box<JoinAnswer>),
    /// The sender holds the address, and would rather lead.
    Lead,
    /// Answers a hello: the cluster lives in a later epoch, follow it.
    Behind(Epoch),
    /// Answers a hello: the node was removed from the cluster.
    Removed,
    /// A member without the authority's key asks for a new certificate for its public key (DER).
    CertificateAsk(Vec<u8>),
    /// The certificate, PEM.
    CertificateAnswer(Vec<u8>),
    /// What the elections of two nodes have to say to each other; for their own code to read.
    Word(Vec<u8>),
    /// Nothing to say, still here.
    Ping {
        /// The sender takes no part in the agreement: its raft thread was given up or is stuck.
        mute: bool,
    },
}

/// Why bytes are not a frame. The connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than its kind may be.
    #[error("a frame of kind {kind} with {length} bytes; the limit is {limit}")]
    TooLong {
        /// Kind of the frame.
        kind: u8,
        /// Its length by its header.
        length: usize,
        /// What it may be.
        limit: usize,
    },
    /// Not what its kind says.
    #[error("a frame of kind {kind} that cannot be decoded: {error}")]
    Garbled {
        /// Kind of the frame.
        kind: u8,
        /// Why.
        error: String,
    },
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSED: u8 = 3;
const RAFT: u8 = 4;
const SNAPSHOT: u8 = 5;
const PROPOSE: u8 = 6;
const SOFT: u8 = 7;
const NOT_PROPOSED: u8 = 8;
const TRANSFER: u8 = 9;
const PREFLIGHT_ASK: u8 = 10;
const PREFLIGHT_ANSWER: u8 = 11;
const REPORT: u8 = 12;
const PING: u8 = 13;
const JOIN_ASK: u8 = 20;
const JOIN_ANSWER: u8 = 21;
const LEAD: u8 = 22;
const BEHIND: u8 = 23;
const REMOVED: u8 = 24;
const CERTIFICATE_ASK: u8 = 25;
const CERTIFICATE_ANSWER: u8 = 26;
const WORD: u8 = 32;

/// Kind and length of the body, if a frame of this kind may be so long.
///
/// # Errors
/// Too long.
pub fn decode_header(header: [u8; HEADER]) -> Result<(u8, usize), FrameError> {
    let [kind, length @ ..] = header;
    let length = u32::from_be_bytes(length) as usize;
    let limit = match kind {
        HELLO | WELCOME | NOT_PROPOSED | TRANSFER | PING | LEAD | BEHIND | REMOVED => HELLO_MAX,
        JOIN_ASK | CERTIFICATE_ASK => JOIN_MAX,
        JOIN_ANSWER | CERTIFICATE_ANSWER => JOINED_MAX,
        REFUSED | PREFLIGHT_ANSWER | REPORT => REPORT_MAX + 64,
        RAFT => RAFT_MAX,
        SNAPSHOT => SNAPSHOT_MAX,
        PROPOSE | SOFT | PREFLIGHT_ASK => PROPOSAL_MAX,
        WORD => WORD_MAX,
        _ => UNKNOWN_MAX,
    };
    within(kind, length, limit)
}

/// The same for the first frame of a connection, whose sender may be anybody: a hello, a wish to join, or nothing.
///
/// # Errors
/// Too long, or none of these.
pub fn decode_first_header(header: [u8; HEADER]) -> Result<(u8, usize), FrameError> {
    let (kind, length) = decode_header(header)?;
    let limit = match kind {
        HELLO => HELLO_MAX,
        JOIN_ASK => JOIN_MAX,
        _ => 0,
    };
    within(kind, length, limit)
}

fn within(kind: u8, length: usize, limit: usize) -> Result<(u8, usize), FrameError> {
    if length > limit { Err(FrameError::TooLong { kind, length, limit }) } else { Ok((kind, length)) }
}

/// Reads a body; `None` if this version does not know the kind.
///
/// # Errors
/// Garbled. Never panics.
pub fn decode(kind: u8, body: &[u8]) -> Result<Option<Frame>, FrameError> {
    let garbled = |error: String| FrameError::Garbled { kind, error };
    let small = || Small::decode(body).map_err(|error| garbled(error.to_string()));
    let frame = match kind {
        HELLO => Frame::Hello(Box::new(Hello::decode(body).map_err(|error| garbled(error.to_string()))?)),
        WELCOME => Frame::Welcome,
        REFUSED => Frame::Refused(small()?.text.unwrap_or_default()),
        RAFT => Frame::Raft(Box::new(Message::decode(body).map_err(|error| garbled(error.to_string()))?)),
        SNAPSHOT => Frame::Snapshot(Box::new(decode_snapshot(body).map_err(garbled)?)),
        PROPOSE => Frame::Propose(body.to_vec()),
        SOFT => Frame::Soft(body.to_vec()),
        NOT_PROPOSED => Frame::NotProposed { sequence: small()?.number },
        TRANSFER => Frame::Transfer { to: small()?.number },
        PREFLIGHT_ASK => {
            let Small { number, text, .. } = small()?;
            Frame::PreflightAsk { id: number, text: text.unwrap_or_default() }
        }
        PREFLIGHT_ANSWER => {
            let Small { number, text, .. } = small()?;
            Frame::PreflightAnswer { id: number, problem: text }
        }
        REPORT => {
            let Small { number, bytes, .. } = small()?;
            Frame::Report { age_ms: number, bytes }
        }
        PING => Frame::Ping { mute: small()?.number != 0 },
        JOIN_ASK => {
            Frame::JoinAsk(Box::new(JoinAsk::decode(body).map_err(|error| garbled(error.to_string()))?))
        }
        JOIN_ANSWER => {
            let answer = JoinAnswer::decode(body).map_err(|error| garbled(error.to_string()))?;
            Frame::JoinAnswer(Box::new(answer))
        }
        LEAD => Frame::Lead,
        BEHIND => Frame::Behind(Epoch::decode(body).map_err(|error| garbled(error.to_string()))?),
        REMOVED => Frame::Removed,
        CERTIFICATE_ASK => Frame::CertificateAsk(body.to_vec()),
        CERTIFICATE_ANSWER => Frame::CertificateAnswer(body.to_vec()),
        WORD => Frame::Word(body.to_vec()),
        _ => return Ok(None),
    };
    Ok(Some(frame))
}

/// The data follows the message, so that it is neither copied nor mistaken for many small things.
fn decode_snapshot(body: &[u8]) -> Result<Message, String> {
    let (length, rest) = body.split_at_checked(4).ok_or("too short")?;
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if length > SNAPSHOT_META_MAX {
        return Err(format!("{length} bytes before the data"));
    }
    let (meta, data) = rest.split_at_checked(length).ok_or("too short")?;
    let mut message = Message::decode(meta).map_err(|error| error.to_string())?;
    message.snapshot.get_or_insert_default().data = data.to_vec();
    Ok(message)
}

impl Frame {
    /// The frame as bytes, header included.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind(), 0, 0, 0, 0];
        self.encode_body(&mut bytes);
        let length = u32::try_from(bytes.len() - HEADER).unwrap_or(u32::MAX);
        bytes[1..HEADER].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        HEADER
            + match self {
                Self::Raft(message) | Self::Snapshot(message) => message.encoded_len(),
                Self::Propose(bytes) | Self::Soft(bytes) | Self::Word(bytes) | Self::Report { bytes, .. } => {
                    bytes.len()
                }
                Self::PreflightAsk { text, .. } | Self::Refused(text) => text.len(),
                Self::PreflightAnswer { problem, .. } => problem.as_ref().map_or(0, String::len),
                _ => 64,
            }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => HELLO,
            Self::Welcome => WELCOME,
            Self::Refused(_) => REFUSED,
            Self::Raft(_) => RAFT,
            Self::Snapshot(_) => SNAPSHOT,
            Self::Propose(_) => PROPOSE,
            Self::Soft(_) => SOFT,
            Self::NotProposed { .. } => NOT_PROPOSED,
            Self::Transfer { .. } => TRANSFER,
            Self::PreflightAsk { .. } => PREFLIGHT_ASK,
            Self::PreflightAnswer { .. } => PREFLIGHT_ANSWER,
            Self::Report { .. } => REPORT,
            Self::Ping { .. } => PING,
            Self::JoinAsk(_) => JOIN_ASK,
            Self::JoinAnswer(_) => JOIN_ANSWER,
            Self::Lead => LEAD,
            Self::Behind(_) => BEHIND,
            Self::Removed => REMOVED,
            Self::CertificateAsk(_) => CERTIFICATE_ASK,
            Self::CertificateAnswer(_) => CERTIFICATE_ANSWER,
            Self::Word(_) => WORD,
        }
    }

    fn encode_body(&self, bytes: &mut Vec<u8>) {
        let small = |number: u64, text: Option<String>, content: Vec<u8>| {
            Small { number, text, bytes: content }.encode_to_vec()
        };
        let body = match self {
            Self::Welcome | Self::Lead | Self::Removed => return,
            Self::JoinAsk(ask) => ask.encode_to_vec(),
            Self::JoinAnswer(answer) => answer.encode_to_vec(),
            Self::Behind(epoch) => epoch.encode_to_vec(),
            Self::CertificateAsk(key) => key.clone(),
            Self::CertificateAnswer(pem) => pem.clone(),
            Self::Ping { mute } => small(u64::from(*mute), None, Vec::new()),
            Self::Hello(hello) => hello.encode_to_vec(),
            Self::Refused(reason) => small(0, Some(reason.clone()), Vec::new()),
            Self::Raft(message) => message.encode_to_vec(),
            Self::Snapshot(message) => return encode_snapshot(message, bytes),
            Self::Propose(command) | Self::Soft(command) | Self::Word(command) => {
                return bytes.extend_from_slice(command);
            }
            Self::NotProposed { sequence } => small(*sequence, None, Vec::new()),
            Self::Transfer { to } => small(*to, None, Vec::new()),
            Self::PreflightAsk { id, text } => small(*id, Some(text.clone()), Vec::new()),
            Self::PreflightAnswer { id, problem } => small(*id, problem.clone(), Vec::new()),
            Self::Report { age_ms, bytes } => small(*age_ms, None, bytes.clone()),
        };
        bytes.extend_from_slice(&body);
    }
}

fn encode_snapshot(message: &Message, bytes: &mut Vec<u8>) {
    let snapshot = message.get_snapshot();
    let bare = Snapshot { data: Vec::new(), metadata: snapshot.metadata.clone() };
    let meta = Message {
        msg_type: message.msg_type,
        to: message.to,
        from: message.from,
        term: message.term,
        snapshot: Some(bare),
        ..Message::default()
    }
    .encode_to_vec();
    bytes.extend_from_slice(&u32::try_from(meta.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&meta);
    bytes.extend_from_slice(&snapshot.data);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = || vec(any::<u8>(), 0..40);
        prop_oneof![
            (any::<u32>(), ".{0,9}", any::<u64>(), any::<u64>()).prop_map(
                |(protocol, cluster, node, last)| {
                    let epoch = (node % 2 == 0).then_some(Epoch { number: last, ..Epoch::default() });
                    let address = "10.0.0.1:7300".to_owned();
                    Frame::Hello(Box::new(Hello {
                        protocol,
                        cluster,
                        node,
                        to: 1,
                        level: 1,
                        last,
                        epoch,
                        address,
                        ..Hello::default()
                    }))
                }
            ),
            (any::<u64>(), ".{0,9}", bytes(), any::<bool>()).prop_map(|(token, name, secret, witness)| {
                Frame::JoinAsk(Box::new(JoinAsk { token, name, secret, witness, ..JoinAsk::default() }))
            }),
            (option::of(".{0,9}"), any::<u64>(), bytes()).prop_map(|(refused, id, certificate)| {
                let members = vec![WireMember { id, ..WireMember::default() }];
                Frame::JoinAnswer(Box::new(JoinAnswer {
                    refused,
                    id,
                    certificate,
                    members,
                    ..JoinAnswer::default()
                }))
            }),
            prop_oneof![Just(Frame::Lead), Just(Frame::Removed)],
            any::<u64>().prop_map(|number| Frame::Behind(Epoch { number, ..Epoch::default() })),
            bytes().prop_map(Frame::CertificateAsk),
            bytes().prop_map(Frame::CertificateAnswer),
            Just(Frame::Welcome),
            any::<bool>().prop_map(|mute| Frame::Ping { mute }),
            ".{0,9}".prop_map(Frame::Refused),
            (1i32..18, any::<u64>()).prop_map(|(msg_type, term)| {
                Frame::Raft(Box::new(Message { msg_type, term, ..Message::default() }))
            }),
            (any::<u64>(), bytes()).prop_map(|(index, data)| {
                let mut snapshot = Snapshot { data, ..Snapshot::default() };
                snapshot.mut_metadata().index = index;
                Frame::Snapshot(Box::new(Message { to: 1, snapshot: Some(snapshot), ..Message::default() }))
            }),
            bytes().prop_map(Frame::Propose),
            bytes().prop_map(Frame::Soft),
            bytes().prop_map(Frame::Word),
            any::<u64>().prop_map(|sequence| Frame::NotProposed { sequence }),
            any::<u64>().prop_map(|to| Frame::Transfer { to }),
            (any::<u64>(), ".{0,9}").prop_map(|(id, text)| Frame::PreflightAsk { id, text }),
            (any::<u64>(), option::of(".{0,9}"))
                .prop_map(|(id, problem)| Frame::PreflightAnswer { id, problem }),
            (any::<u64>(), bytes()).prop_map(|(age_ms, bytes)| Frame::Report { age_ms, bytes }),
        ]
    }

    fn read(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        let (kind, length) = decode_header(bytes[..HEADER].try_into().unwrap())?;
        assert_eq!(length, bytes.len() - HEADER);
        decode(kind, &bytes[HEADER..])
    }

    proptest! {
        #[test]
        fn a_frame_survives_the_wire(frame in any_frame()) {
            prop_assert_eq!(read(&frame.encode()).unwrap().unwrap(), frame);
        }

        #[test]
        fn any_bytes_are_a_frame_or_an_error(kind in any::<u8>(), body in vec(any::<u8>(), 0..100)) {
            let _ = decode(kind, &body);
        }

        #[test]
        fn a_garbled_frame_never_panics(frame in any_frame(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = frame.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok((kind, _)) = decode_header(bytes[..HEADER].try_into().unwrap()) {
                let _ = decode(kind, &bytes[HEADER..]);
            }
        }

        #[test]
        fn no_header_claims_more_than_the_largest_limit(header in any::<[u8; HEADER]>()) {
            if let Ok((_, length)) = decode_header(header) {
                prop_assert!(length <= SNAPSHOT_MAX);
            }
        }
    }

    #[test]
    fn a_kind_of_a_newer_version_is_passed_over() {
        assert_eq!(decode(200, b"whatever"), Ok(None));
    }
}
