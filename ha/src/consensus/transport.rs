//! Connections between nodes. Each node opens one to each other and sends on it; what it receives comes over the
//! connections that the others opened.
//!
//! ```text
//!   we ── Hello ──> peer      protocol, cluster, node: wrong ones are refused with the reason
//!   we <─ Welcome ─ peer
//!   we ── frames ─> peer      a ping when there is nothing to say
//! ```
//! The link is not encrypted yet; that is said in the log at the start.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::frame::{
    Frame, FrameError, HEADER, Hello, PROTOCOL, REPORT_MAX, decode, decode_first_header, decode_header,
};
use super::limits::{
    CONNECTIONS_PER_PEER, GREETING, PING_EVERY, READ_BODY, READ_IDLE, RECONNECT_FIRST, RECONNECT_MOST,
    REPORT_EVERY, STRANGERS, UNACKNOWLEDGED,
};
use super::shared::{Input, Peer, Report, Shared};
use crate::events::Severity;
use crate::state::FEATURE_LEVEL;

const SUBJECT: &str = "cluster";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Listens on the node's own address, also if the address is not there yet.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts the other nodes until it is dropped.
pub(super) async fn accept_all(shared: Arc<Shared>, listener: TcpListener) {
    let members = Arc::new(Semaphore::new(CONNECTIONS_PER_PEER * shared.peers.len().max(1)));
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, from)) = listener.accept().await else {
            // Out of descriptors, most likely: not a reason to spin.
            tokio::time::sleep(RECONNECT_FIRST).await;
            continue;
        };
        // Members connect from the address that they listen on.
        let known = shared.peers.values().any(|peer| peer.member.address.ip() == from.ip());
        let room = if known { &members } else { &strangers };
        // Without room it is closed at once; a member comes again.
        let Ok(place) = Arc::clone(room).try_acquire_owned() else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            if let Err(error) = serve(&shared, stream, from).await {
                tracing::debug!(%from, %error, "a connection from another node has ended");
            }
            drop(place);
        });
    }
}

async fn serve(shared: &Arc<Shared>, mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    prepare(&stream)?;
    let greeting = timeout(GREETING, read_frame(&mut stream, decode_first_header)).await??;
    let Some(Frame::Hello(hello)) = greeting else {
        return Err(io::Error::other("it did not begin with a hello"));
    };
    let peer = match greet(shared, &hello) {
        Ok(peer) => peer,
        Err(reason) => {
            tracing::warn!(%from, reason, "a node was refused");
            return timeout(GREETING, stream.write_all(&Frame::Refused(reason).encode())).await?;
        }
    };
    timeout(GREETING, stream.write_all(&Frame::Welcome.encode())).await??;
    peer.level.store(u64::from(hello.level), Ordering::Relaxed);
    peer.mute.store(false, Ordering::Relaxed);
    shared.heard(peer);
    shared.input_surely(|| Input::Connected { peer: hello.node, last: hello.last }).await;
    loop {
        let frame = read_frame(&mut stream, decode_header).await?;
        shared.heard(peer);
        if let Some(frame) = frame {
            receive(shared, peer, frame);
        }
    }
}

/// The peer that a hello comes from, or why it is refused.
fn greet<'s>(shared: &'s Shared, hello: &Hello) -> Result<&'s Peer, String> {
    let settings = &shared.settings;
    if hello.protocol != PROTOCOL {
        return Err(format!(
            "protocol {PROTOCOL} is spoken here, not {}; update the older node",
            hello.protocol
        ));
    }
    if hello.cluster != settings.cluster {
        return Err(format!("this is the cluster {:?}, not {:?}", settings.cluster, hello.cluster));
    }
    if hello.node == settings.id {
        return Err(format!("this is node {0} itself; two nodes have the id {0}", settings.id));
    }
    if hello.to != settings.id {
        return Err(format!(
            "this is node {}, not {}; check the addresses of the members",
            settings.id, hello.to
        ));
    }
    let unknown = || format!("node {} is no member here; the lists of members must be the same", hello.node);
    shared.peers.get(&hello.node).ok_or_else(unknown)
}

