//! A node without a network behind the real router, on a real socket.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use cygnet_ha::events::{Event, EventLog, Severity};
use cygnet_ha::state::Standing;
use cygnet_ha::vip::driver::Moved;
use cygnet_ha::vip::{Mode, MovedView, Protocol, Role, VipView, WireView};
use tokio::sync::oneshot;

use crate::config::model::NodeConfig;
use crate::config::parse_node;
use crate::control::status::{
    ConfigFacts, DRAINED, Facts, MemberFacts, NodeReport, QuorumFacts, ServiceFacts, SoftFacts,
};
use crate::control::types::{
    Admin, ApiError, Applied, ApplyConfig, ClientView, Clients, ClientsQuery, ClusterEvent, ClusterEvents,
    ConfigEntry, ConfigVersion, Confirmation, Drain, Drains, ErrorCode, Events, EventsQuery, MemberChange,
    MemberChanged, MemberView, Members, NewToken, PeerCheck, Program, RecoveryOutlook, ServerView, SetNode,
    SetServer, SwitchOver, SwitchedOver, TokenMade, Upgrade, Upgraded,
};
use crate::control::{NodeApi, bind, router, serve};

pub(crate) const NODE: &str = r#"name = "lb1"
interface = "eth0"
[cluster]
name = "demo"
insecure = true
[[cluster.member]]
id = 1
name = "lb1"
address = "10.0.0.1:7300"
[[cluster.member]]
id = 2
name = "lb2"
address = "10.0.0.2:7300"
"#;

pub(crate) const CLUSTER: &str = r#"[[vip]]
name = "www"
address = "192.0.2.100"
protocol = "vrrp3"
id = 51
mode = "hold"
[[service]]
name = "web"
listen = ["192.0.2.100:80"]
[[service.server]]
name = "s1"
address = "10.1.0.11:8080"
[[service.server]]
name = "s2"
address = "10.1.0.12:8080"
"#;

/// A vip that is held here and on guard elsewhere.
pub(crate) fn vip() -> VipView {
    VipView {
        name: "www".into(),
        address: "192.0.2.100".parse().unwrap(),
        addresses: vec!["192.0.2.100".parse().unwrap()],
        interface: "eth0".into(),
        protocol: Protocol::Vrrp3,
        mode: Mode::Hold,
        id: 51,
        sync_group: None,
        role: Role::Active,
        reason: "no other speaker".into(),
        role_age_ms: 62_000,
        priority: 150,
        holder: Some("10.0.0.1".parse().unwrap()),
        holder_priority: Some(150),
        holder_heard_ms: None,
        rivals: Vec::new(),
        address_present: true,
        adverts_heard: 4,
        adverts_sent: 62,
        discarded: vec![("checksum".into(), 2)],
        wire: WireView::default(),
        moved: MovedView::default(),
    }
}

fn member(id: u64, here: bool) -> MemberFacts {
    let report = NodeReport {
        ready: true,
        ready_reason: "all listeners are up".into(),
        config_version: 41,
        roles: [("www".to_owned(), Role::Standby)].into(),
        servers_usable: 2,
        ..NodeReport::default()
    };
    MemberFacts {
        id,
        name: format!("lb{id}"),
        address: format!("10.0.0.{id}:7300").parse().unwrap(),
        witness: false,
        here,
        connected: true,
        heard_age_ms: (!here).then_some(120),
        report: (!here).then_some(report),
        report_age_ms: (!here).then_some(300),
    }
}

/// A pair that is well.
pub(crate) fn facts() -> Facts {
    Facts {
        node: "lb1".into(),
        cluster: "demo".into(),
        program: "0.1.0".into(),
        uptime_ms: 3_723_000,
        ready: true,
        ready_reason: "all listeners are up".into(),
        config: ConfigFacts { running: 41, committed: 41, problem: None, confirmation: None },
        quorum: QuorumFacts {
            reached: true,
            connected: 2,
            voters: 2,
            needed: 2,
            leader: Some("lb1".into()),
            term: 3,
            stopped: None,
        },
        insecure: false,
        tickets: None,
        members: vec![member(1, true), member(2, false)],
        vips: vec![vip()],
        services: vec![ServiceFacts {
            name: "web".into(),
            listen: vec!["192.0.2.100:80".parse().unwrap()],
            listen_problems: Vec::new(),
            connections: 12,
            total: 3456,
            failed: 1,
            servers: 2,
            servers_usable: 2,
            servers_drained: 0,
            servers_failed: Vec::new(),
            direct: None,
            checks: Vec::new(),
            certificates: Vec::new(),
        }],
        remembered: Vec::new(),
        soft: SoftFacts {
            clients: 7,
            clients_max: 65_536,
            queued: 0,
            queued_max: 4096,
            ..SoftFacts::default()
        },
        before: Vec::new(),
    }
}

