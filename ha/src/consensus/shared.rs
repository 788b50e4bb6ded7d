//! What the raft thread, the connections and the handle have in common.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use raft::eraftpb::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::core::{Begin, Core};
use super::frame::Frame;
use super::handle::{Committed, ProposeError};
use super::limits::{ANSWER_TIMEOUT, INBOX_BYTES, LogLimits, PEER_STALE, PREFLIGHTS, STUCK, TICK};
use super::link::Security;
use super::outbox::Outbox;
use super::soft::Offered;
use super::status::CoreView;
use super::store::Epoch;
use super::store::redb::RedbStore;
use crate::events::EventLog;
use crate::state::{Chronicle, Configuration, FEATURE_LEVEL, Kind, MemberRecord, Members, Servers};

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number, from 1; never given to another node.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it listens for the other nodes.
    pub address: SocketAddr,
    /// It votes and stores the log, but carries no traffic.
    pub witness: bool,
}

impl From<&MemberRecord> for Member {
    fn from(record: &MemberRecord) -> Self {
        let MemberRecord { id, name, address, witness, .. } = record.clone();
        Self { id, name, address, witness }
    }
}

/// What a node must know to take part.
#[derive(Clone)]
pub struct Settings {
    /// Name of the cluster; nodes of other clusters are refused.
    pub cluster: String,
    /// This node, one of `members`.
    pub id: u64,
    /// All nodes as far as they are known before the log is read; later the log counts.
    pub members: Vec<Member>,
    /// How the log begins, where there is none.
    pub begin: Begin,
    /// Certificates for the links between the nodes; `None`: the links are plain.
    pub security: Option<Arc<Security>>,
    /// The newest kind of command that this node may use; [`FEATURE_LEVEL`] but in tests.
    pub level: u32,
    /// Where the log is kept.
    pub state_dir: PathBuf,
    /// When it is cut.
    pub limits: LogLimits,
    /// Where events go.
    pub events: EventLog,
}

/// Answers whether a configuration would work on this node. May block.
pub type Preflight = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What reaches the raft thread.
pub(super) enum Input {
    Raft {
        from: u64,
        message: Box<Message>,
        size: usize,
        /// The epoch of the connection that it came over.
        epoch: u64,
    },
    Connected {
        peer: u64,
        last: u64,
    },
    SnapshotSent {
        peer: u64,
        sent: bool,
    },
    Unreachable {
        peer: u64,
    },
    /// Another node asks us, as the leader, to propose.
    Forwarded {
        from: u64,
        command: Vec<u8>,
        soft: bool,
    },
    NotProposed {
        sequence: u64,
    },
    /// This node's operator.
    Propose {
        kind: Box<Kind>,
        reply: oneshot::Sender<Result<Committed, ProposeError>>,
    },
    Transfer {
        to: u64,
    },
    /// This node holds the address, or does not any more.
    Active(bool),
    /// That node does.
    LeadWish {
        from: u64,
    },
    /// Another node lives in a later epoch.
    Adopt {
        from: u64,
        epoch: Epoch,
    },
    /// The cluster has removed this node.
    Removed,
    /// The operator makes this node the only voter.
    Recover {
        reply: oneshot::Sender<Result<Epoch, ProposeError>>,
    },
    SoftWaiting,
    /// Another process of this node is to have the log: it is closed before the answer comes.
    Suspend {
        reply: oneshot::Sender<()>,
    },
    /// That process did not come up: goes on with this log, opened anew.
    Resume {
        core: Box<Core<RedbStore>>,
        reply: oneshot::Sender<()>,
    },
    Stop,
}

/// A peer as the connections see it.
pub(super) struct Peer {
    pub(super) member: Member,
    pub(super) outbox: Outbox,
    /// When it was last heard, ms since `Shared::started`, plus one; 0 is never.
    heard: AtomicU64,
    /// It says itself that it takes no part.
    pub(super) mute: AtomicBool,
    /// Its feature level; 0 until it has said hello.
    pub(super) level: AtomicU64,
    /// The last entry on its disk, by its hello or by the leader's knowledge.
    pub(super) last: AtomicU64,
    pub(super) report: Mutex<Option<Report>>,
}

/// A node report as it was received.
#[derive(Clone)]
pub(super) struct Report {
    pub(super) bytes: Vec<u8>,
    pub(super) age_when_received: Duration,
    pub(super) received: Instant,
}

/// The replicated state that is cheap to hand out.
#[derive(Clone, Default)]
pub(super) struct Published {
    pub(super) configuration: Configuration,
    pub(super) servers: Servers,
    pub(super) members: Members,
    pub(super) chronicle: Arc<Chronicle>,
    /// The number of the ticket key that was made last.
    pub(super) newest_ticket_key: u64,
    /// Every member has to know this feature level.
    pub(super) level: u32,
}

