//! Connections between nodes. Each node opens one to each other and sends on it; what it receives comes over the
//! connections that the others opened.
//!
//! ```text
//!   we ── Hello ──> peer      protocol, cluster, node: wrong ones are refused with the reason
//!   we <─ Welcome ─ peer
//!   we ── frames ─> peer      a ping when there is nothing to say
//! ```
//! Under it lies TLS with certificates on both sides, unless the node's file says `insecure`; who a hello comes from
//! must be who the certificate says.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::authority::Who;
use super::frame::{
    Frame, FrameError, HEADER, Hello, PROTOCOL, REPORT_MAX, decode, decode_first_header, decode_header,
};
use super::join::admit;
use super::keeper;
use super::limits::{
    CONNECTIONS_PER_PEER, GREETING, PING_EVERY, READ_BODY, READ_IDLE, RECONNECT_FIRST, RECONNECT_MOST,
    REPORT_EVERY, STRANGERS, UNACKNOWLEDGED,
};
use super::link::{Bytes, Link, accept, connect};
use super::shared::{Input, Member, Peer, Report, Shared};
use super::store::Epoch;
use crate::events::Severity;
use crate::state::members::MEMBERS_MAX;

const SUBJECT: &str = "cluster";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Listens on the node's own address, also if the address is not there yet.
pub(super) fn listen(address: SocketAddr) -> io::Result<net::TcpListener> {
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
    Ok(socket.into())
}