fn server(name: &str, last: u8) -> ServerView {
    ServerView {
        service: "web".into(),
        name: name.into(),
        address: format!("10.1.0.{last}:8080").parse().unwrap(),
        weight: 1,
        max: 0,
        admin: Admin::Ready,
        blacklisted_ms: None,
        source: Some("10.1.0.1".parse().unwrap()),
        source_problem: None,
        connections: 6,
        total: 1728,
        failed: 0,
        check: None,
    }
}

/// What the fake node answers from; tests change it.
pub(crate) struct World {
    pub(crate) facts: Facts,
    pub(crate) versions: Vec<ConfigVersion>,
    pub(crate) servers: Vec<ServerView>,
    pub(crate) clients: Vec<ClientView>,
    pub(crate) events: Vec<Event>,
    /// Where commands are written down.
    pub(crate) commands: EventLog,
    /// What all nodes remember.
    pub(crate) remembered: Vec<ClusterEvent>,
    pub(crate) peers: Vec<PeerCheck>,
    /// The other node does not take up what is committed.
    pub(crate) other_is_slow: bool,
    /// Changes fail with this.
    pub(crate) refusal: Option<ApiError>,
    /// What `events` was asked for, for tests that wait for it.
    pub(crate) asked_after: Vec<u64>,
    /// What goes on here although its address has moved.
    pub(crate) drains: Vec<Drain>,
    /// Why connections cannot be counted.
    pub(crate) uncounted: Option<String>,
}

impl World {
    fn new() -> Self {
        let entry = ConfigEntry {
            version: 41,
            author: "alice".into(),
            unix_ms: 1_795_372_524_000,
            comment: "first".into(),
            change: None,
        };
        let client = |last: u8| ClientView {
            client: IpAddr::from([198, 51, 100, last]),
            service: "web".into(),
            server: "s1".into(),
            age_ms: 90_000,
        };
        let event = |sequence: u64, severity, what: &str, why: &str| Event {
            sequence,
            unix_ms: 1_795_372_524_000 + sequence * 1000,
            severity,
            subject: "vip www".into(),
            kind: what.into(),
            what: what.into(),
            why: why.into(),
        };
        Self {
            facts: facts(),
            versions: vec![ConfigVersion { entry, text: CLUSTER.into() }],
            servers: vec![server("s1", 11), server("s2", 12)],
            clients: (1..=5).map(client).collect(),
            commands: EventLog::default(),
            remembered: Vec::new(),
            events: vec![
                event(1, Severity::Info, "standby", ""),
                event(2, Severity::Warning, "active", "no advertisement for 3.6 s"),
            ],
            peers: vec![PeerCheck { node: "lb2".into(), reached: true, objection: None }],
            other_is_slow: false,
            refusal: None,
            asked_after: Vec::new(),
            drains: Vec::new(),
            uncounted: None,
        }
    }

    fn refuse(&self) -> Result<(), ApiError> {
        self.refusal.clone().map_or(Ok(()), Err)
    }
}

/// The fake node.
pub(crate) struct FakeNode {
    config: Arc<NodeConfig>,
    world: Mutex<World>,
}

impl FakeNode {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl NodeApi for FakeNode {
    async fn facts(&self) -> Result<Facts, ApiError> {
        Ok(self.world().facts.clone())
    }

    async fn vips(&self) -> Result<Vec<VipView>, ApiError> {
        Ok(self.world().facts.vips.clone())
    }

    fn node_config(&self) -> Arc<NodeConfig> {
        Arc::clone(&self.config)
    }

