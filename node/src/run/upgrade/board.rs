//! What a node knows of hand-overs: whether one is under way, and the processes before this one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::channel::{Channel, say_now};
use super::retire::Retirement;
use super::succeed::SUCCESSOR;
use super::taker::{Step, Taker};
use super::word::{Program, Word};
use crate::control::types::ProcessBefore;

/// Processes that may live beside this one for the sake of their connections. Each has its memory and its threads.
pub(super) const EARLIER_MAX: usize = 32;

/// How this process was started.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    /// The program.
    pub(super) program: PathBuf,
    /// With what.
    pub(super) arguments: Vec<OsString>,
}

impl Started {
    /// By the words of its command line, the program first.
    pub(crate) fn by(mut words: impl Iterator<Item = OsString>) -> Self {
        let called = PathBuf::from(words.next().unwrap_or_default());
        // A name without a slash was looked for; where the file was put is what the kernel says at the start.
        let program = match called.components().count() {
            0 | 1 => std::env::current_exe().unwrap_or(called),
            _ => called,
        };
        let is_ours = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with(SUCCESSOR));
        Self { program, arguments: words.filter(|word| !is_ours(word)).collect() }
    }
}

/// A process before this one.
struct Earlier {
    version: String,
    connections: u64,
    since: Instant,
    /// The way to it.
    socket: Arc<OwnedFd>,
}

/// See the module.
pub(crate) struct Board {
    pub(super) started: Started,
    /// The API's listening socket.
    pub(super) api: OwnedFd,
    busy: AtomicBool,
    retire: mpsc::Sender<Retirement>,
    earlier: Mutex<BTreeMap<u32, Earlier>>,
    /// Who listens to them.
    watchers: Mutex<JoinSet<()>>,
}

/// While it lives no other hand-over begins.
pub(super) struct Turn<'b>(&'b AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Board {
    /// `api`: its listening socket. What comes out of the receiver ends the node's life as it was.
    pub(crate) fn new(started: Started, api: OwnedFd) -> (Self, mpsc::Receiver<Retirement>) {
        let (retire, retirement) = mpsc::channel(1);
        let (earlier, watchers) = (Mutex::default(), Mutex::default());
        (Self { started, api, busy: AtomicBool::new(false), retire, earlier, watchers }, retirement)
    }

    /// Whether a new process is taking over, or has.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// `None`: one is under way.
    pub(super) fn turn(&self) -> Option<Turn<'_>> {
        let is_free = self.busy.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).is_ok();
        is_free.then_some(Turn(&self.busy))
    }

    /// Ends the node's life as it was.
    pub(super) async fn retire(&self, retirement: Retirement) -> bool {
        self.retire.send(retirement).await.is_ok()
    }

    fn earlier(&self) -> MutexGuard<'_, BTreeMap<u32, Earlier>> {
        // Each change is one insertion or removal.
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processes before this one that have connections still.
    pub(crate) fn before(&self) -> Vec<ProcessBefore> {
        let view = |(pid, one): (&u32, &Earlier)| ProcessBefore {
            pid: *pid,
            version: one.version.clone(),
            connections: one.connections,
            since_ms: crate::run::facts::millis(one.since.elapsed()),
        };
        self.earlier().iter().map(view).collect()
    }

    /// The ways to them, with how many connections each has, for the next process.
    pub(super) fn ways(&self) -> Vec<(Program, u64, Arc<OwnedFd>)> {
        let way = |(pid, one): (&u32, &Earlier)| {
            let program = Program { version: one.version.clone(), pid: *pid };
            (program, one.connections, Arc::clone(&one.socket))
        };
        self.earlier().iter().map(way).collect()
    }

    /// Listens to a process before this one until it has ended.
    pub(super) fn watch(
        self: &Arc<Self>,
        program: Program,
        connections: u64,
        channel: Channel,
        taker: Taker,
    ) {
        let Ok(socket) = channel.copy() else { return };
        let earlier = Earlier {
            version: program.version,
            connections,
            since: Instant::now(),
            socket: Arc::new(socket),
        };
        self.earlier().insert(program.pid, earlier);
        let board = Arc::downgrade(self);
        let listen = async move {
            let (mut channel, mut taker) = (channel, taker);
            loop {
                let step = match channel.hear().await {
                    Ok(Some(heard)) => taker.heard(heard.word),
                    // What cannot be understood says nothing more.
                    Ok(None) | Err(_) => taker.closed(),
                };
                let Some(board) = board.upgrade() else { return };
                match step {
                    Step::Left(Some(connections)) => {
                        board.earlier().entry(program.pid).and_modify(|one| one.connections = connections);
                    }
                    Step::Left(None) => {
                        board.earlier().remove(&program.pid);
                        return;
                    }
                    _ => {}
                }
            }
        };
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).spawn(listen);
    }

    /// The next process listens to them from now on.
    pub(super) fn leave_off(&self) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.earlier().clear();
    }

    /// The node stops: those before are to have ended within this time too.
    pub(crate) fn end_all(&self, within: Duration) {
        let word = Word::End { within_ms: crate::run::facts::millis(within) };
        for (program, _, socket) in self.ways() {
            if let Err(error) = say_now(&*socket, &word) {
                tracing::debug!(%error, %program, "not told of the stop");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_started_again_as_it_was_but_for_the_place_that_it_took() {
        let words = ["/usr/bin/cygnet", "run", "--config", "/etc/cygnet/node.toml", "--successor=2"];
        let started = Started::by(words.iter().map(OsString::from));
        assert_eq!(started.program, PathBuf::from("/usr/bin/cygnet"));
        assert_eq!(started.arguments, ["run", "--config", "/etc/cygnet/node.toml"]);
        let looked_for = Started::by(["cygnet"].iter().map(OsString::from));
        assert!(looked_for.program.is_absolute(), "{looked_for:?}");
    }
}
