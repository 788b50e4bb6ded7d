//! How a node becomes a member: with a token, once.
//!
//! ```text
//!   joiner ── TLS, the authority pinned by the token ──> any member with traffic
//!          ── JoinAsk: token, name, address, public key ──>
//!                         the token is checked and used up in the log, the key is signed
//!          <── JoinAnswer: number, certificate, members ──
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::pkey::PKey;
use openssl::x509::X509;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority::{Authority, CERTIFICATE_DAYS, Who, fingerprint, judge, key_hash};
use super::core::{Begin, Core, CoreSettings};
use super::credentials::{Credentials, CredentialsError, IdentityFile, give_to_owner};
use super::frame::{Frame, JoinAnswer, JoinAsk, PROTOCOL, decode_header};
use super::handle::ProposeError;
use super::limits::GREETING;
use super::link::connect_pinned;
use super::shared::Shared;
use super::store::Identity;
use super::store::redb::{FILE_NAME, RedbStore};
use super::token::JoinToken;
use super::transport::read_frame;
use crate::events::Severity;
use crate::state::{
    AddMember, CreateToken, FEATURE_LEVEL, Kind, MemberRecord, Refusal, Standing, State, Token, WireMember,
};

const SUBJECT: &str = "cluster";

/// Members came with this feature level.
const LEVEL_NEEDED: u32 = 2;

/// The whole of a join: two commits, with room for an election.
const JOIN_TIME: Duration = Duration::from_secs(15);

/// Two members may let somebody in at the same moment.
const ATTEMPTS: usize = 4;

/// A node that begins a cluster or joins one.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Name of the cluster.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Where it listens for the other nodes.
    pub address: SocketAddr,
    /// It carries no traffic.
    pub witness: bool,
}

/// Why a node did not become a member. Nothing was changed, but for a key that the next attempt uses.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It is one already.
    #[error(
        "this node is {name} of the cluster {cluster} already; to begin anew, stop it and clear {directory}"
    )]
    Member {
        /// Its name there.
        name: String,
        /// Which.
        cluster: String,
        /// The state directory.
        directory: String,
    },
    /// There is a log of a cluster with a list of members.
    #[error("there is the log of a cluster in {0} already; move it away to begin anew")]
    Log(String),
    /// The files.
    #[error(transparent)]
    Files(#[from] CredentialsError),
    /// OpenSSL or the store.
    #[error("{0}")]
    Internal(String),
    /// The other node cannot be reached.
    #[error("cannot reach {address}: {error}; is the node there running, and the port open?")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// It says no.
    #[error("refused: {0}")]
    Refused(String),
}

fn internal(error: impl ToString) -> JoinError {
    JoinError::Internal(error.to_string())
}

/// Milliseconds since 1970 by this node's clock.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A new token, and what the cluster keeps of it.
///
/// # Errors
/// The system has no randomness.
pub fn new_token(
    authority: [u8; 32],
    witness: bool,
    learner: bool,
    ttl: Duration,
    author: &str,
) -> Result<(JoinToken, CreateToken), openssl::error::ErrorStack> {
    let token = JoinToken::create(authority)?;
    let now = unix_ms();
    let kept = Token {
        id: token.id,
        hash: token.hash().to_vec(),
        witness,
        learner,
        expires_unix_ms: now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        author: author.to_owned(),
        used_by: 0,
    };
    Ok((token, CreateToken { token: Some(kept), unix_ms: now }))
}

fn refuse_a_second_time(directory: &Path) -> Result<(), JoinError> {
    if let Some(known) = IdentityFile::load(directory)? {
        let directory = directory.display().to_string();
        return Err(JoinError::Member { name: known.name, cluster: known.cluster, directory });
    }
    if directory.join(FILE_NAME).exists() {
        return Err(JoinError::Log(directory.display().to_string()));
    }
    Ok(())
}

