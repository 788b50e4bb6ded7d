//! TLS sessions that begin on one node and go on at the other, by the `openssl` command's own word: with TLS 1.2 and 1.3, after
//! the keys were changed, and after both nodes were restarted.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use cygnet_lab::command::{self, Signal};
use cygnet_lab::enter;
use cygnet_lab::pair::{BALANCERS, CLIENT, SERVERS, front_address};
use cygnet_lab::peers::cygnet::{ClusterSettings, Cygnet, LIMIT, NodeSettings};
use cygnet_lab::process::in_node;
use cygnet_lab::scenario::CygnetPair;
use cygnet_lab::wait;
use serde_json::Value;

/// The port of the service with TLS, on every address of a node: both nodes serve it at any time.
const PORT: u16 = 8443;
/// The protocols, in the words of `openssl s_client`.
const PROTOCOLS: [&str; 2] = ["-tls1_2", "-tls1_3"];

fn file(name: &str) -> PathBuf {
    Path::new(enter::FILES).join(name)
}

fn make_certificate() -> Result<()> {
    let (key, certificate) = (file("www.key").display().to_string(), file("www.crt").display().to_string());
    let options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=www.test \
                   -addext subjectAltName=DNS:www.test -keyout";
    let mut arguments: Vec<&str> = options.split_whitespace().collect();
    arguments.extend([key.as_str(), "-out", &certificate]);
    command::run("openssl", &arguments).map(drop)
}

/// The usual service, and one with TLS.
fn cluster() -> String {
    let (name, server) = SERVERS[0];
    format!(
        "{}[[service]]\nname = \"tls\"\nlisten = [\"0.0.0.0:{PORT}\"]\n[service.tls]\ncertificate = \"{}\"\n\
         key = \"{}\"\n[[service.server]]\nname = \"{name}\"\naddress = \"{server}\"\n",
        ClusterSettings::default().text(),
        file("www.crt").display(),
        file("www.key").display(),
    )
}

/// One session with the service on `node`: whether it was resumed. A line goes there and back in it; with TLS 1.3 the ticket
/// comes before.
fn session(node: &str, protocol: &str, more: [&str; 2]) -> Result<bool> {
    let address = format!("{}:{PORT}", front_address(node));
    let mut command = in_node(CLIENT, "timeout");
    command.args(["20", "openssl", "s_client", "-connect", &address, "-servername", "www.test", protocol]);
    command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(b"GET\n")?;
    let (mut resumed, mut said) = (None, String::new());
    for line in BufReader::new(child.stdout.take().context("a pipe")?).lines() {
        let line = line?;
        if line.starts_with("Reused, TLSv1.") || line.starts_with("New, TLSv1.") {
            resumed = Some(line.starts_with("Reused"));
        }
        if line.starts_with(SERVERS[0].0) {
            // The end of the session, in the words of s_client.
            stdin.write_all(b"Q\n")?;
        }
        said.push_str(&line);
        said.push('\n');
    }
    ensure!(child.wait()?.success() && said.contains(SERVERS[0].0), "{node}: {said}");
    resumed.with_context(|| said)
}

/// Begins sessions on `from`, one a protocol, to go on with later.
fn begin(from: &str) -> Result<()> {
    for protocol in PROTOCOLS {
        let kept = file(protocol).display().to_string();
        ensure!(!session(from, protocol, ["-sess_out", &kept])?, "there is nothing to go on with");
    }
    Ok(())
}

/// Whether the sessions go on at `to`.
fn resumed(to: &str) -> Result<[bool; 2]> {
    let go_on = |protocol: &str| session(to, protocol, ["-sess_in", &file(protocol).display().to_string()]);
    Ok([go_on(PROTOCOLS[0])?, go_on(PROTOCOLS[1])?])
}

fn tickets(node: &Cygnet) -> Result<Value> {
    Ok(node.get("/v1/status")?["tickets"].clone())
}

/// Waits until every node seals with this key.
fn key_is(all: &CygnetPair, number: u64) -> Result<()> {
    for node in &all.nodes {
        let mut last = Value::Null;
        let seals = wait::until(LIMIT, &format!("{} to use key {number}", node.name), || {
            last = tickets(node).unwrap_or_default();
            Ok((last["current"]["number"] == number && last["own"].is_null()).then_some(()))
        });
        seals.with_context(|| last.to_string())?;
    }
    Ok(())
}

fn rotate(all: &CygnetPair, next: u64) -> Result<()> {
    all.node("lb2")?.json(&["cluster", "rotate-tickets"])?;
    key_is(all, next)
}

#[test]
fn a_session_goes_on_at_the_other_node_also_after_a_rotation_and_a_restart_of_both() -> Result<()> {
    enter::lab(|| {
        make_certificate()?;
        let mut all = CygnetPair::start_with(&NodeSettings::encrypted_pair(), &ClusterSettings::default())?;
        ensure!(tickets(all.node("lb1")?)?["own"] == "unwanted", "no service needs a key yet");
        all.node("lb1")?.apply(&cluster())?;
        key_is(&all, 1)?;
        begin("lb1")?;
        ensure!(resumed("lb2")? == [true, true], "at the other node");
        rotate(&all, 2)?;
        ensure!(resumed("lb2")? == [true, true], "the key before still opens");
        for name in BALANCERS {
            all.node(name)?.process.signal(Signal::Term)?;
            all.node_mut(name)?.process.wait_end(LIMIT)?;
        }
        for name in BALANCERS {
            all.restart(name)?;
        }
        key_is(&all, 2)?;
        wait::until(LIMIT, "lb2 to serve", || {
            Ok(session("lb2", PROTOCOLS[0], ["-no_ticket", "-showcerts"]).is_ok().then_some(()))
        })?;
        ensure!(resumed("lb2")? == [true, true], "the keys are in the log");
        rotate(&all, 3)?;
        ensure!(resumed("lb2")? == [false, false], "who has had the keys rotated twice gets rid of the old");
        let status = String::from_utf8(all.node("lb1")?.command(&["status"])?.stdout)?;
        ensure!(
            status.contains("session tickets: key 3 of the cluster for") && status.contains("key 2 still"),
            "{status}"
        );
        Ok(())
    })
}
