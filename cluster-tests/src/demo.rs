//! The demonstration: in less than a minute a pair shares an address, serves, dies and takes over, before one's eyes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::Signal;
use crate::enter;
use crate::pair::{BALANCERS, CLIENT, SERVICE, VIP, front_address};
use crate::peers::cygnet::{self, ClusterSettings, LIMIT, NodeSettings, VipFacts};
use crate::probe::{self, Held, Probe, Report, unix_ms};
use crate::scenario::CygnetPair;
use crate::wait;

/// Between two lines of the live view.
const LINE: Duration = Duration::from_millis(500);
/// Between two looks at the nodes' events.
const LOOK: Duration = Duration::from_millis(50);
/// So long the service is watched after each step.
const QUIET: Duration = Duration::from_millis(1500);

/// Runs it in a lab of its own.
///
/// # Errors
/// If one of the steps did not happen.
pub fn run() -> Result<()> {
    // Before anything is built: a clear word if the program is missing.
    cygnet::program()?;
    enter::program(|| Demo::start()?.play())
}

struct Row {
    step: String,
    gap: String,
    failed: String,
    sessions: String,
    holder: String,
}

struct Demo {
    start: Instant,
    all: CygnetPair,
    /// The newest event seen of each node.
    events: BTreeMap<&'static str, u64>,
    rows: Vec<Row>,
    line_at: Instant,
    /// Answers and time at the last line, for the rate.
    last: (u64, u64),
}

impl Demo {
    fn start() -> Result<Self> {
        let start = Instant::now();
        println!("Cygnet: two balancers, one address\n");
        println!(
            "  client 192.0.2.10 -- 192.0.2.0/24 --+-- lb1 192.0.2.1 --+-- 10.1.0.0/24 -- backend1, backend2"
        );
        println!("                                      +-- lb2 192.0.2.2 --+");
        println!(
            "  The virtual address is {VIP}, advertised every 50 ms. lb1 is preferred (priority 150 to 100)."
        );
        println!(
            "  The client opens a connection every 2 ms; a gap lasts from the start of the last request that was"
        );
        println!("  answered before it, to the start of the first that was answered after it.\n");
        let own = BALANCERS.map(|node| SocketAddr::new(front_address(node), SERVICE.port()).to_string());
        let cluster =
            ClusterSettings { sticky: Some("30m"), also_listen: own.to_vec(), ..ClusterSettings::default() };
        println!("  lb1 begins the cluster, lb2 joins it by a token; the link between them is encrypted.\n");
        let all = CygnetPair::start_with(&NodeSettings::encrypted_pair(), &cluster)?;
        let now = Instant::now();
        let demo = Self { start, all, events: BTreeMap::new(), rows: Vec::new(), line_at: now, last: (0, 0) };
        demo.say("both nodes run, the configuration is committed, lb1 holds the address");
        Ok(demo)
    }

    fn play(&mut self) -> Result<()> {
        self.step("nothing happens", "lb1", |_| Ok(()))?;
        self.step("kill -9 of the holder, lb1", "lb2", |all| all.node_mut("lb1")?.kill())?;
        self.lives_through()?;
        self.step("lb1 is stopped on purpose (SIGTERM) and resigns", "lb2", |all| {
            all.node("lb1")?.signal(Signal::Term)
        })?;
        self.all.node_mut("lb1")?.ended()?;
        self.step("lb1 starts again and takes the address back", "lb1", |all| all.restart("lb1"))?;
        self.summary();
        Ok(())
    }

    /// While lb1 comes back and takes the address from the living lb2, sessions that lb2 has with the servers live on.
    fn lives_through(&mut self) -> Result<()> {
        let name = "through-the-address";
        let held = Held::start(CLIENT, SERVICE, name, Duration::from_millis(50))?;
        let own = SocketAddr::new(front_address("lb2"), SERVICE.port());
        let slow = probe::Settings { interval: Duration::from_millis(20), ..probe::Settings::new(own) };
        let talk = Probe::start_warm(CLIENT, &slow)?;
        self.say("sessions are opened on lb2: one through the virtual address, five through lb2's own");
        self.step("lb1 comes back and takes the address from the living lb2", "lb1", |all| {
            all.restart("lb1")
        })?;
        let report = talk.finish()?;
        let mut seen = self.all.pair.backends.iter().flat_map(crate::backend::Backend::sessions);
        let session =
            seen.find(|session| session.session == held.name()).context("no server knows the session")?;
        ensure!(session.fate == "open", "the server saw the session end: {}", session.fate);
        ensure!(report.fates() == "up 5", "sessions through lb2's own address: {}", report.fates());
        self.say(&format!(
            "lb2 lost the address; its sessions with the servers, made from {}, stand: open at the server, {}",
            session.peer.ip(),
            report.fates()
        ));
        self.rows.push(Row {
            step: "  sessions from lb2's fixed source, meanwhile".to_owned(),
            gap: "-".to_owned(),
            failed: report.failures().to_string(),
            sessions: format!("{} (server: open)", report.fates()),
            holder: "-".to_owned(),
        });
        Ok(())
    }

