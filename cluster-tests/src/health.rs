//! A server that only answers health checks, with the status that a file names: what the application beside a server says of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::enter;
use crate::process::{self, Process};
use crate::wait;

/// How long the start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(10);
/// A check that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// The server, in a node.
#[derive(Debug)]
pub struct Health {
    _process: Process,
    file: PathBuf,
}

impl Health {
    /// Starts it in `node`, answering 200, and waits until it listens.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(node: &str, address: SocketAddr) -> Result<Self> {
        let file = Path::new(enter::FILES).join(format!("health-{node}"));
        std::fs::write(&file, "200")?;
        let mut command = process::in_node(node, process::lab_program()?);
        command.args(["health", "--listen", &address.to_string(), "--file", &file.display().to_string()]);
        let process = Process::start(&format!("health-{node}"), command)?;
        wait::until(START_LIMIT, "the health server to listen", || {
            Ok(process.log().contains("listening").then_some(()))
        })?;
        Ok(Self { _process: process, file })
    }

    /// Answers with this status from now on.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn answer(&self, status: u16) -> Result<()> {
        // Renamed, so that nobody reads half of it.
        let new = self.file.with_extension("new");
        std::fs::write(&new, status.to_string())?;
        Ok(std::fs::rename(new, &self.file)?)
    }
}

/// The server's whole life.
///
/// # Errors
/// If it cannot listen.
pub fn serve(listen: SocketAddr, file: &Path) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    println!("listening on {listen}");
    for stream in listener.incoming() {
        // Whoever hung up has had enough.
        let _ = stream.and_then(|stream| answer(&stream, file));
    }
    Ok(())
}

fn answer(stream: &TcpStream, file: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let status = std::fs::read_to_string(file)?;
    write!(&mut &*stream, "HTTP/1.1 {status} As Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