/// Accepts the other nodes until it is dropped.
pub(super) async fn accept_all(shared: Arc<Shared>, listener: TcpListener) {
    let members = Arc::new(Semaphore::new(CONNECTIONS_PER_PEER * MEMBERS_MAX));
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
        let known = shared.peers().values().any(|peer| peer.member.address.ip() == from.ip());
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

async fn serve(shared: &Arc<Shared>, stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    prepare(&stream)?;
    let mut link = timeout(GREETING, accept(shared.settings.security.as_deref(), stream)).await??;
    let greeting = timeout(GREETING, read_frame(&mut link.bytes, decode_first_header, READ_IDLE)).await??;
    let hello = match greeting {
        Some(Frame::Hello(hello)) => hello,
        Some(Frame::JoinAsk(ask)) => {
            let answer = admit(shared, from, &ask).await;
            return reply(&mut link, &Frame::JoinAnswer(Box::new(answer))).await;
        }
        _ => return Err(io::Error::other("it did not begin with a hello")),
    };
    let epoch = shared.epoch();
    let peer = match greet(shared, &hello, link.who.take(), epoch) {
        Ok(peer) => peer,
        Err(refusal) => {
            if let Frame::Refused(reason) = &refusal {
                refused(shared, &hello, from, reason);
            }
            return reply(&mut link, &refusal).await;
        }
    };
    reply(&mut link, &Frame::Welcome).await?;
    peer.level.store(u64::from(hello.level), Ordering::Relaxed);
    peer.last.fetch_max(hello.last, Ordering::Relaxed);
    peer.mute.store(false, Ordering::Relaxed);
    shared.heard(&peer);
    shared.input_surely(|| Input::Connected { peer: hello.node, last: hello.last }).await;
    loop {
        let frame = read_frame(&mut link.bytes, decode_header, READ_IDLE).await?;
        if shared.epoch_number() != epoch.number {
            return Err(io::Error::other("this node lives in another epoch now"));
        }
        if shared.peer(peer.member.id).is_none_or(|now| !Arc::ptr_eq(&now, &peer)) {
            return Err(io::Error::other("it was removed, or has another address now"));
        }
        shared.heard(&peer);
        if let Some(frame) = frame {
            receive(shared, &peer, frame, epoch.number);
        }
    }
}

async fn reply(link: &mut Link, frame: &Frame) -> io::Result<()> {
    let write = async {
        link.bytes.write_all(&frame.encode()).await?;
        link.bytes.flush().await
    };
    timeout(GREETING, write).await?
}

/// Says once per reason that a node was refused, for it comes again and again.
fn refused(shared: &Shared, hello: &Hello, from: SocketAddr, reason: &str) {
    let mut last = shared.last_refusal.lock().unwrap_or_else(PoisonError::into_inner);
    let known = (from.ip(), reason.to_owned());
    if last.as_ref() != Some(&known) {
        let what = format!("refused node {} of {:?} from {}", hello.node, hello.cluster, from.ip());
        record(shared, Severity::Warning, what, reason);
        *last = Some(known);
    }
}

/// The peer that a hello comes from, or the answer with which it is refused.
fn greet(
    shared: &Arc<Shared>,
    hello: &Hello,
    proved: Option<Result<Who, String>>,
    epoch: Epoch,
) -> Result<Arc<Peer>, Frame> {
    let settings = &shared.settings;
    let refuse = |reason: String| Err(Frame::Refused(reason));
    if hello.protocol != PROTOCOL {
        return refuse(format!(
            "protocol {PROTOCOL} is spoken here, not {}; update the older node",
            hello.protocol
        ));
    }
    if hello.cluster != settings.cluster {
        return refuse(format!("this is the cluster {:?}, not {:?}", settings.cluster, hello.cluster));
    }
    match proved {
        Some(Err(reason)) => return refuse(format!("node {} is not believed: {reason}", hello.node)),
        Some(Ok(who)) if who.id != hello.node || who.cluster != hello.cluster => {
            let named = format!("node {} of {:?}", who.id, who.cluster);
            return refuse(format!(
                "it says to be node {}, and its certificate is that of {named}",
                hello.node
            ));
        }
        _ => {}
    }
    if hello.node == settings.id {
        return refuse(format!("this is node {0} itself; two nodes have the id {0}", settings.id));
    }
    if hello.to != settings.id {
        return refuse(format!(
            "this is node {}, not {}; check the addresses of the members",
            settings.id, hello.to
        ));
    }
    if shared.published.load().members.was_removed(hello.node) {
        record(
            shared,
            Severity::Warning,
            format!("{} was removed and came back", hello.name),
            "it was told so",
        );
        return Err(Frame::Removed);
    }
    let peer = known(shared, hello, proved.is_some())?;
    same_epoch(shared, hello, epoch)?;
    Ok(peer)
}

/// The peer, or a new one: another member may have been let in while this node was away.
fn known(shared: &Arc<Shared>, hello: &Hello, proved: bool) -> Result<Arc<Peer>, Frame> {
    if let Some(peer) = shared.peer(hello.node) {
        return Ok(peer);
    }
    let address = hello.address.parse().ok().filter(|_| proved && !hello.name.is_empty());
    let Some(address) = address else {
        let reason = format!("node {} is no member here; the lists of members must be the same", hello.node);
        return Err(Frame::Refused(reason));
    };
    Ok(shared.meet(Member { id: hello.node, name: hello.name.clone(), address, witness: false }))
}

/// Nodes of different epochs exchange nothing; the one that is behind follows.
fn same_epoch(shared: &Shared, hello: &Hello, ours: Epoch) -> Result<(), Frame> {
    let theirs = hello.epoch.unwrap_or_default();
    if theirs == ours {
        return Ok(());
    }
    if theirs.number < ours.number {
        return Err(Frame::Behind(ours));
    }
    if theirs.number > ours.number {
        shared.input(Input::Adopt { from: hello.node, epoch: theirs });
        return Err(Frame::Refused(
            "the cluster was recovered without this node, which follows now".to_owned(),
        ));
    }
    let (own, other) = (shared.name_of(ours.node), shared.name_of(theirs.node));
    Err(Frame::Refused(format!(
        "{own} and {other} were recovered apart from each other; decide which of them is right, stop the other, \
         move its raft.redb away and start it again"
    )))
}

fn receive(shared: &Arc<Shared>, peer: &Peer, frame: Frame, epoch: u64) {
    let from = peer.member.id;
    let lock_report = || peer.report.lock().unwrap_or_else(PoisonError::into_inner);
    match frame {
        Frame::Raft(message) | Frame::Snapshot(message) => {
            let size = prost::Message::encoded_len(&*message);
            // A full inbox loses the message; raft repeats it.
            shared.input(Input::Raft { from, message, size, epoch });
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
        Frame::Lead => {
            shared.input(Input::LeadWish { from });
        }
        Frame::CertificateAsk(key) => keeper::sign_for(shared, peer, &key),
        Frame::CertificateAnswer(pem) => keeper::answered(shared, &pem),
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
        Frame::Report { .. }
        | Frame::Hello(_)
        | Frame::Welcome
        | Frame::Refused(_)
        | Frame::JoinAsk(_)
        | Frame::JoinAnswer(_)
        | Frame::Behind(_)
        | Frame::Removed => {}
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
pub(super) async fn connect_forever(shared: Arc<Shared>, peer: Arc<Peer>) {
    let (id, peer) = (peer.member.id, &*peer);
    let mut pause = RECONNECT_FIRST;
    let mut last_refusal = String::new();
    loop {
        match dial(&shared, peer).await {
            Ok(link) => {
                pause = RECONNECT_FIRST;
                last_refusal.clear();
                record(&shared, Severity::Info, format!("connected to {}", peer.member.name), "");
                peer.outbox.open();
                let error = match talk(&shared, peer, link).await {
                    Ok(()) => "it closed the connection".to_owned(),
                    Err(error) => error.to_string(),
                };
                if peer.outbox.close() {
                    shared.input_surely(|| Input::SnapshotSent { peer: id, sent: false }).await;
                }
                shared.input(Input::Unreachable { peer: id });
                record(&shared, Severity::Warning, format!("lost {}", peer.member.name), &error);
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData) =>
            {
                let (reason, name) = (error.to_string(), &peer.member.name);
                if reason != last_refusal {
                    let what = match error.kind() {
                        io::ErrorKind::PermissionDenied => format!("{name} refuses this node"),
                        _ => format!("{name} is refused: it does not prove who it is"),
                    };
                    record(&shared, Severity::Alert, what, &reason);
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

async fn dial(shared: &Shared, peer: &Peer) -> io::Result<Link> {
    let target = peer.member.address;
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let own = shared.own();
    // Never from a virtual address: it moves, and the connection would not.
    if let Some(own) = own.as_ref().map(|own| own.address.ip()).filter(|ip| ip.is_ipv4() == target.is_ipv4())
        && !own.is_unspecified()
    {
        socket.bind(SocketAddr::new(own, 0))?;
    }
    let stream = timeout(GREETING, socket.connect(target)).await??;
    prepare(&stream)?;
    let mut link = timeout(GREETING, connect(shared.settings.security.as_deref(), stream)).await??;
    believe(peer, link.who.take())?;
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: shared.settings.cluster.clone(),
        node: shared.settings.id,
        to: peer.member.id,
        level: shared.settings.level,
        last: shared.last.load(Ordering::Relaxed),
        epoch: Some(shared.epoch()),
        name: own.as_ref().map(|own| own.name.clone()).unwrap_or_default(),
        address: own.map(|own| own.address.to_string()).unwrap_or_default(),
    };
    reply(&mut link, &Frame::Hello(Box::new(hello))).await?;
    let denied = |reason: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    match timeout(GREETING, read_frame(&mut link.bytes, decode_header, READ_IDLE)).await?? {
        Some(Frame::Welcome) => Ok(link),
        Some(Frame::Refused(reason)) => denied(&reason),
        Some(Frame::Behind(epoch)) => {
            shared.input(Input::Adopt { from: peer.member.id, epoch });
            denied("the cluster was recovered without this node, which follows now")
        }
        Some(Frame::Removed) => {
            shared.input(Input::Removed);
            denied("this node was removed from the cluster")
        }
        _ => Err(io::Error::other("it did not answer the hello")),
    }
}

/// The node that we have called must be the one that we meant.
fn believe(peer: &Peer, proved: Option<Result<Who, String>>) -> io::Result<()> {
    let wrong = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    match proved {
        Some(Err(reason)) => wrong(reason),
        Some(Ok(who)) if who.id != peer.member.id => wrong(format!(
            "the node there is {} (node {}), not node {}; check the addresses of the members",
            who.name, who.id, peer.member.id
        )),
        _ => Ok(()),
    }
}

/// Sends what is queued until the connection ends.
async fn talk(shared: &Shared, peer: &Peer, link: Link) -> io::Result<()> {
    let epoch = shared.epoch_number();
    let (mut reader, mut writer) = tokio::io::split(link.bytes);
    let mut reported: Option<Instant> = None;
    let mut byte = [0u8; 1];
    loop {
        let frame = tokio::select! {
            frame = peer.outbox.next() => frame,
            // Nothing is said on this side of the connection; only its end can be read.
            read = reader.read(&mut byte) => return read.map(|_| ()),
            () = tokio::time::sleep(PING_EVERY) => Frame::Ping { mute: shared.own_silence().is_some() },
        };
        if shared.epoch_number() != epoch {
            return Err(io::Error::other("this node lives in another epoch now"));
        }
        let written = write(shared, &mut writer, &frame).await;
        if matches!(frame, Frame::Snapshot(_)) {
            let sent = matches!(written, Ok(true));
            shared.input_surely(|| Input::SnapshotSent { peer: peer.member.id, sent }).await;
        }
        written?;
        if let Some(report) = report_due(shared, &mut reported) {
            writer.write_all(&report.encode()).await?;
            writer.flush().await?;
        }
    }
}

/// False if the frame is longer than the peer would take: it would end the connection, and all else with it.
async fn write(shared: &Shared, writer: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<bool> {
    let bytes = frame.encode();
    let header = bytes.first_chunk().copied().unwrap_or_default();
    if let Err(error) = decode_header(header) {
        record(shared, Severity::Alert, "a message was too long to be sent".to_owned(), &error.to_string());
        return Ok(false);
    }
    writer.write_all(&bytes).await?;
    writer.flush().await.map(|()| true)
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
pub(super) type DecodeHeader = fn([u8; HEADER]) -> Result<(u8, usize), FrameError>;

/// One frame; `None` if its kind is unknown. Memory grows with what arrives, not with what the header claims.
/// `patience`: for the header; an answer that needs a commit takes longer than a ping.
pub(super) async fn read_frame(
    stream: &mut Box<dyn Bytes>,
    header_of: DecodeHeader,
    patience: Duration,
) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER];
    timeout(patience.min(READ_BODY), stream.read_exact(&mut header)).await??;
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
