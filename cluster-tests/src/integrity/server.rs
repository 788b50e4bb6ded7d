//! The servers' side of the scripts, and servers that die.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, split};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::client::{Control, Halves, Socket, Way, both};
use super::script::{DOWN, NUMBER_LEN, UP};
use super::{At, Ending, Script, Seen, Settings};

/// Clients that wait to be accepted.
const BACKLOG: u32 = 1024;
/// How often it is looked whether the last connection has ended.
const POLL: Duration = Duration::from_millis(10);

/// Servers that play their side of the scripts.
pub struct Servers {
    at: Vec<At>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    seen: Mutex<HashMap<u64, Seen>>,
    active: AtomicUsize,
}

impl Servers {
    /// Starts one at each place. To be called within a runtime.
    ///
    /// # Errors
    /// If one cannot listen.
    pub fn start(settings: &Settings, at: &[At]) -> Result<Self> {
        let seen = Mutex::default();
        let shared = Arc::new(Shared { settings: settings.clone(), seen, active: AtomicUsize::new(0) });
        let tasks = at.iter().map(|at| serve(&shared, at)).collect::<Result<_>>()?;
        Ok(Self { at: at.to_vec(), tasks: Mutex::new(tasks), shared })
    }

    /// Kills one: its connections are reset, and nobody listens. After `pause` it listens again.
    ///
    /// # Errors
    /// If it cannot listen again.
    pub async fn kill(&self, which: usize, pause: Duration) -> Result<()> {
        let which = which % self.at.len();
        lock(&self.tasks)[which].abort();
        sleep(pause).await;
        let again = serve(&self.shared, &self.at[which])?;
        lock(&self.tasks)[which] = again;
        Ok(())
    }

    /// Waits until the last connection has ended, and gives what each saw.
    ///
    /// # Errors
    /// If one has not within `limit`.
    pub(super) async fn finish(&self, limit: Duration) -> Result<HashMap<u64, Seen>> {
        let start = Instant::now();
        while self.shared.active.load(Ordering::Relaxed) > 0 {
            let left = self.shared.active.load(Ordering::Relaxed);
            ensure!(start.elapsed() < limit, "{left} connections of servers do not end");
            sleep(POLL).await;
        }
        Ok(std::mem::take(&mut *lock(&self.shared.seen)))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        lock(&self.tasks).iter().for_each(JoinHandle::abort);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn bind(at: &At) -> Result<Self> {
        Ok(match at {
            At::Tcp(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                socket.set_reuseaddr(true)?;
                socket.bind(*address).with_context(|| address.to_string())?;
                Self::Tcp(socket.listen(BACKLOG)?)
            }
            At::Unix(path) => {
                // Of an earlier life.
                let _ = std::fs::remove_file(path);
                Self::Unix(UnixListener::bind(path).with_context(|| path.display().to_string())?)
            }
        })
    }

    async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(listener) => Socket::Tcp(listener.accept().await?.0),
            Self::Unix(listener) => Socket::Unix(listener.accept().await?.0),
        })
    }
}

fn serve(shared: &Arc<Shared>, at: &At) -> Result<JoinHandle<()>> {
    let (listener, shared) = (Listener::bind(at)?, Arc::clone(shared));
    Ok(tokio::spawn(async move {
        // Ends with this task, and all its connections with it.
        let mut connections = JoinSet::new();
        loop {
            if let Ok((socket, control)) = listener.accept().await.and_then(abrupt) {
                connections.spawn(play(Arc::clone(&shared), socket, control));
            }
            while connections.try_join_next().is_some() {}
        }
    }))
}

/// Counts a connection for as long as it lives.
struct Active(Arc<Shared>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// From its first moment on, a server that dies must not look as if it had finished.
fn abrupt(socket: Socket) -> io::Result<(Socket, Control)> {
    let control = socket.control()?;
    control.abrupt(true)?;
    Ok((socket, control))
}

async fn play(shared: Arc<Shared>, socket: Socket, control: Control) {
    shared.active.fetch_add(1, Ordering::Relaxed);
    let active = Active(Arc::clone(&shared));
    let Ok(stream) = shared.settings.dress.of_server(socket.stream()).await else { return };
    let (mut read, write): Halves = split(stream);
    let mut number = [0; NUMBER_LEN as usize];
    if read.read_exact(&mut number).await.is_err() {
        return;
    }
    let script = Script::new(&shared.settings, u64::from_be_bytes(number));
    let breaks = script.ending == Ending::ServerResets;
    let way = Way { script: &script, direction: DOWN, bytes: script.down, breaks };
    let waits = script.server_waits();
    let (seen, halves) = both(way, UP, script.up, read, write, waits, false).await;
    // Now only a break that the script wants is one. Otherwise everything has been said, and what is still on its way
    // must arrive.
    if !breaks && control.abrupt(false).is_err() {
        return;
    }
    drop(halves);
    lock(&shared.seen).insert(script.number, seen);
    drop(active);
}
