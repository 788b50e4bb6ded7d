//! A client that opens one stream and then only listens: what becomes of it is the server's to say.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::request::{Answer, connect};
use crate::process::{self, Process};
use crate::wait;

/// How long the stream may take to begin.
const LIMIT: Duration = Duration::from_secs(10);

/// A stream that a node holds open without ever sending again. Dropping it kills the client.
#[derive(Debug)]
pub struct Held {
    /// The client.
    pub process: Process,
    name: String,
}

impl Held {
    /// Opens the stream `name` from `node`: the server writes a line every `every`.
    ///
    /// # Errors
    /// If the stream does not begin.
    pub fn start(node: &str, target: SocketAddr, name: &str, every: Duration) -> Result<Self> {
        let mut command = process::in_node(node, process::lab_program()?);
        command.args(["hold", "--target", &target.to_string(), "--name", name]);
        command.args(["--every-ms", &every.as_millis().to_string()]).stdin(Stdio::null());
        let process = Process::start(&format!("hold-{name}"), command)?;
        wait::until(LIMIT, "the stream to begin", || Ok(process.log().contains("tick").then_some(())))?;
        Ok(Self { process, name: name.to_owned() })
    }

    /// The stream's name; the server's report has the same.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The client's life: prints each line that comes.
///
/// # Errors
/// How the stream ended.
pub async fn hold(target: SocketAddr, name: &str, every: Duration) -> Result<()> {
    let stream = timeout(LIMIT, connect(target, None)).await.context("no connection")??;
    let mut lines = BufReader::new(stream);
    lines.get_mut().write_all(format!("STREAM {name} {}\n", every.as_millis()).as_bytes()).await?;
    let mut line = String::new();
    lines.read_line(&mut line).await?;
    Answer::parse(line.as_bytes()).with_context(|| format!("wrong answer {line:?}"))?;
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            bail!("end of file");
        }
        print!("{line}");
    }
}