/// Begins a cluster with this node: makes its authority, this node's certificate, and the log; and a token for the
/// second node, which ends after `ttl`.
///
/// # Errors
/// This node is a member already, or the files cannot be written.
pub fn init(directory: &Path, new: &Newcomer, ttl: Duration, author: &str) -> Result<JoinToken, JoinError> {
    refuse_a_second_time(directory)?;
    let authority = Authority::create(&new.cluster).map_err(internal)?;
    let key = Credentials::key_for_joining(directory)?;
    let public = key.public_key_to_der().map_err(internal)?;
    let who = Who { cluster: new.cluster.clone(), id: 1, name: new.name.clone() };
    let public_key = PKey::public_key_from_der(&public).map_err(internal)?;
    let certificate = authority.sign(&public_key, &who, CERTIFICATE_DAYS).map_err(internal)?;
    let pinned = fingerprint(&authority.certificate).map_err(internal)?;
    let credentials =
        Credentials { authority: authority.certificate.clone(), signer: Some(authority), certificate, key };
    let first = MemberRecord {
        id: 1,
        name: new.name.clone(),
        address: new.address,
        witness: false,
        standing: Standing::Voter,
        key: key_hash(&public).to_vec(),
    };
    let (token, kept) = new_token(pinned, false, false, ttl, author).map_err(internal)?;
    let state = State::begin([first.clone()], &[kept]).map_err(internal)?;
    credentials.save(directory)?;
    let identity = Identity { cluster: new.cluster.clone(), node: 1 };
    let store = RedbStore::open(directory, &identity).map_err(internal)?;
    let settings =
        CoreSettings { begin: Begin::State(Box::new(state)), ..CoreSettings::new(1, vec![1], Vec::new()) };
    Core::open(settings, store).map_err(internal)?;
    // Last: with it the node is a member.
    identity_of(new, 1, vec![first]).save(directory)?;
    give_to_owner(directory)?;
    Ok(token)
}

fn identity_of(new: &Newcomer, id: u64, members: Vec<MemberRecord>) -> IdentityFile {
    IdentityFile {
        cluster: new.cluster.clone(),
        id,
        name: new.name.clone(),
        witness: new.witness,
        secure: true,
        members,
    }
}

/// Joins the cluster whose member listens on `address`. The node starts afterwards and fetches the log.
///
/// # Errors
/// Says why not, in the cluster's words where it refused.
pub async fn join(
    directory: &Path,
    new: &Newcomer,
    address: SocketAddr,
    token: &JoinToken,
) -> Result<IdentityFile, JoinError> {
    refuse_a_second_time(directory)?;
    let key = Credentials::key_for_joining(directory)?;
    let public = key.public_key_to_der().map_err(internal)?;
    let ask = JoinAsk {
        protocol: PROTOCOL,
        level: FEATURE_LEVEL,
        token: token.id,
        secret: token.secret.to_vec(),
        name: new.name.clone(),
        address: new.address.to_string(),
        witness: new.witness,
        key: public,
        cluster: new.cluster.clone(),
    };
    let unreachable = |error| JoinError::Unreachable { address, error };
    let work = async {
        let stream = timeout(GREETING, TcpStream::connect(address)).await??;
        let (mut link, authority) = connect_pinned(token.authority, stream).await?;
        link.bytes.write_all(&Frame::JoinAsk(Box::new(ask)).encode()).await?;
        link.bytes.flush().await?;
        Ok((read_frame(&mut link.bytes, decode_header, JOIN_TIME).await?, authority))
    };
    let answered = timeout(JOIN_TIME, work).await.map_err(|late| unreachable(late.into()))?;
    let (answer, authority) = answered.map_err(|error: std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => JoinError::Refused(error.to_string()),
        _ => unreachable(error),
    })?;
    let answer = match answer {
        Some(Frame::JoinAnswer(answer)) => *answer,
        Some(Frame::Refused(reason)) => return Err(JoinError::Refused(reason)),
        _ => {
            return Err(JoinError::Refused(
                "the node there does not understand; is it of another version?".into(),
            ));
        }
    };
    if let Some(reason) = answer.refused {
        return Err(JoinError::Refused(reason));
    }
    settle(directory, new, key, authority, &answer)
}

/// Writes down what the cluster has answered.
fn settle(
    directory: &Path,
    new: &Newcomer,
    key: PKey<openssl::pkey::Private>,
    authority: X509,
    answer: &JoinAnswer,
) -> Result<IdentityFile, JoinError> {
    let certificate = X509::from_pem(&answer.certificate).map_err(internal)?;
    let who = judge(&certificate, &authority).map_err(JoinError::Refused)?;
    if who != (Who { cluster: new.cluster.clone(), id: answer.id, name: new.name.clone() }) {
        return Err(JoinError::Refused("the certificate is for another node".to_owned()));
    }
    let signer = if answer.authority_key.is_empty() {
        None
    } else {
        let pem = authority.to_pem().map_err(internal)?;
        Some(Authority::from_pem(&pem, &answer.authority_key).map_err(internal)?)
    };
    Credentials { authority, signer, certificate, key }.save(directory)?;
    let identity = Identity { cluster: new.cluster.clone(), node: answer.id };
    // So that a log that is missing later is known to be lost, not new.
    RedbStore::open(directory, &identity).map_err(internal)?;
    let members = answer.members.iter().filter_map(WireMember::resolve).collect();
    let identity = identity_of(new, answer.id, members);
    identity.save(directory)?;
    give_to_owner(directory)?;
    Ok(identity)
}