pub(super) struct Shared {
    pub(super) settings: Settings,
    peers: ArcSwap<BTreeMap<u64, Arc<Peer>>>,
    /// This node included.
    members: ArcSwap<Vec<Member>>,
    /// The members, or the epoch, are others than before.
    pub(super) changed: Notify,
    epoch: Mutex<Epoch>,
    epoch_number: AtomicU64,
    pub(super) started: Instant,
    pub(super) inbox: SyncSender<Input>,
    inbox_bytes: AtomicUsize,
    /// The raft thread is gone.
    pub(super) ended: AtomicBool,
    /// When the raft thread finished its last turn, ms since `started`.
    turned: AtomicU64,
    /// The last entry on our disk, for greetings.
    pub(super) last: AtomicU64,
    pub(super) view: ArcSwap<CoreView>,
    pub(super) published: ArcSwap<Published>,
    offered: Mutex<Offered>,
    pub(super) soft_signalled: AtomicBool,
    /// A service here ends TLS.
    pub(super) tickets_wanted: AtomicBool,
    pub(super) preflight: Preflight,
    pub(super) preflights: Arc<Semaphore>,
    pub(super) asked: Mutex<HashMap<u64, oneshot::Sender<Option<String>>>>,
    pub(super) next_question: AtomicU64,
    /// The last refusal that was told: from where, and why.
    pub(super) last_refusal: Mutex<Option<(IpAddr, String)>>,
    pub(super) own_report: Mutex<Option<(Vec<u8>, Instant)>>,
    /// What peers' elections say, on the way to ours.
    pub(super) words: mpsc::Sender<(u64, Vec<u8>)>,
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        preflight: Preflight,
        inbox: SyncSender<Input>,
        words: mpsc::Sender<(u64, Vec<u8>)>,
    ) -> Self {
        let members = settings.members.clone();
        let shared = Self {
            settings,
            peers: ArcSwap::default(),
            members: ArcSwap::default(),
            changed: Notify::new(),
            epoch: Mutex::new(Epoch::default()),
            epoch_number: AtomicU64::new(0),
            started: Instant::now(),
            inbox,
            inbox_bytes: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            turned: AtomicU64::new(0),
            last: AtomicU64::new(0),
            view: ArcSwap::default(),
            published: ArcSwap::default(),
            offered: Mutex::new(Offered::default()),
            soft_signalled: AtomicBool::new(false),
            tickets_wanted: AtomicBool::new(false),
            preflight,
            preflights: Arc::new(Semaphore::new(PREFLIGHTS)),
            asked: Mutex::new(HashMap::new()),
            next_question: AtomicU64::new(1),
            last_refusal: Mutex::new(None),
            own_report: Mutex::new(None),
            words,
        };
        shared.set_members(members);
        shared
    }

    /// The peers now.
    pub(super) fn peers(&self) -> Arc<BTreeMap<u64, Arc<Peer>>> {
        self.peers.load_full()
    }

    pub(super) fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        self.peers.load().get(&id).cloned()
    }

    /// This node and the others.
    pub(super) fn members(&self) -> Arc<Vec<Member>> {
        self.members.load_full()
    }

    /// From now on these are the members. Those that were there before keep their connections.
    pub(super) fn set_members(&self, members: Vec<Member>) {
        let old = self.peers();
        let others = members.iter().filter(|member| member.id != self.settings.id);
        let peer = |member: &Member| match old.get(&member.id) {
            Some(peer) if peer.member == *member => Arc::clone(peer),
            _ => Arc::new(Peer::new(member.clone())),
        };
        self.peers.store(Arc::new(others.map(|member| (member.id, peer(member))).collect()));
        self.members.store(Arc::new(members));
        self.changed.notify_one();
    }

    /// Somebody who proves to be a member, and whom the log has not named here yet.
    pub(super) fn meet(&self, member: Member) -> Arc<Peer> {
        let mut members = Vec::clone(&self.members());
        members.retain(|known| known.id != member.id);
        members.push(member.clone());
        self.set_members(members);
        self.peer(member.id).unwrap_or_else(|| Arc::new(Peer::new(member)))
    }

    pub(super) fn epoch(&self) -> Epoch {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn epoch_number(&self) -> u64 {
        self.epoch_number.load(Ordering::Relaxed)
    }

    /// Connections of another epoch end.
    pub(super) fn set_epoch(&self, epoch: Epoch) {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) = epoch;
        self.epoch_number.store(epoch.number, Ordering::Relaxed);
    }

    /// Asks the raft thread for a change and waits for what comes of it.
    pub(super) async fn propose(&self, kind: Kind) -> Result<Committed, ProposeError> {
        let (reply, result) = oneshot::channel();
        if !self.input(Input::Propose { kind: Box::new(kind), reply }) {
            return Err(ProposeError::Busy);
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ProposeError::Stopped("it is stopping".to_owned())),
            // The thread may have taken it before it got stuck.
            Err(_) => Err(ProposeError::Timeout { seconds: ANSWER_TIMEOUT, undecided: true }),
        }
    }

    /// Hands something to the raft thread; false if it is full or gone. Never waits.
    pub(super) fn input(&self, input: Input) -> bool {
        let size = match &input {
            Input::Raft { size, .. } => *size,
            Input::Forwarded { command, .. } => command.len(),
            _ => 0,
        };
        if self.inbox_bytes.fetch_add(size, Ordering::Relaxed) + size > INBOX_BYTES {
            self.inbox_bytes.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        let taken = self.inbox.try_send(input).is_ok();
        if !taken {
            self.inbox_bytes.fetch_sub(size, Ordering::Relaxed);
        }
        taken
    }

    /// Hands over what must not be lost while the raft thread lives: raft would wait for it for ever. Waits for room.
    pub(super) async fn input_surely(&self, make: impl Fn() -> Input) {
        while !self.input(make()) && !self.ended.load(Ordering::Relaxed) {
            tokio::time::sleep(TICK).await;
        }
    }

    /// The raft thread has taken so many bytes out.
    pub(super) fn input_taken(&self, input: &Input) {
        let size = match input {
            Input::Raft { size, .. } => *size,
            Input::Forwarded { command, .. } => command.len(),
            _ => 0,
        };
        self.inbox_bytes.fetch_sub(size, Ordering::Relaxed);
    }

    pub(super) fn offered(&self) -> MutexGuard<'_, Offered> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame to a peer; false if it could not be queued.
    pub(super) fn send(&self, peer: u64, frame: Frame) -> bool {
        self.peers.load().get(&peer).is_some_and(|peer| peer.outbox.push(frame))
    }

    pub(super) fn own(&self) -> Option<Member> {
        let own = |members: &[Member]| members.iter().find(|member| member.id == self.settings.id).cloned();
        own(&self.members()).or_else(|| own(&self.settings.members))
    }

    pub(super) fn name_of(&self, id: u64) -> String {
        let members = self.members();
        let named = members.iter().find(|member| member.id == id);
        named.map_or_else(|| format!("node {id}"), |member| member.name.clone())
    }

    /// A clock that only goes on.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn heard(&self, peer: &Peer) {
        peer.heard.store(self.now_ms() + 1, Ordering::Relaxed);
    }

    /// For how long a peer was not heard, ms.
    pub(super) fn silent_ms(&self, peer: &Peer) -> Option<u64> {
        let heard = peer.heard.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.now_ms().saturating_sub(heard))
    }

    /// We can send to it and have heard it lately.
    pub(super) fn is_reachable(&self, peer: &Peer) -> bool {
        let stale = u64::try_from(PEER_STALE.as_millis()).unwrap_or(u64::MAX);
        peer.outbox.is_open() && self.silent_ms(peer).is_some_and(|silent| silent < stale)
    }

    /// It can be reached and takes part in the agreement.
    pub(super) fn has_voice(&self, peer: &Peer) -> bool {
        self.is_reachable(peer) && !peer.mute.load(Ordering::Relaxed)
    }

    /// The raft thread has finished a turn.
    pub(super) fn turned(&self) {
        self.turned.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Why this node takes no part in the agreement, if so.
    pub(super) fn own_silence(&self) -> Option<String> {
        if let Some(reason) = &self.view.load().stopped {
            return Some(reason.clone());
        }
        let since = Duration::from_millis(self.now_ms().saturating_sub(self.turned.load(Ordering::Relaxed)));
        let stuck = || format!("the raft thread is stuck for {} s; look at the disk", since.as_secs());
        (since >= STUCK).then(stuck)
    }

    /// Voters that can be reached and take part, this node included, and how many make a quorum.
    pub(super) fn quorum(&self) -> (usize, usize) {
        let (peers, view) = (self.peers(), self.view.load());
        // Before the log is read, and on a node that has none yet, all members are taken for voters.
        let listed: Vec<u64>;
        let voters = if view.voters.is_empty() {
            listed = self.members().iter().map(|member| member.id).collect();
            &listed
        } else {
            &view.voters
        };
        let speaks =
            |id: &&u64| **id == self.settings.id || peers.get(id).is_some_and(|peer| self.has_voice(peer));
        (voters.iter().filter(speaks).count(), voters.len() / 2 + 1)
    }

    /// The lowest feature level that any member has announced; what a member that was never heard knows is unknown: it
    /// may be one from before levels.
    pub(super) fn common_level(&self) -> u32 {
        let peers = self.peers();
        let levels = peers.values().map(|peer| peer.level.load(Ordering::Relaxed).max(1));
        let own = u64::from(self.settings.level.min(FEATURE_LEVEL));
        let lowest = levels.min().unwrap_or(u64::MAX).min(own);
        u32::try_from(lowest).unwrap_or(1)
    }
}

impl Peer {
    fn new(member: Member) -> Self {
        Self {
            member,
            outbox: Outbox::default(),
            heard: AtomicU64::new(0),
            mute: AtomicBool::new(false),
            level: AtomicU64::new(0),
            last: AtomicU64::new(0),
            report: Mutex::new(None),
        }
    }
}
