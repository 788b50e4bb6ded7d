//! The control socket: one connection, one command, one answer.
//!
//! A client that says nothing costs a place among [`CLIENTS_MAX`] until [`READ_PATIENCE`] is over, or until somebody else
//! needs the place; neither the traffic nor other control clients wait for it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{LINE_BYTES_MAX, first_line};
use crate::config::model::Endpoint;

/// Control connections at once. One more, and the oldest is closed.
const CLIENTS_MAX: usize = 64;
/// Connections that wait for their acceptance.
const BACKLOG: i32 = 128;
/// How long a client may take to give its command.
const READ_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to read its answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// After an error of accept (descriptors used up, most likely) the socket is left alone for so long.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Commands that wait for their turn.
const REQUESTS_MAX: usize = CLIENTS_MAX;

/// A command, and the way back for its answer.
#[derive(Debug)]
pub(super) struct Request {
    /// One line, without its end.
    pub(super) line: String,
    /// Takes the answer. Dropping it closes the connection.
    pub(super) reply: oneshot::Sender<String>,
}

/// The listening socket, before there is a runtime for it.
#[derive(Debug)]
pub(super) enum Bound {
    Inet(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Opens the socket. A file that a Unix socket has left behind is removed.
pub(super) fn bind(endpoint: &Endpoint) -> io::Result<Bound> {
    match endpoint {
        Endpoint::Inet(address) => inet(*address).map(Bound::Inet),
        Endpoint::Unix(path) => {
            remove_socket(path)?;
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            Ok(Bound::Unix(listener))
        }
    }
}

/// Removes what an earlier process has left; anything but a socket stays, and is in the way.
fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

fn inet(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A new pen may start before the old one has ended.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The socket at work.
#[derive(Debug)]
pub(super) struct Control {
    listener: Listener,
    clients: VecDeque<AbortHandle>,
    queue: mpsc::Sender<Request>,
    requests: mpsc::Receiver<Request>,
}

#[derive(Debug)]
enum Listener {
    Inet(TcpListener),
    Unix(UnixListener),
    /// There is no control socket.
    Nowhere,
}

/// What the socket has to say.
#[derive(Debug)]
pub(super) enum News {
    /// Somebody has connected. `None`: through a Unix socket.
    Client(Stream, Option<IpAddr>),
    /// A command is there.
    Request(Request),
}

/// A control connection.
#[derive(Debug)]
pub(super) enum Stream {
    Inet(TcpStream),
    Unix(UnixStream),
}

impl Control {
    /// Within a runtime. `None`: nobody can connect.
    pub(super) fn new(bound: Option<Bound>) -> io::Result<Self> {
        let listener = match bound {
            Some(Bound::Inet(listener)) => Listener::Inet(TcpListener::from_std(listener)?),
            Some(Bound::Unix(listener)) => Listener::Unix(UnixListener::from_std(listener)?),
            None => Listener::Nowhere,
        };
        let (queue, requests) = mpsc::channel(REQUESTS_MAX);
        Ok(Self { listener, clients: VecDeque::new(), queue, requests })
    }

    /// What happens next. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> News {
        tokio::select! {
            // We hold a sender ourselves, so there is always a next one.
            Some(request) = self.requests.recv() => News::Request(request),
            (stream, peer) = self.listener.accept() => News::Client(stream, peer),
        }
    }

    /// Lets a client give its command.
    pub(super) fn serve(&mut self, stream: Stream) {
        self.clients.retain(|client| !client.is_finished());
        if self.clients.len() >= CLIENTS_MAX
            && let Some(oldest) = self.clients.pop_front()
        {
            oldest.abort();
        }
        let queue = self.queue.clone();
        let task = tokio::spawn(async move {
            // A client that is gone, or too slow, has no use for what went wrong.
            let _ = match stream {
                Stream::Inet(stream) => converse(stream, queue).await,
                Stream::Unix(stream) => converse(stream, queue).await,
            };
        });
        self.clients.push_back(task.abort_handle());
    }

    /// Waits until the answers given so far are written, or their time is over.
    pub(super) async fn finish(&mut self, patience: Duration) {
        let _ = timeout(patience, async {
            while self.clients.iter().any(|client| !client.is_finished()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Closes all who have not given a command yet.
    pub(super) fn close(&mut self) {
        self.listener = Listener::Nowhere;
        self.requests.close();
    }
}

impl Listener {
    async fn accept(&self) -> (Stream, Option<IpAddr>) {
        loop {
            let accepted = match self {
                Self::Inet(listener) => {
                    listener.accept().await.map(|(stream, peer)| (Stream::Inet(stream), Some(peer.ip())))
                }
                Self::Unix(listener) => {
                    listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), None))
                }
                Self::Nowhere => std::future::pending().await,
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(_) => tokio::time::sleep(ACCEPT_REST).await,
            }
        }
    }
}

/// Reads one command, has it run, and writes the answer.
async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    queue: mpsc::Sender<Request>,
) -> io::Result<()> {
    let Ok(command) = timeout(READ_PATIENCE, read_line(&mut stream)).await else { return Ok(()) };
    let line = String::from_utf8_lossy(first_line(&command?)).into_owned();
    let (reply, answer) = oneshot::channel();
    if queue.send(Request { line, reply }).await.is_err() {
        return Ok(());
    }
    let Ok(answer) = answer.await else { return Ok(()) };
    let written = timeout(WRITE_PATIENCE, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    });
    written.await.unwrap_or(Ok(()))
}

/// Up to the end of the first line, the end of the stream, or as much as Pen reads.
async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(256);
    let mut limited = stream.take(LINE_BYTES_MAX as u64);
    while !read.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        if limited.read_buf(&mut read).await? == 0 {
            break;
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
