//! The door to consensus for the rest of the node.

mod error;
mod memory;

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::authority::fingerprint;
use super::core::{Core, CoreError, CoreSettings};
use super::driver::{Driver, spawn};
use super::frame::{Frame, REPORT_MAX, WORD_MAX};
use super::join::new_token;
use super::keeper::keep;
use super::limits::{ANSWER_TIMEOUT, INBOX_INPUTS, PREFLIGHT_TIMEOUT, STOP_TIMEOUT, TICK, WORDS_WAITING};
use super::shared::{Input, Member, Preflight, Settings, Shared};
use super::status::{MemberStatus, Status};
use super::store::redb::RedbStore;
use super::store::{Identity, StoreError};
use super::tickets::TicketSet;
use super::transport::{accept_all, listen};
use crate::events::Severity;
use crate::state::{ClientFact, Configuration, Kind, MemberId, Servers, State, Token};

pub use error::{ProposeError, StartError};

/// A node that stops while it leads waits so long for another to take over.
const HAND_OVER: Duration = Duration::from_secs(1);

/// What the node does with what was agreed. Called on the raft thread, in the order of the log; must not block.
pub trait Applied: Send {
    /// There is a new configuration.
    fn config(&mut self, state: &State);
    /// The wish for a server has changed.
    fn servers(&mut self, state: &State);
    /// Clients were seen, here or elsewhere.
    fn clients(&mut self, facts: &[ClientFact]);
    /// The keys of session tickets are these from now on. Also called at the start, and with none.
    fn tickets(&mut self, _keys: &TicketSet) {}
    /// The state as a whole is new: at the start, and after a snapshot from the leader.
    fn restored(&mut self, state: &State);
}

/// A change that was agreed and applied on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The configuration version after it.
    pub version: u64,
    /// Its place in the log.
    pub index: u64,
}

/// What is known before a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryOutlook {
    /// Name of the cluster.
    pub cluster: String,
    /// There is a quorum, and nothing to recover.
    pub quorum: bool,
    /// How many nodes vote.
    pub voters: usize,
    /// Those of them that cannot be reached.
    pub missing: Vec<String>,
    /// The last entry of this node's log.
    pub last: u64,
    /// Entries at its end that are not known to be committed; they count as committed afterwards.
    pub uncommitted: u64,
    /// The version of the configuration here.
    pub version: u64,
    /// Entries that another node was known to have beyond that. They are lost.
    pub known_lost: u64,
    /// Others may have decided more without this node: there are more than two voters.
    pub may_lose_more: bool,
}

/// Node and word.
type Words = mpsc::Receiver<(u64, Vec<u8>)>;

/// Consensus on this node. Cloning shares it; [`Handle::stop`] ends it for all.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) running: Arc<Mutex<Option<Running>>>,
    words: Arc<Mutex<Option<Words>>>,
}

pub(super) struct Running {
    pub(super) tasks: Vec<JoinHandle<()>>,
    ended: oneshot::Receiver<()>,
    /// Where the other nodes come in; the task that accepts them has a copy.
    pub(super) listener: TcpListener,
}

impl Handle {
    /// Opens the log, starts the raft thread and, on the current tokio runtime, the connections to the other nodes.
    ///
    /// # Errors
    /// Names what is wrong and what helps.
    pub fn start(
        settings: Settings,
        applied: Box<dyn Applied>,
        preflight: Preflight,
    ) -> Result<Self, StartError> {
        Self::start_on(settings, applied, preflight, None)
    }

    /// As [`Handle::start`], on a socket that listens already; one on another address than this node's is closed.
    ///
    /// # Errors
    /// As [`Handle::start`].
    pub fn start_on(
        settings: Settings,
        applied: Box<dyn Applied>,
        preflight: Preflight,
        listening: Option<TcpListener>,
    ) -> Result<Self, StartError> {
        let own = check_settings(&settings)?;
        let runtime =
            runtime::Handle::try_current().map_err(|error| StartError::Thread(error.to_string()))?;
        let core = open_core(&settings)?;
        let address = own.address;
        let fits = |socket: &TcpListener| socket.local_addr().is_ok_and(|at| at == address);
        let listener = match listening.filter(fits) {
            Some(listener) => Ok(listener),
            None => listen(address),
        };
        let listener = listener.map_err(|error| StartError::Listen { address, error })?;
        let (severity, why) = match &settings.security {
            Some(_) => (Severity::Info, "encrypted, by certificates of the cluster's own authority"),
            None => {
                (Severity::Warning, "`insecure`: the links are plain, and anybody who reaches them may speak")
            }
        };
        let what = format!("listening for the other nodes on {address}");
        settings.events.record(severity, "cluster", what, why);
        let (inbox, inputs) = sync_channel(INBOX_INPUTS);
        let (words_in, words) = mpsc::channel(WORDS_WAITING);
        let shared = Arc::new(Shared::new(settings, preflight, inbox, words_in));
        let driver = Driver::new(Arc::clone(&shared), core, applied);
        let tasks =
            talk(&runtime, &shared, &listener).map_err(|error| StartError::Listen { address, error })?;
        let ended = spawn(driver, inputs).map_err(|error| StartError::Thread(error.to_string()))?;
        let running = Arc::new(Mutex::new(Some(Running { tasks, ended, listener })));
        Ok(Self { shared, running, words: Arc::new(Mutex::new(Some(words))) })
    }