    /// One step under a prober; `holder` must have the address afterwards, alone.
    fn step(
        &mut self,
        what: &str,
        holder: &str,
        act: impl FnOnce(&mut CygnetPair) -> Result<()>,
    ) -> Result<()> {
        println!();
        self.say(&format!("== {what}"));
        let probe = Probe::start_warm(CLIENT, &probe::Settings::new(SERVICE))?;
        let tick = probe.tick();
        (self.last, self.line_at) = ((tick.succeeded, tick.unix_ms), Instant::now());
        let since = unix_ms();
        act(&mut self.all)?;
        let limit = Instant::now() + LIMIT;
        // The act may be over long before the address has moved (a start).
        while !(probe.has_settled(since, QUIET) && self.holders()? == [holder]) {
            self.look(&probe)?;
            ensure!(
                Instant::now() < limit,
                "{what}: {holder} should hold the address: {:?}",
                self.holders()?
            );
            std::thread::sleep(LOOK);
        }
        let moved = unix_ms();
        wait::until(LIMIT, "the service to stay", || {
            self.look(&probe)?;
            Ok(probe.has_settled(moved, QUIET).then_some(()))
        })?;
        let report = probe.finish()?;
        self.note(what, holder, &report);
        Ok(())
    }

    fn note(&mut self, what: &str, holder: &str, report: &Report) {
        let gap = format!("{:.0}", report.longest_gap_ms);
        let late = report.late_in_gap_ms;
        let late = if late < 5.0 {
            String::new()
        } else {
            format!(" (this machine itself was late by {late:.0} ms in it)")
        };
        self.say(&format!(
            "-> longest gap {gap} ms{late}, {} of {} requests failed, {:.0} answered per second, {holder} holds the address",
            report.failures(),
            report.requests,
            report.per_second
        ));
        self.rows.push(Row {
            step: what.to_owned(),
            gap,
            failed: report.failures().to_string(),
            sessions: report.fates(),
            holder: holder.to_owned(),
        });
    }

    fn holders(&self) -> Result<Vec<String>> {
        self.all.pair.lab.holders(VIP)
    }

    fn say(&self, line: &str) {
        println!("{:6.1} s  {line}", self.start.elapsed().as_secs_f64());
    }

    /// New events at once, the live line every half second.
    fn look(&mut self, probe: &Probe) -> Result<()> {
        for node in BALANCERS {
            self.print_events(node);
        }
        if self.line_at.elapsed() < LINE {
            return Ok(());
        }
        self.line_at = Instant::now();
        let tick = probe.tick();
        let (answers, at) = self.last;
        let rate = (tick.succeeded - answers) as f64 * 1e3 / tick.unix_ms.saturating_sub(at).max(1) as f64;
        self.last = (tick.succeeded, tick.unix_ms);
        let holders = self.holders()?;
        let holders = if holders.is_empty() { "nobody".to_owned() } else { holders.join(" and ") };
        let roles = BALANCERS.map(|node| format!("{node} {}", role(node)));
        self.say(&format!(
            "{rate:5.0} requests/s   address on {holders:<7}   {:<12}  {:<12}  failed {}",
            roles[0], roles[1], tick.failed
        ));
        Ok(())
    }

    fn print_events(&mut self, node: &'static str) {
        let after = self.events.get(node).copied().unwrap_or(0);
        // A dead node does not answer.
        let Ok(shown) = cygnet::get(node, &format!("/v1/events?after={after}")) else { return };
        for event in shown["events"].as_array().into_iter().flatten() {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let why = if text("why").is_empty() { String::new() } else { format!(" ({})", text("why")) };
            self.say(&format!("    {node}: {}: {}{why}", text("subject"), text("what")));
        }
        // Smaller than before: the node has started anew, and counts from 1.
        self.events.insert(node, shown["last"].as_u64().unwrap_or(0));
    }

    fn summary(&self) {
        println!("\n{:<58} {:>7} {:>7}  {:<22} HOLDER", "STEP", "GAP MS", "FAILED", "SESSIONS AT CLIENT");
        for Row { step, gap, failed, sessions, holder } in &self.rows {
            println!("{step:<58} {gap:>7} {failed:>7}  {sessions:<22} {holder}");
        }
        println!(
            "\nA session ends with the node that carries it, or when its address moves away from under its client;"
        );
        println!("a server's session does not, for it never starts from the virtual address.");
        println!("{:.0} s.", self.start.elapsed().as_secs_f64());
    }
}

fn role(node: &str) -> String {
    let shown: Result<Value> = cygnet::get(node, "/v1/vips");
    match shown.and_then(|shown| VipFacts::first_of(&shown)) {
        Ok(facts) => facts.role,
        Err(_) => "gone".to_owned(),
    }
}

/// Where something is missing that the demonstration needs.
///
/// # Errors
/// With the missing tool's name.
pub fn check_tools() -> Result<()> {
    for (tool, package) in
        [("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux"), ("mount", "mount")]
    {
        if crate::command::run("sh", &["-c", &format!("command -v {tool}")]).is_err() {
            bail!("{tool} is missing: install the package {package}");
        }
    }
    Ok(())
}
