//! wrk, for plain HTTP: written in C, and known to everybody.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::super::process::find;
use super::super::sandbox::FRONT;
use super::{Done, Load, Until};
use crate::bench::Workload;

/// Makes wrk print its own counters instead of rounded ones. It defines no request(), so the load itself stays in C.
const SUMMARY: &str = r#"
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("SUMMARY %d %d %d %d %d %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
        e.connect, e.read, e.write, e.status, e.timeout, latency:percentile(99)))
end
"#;

/// wrk against the proxy; it opens its connections anew in each run.
pub(super) struct Wrk {
    workload: Workload,
    script: PathBuf,
}

impl Wrk {
    pub(super) fn new(workload: Workload, folder: &Path) -> Result<Self> {
        let script = folder.join("summary.lua");
        fs::write(&script, SUMMARY).context("cannot write wrk's script")?;
        Ok(Self { workload, script })
    }
}

impl Load for Wrk {
    fn run(&mut self, until: Until) -> Result<Done> {
        let Until::Seconds(seconds) = until else { bail!("wrk cannot count") };
        let mut command = Command::new(find("wrk")?);
        let connections = format!("-c{}", self.workload.together());
        command.args(["-t1", &connections, &format!("-d{seconds}s"), "--timeout", "10s"]);
        command.arg("-s").arg(&self.script);
        if self.workload == Workload::Connection {
            command.args(["-H", "Connection: close"]);
        }
        let url = format!("http://{FRONT}{}", self.workload.path());
        let output = command.arg(url).output().context("cannot run wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("wrk: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        parse_summary(&text).with_context(|| format!("wrk printed no summary: {text}"))
    }
}

fn parse_summary(text: &str) -> Option<Done> {
    let line = text.lines().find_map(|line| line.strip_prefix("SUMMARY "))?;
    let numbers = line.split(' ').map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let &[operations, bytes, elapsed_us, connect, read, write, status, timeout, p99_us] = numbers.as_slice()
    else {
        return None;
    };
    let errors = connect + read + write + status + timeout;
    Some(Done { operations, bytes, elapsed_us, errors, p99_us, ..Done::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_wrk_is_read_and_all_its_errors_are_added() {
        let text = "Running 1s test\nSUMMARY 1000 71000 2000000 1 2 3 4 5 900\nRequests/sec: 1\n";
        let done = parse_summary(text).unwrap();
        assert_eq!((done.operations, done.bytes, done.elapsed_us), (1000, 71_000, 2_000_000));
        assert_eq!((done.errors, done.p99_us), (15, 900));
        assert_eq!(parse_summary("SUMMARY 1 2"), None);
        assert_eq!(parse_summary("Requests/sec: 1"), None);
    }
}