fn receive(shared: &Arc<Shared>, peer: &Peer, frame: Frame) {
    let from = peer.member.id;
    let lock_report = || peer.report.lock().unwrap_or_else(PoisonError::into_inner);
    match frame {
        Frame::Raft(message) | Frame::Snapshot(message) => {
            let size = prost::Message::encoded_len(&*message);
            // A full inbox loses the message; raft repeats it.
            shared.input(Input::Raft { from, message, size });
        }
        Frame::Propose(command) => {
            shared.input(Input::Forwarded { from, command, soft: false });
        }
        Frame::Soft(command) => {
            shared.input(Input::Forwarded { from, command, soft: true });
        }
        Frame::NotProposed { sequence } => {
            shared.input(Input::NotProposed { sequence });
        }
        Frame::Transfer { to } => {
            shared.input(Input::Transfer { to });
        }
        Frame::PreflightAsk { id, text } => answer_preflight(shared, from, id, text),
        Frame::PreflightAnswer { id, problem } => {
            let asked = shared.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Some(asked) = asked {
                // The asker may have given up.
                let _ = asked.send(problem);
            }
        }
        Frame::Ping { mute } => {
            if mute && !peer.mute.swap(mute, Ordering::Relaxed) {
                let what = format!("{} takes no part in the cluster any more", peer.member.name);
                record(
                    shared,
                    Severity::Warning,
                    what,
                    "its log has stopped; look at its status, restart it",
                );
            }
            peer.mute.store(mute, Ordering::Relaxed);
        }
        Frame::Report { age_ms, bytes } if bytes.len() <= REPORT_MAX => {
            let age_when_received = Duration::from_millis(age_ms);
            *lock_report() = Some(Report { bytes, age_when_received, received: Instant::now() });
        }
        Frame::Word(bytes) => {
            // A full queue loses it: see WORDS_WAITING.
            let _ = shared.words.try_send((from, bytes));
        }
        Frame::Report { .. } | Frame::Hello(_) | Frame::Welcome | Frame::Refused(_) => {}
    }
}

fn answer_preflight(shared: &Arc<Shared>, from: u64, id: u64, text: String) {
    let busy = || Some("the node is busy with other checks; try again".to_owned());
    let Ok(permit) = Arc::clone(&shared.preflights).try_acquire_owned() else {
        shared.send(from, Frame::PreflightAnswer { id, problem: busy() });
        return;
    };
    let shared = Arc::clone(shared);
    // The check may read files and ask the kernel.
    tokio::task::spawn_blocking(move || {
        let mut problem = (shared.preflight)(&text).err();
        if let Some(problem) = &mut problem {
            problem.truncate(problem.floor_char_boundary(REPORT_MAX));
        }
        shared.send(from, Frame::PreflightAnswer { id, problem });
        drop(permit);
    });
}

/// Keeps a connection to one peer for ever.
pub(super) async fn connect_forever(shared: Arc<Shared>, id: u64) {
    let Some(peer) = shared.peers.get(&id) else { return };
    let mut pause = RECONNECT_FIRST;
    let mut last_refusal = String::new();
    loop {
        match dial(&shared, peer).await {
            Ok(stream) => {
                pause = RECONNECT_FIRST;
                last_refusal.clear();
                record(&shared, Severity::Info, format!("connected to {}", peer.member.name), "");
                peer.outbox.open();
                let error = match talk(&shared, peer, stream).await {
                    Ok(()) => "it closed the connection".to_owned(),
                    Err(error) => error.to_string(),
                };
                if peer.outbox.close() {
                    shared.input_surely(|| Input::SnapshotSent { peer: id, sent: false }).await;
                }
                shared.input(Input::Unreachable { peer: id });
                record(&shared, Severity::Warning, format!("lost {}", peer.member.name), &error);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let reason = error.to_string();
                if reason != last_refusal {
                    record(
                        &shared,
                        Severity::Alert,
                        format!("{} refuses this node", peer.member.name),
                        &reason,
                    );
                    last_refusal = reason;
                }
            }
            Err(error) => tracing::debug!(peer = peer.member.name, %error, "cannot connect"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT_MOST);
    }
}

fn record(shared: &Shared, severity: Severity, what: String, why: &str) {
    shared.settings.events.record(severity, SUBJECT, what, why);
}

async fn dial(shared: &Shared, peer: &Peer) -> io::Result<TcpStream> {
    let target = peer.member.address;
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Never from a virtual address: it moves, and the connection would not.
    if let Some(own) = shared.own().map(|own| own.address.ip()).filter(|ip| ip.is_ipv4() == target.is_ipv4())
        && !own.is_unspecified()
    {
        socket.bind(SocketAddr::new(own, 0))?;
    }
    let mut stream = timeout(GREETING, socket.connect(target)).await??;
    prepare(&stream)?;
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: shared.settings.cluster.clone(),
        node: shared.settings.id,
        to: peer.member.id,
        level: FEATURE_LEVEL,
        last: shared.last.load(Ordering::Relaxed),
    };
    timeout(GREETING, stream.write_all(&Frame::Hello(hello).encode())).await??;
    match timeout(GREETING, read_frame(&mut stream, decode_header)).await?? {
        Some(Frame::Welcome) => Ok(stream),
        Some(Frame::Refused(reason)) => Err(io::Error::new(io::ErrorKind::PermissionDenied, reason)),
        _ => Err(io::Error::other("it did not answer the hello")),
    }
}

