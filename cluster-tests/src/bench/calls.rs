//! System calls per request and per connection, counted by strace: the same on a busy machine and on an idle one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::process::{Running, find, wait_for};
use super::sandbox::{self, FRONT};
use super::{CallsArgs, Contender, cpu, load, origin, report};

/// Kept connections while requests are counted.
const KEPT_CONNECTIONS: usize = 32;
/// Requests on each of them.
const REQUESTS_EACH: u64 = 200;
/// Connections that are counted, one request each.
const CONNECTIONS: usize = 2_000;
/// So many of them at a time.
const CONNECTIONS_TOGETHER: usize = 16;

/// System calls that Cygnet may make for a request and its answer on kept connections: two reads, two writes, and waiting,
/// which many requests share (epoll_wait 0.05 to 0.4, more when few are busy), and the node's own clockwork.
const MOST_PER_REQUEST: f64 = 4.5;
/// System calls that Cygnet may make for a connection with one request: accept4, socket, source (setsockopt, bind), connect and its result,
/// four options, two registrations and their ends, reads and writes with the ends of both streams, two closes, waiting.
const MOST_PER_CONNECTION: f64 = 22.0;

/// How long strace may take to attach, and to write its table.
const STRACE_DEADLINE: Duration = Duration::from_secs(20);
/// The load's time under strace, generously: some 10,000 calls a second.
const LOAD_TIME: Duration = Duration::from_secs(120);

/// Calls by name, and what they were made for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) operations: u64,
    pub(super) calls: BTreeMap<String, u64>,
}

impl Table {
    /// Of one system call, per operation.
    pub(super) fn per_operation(&self, name: &str) -> f64 {
        self.calls.get(name).copied().unwrap_or(0) as f64 / self.operations as f64
    }

    /// Of all.
    pub(super) fn total(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.operations as f64
    }
}

/// Both tables of one contender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Counted {
    pub(super) requests: Table,
    pub(super) connections: Table,
}

/// `calls`: all contenders, the tables, the limits.
pub(super) fn run(args: &CallsArgs) -> Result<ExitCode> {
    find("strace")?;
    find("nginx")?;
    for contender in &args.contenders {
        contender.check_installed()?;
    }
    let mut counted = Vec::new();
    let mut failures = Vec::new();
    for &contender in &args.contenders {
        match sandbox::measure::<Counted>(
            &["--contender", &contender.name(), "--what", "calls"].map(str::to_owned),
            LOAD_TIME,
        ) {
            Ok(tables) => {
                if contender == Contender::Cygnet {
                    failures.extend(over_limits(&tables));
                }
                counted.push((contender, tables));
            }
            Err(error) => failures.push(format!("{}: {error:#}", contender.title())),
        }
    }
    print!("{}", report::calls(&counted, args.all));
    Ok(report::verdict(&failures))
}

fn over_limits(counted: &Counted) -> Vec<String> {
    [
        ("request", counted.requests.total(), MOST_PER_REQUEST),
        ("connection", counted.connections.total(), MOST_PER_CONNECTION),
    ]
    .into_iter()
    .filter(|(_, calls, most)| calls > most)
    .map(|(what, calls, most)| {
        format!("Cygnet makes {calls:.2} system calls per {what}; the limit is {most}")
    })
    .collect()
}

/// Inside the namespaces: the two counts.
pub(super) fn count(contender: Contender) -> Result<Counted> {
    sandbox::prepare()?;
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let folder = folder.path();
    let _origin = origin::start(folder)?;
    let proxy = contender.start(folder)?;

    let mut kept = Kept::new()?;
    let requests = traced(&proxy, folder, || kept.0.requests(REQUESTS_EACH))?;
    drop(kept);
    load::connections(FRONT, CONNECTIONS_TOGETHER, CONNECTIONS_TOGETHER)?;
    let connections = traced(&proxy, folder, || load::connections(FRONT, CONNECTIONS, CONNECTIONS_TOGETHER))?;
    Ok(Counted { requests, connections })
}

/// Connections that have carried data both ways before anything is counted.
struct Kept(load::Kept);

impl Kept {
    fn new() -> Result<Self> {
        let mut kept = load::Kept::open(FRONT, KEPT_CONNECTIONS)?;
        kept.requests(2)?;
        Ok(Self(kept))
    }
}

/// Attaches strace to all threads of the proxy, runs the load, and reads what strace has counted.
fn traced(proxy: &Running, folder: &Path, load: impl FnOnce() -> Result<u64>) -> Result<Table> {
    let out = folder.join("calls.txt");
    let mut command = Command::new(find("strace")?);
    command.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(&out);
    for pid in cpu::tree(proxy.pid())? {
        command.args(["-p", &pid.to_string()]);
    }
    let mut strace = Running::start(&mut command, &folder.join("strace.log"))?;
    wait_for("strace to attach", STRACE_DEADLINE, || {
        strace.check().with_context(|| fs::read_to_string(folder.join("strace.log")).unwrap_or_default())?;
        Ok(cpu::threads(proxy.pid())?.into_iter().all(is_traced).then_some(()))
    })?;
    let operations = load()?;
    strace.interrupt(STRACE_DEADLINE)?;
    let text = fs::read_to_string(&out).context("strace wrote no table")?;
    let calls = parse_table(&text);
    ensure!(operations > 0 && !calls.is_empty(), "strace counted nothing: {text}");
    Ok(Table { operations, calls })
}

fn is_traced(thread: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    // A thread that has ended meanwhile is no obstacle.
    status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_none_or(|tracer| tracer.trim() != "0")
}

/// The lines `calls name` of strace's table, without its total.
fn parse_table(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (calls, name) = line.trim().split_once(char::is_whitespace)?;
            Some((name.trim().to_owned(), calls.parse().ok()?))
        })
        .filter(|(name, _)| name != "total")
        .collect()
}

/// The names of all calls in `tables`, the most frequent first.
pub(super) fn names(tables: &[&Table]) -> Vec<String> {
    let all: BTreeSet<&String> = tables.iter().flat_map(|table| table.calls.keys()).collect();
    let mut names: Vec<String> = all.into_iter().cloned().collect();
    let weight = |name: &String| tables.iter().map(|table| table.per_operation(name)).fold(0.0, f64::max);
    names.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "    calls syscall
--------- ----------------
    12800 recvfrom
    12800 sendto
      600 epoll_wait
--------- ----------------
    26200 total
";

    fn table() -> Table {
        Table { operations: 6400, calls: parse_table(TEXT) }
    }

    #[test]
    fn the_table_of_strace_is_read_without_its_total() {
        let table = table();
        assert_eq!(table.calls.len(), 3);
        assert!((table.total() - 26_200.0 / 6_400.0).abs() < 1e-9);
        assert!((table.per_operation("sendto") - 2.0).abs() < 1e-9);
        assert!(table.per_operation("splice").abs() < 1e-9);
    }

    #[test]
    fn one_more_call_per_request_breaks_the_limit() {
        let good = Counted { requests: table(), connections: table() };
        assert_eq!(over_limits(&good), Vec::<String>::new());
        let mut bad = good;
        bad.requests.calls.insert("recvfrom".to_owned(), 12_800 + 6_400);
        assert_eq!(over_limits(&bad), ["Cygnet makes 5.09 system calls per request; the limit is 4.5"]);
    }

    #[test]
    fn the_most_frequent_call_comes_first() {
        assert_eq!(names(&[&table()]).last().map(String::as_str), Some("epoll_wait"));
    }
}