    pub(super) async fn propose(&self, kind: Kind) -> Result<Committed, ProposeError> {
        self.shared.propose(kind).await
    }

    /// Makes a token that lets one node in. Returns its text.
    ///
    /// # Errors
    /// Says why not, and what helps; within a bounded time.
    pub async fn create_token(
        &self,
        witness: bool,
        learner: bool,
        ttl: Duration,
        author: &str,
    ) -> Result<String, ProposeError> {
        let Some(security) = &self.shared.settings.security else { return Err(ProposeError::Insecure) };
        let made = fingerprint(&security.current().credentials.authority)
            .and_then(|authority| new_token(authority, witness, learner, ttl, author));
        let (token, kept) = made.map_err(|error| ProposeError::Stopped(error.to_string()))?;
        self.propose(Kind::CreateToken(kept)).await?;
        Ok(token.to_string())
    }

    /// Removes a member for good. `force`: also if those that are left and can be reached are too few to decide.
    ///
    /// # Errors
    /// Says why not, and what helps; within a bounded time.
    pub async fn remove_member(&self, id: u64, force: bool) -> Result<Committed, ProposeError> {
        let view = self.shared.view.load_full();
        let left: Vec<u64> = view.voters.iter().copied().filter(|voter| *voter != id).collect();
        let (peers, own) = (self.shared.peers(), self.shared.settings.id);
        let speaks =
            |voter: &&u64| **voter == own || peers.get(voter).is_some_and(|peer| self.shared.has_voice(peer));
        let (reachable, needed) = (left.iter().filter(speaks).count(), left.len() / 2 + 1);
        if view.voters.contains(&id) && !left.is_empty() && reachable < needed && !force {
            return Err(ProposeError::WouldLoseQuorum { reachable, needed });
        }
        self.propose(Kind::RemoveMember(MemberId { id })).await
    }

    /// Makes a learner a voter, if it has caught up.
    ///
    /// # Errors
    /// Says why not, and what helps; within a bounded time.
    pub async fn promote_member(&self, id: u64) -> Result<Committed, ProposeError> {
        let view = self.shared.view.load_full();
        if let Some(matched) = view.matched.get(&id).filter(|matched| **matched < view.commit) {
            return Err(ProposeError::NotCaughtUp { behind: view.commit - matched });
        }
        self.propose(Kind::PromoteMember(MemberId { id })).await
    }

    /// Whether this node holds a virtual address: it leads then, if it can.
    pub fn set_active(&self, active: bool) {
        self.shared.input(Input::Active(active));
    }

    /// What is known of what a recovery would lose.
    #[must_use]
    pub fn recovery_outlook(&self) -> RecoveryOutlook {
        let view = self.shared.view.load_full();
        let (peers, own) = (self.shared.peers(), self.shared.settings.id);
        let (reachable, needed) = self.shared.quorum();
        let others = view.voters.iter().filter(|voter| **voter != own);
        let missing = others
            .clone()
            .filter(|voter| !peers.get(voter).is_some_and(|peer| self.shared.has_voice(peer)))
            .map(|voter| self.shared.name_of(*voter))
            .collect();
        let known_last = peers.values().map(|peer| peer.last.load(Ordering::Relaxed)).max().unwrap_or(0);
        RecoveryOutlook {
            cluster: self.shared.settings.cluster.clone(),
            quorum: reachable >= needed && view.leader.is_some(),
            voters: view.voters.len(),
            missing,
            last: view.last,
            uncommitted: view.last.saturating_sub(view.commit),
            version: view.version,
            known_lost: known_last.saturating_sub(view.last),
            may_lose_more: view.voters.len() > 2 || view.fetching,
        }
    }

    /// Makes this node the only voter, in a new epoch. The others follow when they come back, and say what they had to
    /// give up.
    ///
    /// # Errors
    /// There is a quorum, this node has no log, or its disk fails.
    pub async fn recover(&self) -> Result<u64, ProposeError> {
        let outlook = self.recovery_outlook();
        if outlook.quorum {
            return Err(ProposeError::NothingToRecover);
        }
        if self.shared.view.load().fetching {
            let reason = "this node has no whole log of its own; recover another one";
            return Err(ProposeError::Stopped(reason.to_owned()));
        }
        let (reply, result) = oneshot::channel();
        if !self.shared.input(Input::Recover { reply }) {
            return Err(ProposeError::Busy);
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, result).await {
            Ok(Ok(result)) => result.map(|epoch| epoch.number),
            Ok(Err(_)) => Err(ProposeError::Stopped("see `cygnet events`".to_owned())),
            Err(_) => Err(ProposeError::Timeout { seconds: ANSWER_TIMEOUT, undecided: true }),
        }
    }