/// Sends what is queued until the connection ends.
async fn talk(shared: &Shared, peer: &Peer, stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut reported: Option<Instant> = None;
    let mut byte = [0u8; 1];
    loop {
        let frame = tokio::select! {
            frame = peer.outbox.next() => frame,
            // Nothing is said on this side of the connection; only its end can be read.
            read = reader.read(&mut byte) => return read.map(|_| ()),
            () = tokio::time::sleep(PING_EVERY) => Frame::Ping { mute: shared.own_silence().is_some() },
        };
        let written = write(shared, &mut writer, &frame).await;
        if matches!(frame, Frame::Snapshot(_)) {
            let sent = matches!(written, Ok(true));
            shared.input_surely(|| Input::SnapshotSent { peer: peer.member.id, sent }).await;
        }
        written?;
        if let Some(report) = report_due(shared, &mut reported) {
            writer.write_all(&report.encode()).await?;
        }
    }
}

/// False if the frame is longer than the peer would take: it would end the connection, and all else with it.
async fn write(shared: &Shared, writer: &mut OwnedWriteHalf, frame: &Frame) -> io::Result<bool> {
    let bytes = frame.encode();
    let header = bytes.first_chunk().copied().unwrap_or_default();
    if let Err(error) = decode_header(header) {
        record(shared, Severity::Alert, "a message was too long to be sent".to_owned(), &error.to_string());
        return Ok(false);
    }
    writer.write_all(&bytes).await.map(|()| true)
}

/// Our report, if it is new or was not sent for a while.
fn report_due(shared: &Shared, sent: &mut Option<Instant>) -> Option<Frame> {
    let report = shared.own_report.lock().unwrap_or_else(PoisonError::into_inner);
    let (bytes, made) = report.as_ref()?;
    if sent.is_some_and(|sent| sent > *made && sent.elapsed() < REPORT_EVERY) {
        return None;
    }
    *sent = Some(Instant::now());
    let age_ms = u64::try_from(made.elapsed().as_millis()).unwrap_or(u64::MAX);
    Some(Frame::Report { age_ms, bytes: bytes.clone() })
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// Kind and length of a frame from its header.
type DecodeHeader = fn([u8; HEADER]) -> Result<(u8, usize), FrameError>;

/// One frame; `None` if its kind is unknown. Memory grows with what arrives, not with what the header claims.
async fn read_frame(stream: &mut TcpStream, header_of: DecodeHeader) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER];
    timeout(READ_IDLE, stream.read_exact(&mut header)).await??;
    let (kind, length) = header_of(header).map_err(io::Error::other)?;
    let mut body = Vec::new();
    let mut rest = stream.take(length as u64);
    let read_all = async {
        while body.len() < length {
            if timeout(READ_IDLE, rest.read_buf(&mut body)).await?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<(), io::Error>(())
    };
    timeout(READ_BODY, read_all).await??;
    decode(kind, &body).map_err(io::Error::other)
}
