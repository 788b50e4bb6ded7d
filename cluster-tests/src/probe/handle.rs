//! A prober that runs in the client's node, as a scenario holds it.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Report, Settings, Tick};
use crate::{command, process, wait};

/// How long the prober may take to get its first answers, or to write its report.
const LIMIT: Duration = Duration::from_secs(20);
/// So many answers without a failure: the service works.
const WARM: u64 = 100;

#[derive(Default)]
struct Heard {
    tick: Tick,
    report: Option<Report>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Tick(Tick),
    Report(Box<Report>),
}

/// A running prober. Dropping it ends it.
pub struct Probe {
    child: Child,
    heard: Arc<Mutex<Heard>>,
    reader: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts a prober in `node`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(node: &str, settings: &Settings) -> Result<Self> {
        let mut child = process::in_node(node, process::lab_program()?)
            .args(["probe", "--target", &settings.target.to_string()])
            .args(["--interval-us", &settings.interval.as_micros().to_string()])
            .args(["--deadline-ms", &settings.deadline.as_millis().to_string()])
            .args(["--sessions", &settings.sessions.to_string()])
            .args(["--session-interval-ms", &settings.session_interval.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the prober")?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let shared = Arc::clone(&heard);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { continue };
                let mut heard = shared.lock().unwrap_or_else(PoisonError::into_inner);
                match line {
                    Line::Tick(tick) => heard.tick = tick,
                    Line::Report(report) => heard.report = Some(*report),
                }
            }
        });
        Ok(Self { child, heard, reader: Some(reader) })
    }

    /// Starts one and waits until the service answers it without failures.
    ///
    /// # Errors
    /// If the service does not answer.
    pub fn start_warm(node: &str, settings: &Settings) -> Result<Self> {
        let probe = Self::start(node, settings)?;
        wait::until(LIMIT, "the service to answer the prober", || {
            let tick = probe.tick();
            Ok((tick.succeeded >= WARM && tick.last_success_ms > tick.last_failure_ms).then_some(()))
        })?;
        Ok(probe)
    }

    /// Its newest state.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).tick.clone()
    }

    /// Waits until the service has worked for `quiet` without a failure, not counting what was before `since_ms` (ms
    /// since 1970, the time of the fault).
    ///
    /// # Errors
    /// If that has not come within `limit`.
    pub fn settled(&self, since_ms: u64, quiet: Duration, limit: Duration) -> Result<()> {
        let outcome = wait::until(limit, "the service to work again", || {
            Ok(self.has_settled(since_ms, quiet).then_some(()))
        });
        outcome.with_context(|| format!("{:?}", self.tick()))
    }

    /// Whether the service has worked for `quiet` without a failure since `since_ms`.
    #[must_use]
    pub fn has_settled(&self, since_ms: u64, quiet: Duration) -> bool {
        let tick = self.tick();
        let bad_until = u128::from(tick.last_failure_ms.max(since_ms));
        u128::from(tick.last_success_ms) >= bad_until + quiet.as_millis()
    }

    /// Ends it and gives its report.
    ///
    /// # Errors
    /// If it has died.
    pub fn finish(mut self) -> Result<Report> {
        drop(self.child.stdin.take());
        wait::until(LIMIT, "the prober to end", || Ok(self.child.try_wait()?))?;
        if let Some(reader) = self.reader.take() {
            // Its end is the end of the output; a panic in it shows as a missing report.
            let _ = reader.join();
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.report.take().context("the prober ended without a report")
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request from `node` (and `source`); the server's name and the peer that it saw.
///
/// # Errors
/// If it fails.
pub fn ask(node: &str, target: SocketAddr, source: Option<IpAddr>) -> Result<(String, String)> {
    let program = process::lab_program()?;
    let mut args = vec![format!("--net=/run/netns/{node}"), "--".into(), program.display().to_string()];
    args.extend(["ask".into(), "--target".into(), target.to_string()]);
    if let Some(source) = source {
        args.extend(["--source".into(), source.to_string()]);
    }
    let said = command::run("nsenter", &args)?;
    let (server, peer) = said.trim().split_once(' ').with_context(|| said.clone())?;
    Ok((server.to_owned(), peer.to_owned()))
}