    async fn config(&self, version: Option<u64>) -> Result<ConfigVersion, ApiError> {
        let world = self.world();
        let wanted = |config: &&ConfigVersion| version.is_none_or(|version| config.entry.version == version);
        let missing =
            || ApiError::new(ErrorCode::NotFound, "this version is not kept", "cygnet config history");
        world.versions.iter().rev().find(wanted).cloned().ok_or_else(missing)
    }

    async fn history(&self) -> Result<Vec<ConfigVersion>, ApiError> {
        Ok(self.world().versions.iter().rev().cloned().collect())
    }

    async fn preflight(&self, _text: &str) -> Result<Vec<PeerCheck>, ApiError> {
        Ok(self.world().peers.clone())
    }

    async fn apply(&self, change: ApplyConfig) -> Result<Applied, ApiError> {
        let mut world = self.world();
        world.refuse()?;
        let version = world.versions.last().map_or(0, |last| last.entry.version) + 1;
        let entry = ConfigEntry {
            version,
            author: change.author,
            unix_ms: 1_795_372_600_000,
            comment: change.comment,
            change: None,
        };
        world.versions.push(ConfigVersion { entry, text: change.text });
        let confirmation = change.confirm_within_ms.map(|left_ms| Confirmation {
            version,
            back_to: world.facts.config.confirmation.map_or(version - 1, |waiting| waiting.back_to),
            left_ms,
        });
        (world.facts.config.committed, world.facts.config.running) = (version, version);
        world.facts.config.confirmation = confirmation;
        let slow = world.other_is_slow;
        if let Some(report) = world.facts.members[1].report.as_mut().filter(|_| !slow) {
            report.config_version = version;
        }
        let (nodes, unasked) = (crate::control::nodes(&world.facts), Vec::new());
        Ok(Applied { version, changed: true, nodes, unasked, confirmation })
    }

    async fn confirm_config(&self, version: u64, _author: &str) -> Result<u64, ApiError> {
        let mut world = self.world();
        world.refuse()?;
        match world.facts.config.confirmation.take_if(|waiting| waiting.version == version) {
            Some(_) => Ok(version),
            None => Err(ApiError::new(ErrorCode::Refused, "another version", "")),
        }
    }

    async fn return_config(&self, version: u64, author: &str, comment: &str) -> Result<Applied, ApiError> {
        let waiting = self.world().facts.config.confirmation.take_if(|waiting| waiting.version == version);
        let back_to = waiting.expect("the router has looked").back_to;
        let change = ApplyConfig {
            text: self.config(Some(back_to)).await?.text,
            author: author.into(),
            comment: comment.into(),
            ..ApplyConfig::default()
        };
        self.apply(change).await
    }

    async fn servers(&self) -> Result<Vec<ServerView>, ApiError> {
        Ok(self.world().servers.clone())
    }

    async fn set_server(&self, change: SetServer) -> Result<(), ApiError> {
        let mut world = self.world();
        world.refuse()?;
        for server in world.servers.iter_mut().filter(|server| server.name == change.server) {
            server.admin = change.admin;
        }
        Ok(())
    }

    async fn set_node(&self, change: SetNode) -> Result<bool, ApiError> {
        let mut world = self.world();
        world.refuse()?;
        let drained = world.facts.ready_reason.starts_with(DRAINED);
        let drains = change.admin == Admin::Drain;
        let reason = if drains { format!("{DRAINED} by {}", change.author) } else { "ready".to_owned() };
        (world.facts.ready, world.facts.ready_reason) = (!drains, reason);
        Ok(drained != drains)
    }

    async fn switch_over(&self, wish: SwitchOver) -> Result<SwitchedOver, ApiError> {
        let world = self.world();
        world.refuse()?;
        let to = wish.to.unwrap_or_else(|| "lb2".to_owned());
        let took_ms = if wish.dry_run { 0 } else { 12 };
        let (connections, uncounted) = (312, world.uncounted.clone());
        let moved = vec![Moved { vip: "www".into(), to, took_ms, connections, uncounted, breaks: None }];
        Ok(SwitchedOver { node: "lb1".into(), connections: 12, moved, refused: Vec::new() })
    }

