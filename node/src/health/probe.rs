//! One check of one server, over the network.
//!
//! It starts from where the server's connections start, never from a virtual address, and reads no more than it needs.
//! A connection is given up with a reset: neither side keeps a port in TIME_WAIT for it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use cygnet_netlink::socket::{self, Origin};
use cygnet_netlink::udp;
use openssl::ssl::Ssl;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_openssl::SslStream;

use super::verdict::Outcome;
use crate::config::model::{Check, CheckKind, Endpoint, HttpCheck, Talk};
use crate::config::shortened;
use crate::plan::{Ready, Start};
use crate::proxy::http::Answer;
use crate::proxy::is_local;
use crate::proxy::tls::{ClientContext, TlsError};

/// Longest reason of a failure, characters: it stands in tables and events.
const REASON_MAX: usize = 160;
/// Read at a time. Heads of answers are mostly shorter.
const READ_BYTES: usize = 2048;

/// Whom to ask, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server, with the port that is asked.
    pub address: Endpoint,
    /// Where to start from, or why there is no way there.
    pub start: Result<Start, Arc<str>>,
    /// The server speaks TLS; or why we cannot.
    pub tls: Option<Ready<ClientContext>>,
    /// What to ask.
    pub check: Arc<Check>,
}

/// How far a check came.
const CONNECT: u8 = 0;
const HANDSHAKE: u8 = 1;
const ANSWER: u8 = 2;

enum Failure {
    Server(String),
    Local(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let text = words(&error);
        if is_local(&error) { Self::Local(text) } else { Self::Server(text) }
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::Server(format!("TLS: {error}"))
    }
}

/// What the kernel says, without its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Asks a server, and gives up after the check's timeout.
pub async fn probe(target: &Target) -> Outcome {
    let (began, limit) = (Instant::now(), target.check.timeout);
    let stage = AtomicU8::new(CONNECT);
    match timeout(limit, ask(target, &stage)).await {
        Ok(Ok(())) => Outcome::Passed(began.elapsed()),
        Ok(Err(Failure::Server(reason))) => Outcome::Failed(cut(&reason)),
        Ok(Err(Failure::Local(reason))) => Outcome::NotAsked(cut(&reason)),
        Err(_) => Outcome::Failed(late(stage.load(Ordering::Relaxed), limit)),
    }
}

fn late(stage: u8, limit: Duration) -> String {
    let what = match stage {
        CONNECT => "no connection",
        HANDSHAKE => "no TLS handshake",
        _ => "no answer",
    };
    format!("{what} within {limit:?}")
}

fn cut(reason: &str) -> String {
    reason.chars().take(REASON_MAX).collect()
}

async fn ask(target: &Target, stage: &AtomicU8) -> Result<(), Failure> {
    let start = target.start.as_ref().map_err(|reason| Failure::Server(reason.to_string()))?;
    match &target.check.kind {
        CheckKind::Udp(talk) => {
            stage.store(ANSWER, Ordering::Relaxed);
            let Endpoint::Inet(address) = target.address else {
                return Err(Failure::Local("a Unix socket carries no datagrams here".to_owned()));
            };
            datagram(address, *start, talk).await
        }
        CheckKind::Tcp(talk) => {
            let stream = connect(&target.address, *start).await?;
            stage.store(ANSWER, Ordering::Relaxed);
            converse(stream, talk).await
        }
        CheckKind::Tls(talk) => {
            let stream = connect(&target.address, *start).await?;
            let stream = secure(stream, target, stage).await?;
            converse(stream, talk).await
        }
        CheckKind::Http(http) => {
            let stream = connect(&target.address, *start).await?;
            match target.tls {
                Some(_) => request(secure(stream, target, stage).await?, http, target).await,
                None => {
                    stage.store(ANSWER, Ordering::Relaxed);
                    request(stream, http, target).await
                }
            }
        }
    }
}

/// A stream of bytes.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

type Stream = Box<dyn Bytes>;

async fn connect(address: &Endpoint, start: Start) -> Result<Stream, Failure> {
    match address {
        Endpoint::Inet(address) => {
            let origin = start.address().map_or(Origin::Kernel, Origin::Address);
            let socket = socket::connect(*address, origin)?;
            SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
            let stream = TcpStream::from_std(socket.into())?;
            stream.writable().await?;
            match stream.take_error()? {
                Some(error) => Err(error.into()),
                None => Ok(Box::new(stream)),
            }
        }
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            Ok(Box::new(stream))
        }
    }
}

