//! One request over one connection, with a deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// The server's answer to `GET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The server's name.
    pub server: String,
    /// The peer's address as the server sees it.
    pub peer: String,
}

impl Answer {
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let (server, peer) = text.trim_end().split_once(' ')?;
        peer.parse::<SocketAddr>().ok()?;
        Some(Self { server: server.to_owned(), peer: peer.to_owned() })
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listened.
    Refused,
    /// The connection was reset.
    Reset,
    /// No route or no neighbour.
    Unreachable,
    /// No connection within the deadline.
    ConnectTimeout,
    /// A connection, but no answer within the deadline.
    AnswerTimeout,
    /// Closed before the answer.
    Empty,
    /// Something else came back.
    WrongAnswer,
    /// Another error of the kernel.
    Other(String),
}

impl Failure {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect timeout",
            Self::AnswerTimeout => "answer timeout",
            Self::Empty => "empty",
            Self::WrongAnswer => "wrong answer",
            Self::Other(what) => what,
        }
        .to_owned()
    }

    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Connects (from `source`, if given), asks `GET`, reads the answer and closes.
///
/// # Errors
/// The kind of failure.
pub async fn request(
    target: SocketAddr,
    source: Option<IpAddr>,
    deadline: Duration,
) -> Result<Answer, Failure> {
    let end = Instant::now() + deadline;
    let connecting = timeout_at(end, connect(target, source)).await;
    let mut stream = connecting.map_err(|_| Failure::ConnectTimeout)?.map_err(|error| Failure::of(&error))?;
    match timeout_at(end, exchange(&mut stream)).await {
        Err(_) => Err(Failure::AnswerTimeout),
        Ok(answer) => answer,
    }
}

pub(crate) async fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(stream: &mut TcpStream) -> Result<Answer, Failure> {
    stream.write_all(b"GET\n").await.map_err(|error| Failure::of(&error))?;
    let mut buffer = [0; 256];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await.map_err(|error| Failure::of(&error))?;
        filled += count;
        if let Some(end) = buffer[..filled].iter().position(|byte| *byte == b'\n') {
            return Answer::parse(&buffer[..end]).ok_or(Failure::WrongAnswer);
        }
        if count == 0 {
            return Err(if filled == 0 { Failure::Empty } else { Failure::WrongAnswer });
        }
    }
}
