//! A server that says who it is and whom it sees, and reports how each of its sessions ended.
//!
//! One request a line, as many lines as the client likes:
//! - `GET` is answered with `NAME PEER`, PEER being the address that the server sees;
//! - `SESSION id` the same, and from then on each line comes back as it is; the session's fate is reported;
//! - `STREAM id ms` as SESSION, and the server writes `tick N` every so many milliseconds on its own.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::process::{self, Process};
use crate::wait;

/// A line longer than this ends the session when it is complete: nothing in the lab needs more.
const MAX_LINE: usize = 4096;
/// How long the start of a server may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What became of a session, one line of JSON in the server's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// The name that the client gave it.
    pub session: String,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// `open`, `eof`, `reset` or another error.
    pub fate: String,
    /// Lines received.
    pub received: u64,
    /// Lines written.
    pub sent: u64,
    /// When this was written, ms since 1970.
    pub unix_ms: u64,
}

/// A server that runs in a node.
#[derive(Debug)]
pub struct Backend {
    /// The process.
    pub process: Process,
    name: String,
    address: SocketAddr,
}

impl Backend {
    /// Starts the server `node` in the node of that name and waits until it listens.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(node: &str, address: SocketAddr) -> Result<Self> {
        let mut command: Command = process::in_node(node, process::lab_program()?);
        command.args(["backend", "--name", node, "--listen", &address.to_string()]);
        let process = Process::start(node, command)?;
        wait::until(START_LIMIT, "the server to listen", || {
            Ok(process.log().contains("\"listening\"").then_some(()))
        })?;
        Ok(Self { process, name: node.to_owned(), address })
    }

    /// The node's and server's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The newest report on each session, in the order of their start.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionReport> {
        let mut sessions: Vec<SessionReport> = Vec::new();
        for line in self.process.log().lines() {
            let Ok(report) = serde_json::from_str::<SessionReport>(line) else { continue };
            let known =
                sessions.iter().position(|old| old.session == report.session && old.peer == report.peer);
            match known {
                Some(at) => sessions[at] = report,
                None => sessions.push(report),
            }
        }
        sessions
    }
}

/// The server's whole life. It ends with the process.
///
/// # Errors
/// If it cannot listen.
pub async fn serve(name: &str, listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    println!("{{\"listening\":\"{listen}\"}}");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let name = name.to_owned();
                tokio::spawn(async move { Session::run(stream, peer, &name).await });
            }
            // Out of descriptors or a connection that is gone already: the next one may do.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

struct Session {
    report: Option<SessionReport>,
    peer: SocketAddr,
    ticks: Option<Interval>,
    lines: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Session {
    async fn run(stream: TcpStream, peer: SocketAddr, name: &str) {
        // Without it the loss of speed would be seen, not an error.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let lines = BufReader::with_capacity(MAX_LINE, read);
        let mut session = Self { report: None, peer, ticks: None, lines, write };
        let fate = match session.serve(name).await {
            Ok(()) => "eof".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => "reset".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => "reset".to_owned(),
            Err(error) => error.to_string(),
        };
        session.tell(&fate);
    }

    async fn serve(&mut self, name: &str) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            tokio::select! {
                // Cancel safe: what has been read stays in `line`.
                read = self.lines.read_until(b'\n', &mut line) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    if line.len() > MAX_LINE {
                        return Err(io::Error::other("line too long"));
                    }
                    self.answer(name, &line).await?;
                    line.clear();
                }
                () = tick(&mut self.ticks) => {
                    let number = self.report.as_ref().map_or(0, |report| report.sent);
                    self.send(format!("tick {number}\n").as_bytes()).await?;
                }
            }
        }
    }

    async fn answer(&mut self, name: &str, line: &[u8]) -> io::Result<()> {
        if let Some(report) = &mut self.report {
            report.received += 1;
            return self.send(line).await;
        }
        let text = String::from_utf8_lossy(line);
        let mut words = text.split_whitespace();
        let kind = words.next().unwrap_or_default();
        if matches!(kind, "SESSION" | "STREAM") {
            let session = words.next().unwrap_or("unnamed").to_owned();
            let report = SessionReport {
                session,
                peer: self.peer,
                fate: String::new(),
                received: 1,
                sent: 0,
                unix_ms: 0,
            };
            self.report = Some(report);
            self.tell("open");
            if let Some(ms) = words.next().and_then(|word| word.parse().ok()).filter(|ms| *ms > 0) {
                let mut ticks = interval(Duration::from_millis(ms));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                self.ticks = Some(ticks);
            }
        }
        self.send(format!("{name} {}\n", self.peer).as_bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(report) = &mut self.report {
            report.sent += 1;
        }
        self.write.write_all(bytes).await
    }

    fn tell(&mut self, fate: &str) {
        let Some(report) = &mut self.report else { return };
        fate.clone_into(&mut report.fate);
        report.unix_ms = crate::probe::unix_ms();
        if let Ok(line) = serde_json::to_string(report) {
            println!("{line}");
        }
    }
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}
