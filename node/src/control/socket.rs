//! The API's socket: who may open it, how many at once, and for how long.

use std::fs::{self, DirBuilder, File, Permissions};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::serve::Listener;
use cygnet_ha::events::EventLog;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::audit;
use super::roles::{self, Caller, ConnectedCaller, Roles};

/// Connections to the API at once. Further ones wait in the kernel's queue until one ends.
pub const CONNECTIONS_MAX: usize = 64;
/// How long one connection may last. Commands ask once and go; without an end, a handful of forgotten ones would
/// lock everybody out. Longer than [`super::REQUEST_TIME_MAX`].
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(120);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// The owner and the group: whoever may open the socket may change the cluster.
const MODE: u32 = 0o660;
/// With roles: everybody may open it, and is asked who it is.
const MODE_WITH_ROLES: u32 = 0o666;
/// A directory that has to be made: everybody may look, the socket's own mode decides.
const DIRECTORY_MODE: u32 = 0o755;

/// Opens the socket with mode 0660, or for everybody if there are roles, and makes its directory if need be. The file that a
/// dead process left behind is replaced; one on which somebody listens is not.
///
/// # Errors
/// Those of the system, with the path; `AddrInUse` when somebody listens; `AlreadyExists` when something else than a
/// socket has that name. Call it within a tokio runtime.
pub fn bind(path: &Path, roles: bool) -> io::Result<UnixListener> {
    let mode = Permissions::from_mode(if roles { MODE_WITH_ROLES } else { MODE });
    let explain = |what: &str, error: &io::Error| {
        io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
    };
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(directory)
            .map_err(|error| explain("make the directory of", &error))?;
    }
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(|error| explain("open", &error))?;
    // Linux gives the file the mode of the unbound socket, less the umask: it is never more open than in the end.
    let closed = File::from(OwnedFd::from(socket));
    closed.set_permissions(mode).map_err(|error| explain("protect", &error))?;
    let socket = Socket::from(OwnedFd::from(closed));
    socket.bind(&SockAddr::unix(path)?).map_err(|error| explain("bind", &error))?;
    admit(path, roles)?;
    socket.listen(BACKLOG).map_err(|error| explain("listen on", &error))?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

/// Opens a socket to its users that another process has bound.
///
/// # Errors
/// Those of the system, with the path.
pub fn admit(path: &Path, roles: bool) -> io::Result<()> {
    let mode = Permissions::from_mode(if roles { MODE_WITH_ROLES } else { MODE });
    fs::set_permissions(path, mode).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot open {} to its users: {error}", path.display()))
    })
}

/// Removes the socket of a dead process.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        let what = format!("{} exists and is not a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    // Without blocking: a process that hangs with a full queue is alive all the same.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            Err(io::Error::new(error.kind(), format!("cannot use {}: {error}", path.display())))
        }
        _ => {
            let what = format!(
                "another process listens on {}; stop it, or give this node another socket with `api`",
                path.display()
            );
            Err(io::Error::new(io::ErrorKind::AddrInUse, what))
        }
    }
}

/// Serves the API, to those whom `roles` lets in, or else to everybody who could open the socket, until `end` is ready and the
/// requests under way are answered. The socket's file stays: another process may listen on it. Commands that change something are
/// written to `events`.
///
/// # Errors
/// Those of the server; accepting goes on whatever happens to single connections.
pub async fn serve(
    listener: UnixListener,
    router: Router,
    roles: Option<Roles>,
    events: EventLog,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let limited = Limited { listener, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    let router = router.layer(from_fn_with_state(events, audit::note));
    let router = match roles {
        Some(roles) => router.layer(from_fn_with_state(Arc::new(roles), roles::check)),
        None => router,
    };
    let service = router.into_make_service_with_connect_info::<ConnectedCaller>();
    axum::serve(limited, service).with_graceful_shutdown(end).await
}

/// A listener with room for [`CONNECTIONS_MAX`].
pub(super) struct Limited {
    listener: UnixListener,
    room: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Bounded;
    type Addr = ConnectedCaller;

    async fn accept(&mut self) -> (Bounded, ConnectedCaller) {
        // The semaphore is never closed; if it were, the connection would just not be counted.
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, _) = Listener::accept(&mut self.listener).await;
        let peer = ConnectedCaller(Caller::of(&stream));
        (Bounded { stream, end: Box::pin(tokio::time::sleep(CONNECTION_TIME_MAX)), _room: room }, peer)
    }

    fn local_addr(&self) -> io::Result<ConnectedCaller> {
        // Of no use to anybody: a listener is connected with nobody.
        Ok(ConnectedCaller(None))
    }
}

/// A connection with an end, which gives its room back when it is dropped.
pub(super) struct Bounded {
    stream: UnixStream,
    end: Pin<Box<Sleep>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Bounded {
    /// Fails once the connection's time is over.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