/// The cluster's side: lets a node in, or says why not; both are remembered.
pub(super) async fn admit(shared: &Arc<Shared>, from: SocketAddr, ask: &JoinAsk) -> JoinAnswer {
    let events = &shared.settings.events;
    match let_in(shared, ask).await {
        Ok(answer) => {
            let what = format!("let {} in as node {}", ask.name, answer.id);
            events.record(Severity::Info, SUBJECT, what, format!("it came from {from} with a token"));
            answer
        }
        Err(reason) => {
            let what = format!("refused to let {:?} in from {from}", ask.name);
            events.record(Severity::Warning, SUBJECT, what, reason.as_str());
            JoinAnswer { refused: Some(reason), ..JoinAnswer::default() }
        }
    }
}

async fn let_in(shared: &Arc<Shared>, ask: &JoinAsk) -> Result<JoinAnswer, String> {
    if ask.protocol != PROTOCOL {
        return Err(format!(
            "protocol {PROTOCOL} is spoken here, not {}; update the older node",
            ask.protocol
        ));
    }
    let needed = shared.published.load().level.max(LEVEL_NEEDED);
    if ask.level < needed {
        return Err(format!("the node has feature level {}, {needed} is needed; update it", ask.level));
    }
    if ask.cluster != shared.settings.cluster {
        let (ours, theirs) = (&shared.settings.cluster, &ask.cluster);
        return Err(format!(
            "this is the cluster {ours:?}, not {theirs:?}; correct the name in the node's file"
        ));
    }
    let security = shared.settings.security.as_ref().ok_or("the links of this cluster are not encrypted")?;
    let current = security.current();
    let signer = current.credentials.signer.as_ref();
    let signer = signer.ok_or("a witness lets nobody in; ask a node with traffic")?;
    let public = PKey::public_key_from_der(&ask.key).map_err(|error| error.to_string())?;
    let id = add(shared, ask).await?;
    let who = Who { cluster: ask.cluster.clone(), id, name: ask.name.clone() };
    let certificate = signer.sign(&public, &who, CERTIFICATE_DAYS).and_then(|signed| signed.to_pem());
    let authority_key = if ask.witness { Ok(Vec::new()) } else { signer.key_pem() };
    Ok(JoinAnswer {
        refused: None,
        id,
        certificate: certificate.map_err(|error| error.to_string())?,
        authority_key: authority_key.map_err(|error| error.to_string())?,
        members: shared.published.load().members.iter().map(WireMember::from).collect(),
    })
}

/// Uses the token up, and gives the new member's number.
async fn add(shared: &Arc<Shared>, ask: &JoinAsk) -> Result<u64, String> {
    let key = key_hash(&ask.key).to_vec();
    for _ in 0..ATTEMPTS {
        let members = shared.published.load().members.clone();
        let token = members.token(ask.token).ok_or_else(|| Refusal::UnknownToken.to_string())?;
        let hash = openssl::sha::sha256(&ask.secret);
        if token.hash.len() != hash.len() || !openssl::memcmp::eq(&token.hash, &hash) {
            return Err(Refusal::UnknownToken.to_string());
        }
        // The answer to its first question was lost.
        let twice = members.get(token.used_by).filter(|member| member.key == key && member.name == ask.name);
        if let Some(member) = twice {
            return Ok(member.id);
        }
        members.usable(ask.token, unix_ms()).map_err(|refusal| refusal.to_string())?;
        let member = WireMember {
            id: members.next_id(),
            name: ask.name.clone(),
            address: ask.address.clone(),
            witness: ask.witness,
            standing: Standing::Joining as i32,
            key: key.clone(),
        };
        let id = member.id;
        let add = AddMember { member: Some(member), token: ask.token, unix_ms: unix_ms() };
        match shared.propose(Kind::AddMember(add)).await {
            Ok(_) => return Ok(id),
            Err(ProposeError::Refused(Refusal::IdTaken { .. })) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("others join at the same moment; try again".to_owned())
}
