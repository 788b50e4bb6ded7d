//! The client's side of a script, and what both sides have in common.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

use super::script::{DOWN, Random, UP};
use super::{At, Dress, End, Ending, Script, Seen};

/// The most bytes of one read or write.
const PIECE_MAX: u64 = 48 * 1024;
/// Of the directions with fewer bytes than this...
const TRICKLE_MAX: u64 = 2048;
/// ...one in so many is sent one or two bytes at a time.
const TRICKLES_ONE_IN: u64 = 4;
/// One piece in so many comes after a stall...
const STALLS_ONE_IN: u64 = 40;
/// ...of at most so many milliseconds.
const STALL_MAX_MS: u64 = 120;

/// A socket of either kind.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

pub(super) trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// Whatever is spoken over it.
pub(super) type Stream = Box<dyn Both>;

impl Socket {
    async fn connect(at: &At) -> io::Result<Self> {
        Ok(match at {
            At::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Small pieces are to arrive as such.
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            At::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
        })
    }

    pub(super) fn stream(self) -> Stream {
        match self {
            Self::Tcp(stream) => Box::new(stream),
            Self::Unix(stream) => Box::new(stream),
        }
    }

    /// A second handle, to say how it is to end after it has been given away.
    pub(super) fn control(&self) -> io::Result<Control> {
        Ok(Control(match self {
            Self::Tcp(stream) => Some(socket2::SockRef::from(stream).try_clone()?),
            Self::Unix(_) => None,
        }))
    }
}

/// A second handle of a socket. The socket is closed when both are dropped.
pub(super) struct Control(Option<socket2::Socket>);

impl Control {
    /// Whether its end, when it is dropped, is a reset. A Unix socket knows none.
    pub(super) fn abrupt(&self, abrupt: bool) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |socket| socket.set_linger(abrupt.then_some(Duration::ZERO)))
    }
}

pub(super) async fn play(front: &At, dress: &Dress, script: &Script) -> io::Result<Seen> {
    let socket = Socket::connect(front).await?;
    let control = socket.control()?;
    control.abrupt(script.ending == Ending::ClientResets)?;
    let (read, write) = split(dress.of_client(socket.stream(), script).await?);
    let way = Way { script, direction: UP, bytes: script.up, breaks: script.ending == Ending::ClientResets };
    Ok(both(way, DOWN, script.down, read, write, script.client_waits(), true).await.0)
}

pub(super) type Halves = (ReadHalf<Stream>, WriteHalf<Stream>);

/// One direction that is to be sent.
pub(super) struct Way<'a> {
    pub(super) script: &'a Script,
    pub(super) direction: u64,
    pub(super) bytes: u64,
    /// In the middle it is broken off.
    pub(super) breaks: bool,
}

/// Sends one way and reads the other, both at their own pace.
pub(super) async fn both(
    way: Way<'_>,
    other: u64,
    expected: u64,
    mut read: ReadHalf<Stream>,
    mut write: WriteHalf<Stream>,
    waits: bool,
    greets: bool,
) -> (Seen, Halves) {
    let (heard_end, end) = watch::channel(false);
    let script = way.script;
    let mut seen = Seen { received: 0, wrong_at: None, end: End::Broken };
    let (breaks, mut told) = (way.breaks, false);
    {
        let reading = receive(script, other, expected, &mut read, &mut seen, heard_end);
        let sending = send(way, &mut write, waits.then_some(end), greets);
        if breaks {
            // Whoever breaks off does not wait for the other way.
            tokio::pin!(reading, sending);
            tokio::select! {
                _ = &mut sending => {}
                () = &mut reading => { let _ = sending.await; }
            }
        } else {
            let sent = tokio::join!(reading, sending).1;
            // The kernel tells of a reset once. If it told the sender, the reader only saw an end.
            told = !waits && sent.is_err();
        }
    }
    if told {
        seen.end = End::Broken;
    }
    (seen, (read, write))
}

async fn send(
    way: Way<'_>,
    write: &mut WriteHalf<Stream>,
    waits: Option<watch::Receiver<bool>>,
    greets: bool,
) -> io::Result<()> {
    if greets {
        write.write_all(&way.script.number.to_be_bytes()).await?;
    }
    if let Some(mut end) = waits {
        // The other side is gone: there is nobody to send to.
        let _ = end.wait_for(|heard| *heard).await;
    }
    let bytes = if way.breaks { way.script.breaks_after } else { way.bytes };
    let (mut at, mut dice, mut piece) = (0, way.script.dice(way.direction), Vec::new());
    let is_trickle = bytes < TRICKLE_MAX && dice.below(TRICKLES_ONE_IN) == 0;
    let most = if is_trickle { 2 } else { PIECE_MAX };
    while at < bytes {
        let length = (1 + dice.below(most)).min(bytes - at);
        piece.resize(usize::try_from(length).unwrap_or_default(), 0);
        way.script.fill(way.direction, at, &mut piece);
        stall(&mut dice).await;
        write.write_all(&piece).await?;
        at += length;
    }
    if way.breaks { Ok(()) } else { write.shutdown().await }
}

async fn receive(
    script: &Script,
    direction: u64,
    expected: u64,
    read: &mut ReadHalf<Stream>,
    seen: &mut Seen,
    heard_end: watch::Sender<bool>,
) {
    let mut dice = script.dice(direction ^ 0xff);
    let (mut bytes, mut right) = (Vec::new(), Vec::new());
    loop {
        stall(&mut dice).await;
        bytes.resize(usize::try_from(1 + dice.below(PIECE_MAX)).unwrap_or(1), 0);
        match read.read(&mut bytes).await {
            Ok(0) => {
                seen.end = End::Eof;
                break;
            }
            Err(_) => break,
            Ok(count) => {
                right.resize(count, 0);
                script.fill(direction, seen.received, &mut right);
                let wrong = bytes.iter().zip(&right).position(|(is, should)| is != should);
                if let Some(wrong) = wrong.filter(|_| seen.wrong_at.is_none()) {
                    seen.wrong_at = Some(seen.received + wrong as u64);
                }
                seen.received += count as u64;
                if seen.received > expected && seen.wrong_at.is_none() {
                    seen.wrong_at = Some(expected);
                }
            }
        }
    }
    // Nobody may be waiting for it.
    let _ = heard_end.send(true);
}

async fn stall(dice: &mut Random) {
    if dice.below(STALLS_ONE_IN) == 0 {
        sleep(Duration::from_millis(dice.below(STALL_MAX_MS))).await;
    }
}