    async fn upgrade(&self, wish: Upgrade) -> Result<Upgraded, ApiError> {
        self.world().refuse()?;
        let program = |pid| Program { version: "0.1.0".into(), pid };
        Ok(Upgraded {
            node: "lb1".into(),
            binary: wish.binary.unwrap_or_else(|| "/usr/bin/cygnet".into()),
            from: program(100),
            to: program(200),
            connections: 312,
            sockets: 4,
            held: vec!["www".into()],
            took_ms: 180,
            log_away_ms: if wish.dry_run { 0 } else { 90 },
            dry_run: wish.dry_run,
        })
    }

    async fn drains(&self, limit: usize) -> Result<Drains, ApiError> {
        let mut drains = self.world().drains.clone();
        drains.iter_mut().for_each(|drain| drain.connections.truncate(limit));
        Ok(Drains { node: "lb1".into(), drains })
    }

    async fn clients(&self, query: ClientsQuery) -> Result<Clients, ApiError> {
        let world = self.world();
        let start: usize = query.after.and_then(|after| after.parse().ok()).unwrap_or(0);
        let end = (start + query.limit.unwrap()).min(world.clients.len());
        let next = (end < world.clients.len()).then(|| end.to_string());
        Ok(Clients { clients: world.clients[start..end].to_vec(), next, total: world.clients.len() as u64 })
    }

    async fn members(&self) -> Result<Members, ApiError> {
        let member = |facts: &MemberFacts| MemberView {
            id: facts.id,
            name: facts.name.clone(),
            address: facts.address,
            witness: facts.witness,
            standing: Some(Standing::Voter),
            voter: true,
            leader: facts.here,
            here: facts.here,
            connected: facts.connected,
            behind: Some(0),
        };
        let members = self.world().facts.members.iter().map(member).collect();
        Ok(Members { members, commit: 99, epoch: 0, secure: true })
    }

    async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, ApiError> {
        self.world().refuse()?;
        Ok(MemberChanged { done: format!("{:?} {}", change.action, change.name) })
    }

    async fn create_token(&self, new: NewToken) -> Result<TokenMade, ApiError> {
        self.world().refuse()?;
        let token = format!("cyg1-{}", new.ttl_s);
        Ok(TokenMade { token, address: "10.0.0.1:7300".parse().unwrap() })
    }

    async fn recovery(&self) -> Result<RecoveryOutlook, ApiError> {
        Ok(RecoveryOutlook {
            cluster: "demo".into(),
            quorum: false,
            voters: 2,
            missing: vec!["lb2".into()],
            last: 120,
            uncommitted: 3,
            version: 41,
            known_lost: 0,
            may_lose_more: false,
        })
    }

    async fn events(&self, query: EventsQuery) -> Result<Events, ApiError> {
        let mut world = self.world();
        world.asked_after.push(query.after);
        let events = world.events.iter().filter(|event| event.sequence > query.after);
        let events = events.take(query.limit.unwrap()).cloned().collect();
        let last = world.events.last().map_or(0, |event| event.sequence);
        Ok(Events { node: "lb1".into(), events, last })
    }

    async fn cluster_events(&self, query: EventsQuery) -> Result<ClusterEvents, ApiError> {
        let world = self.world();
        let events = world.remembered.iter().filter(|event| event.number > query.after);
        let events = events.take(query.limit.unwrap()).cloned().collect();
        let last = world.remembered.last().map_or(0, |event| event.number);
        Ok(ClusterEvents { events, last, waiting: 3 })
    }
}

/// A fake node that serves its API on a socket in a directory of its own.
pub(crate) struct Served {
    pub(crate) node: Arc<FakeNode>,
    directory: tempfile::TempDir,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Arc::new(parse_node(NODE, "node.toml").unwrap());
        let node = Arc::new(FakeNode { config, world: Mutex::new(World::new()) });
        let (end, ended) = oneshot::channel();
        let (listening, is_listening) = std::sync::mpsc::sync_channel(1);
        let socket = directory.path().join("run/cygnet.sock");
        let router = router(Arc::clone(&node));
        let events = node.world().commands.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = bind(&socket, false).unwrap();
                listening.send(()).unwrap();
                serve(listener, router, None, events, async { ended.await.unwrap_or(()) }).await.unwrap();
            });
        });
        is_listening.recv().unwrap();
        Self { node, directory, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/cygnet.sock")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file beside the socket.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Ends the API; its socket's file goes with it.
    pub(crate) fn stop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.end.take());
    }
}