/// The handshake as the connections to this server have it, with the same authorities and name.
async fn secure(stream: Stream, target: &Target, stage: &AtomicU8) -> Result<Stream, Failure> {
    stage.store(HANDSHAKE, Ordering::Relaxed);
    let Some(context) = &target.tls else {
        return Err(Failure::Local("nobody says whose certificate the server must have".to_owned()));
    };
    let context = context.as_ref().map_err(|reason| Failure::Server(reason.to_string()))?;
    let name = target.address.inet().map(|address| address.ip().to_string());
    let ssl: Ssl = context.ssl(name.as_deref(), None)?;
    let mut stream = SslStream::new(ssl, stream).map_err(TlsError::from)?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        return Err(match error.io_error() {
            Some(error) => Failure::Server(format!("during the TLS handshake: {}", words(error))),
            None => TlsError::of(stream.ssl(), &error, false).into(),
        });
    }
    stage.store(ANSWER, Ordering::Relaxed);
    Ok(Box::new(stream))
}

/// The next bytes. An end is none.
async fn read(stream: &mut Stream, buffer: &mut [u8]) -> Result<usize, Failure> {
    Ok(stream.read(buffer).await?)
}

/// A server over TLS is told that we go; a reset alone looks like an attack to some.
async fn leave(stream: &mut Stream) {
    let _ = stream.shutdown().await;
}

async fn converse(mut stream: Stream, talk: &Talk) -> Result<(), Failure> {
    stream.write_all(&talk.send).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(talk.expect.len());
    while answer.len() < talk.expect.len() {
        let mut buffer = [0; READ_BYTES];
        let room = (talk.expect.len() - answer.len()).min(READ_BYTES);
        let count = read(&mut stream, &mut buffer[..room]).await?;
        answer.extend_from_slice(&buffer[..count]);
        if count == 0 || !talk.expect.starts_with(&answer) {
            return Err(unexpected(&answer, talk));
        }
    }
    leave(&mut stream).await;
    Ok(())
}

fn unexpected(answer: &[u8], talk: &Talk) -> Failure {
    let shown = |bytes: &[u8]| shortened(&String::from_utf8_lossy(bytes));
    let expected = shown(&talk.expect);
    Failure::Server(match answer {
        [] => format!("the connection ended without \"{expected}\""),
        _ => format!("answered \"{}\" instead of \"{expected}\"", shown(answer)),
    })
}

async fn request(mut stream: Stream, http: &HttpCheck, target: &Target) -> Result<(), Failure> {
    let method = if http.head { "HEAD" } else { "GET" };
    let host = host(http, target);
    let text = format!(
        "{method} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: cygnet-check\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        http.path
    );
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Answer::default();
    let mut buffer = [0; READ_BYTES];
    loop {
        let count = read(&mut stream, &mut buffer).await?;
        if count == 0 {
            return Err(Failure::Server(
                "the connection ended before the head of an answer was whole".to_owned(),
            ));
        }
        let fed = answer.feed(&buffer[..count]).map_err(|reason| Failure::Server(reason.to_owned()))?;
        match fed {
            None => {}
            Some(status) if http.expect.has(status) => break,
            Some(status) => {
                leave(&mut stream).await;
                return Err(Failure::Server(format!("HTTP {status} instead of {}", http.expect)));
            }
        }
    }
    leave(&mut stream).await;
    Ok(())
}

/// What was configured, else the name that its certificate has, else its address.
fn host(http: &HttpCheck, target: &Target) -> String {
    let name = || target.tls.as_ref()?.as_ref().ok()?.name().map(str::to_owned);
    let address = || match &target.address {
        Endpoint::Inet(address) => address.to_string(),
        Endpoint::Unix(_) => "localhost".to_owned(),
    };
    http.host.clone().or_else(name).unwrap_or_else(address)
}

async fn datagram(address: SocketAddr, start: Start, talk: &Talk) -> Result<(), Failure> {
    let origin = match start.address() {
        Some(source) => udp::Origin::Own(source),
        None => udp::Origin::Kernel { v6: address.is_ipv6() },
    };
    let socket = UdpSocket::from_std(udp::Upstream::connect(address, origin)?.into())?;
    socket.send(&talk.send).await?;
    let mut buffer = [0; READ_BYTES];
    let count = socket.recv(&mut buffer).await?;
    let answer = &buffer[..count];
    if answer.starts_with(&talk.expect) {
        return Ok(());
    }
    let shown = &answer[..count.min(talk.expect.len().max(1))];
    Err(match shown {
        [] => Failure::Server("answered an empty datagram".to_owned()),
        shown => unexpected(shown, talk),
    })
}

#[cfg(test)]
mod tests;