    /// Takes facts for replication. Never waits and never fails; what is too much is dropped and counted.
    pub fn offer_clients(&self, facts: Vec<ClientFact>) {
        if facts.is_empty() {
            return;
        }
        self.shared.offered().put(facts);
        if !self.shared.soft_signalled.swap(true, Ordering::Relaxed) {
            // A full inbox is no harm: the raft thread looks at each tick.
            self.shared.input(Input::SoftWaiting);
        }
    }

    /// The cluster as this node sees it now.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let view = shared.view.load();
        let (reachable, needed) = shared.quorum();
        let mut soft = view.soft;
        soft.waiting += shared.offered().len() as u64;
        let (peers, known) = (shared.peers(), shared.published.load().members.clone());
        let list = shared.members();
        let members = list.iter().map(|member| {
            let peer = peers.get(&member.id);
            MemberStatus {
                id: member.id,
                name: member.name.clone(),
                address: member.address,
                witness: member.witness,
                voter: view.voters.contains(&member.id),
                standing: known.get(member.id).map(|member| member.standing),
                connected: peer.is_none_or(|peer| shared.is_reachable(peer)),
                last_heard_ms: peer.map_or(Some(0), |peer| shared.silent_ms(peer)),
                matched: view.matched.get(&member.id).copied(),
                dropped: peer.map_or(0, |peer| peer.outbox.dropped()),
            }
        });
        let stopped = shared.own_silence();
        Status {
            id: shared.settings.id,
            role: view.role,
            term: view.term,
            leader: view.leader,
            commit: view.commit,
            applied: view.applied,
            version: view.version,
            confirmation: view.countdown.at(shared.now_ms()),
            tickets: shared.tickets(),
            quorum: view.leader.is_some() && stopped.is_none(),
            reachable,
            needed,
            stopped,
            clients: view.clients,
            soft,
            rejected: view.rejected,
            epoch: shared.epoch_number(),
            secure: shared.settings.security.is_some(),
            fetching: view.fetching,
            removed: view.removed,
            members: members.collect(),
        }
    }

    /// The configuration and its history, as applied here.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        self.shared.published.load().configuration.clone()
    }

    /// The operator's wishes for servers, as applied here.
    #[must_use]
    pub fn servers(&self) -> Servers {
        self.shared.published.load().servers.clone()
    }

    /// The tokens, without their secrets.
    #[must_use]
    pub fn tokens(&self) -> Vec<Token> {
        self.shared.published.load().members.tokens().to_vec()
    }

    /// Asks the nodes that can be reached whether a configuration would work there. By name; a node that does not
    /// answer in time counts as a no.
    pub async fn preflight(&self, text: &str) -> Vec<(String, Result<(), String>)> {
        let peers = self.shared.peers();
        let asked: Vec<_> = peers
            .values()
            .filter(|peer| self.shared.is_reachable(peer))
            .map(|peer| (peer.member.clone(), self.ask(&peer.member, text)))
            .collect();
        let mut answers = Vec::new();
        let deadline = tokio::time::Instant::now() + PREFLIGHT_TIMEOUT;
        for (member, (id, answer)) in asked {
            let answer = match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(None)) => Ok(()),
                Ok(Ok(Some(problem))) => Err(problem),
                Ok(Err(_)) => Err("the question could not be sent".to_owned()),
                Err(_) => Err(format!("no answer within {} s", PREFLIGHT_TIMEOUT.as_secs())),
            };
            self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            answers.push((member.name, answer));
        }
        answers
    }

    fn ask(&self, member: &Member, text: &str) -> (u64, oneshot::Receiver<Option<String>>) {
        let id = self.shared.next_question.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let mut asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(id, sender);
        if !self.shared.send(member.id, Frame::PreflightAsk { id, text: text.to_owned() }) {
            asked.remove(&id);
        }
        (id, answer)
    }

    /// What this node says of itself to the others; the newest replaces the one before. False if it is longer
    /// than 16 KiB.
    pub fn publish_report(&self, bytes: Vec<u8>) -> bool {
        let fits = bytes.len() <= REPORT_MAX;
        if fits {
            *self.shared.own_report.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((bytes, Instant::now()));
        }
        fits
    }

    /// The last report of each peer that sent one: id, bytes, age in ms (transit not counted).
    #[must_use]
    pub fn reports(&self) -> Vec<(u64, Vec<u8>, u64)> {
        let read = |(id, peer): (&u64, &Arc<super::shared::Peer>)| {
            let report = peer.report.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
            let age = report.age_when_received + report.received.elapsed();
            Some((*id, report.bytes, u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
        };
        self.shared.peers().iter().filter_map(read).collect()
    }

    /// Says something to the elections of another node (`None`: of all that can be reached). Never waits. False if it could
    /// not be queued for one of them: no connection, or longer than [`WORD_MAX`].
    pub fn say(&self, to: Option<u64>, word: &[u8]) -> bool {
        let fits = word.len() <= WORD_MAX;
        let send = |id: &u64| fits && self.shared.send(*id, Frame::Word(word.to_vec()));
        match to {
            Some(id) => send(&id),
            // Every one, also after one that cannot be reached.
            None => self.shared.peers().keys().filter(|id| !send(id)).count() == 0,
        }
    }

    /// What other nodes' elections say: node and word. To be had once.
    #[must_use]
    pub fn words(&self) -> Option<mpsc::Receiver<(u64, Vec<u8>)>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks that node `to` leads. Whether it does shows in the status.
    pub async fn transfer_leader(&self, to: u64) {
        self.shared.input(Input::Transfer { to });
    }

    /// Hands leadership over if it is here, ends the thread and the connections. The state directory is free
    /// afterwards.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { tasks, ended, .. }) = running else { return };
        self.share_events().await;
        self.hand_over().await;
        let end = async {
            while !self.shared.input(Input::Stop) && !ended.is_terminated() {
                tokio::time::sleep(TICK).await;
            }
            // An error means that the thread has ended already.
            let _ = ended.await;
        };
        // A thread that is stuck in a write must not keep the node from stopping; the log stands a kill.
        if tokio::time::timeout(STOP_TIMEOUT, end).await.is_err() {
            tracing::warn!("the raft thread does not end; left behind");
        }
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            let _ = task.await;
        }
    }

    pub(super) async fn hand_over(&self) {
        let status = self.status();
        let successor = status.members.iter().find(|member| {
            member.id != status.id
                && member.connected
                && !member.witness
                && member.matched == Some(status.commit)
        });
        let Some(successor) = successor.filter(|_| status.leader == Some(status.id)) else { return };
        self.transfer_leader(successor.id).await;
        let deadline = Instant::now() + HAND_OVER;
        while Instant::now() < deadline && self.shared.view.load().leader == Some(status.id) {
            tokio::time::sleep(TICK).await;
        }
    }
}

