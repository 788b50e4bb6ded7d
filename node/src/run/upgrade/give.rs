//! The process that runs hands over to a new program.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use cygnet_ha::vip::driver::VipHandle;
use cygnet_ha::vip::{Mode, Role, VipView};
use cygnet_netlink::succession::Other;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::binary::trusted;
use super::board::EARLIER_MAX;
use super::channel::{Channel, Heard};
use super::giver::{Giver, Step};
use super::retire::Retirement;
use super::succeed::{FIRST_STAGE, SUCCESSOR};
use super::word::{Go, Held, LEVEL, Name, Program, SOCKETS_PER_WORD, State, Word};
use crate::control::types::{ApiError, ErrorCode, Upgrade, Upgraded};
use crate::run::facts::millis;
use crate::run::node::Node;

/// How long a program that is told that nothing comes of it may take to end, before it is killed; and after that.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);
/// How long the way into the retirement may take: two commands to tasks that wait for nothing.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);

/// This program, as it is called in a hand-over.
pub(super) fn own_program() -> Program {
    Program { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
}

/// Hands over, or says why not; then everything is as before.
///
/// # Errors
/// [`ErrorCode::Refused`]: it would not be right now, or the new program does not come up.
pub(crate) async fn upgrade(node: Arc<Node>, wish: Upgrade) -> Result<Upgraded, ApiError> {
    let Some(_turn) = node.upgrade.turn() else {
        return Err(refusal("an upgrade is under way already", "`cygnet status` says when it is over"));
    };
    let held = held(&node);
    obstacle(&node)?;
    let program = wish.binary.clone().unwrap_or_else(|| node.upgrade.started.program.clone());
    let file = match &wish.binary {
        Some(named) => trusted(named).map_err(|why| refusal(&why, "nothing was changed"))?,
        None => program.clone(),
    };
    let what = format!("asked to hand over to {}", program.display());
    if !wish.dry_run {
        node.events.record(Severity::Info, "node", what, format!("by {}", wish.author));
    }
    let (channel, theirs) = Channel::pair().map_err(|error| failure(&error))?;
    let child = Command::new(&file)
        .arg0(&program)
        .args(&node.upgrade.started.arguments)
        .arg(format!("{SUCCESSOR}={FIRST_STAGE}"))
        .stdin(Stdio::from(theirs))
        .kill_on_drop(true)
        .spawn();
    let child = child.map_err(|error| {
        refusal(&format!("{} cannot be started: {error}", program.display()), "nothing was changed")
    })?;
    let began = Instant::now();
    let giver = Giver::new(Time::ZERO, wish.dry_run);
    let give = Give {
        node: Arc::clone(&node),
        channel,
        child,
        child_ended: false,
        other: None,
        giver,
        began,
        held,
        sockets: 0,
        log_away: None,
    };
    let upgraded = give.run(&wish).await?;
    Ok(Upgraded { binary: program, ..upgraded })
}

fn refusal(error: &str, remedy: &str) -> ApiError {
    ApiError::new(ErrorCode::Refused, error, remedy)
}

fn failure(error: &std::io::Error) -> ApiError {
    ApiError::new(ErrorCode::Error, format!("cannot hand over: {error}"), "nothing was changed")
}

/// What the elections hold.
fn held(node: &Node) -> Vec<Held> {
    let is_held = |view: &&VipView| view.mode == Mode::Hold && view.role == Role::Active;
    let held = |view: &VipView| Held {
        name: view.name.clone(),
        interface: view.interface.clone(),
        addresses: view.addresses.clone(),
    };
    let views = node.vips.as_ref().map(VipHandle::views);
    views.map_or_else(Vec::new, |views| views.borrow().iter().filter(is_held).map(held).collect())
}

/// Why a hand-over would lose something now.
fn obstacle(node: &Node) -> Result<(), ApiError> {
    let views = node.vips.as_ref().map(VipHandle::views);
    let views = views.map(|views| Arc::clone(&views.borrow())).unwrap_or_default();
    let moves = |view: &&VipView| view.moved.left.is_some() || view.moved.sends_on.is_some();
    if let Some(view) = views.iter().find(moves) {
        let error = format!("connections of a planned move of {} still go through this node", view.name);
        return Err(refusal(
            &error,
            "wait until they have ended: `cygnet drain status` on the node that moved it",
        ));
    }
    if node.upgrade.before().len() >= EARLIER_MAX {
        let error = format!("{EARLIER_MAX} processes before this one have connections still");
        return Err(refusal(&error, "see `cygnet status`; a `--deadline` bounds how long they stay"));
    }
    Ok(())
}

/// One hand-over at work.
struct Give {
    node: Arc<Node>,
    channel: Channel,
    /// What was started. It starts the new process, which is to be nobody's child of ours, and ends.
    child: Child,
    child_ended: bool,
    /// The new process.
    other: Option<Other>,
    giver: Giver,
    began: Instant,
    held: Vec<Held>,
    sockets: usize,
    log_away: Option<Instant>,
}

impl Give {
    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    async fn run(mut self, wish: &Upgrade) -> Result<Upgraded, ApiError> {
        loop {
            let mut step = self.next().await;
            if step == Step::Introduce {
                step = self.introduce().await;
            }
            if step == Step::HandOver {
                step = self.hand_over().await;
            }
            match step {
                Step::Wait | Step::Introduce | Step::HandOver => {}
                Step::Report => {
                    self.abort("it was only asked").await;
                    return Ok(self.report(true));
                }
                Step::Fail { why, log_is_away } => return Err(self.fail(why, log_is_away).await),
                Step::Release => return self.release(wish).await,
            }
        }
    }

    /// Waits for what comes next.
    async fn next(&mut self) -> Step {
        let deadline = self.giver.deadline().unwrap_or(Time::ZERO).since(self.now());
        tokio::select! {
            heard = self.channel.hear() => match heard {
                Ok(Some(Heard { word, .. })) => {
                    let step = self.giver.heard(self.now(), &word);
                    if let (None, Some(successor)) = (&self.other, self.giver.successor()) {
                        self.other = Other::open(successor.pid).ok();
                    }
                    step
                }
                Ok(None) => {
                    let why = self.how_it_ended().await;
                    self.giver.lost(why)
                }
                Err(error) => self.giver.lost(format!("it cannot be understood: {error}")),
            },
            ended = self.child.wait(), if !self.child_ended => {
                self.child_ended = true;
                match ended {
                    // It has started the new process, whose word comes.
                    Ok(status) if status.success() => Step::Wait,
                    ended => self.giver.lost(ending(ended.ok())),
                }
            }
            () = tokio::time::sleep(deadline) => self.giver.timeout(self.now()),
        }
    }

    /// The other end is closed: perhaps because what was started has ended at once.
    async fn how_it_ended(&mut self) -> String {
        if self.child_ended {
            return "the new process has ended".to_owned();
        }
        match tokio::time::timeout(ABORT_PATIENCE, self.child.wait()).await {
            Ok(ended) => {
                self.child_ended = true;
                ending(ended.ok())
            }
            Err(_) => "the new program has closed the connection".to_owned(),
        }
    }

    async fn introduce(&mut self) -> Step {
        let running = self.node.running.borrow().clone();
        let state = State {
            level: LEVEL,
            program: own_program(),
            node: self.node.config.name.clone(),
            state_dir: self.node.config.state_dir.clone(),
            text: running
                .made_from
                .configuration
                .get(running.version)
                .map_or_else(String::new, |it| it.text.to_string()),
            ready: running.ready,
            listen_problems: running.listen_problems.len(),
            held: self.held.clone(),
        };
        let said = self.channel.say(&Word::State(Box::new(state)), &[]).await;
        self.said(said)
    }

    fn said(&mut self, said: std::io::Result<()>) -> Step {
        match said {
            Ok(()) => Step::Wait,
            Err(error) => self.giver.lost(format!("it does not listen: {error}")),
        }
    }

    /// The sockets, then the log.
    async fn hand_over(&mut self) -> Step {
        let sockets = match self.all_sockets().await {
            Ok(sockets) => sockets,
            Err(error) => return self.giver.failed(format!("the listening sockets cannot be had: {error}")),
        };
        self.sockets = sockets.iter().filter(|(name, _)| name.listen_at().is_some()).count();
        for batch in sockets.chunks(SOCKETS_PER_WORD) {
            let (names, sockets): (Vec<Name>, Vec<_>) =
                batch.iter().map(|(name, socket)| (name.clone(), socket.as_fd())).unzip();
            if let Err(error) = self.channel.say(&Word::Sockets(names), &sockets).await {
                return self.giver.lost(format!("it does not take the sockets: {error}"));
            }
        }
        self.node.log.share_events().await;
        self.log_away = Some(Instant::now());
        if let Err(why) = self.node.log.suspend().await {
            return self.giver.failed(why);
        }
        self.held = held(&self.node);
        let go = Go {
            held: self.held.iter().map(|held| held.name.clone()).collect(),
            down: self.node.health.down(),
        };
        let said = self.channel.say(&Word::Go(go), &[]).await;
        self.said(said)
    }

    async fn all_sockets(&self) -> std::io::Result<Vec<(Name, OwnedFd)>> {
        let node = Arc::clone(&self.node);
        let gather = move || node.traffic.as_ref().map(|traffic| traffic.workers.sockets()).transpose();
        let served = tokio::task::spawn_blocking(gather).await.map_err(std::io::Error::other)??;
        let served = served.map(|all| all.take_all()).unwrap_or_default();
        let mut all: Vec<(Name, OwnedFd)> =
            served.into_iter().map(|(at, one)| (Name::from(&at), one)).collect();
        if let Some(peers) = self.node.log.listener()? {
            all.push((Name::Peers, peers.into()));
        }
        all.push((Name::Api, self.node.upgrade.api.try_clone()?));
        for (program, connections, way) in self.node.upgrade.ways() {
            all.push((Name::Earlier { program, connections }, way.try_clone()?));
        }
        Ok(all)
    }

    fn report(&self, dry_run: bool) -> Upgraded {
        let busy = self.node.traffic.as_ref().map_or(0, |traffic| traffic.workers.busy());
        Upgraded {
            node: self.node.config.name.clone(),
            binary: PathBuf::new(),
            from: own_program(),
            to: self.giver.successor().cloned().unwrap_or_default(),
            connections: busy as u64,
            sockets: self.sockets,
            held: self.held.iter().map(|held| held.name.clone()).collect(),
            took_ms: millis(self.began.elapsed()),
            log_away_ms: self.log_away.map_or(0, |since| millis(since.elapsed())),
            dry_run,
        }
    }

    /// The new process has it all.
    async fn release(self, wish: &Upgrade) -> Result<Upgraded, ApiError> {
        let report = self.report(false);
        let what = format!("{} has taken over; {} connections go on here", report.to, report.connections);
        self.node.events.record(Severity::Info, "node", what, format!("asked by {}", wish.author));
        let (done, released) = oneshot::channel();
        let deadline = wish.deadline_ms.map(Duration::from_millis);
        let retirement = Retirement { channel: self.channel, successor: report.to.clone(), deadline, done };
        if self.node.upgrade.retire(retirement).await {
            // The API ends with this answer.
            let _ = tokio::time::timeout(RELEASE_PATIENCE, released).await;
        }
        Ok(report)
    }

    /// Goes on as before.
    async fn fail(mut self, why: String, log_is_away: bool) -> ApiError {
        self.abort(&why).await;
        let mut error = format!("the new program does not take over: {why}");
        let mut remedy = "nothing was changed; its own words are in this node's log";
        if log_is_away && let Err(log) = self.node.log.resume().await {
            error = format!("{error}; and the log cannot be opened again: {log}");
            remedy = "traffic goes on; restart the node when that suits";
        }
        self.node.events.record(Severity::Alert, "node", error.as_str(), remedy);
        refusal(&error, remedy)
    }

    /// Has the new process end, one way or the other, and waits for it: nobody but us may have the log open.
    async fn abort(&mut self, why: &str) {
        let word = Word::Abort { why: why.to_owned() };
        let told = tokio::time::timeout(ABORT_PATIENCE, self.channel.say(&word, &[])).await;
        tracing::debug!(?told, "the new process is told that nothing comes of it");
        if let Some(other) = self.other.take() {
            let ended = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
                if !other.wait(ABORT_PATIENCE)? {
                    other.kill()?;
                    other.wait(ABORT_PATIENCE)?;
                }
                Ok(())
            });
            if let Ok(Err(error)) = ended.await {
                tracing::debug!(%error, "the new process");
            }
        }
        if !self.child_ended {
            // Hung before it said who it is, most likely.
            let _ = self.child.kill().await;
        }
    }
}

fn ending(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) => format!("the new program ended with {status} before it could take over"),
        None => "the new program has ended".to_owned(),
    }
}
