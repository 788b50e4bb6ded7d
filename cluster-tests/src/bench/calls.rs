//! System calls per operation, counted by strace: the same on a busy machine and on an idle one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::load::kept::Kept;
use super::load::{Done, Load, Until, datagrams, fresh};
use super::measure::Stage;
use super::process::{Running, find, wait_for};
use super::sandbox::{self, FRONT};
use super::workload::Handshake;
use super::{CallsArgs, Contender, Workload, cpu, report};

/// Kept connections while requests are counted: so many that waiting is shared by most of them.
const KEPT_CONNECTIONS: usize = 128;
/// Requests on all of them.
const REQUESTS: u64 = 50 * KEPT_CONNECTIONS as u64;
/// Connections that are counted, one request each.
const CONNECTIONS: u64 = 2_000;
/// So many of them at a time.
const CONNECTIONS_TOGETHER: usize = 64;
/// TLS connections that are counted.
const HANDSHAKES: u64 = 1_000;
/// Datagrams that are counted.
const DATAGRAMS: u64 = 10_000;
/// Operations before the counted ones.
const WARM_UP: u64 = KEPT_CONNECTIONS as u64;
/// New flows before the counted ones: some more than there may be flows and sockets at rest, so that each takes another's place.
const WARM_UP_FLOWS: u64 = 25_000;

/// The loads whose calls are counted.
pub(super) const LOADS: [Workload; 7] = [
    Workload::KeepAlive,
    Workload::Connection,
    Workload::TlsFullEcdsa,
    Workload::TlsResume13,
    Workload::TlsRequest,
    Workload::UdpEcho,
    Workload::UdpFlow,
];

/// System calls that Cygnet may make for an operation.
const fn most(workload: Workload) -> Option<f64> {
    match workload {
        // Two reads and two writes; the rest is waiting, which many requests share, and the node's own clockwork.
        Workload::KeepAlive | Workload::TlsRequest => Some(4.6),
        // accept4, socket, its source (setsockopt, bind), connect, two registrations, three reads, two writes, an end
        // passed on, two closes: 15; the rest is waiting, and looking for one more client in vain.
        Workload::Connection => Some(16.0),
        // A read and a write more for the handshake, and what the library asks for (getpid, six times when it draws keys).
        Workload::TlsFullEcdsa => Some(26.0),
        Workload::TlsResume13 => Some(22.0),
        // Batches: a call is shared by the datagrams that wait.
        Workload::UdpEcho => Some(3.0),
        // The same: a new flow takes the socket of one that has ended.
        Workload::UdpFlow => Some(3.0),
        _ => None,
    }
}

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

/// `calls`: all contenders, the tables, the limits.
pub(super) fn run(args: &CallsArgs) -> Result<ExitCode> {
    find("strace")?;
    find("nginx")?;
    for contender in &args.contenders {
        contender.check_installed()?;
    }
    let mut failures = Vec::new();
    for &workload in &args.workloads {
        ensure!(LOADS.contains(&workload), "the calls of {} are not counted", workload.name());
        let mut counted = Vec::new();
        for &contender in args.contenders.iter().filter(|contender| contender.serves(workload)) {
            let arguments =
                ["--contender", &contender.name(), "--what", "calls", "--workload", &workload.name()];
            match sandbox::measure::<Table>(&arguments.map(str::to_owned), LOAD_TIME) {
                Ok(table) => {
                    if contender == Contender::Cygnet {
                        failures.extend(over_limit(workload, &table));
                    }
                    counted.push((contender, table));
                }
                Err(error) => {
                    failures.push(format!("{} {}: {error:#}", workload.name(), contender.title()));
                }
            }
        }
        print!("{}", report::calls(workload, most(workload), &counted, args.all));
    }
    Ok(report::verdict(&failures))
}

fn over_limit(workload: Workload, table: &Table) -> Option<String> {
    let (most, calls) = (most(workload)?, table.total());
    (calls > most).then(|| {
        format!("Cygnet makes {calls:.2} system calls under {}; the limit is {most}", workload.name())
    })
}

/// Inside the namespaces: the calls of one contender under one load.
pub(super) fn count(contender: Contender, workload: Workload) -> Result<Table> {
    let stage = Stage::set(contender, workload)?;
    let (mut load, operations): (Box<dyn Load>, u64) = match workload {
        Workload::KeepAlive => (Box::new(Kept::plain(FRONT, KEPT_CONNECTIONS)?), REQUESTS),
        Workload::TlsRequest => (Box::new(Kept::tls_small(KEPT_CONNECTIONS)?), REQUESTS),
        Workload::Connection => (Box::new(fresh::plain(FRONT, CONNECTIONS_TOGETHER)), CONNECTIONS),
        Workload::TlsFullEcdsa => (fresh::tls(Handshake::Full13, CONNECTIONS_TOGETHER)?, HANDSHAKES),
        Workload::TlsResume13 => (fresh::tls(Handshake::Resumed13, CONNECTIONS_TOGETHER)?, HANDSHAKES),
        Workload::UdpEcho => (Box::new(datagrams::Datagrams::echo()?), DATAGRAMS),
        Workload::UdpFlow => (Box::new(datagrams::Datagrams::fresh()?), DATAGRAMS),
        _ => bail!("the calls of {} are not counted", workload.name()),
    };
    load.run(Until::Operations(if workload == Workload::UdpFlow { WARM_UP_FLOWS } else { WARM_UP }))?;
    traced(&stage.proxy, stage.folder(), || load.run(Until::Operations(operations)))
}

/// Attaches strace to all threads of the proxy, runs the load, and reads what strace has counted.
fn traced(proxy: &Running, folder: &Path, load: impl FnOnce() -> Result<Done>) -> Result<Table> {
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
    let operations = load()?.operations;
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
        let mut table = table();
        assert_eq!(over_limit(Workload::KeepAlive, &table), None);
        table.calls.insert("recvfrom".to_owned(), 12_800 + 6_400);
        let failure = over_limit(Workload::KeepAlive, &table).unwrap();
        assert!(failure.starts_with("Cygnet makes 5.09 system calls under keep-alive"), "{failure}");
    }

    #[test]
    fn the_most_frequent_call_comes_first() {
        assert_eq!(names(&[&table()]).last().map(String::as_str), Some("epoll_wait"));
    }
}