/// The connections to the other nodes, as tasks.
pub(super) fn talk(
    runtime: &runtime::Handle,
    shared: &Arc<Shared>,
    listener: &TcpListener,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    listener.set_nonblocking(true)?;
    let listener = listener.try_clone().and_then(tokio::net::TcpListener::from_std)?;
    Ok(vec![runtime.spawn(accept_all(Arc::clone(shared), listener)), runtime.spawn(keep(Arc::clone(shared)))])
}

fn check_settings(settings: &Settings) -> Result<Member, StartError> {
    let wrong = |what: String| Err(StartError::Settings(what));
    let mut ids: Vec<u64> = settings.members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong(format!("two members have the id {}", pair[0]));
    }
    if ids.first() == Some(&0) {
        return wrong("a member has the id 0; ids count from 1".to_owned());
    }
    if settings.members.iter().all(|member| member.witness) {
        return wrong("all members are witnesses; at least one must carry traffic".to_owned());
    }
    match settings.members.iter().find(|member| member.id == settings.id) {
        Some(own) => Ok(own.clone()),
        None => wrong(format!("this node has the id {}, which is no member's", settings.id)),
    }
}

pub(super) fn open_core(settings: &Settings) -> Result<Core<RedbStore>, StartError> {
    let identity = Identity { cluster: settings.cluster.clone(), node: settings.id };
    let store = RedbStore::open(&settings.state_dir, &identity).map_err(store_error)?;
    let voters = settings.members.iter().map(|member| member.id).collect();
    let witnesses = settings.members.iter().filter(|member| member.witness).map(|member| member.id).collect();
    let file = settings.state_dir.clone();
    let core = CoreSettings {
        begin: settings.begin.clone(),
        limits: settings.limits,
        ..CoreSettings::new(settings.id, voters, witnesses)
    };
    Core::open(core, store).map_err(|error| match error {
        CoreError::Store(error) => store_error(error),
        CoreError::Members { .. } => StartError::Members { file, error },
        error => StartError::Core { file, error },
    })
}

fn store_error(error: StoreError) -> StartError {
    match error {
        StoreError::Damaged { .. } => StartError::Damaged(error),
        StoreError::Foreign { .. } => StartError::Foreign(error),
        _ => StartError::Store(error),
    }
}
