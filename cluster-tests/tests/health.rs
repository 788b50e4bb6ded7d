//! Health checks: a server that says it is not well gets no new connection until it is; the nodes' views stand side by
//! side; and an address moves only to a node that sees more.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cygnet_lab::enter;
use cygnet_lab::figures::figure;
use cygnet_lab::health::Health;
use cygnet_lab::pair::{BACK, BALANCERS, CLIENT, SERVERS, SERVICE, VIP};
use cygnet_lab::peers::cygnet::{ClusterSettings, Cygnet, LIMIT};
use cygnet_lab::probe::ask;
use cygnet_lab::scenario::CygnetPair;
use cygnet_lab::wait::{holds_for, until};
use serde_json::Value;

const INTERVAL: Duration = Duration::from_millis(200);
const FALL: u32 = 3;
/// Beside `fall` intervals: the check that is on its way, and the machine.
const SLACK: Duration = Duration::from_millis(1500);
/// Where the servers are asked.
const CHECK_PORT: u16 = 8081;

/// The pair with health checks, and what answers them.
struct Checked {
    all: CygnetPair,
    health: Vec<Health>,
}

impl Checked {
    /// Both servers are up from both nodes.
    fn start() -> Result<Self> {
        let all = CygnetPair::start(&ClusterSettings { interval_ms: 100, ..ClusterSettings::default() })?;
        let mut health = Vec::new();
        for (node, address) in SERVERS {
            let ip = address.split(':').next().unwrap_or_default();
            health.push(Health::start(node, format!("{ip}:{CHECK_PORT}").parse()?)?);
        }
        let mut text = ClusterSettings { interval_ms: 100, ..ClusterSettings::default() }.text();
        for (_, address) in SERVERS {
            let line = format!("address = \"{address}\"\n");
            text = text.replace(&line, &format!("{line}check_port = {CHECK_PORT}\n"));
        }
        text.push_str(&format!(
            "[service.check]\ntype = \"http\"\ninterval = \"{}ms\"\nfall = {FALL}\npath = \"/health\"\n",
            INTERVAL.as_millis()
        ));
        all.node("lb1")?.apply(&text)?;
        let checked = Self { all, health };
        for node in BALANCERS {
            for (server, _) in SERVERS {
                checked.becomes(node, server, "up", LIMIT)?;
            }
        }
        Ok(checked)
    }

    fn node(&self, node: &str) -> Result<&Cygnet> {
        self.all.node(node)
    }

    /// What a node's checks say of a server.
    fn check(&self, node: &str, server: &str) -> Result<Value> {
        let shown = self.node(node)?.get("/v1/servers")?;
        let servers = shown["servers"].as_array().cloned().unwrap_or_default();
        let found = servers.into_iter().find(|known| known["name"] == server);
        Ok(found.with_context(|| format!("{node} has no {server}"))?["check"].clone())
    }

    fn becomes(&self, node: &str, server: &str, state: &str, limit: Duration) -> Result<Value> {
        until(limit, &format!("{server} to be {state} from {node}"), || {
            let check = self.check(node, server)?;
            Ok((check["state"] == state).then_some(check))
        })
    }

    /// Waits until `node` knows what the other one thinks of a server.
    fn hears(&self, node: &str, server: &str, up: bool) -> Result<()> {
        let other = if node == "lb1" { "lb2" } else { "lb1" };
        until(LIMIT, &format!("{node} to hear of {server} from {other}"), || {
            let check = self.check(node, server)?;
            let word = &check["elsewhere"][0];
            Ok((word["node"] == other && word["up"] == up).then_some(()))
        })
    }

    /// Who answers so many requests.
    fn answered(&self, requests: usize) -> Result<Vec<String>> {
        let answers = (0..requests).map(|_| Ok(ask(CLIENT, SERVICE, None)?.0));
        answers.collect()
    }

    fn said(&self, node: &str, args: &[&str]) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.node(node)?.command(args)?.stdout).into_owned())
    }

    /// Packets of a node to a server go nowhere, or find their way again; all else stays.
    fn cut(&self, node: &str, server: &str, out: bool) -> Result<()> {
        let address = SERVERS.iter().find(|(name, _)| *name == server).context("a server")?.1;
        let ip = address.split(':').next().unwrap_or_default();
        let line = match out {
            true => format!("neigh replace {ip} lladdr 02:00:00:00:00:99 dev {BACK} nud permanent"),
            false => format!("neigh del {ip} dev {BACK}"),
        };
        self.all.pair.lab.ip(node, &line).map(drop)
    }
}

#[test]
fn a_server_that_answers_503_gets_no_new_connection_until_it_has_risen() -> Result<()> {
    enter::lab(|| {
        let checked = Checked::start()?;
        let both = checked.answered(10)?;
        ensure!(both.iter().any(|server| server == "backend1"), "{both:?}");
        checked.health[0].answer(503)?;
        let since = Instant::now();
        let check = checked.becomes("lb1", "backend1", "down", LIMIT)?;
        let took = since.elapsed();
        figure("health, 503 until no new connection", &format!("{} ms", took.as_millis()));
        ensure!(took <= INTERVAL * FALL + SLACK, "it took {took:?}");
        ensure!(check["reason"] == "HTTP 503 instead of 200-399", "{check}");
        let one = checked.answered(20)?;
        ensure!(one.iter().all(|server| server == "backend2"), "{one:?}");
        checked.becomes("lb2", "backend1", "down", LIMIT)?;
        checked.hears("lb1", "backend1", false)?;
        let shown = checked.said("lb1", &["server", "list"])?;
        ensure!(shown.contains("down, from lb2 too: HTTP 503 instead of 200-399, for "), "{shown}");
        ensure!(shown.contains("3 of 3 failed"), "{shown}");
        let events = checked.said("lb1", &["events"])?;
        ensure!(events.contains("server backend1 (10.1.0.11:8080) is down from here"), "{events}");

        checked.health[0].answer(200)?;
        checked.becomes("lb1", "backend1", "up", LIMIT)?;
        let again = checked.answered(10)?;
        ensure!(again.iter().any(|server| server == "backend1"), "{again:?}");
        let events = checked.said("lb1", &["events"])?;
        ensure!(events.contains("server backend1 (10.1.0.11:8080) is up again"), "{events}");
        Ok(())
    })
}

#[test]
fn down_from_here_is_told_apart_from_down_and_the_address_moves_only_to_a_node_that_sees_more() -> Result<()>
{
    enter::lab(|| {
        let checked = Checked::start()?;
        let all = &checked.all;
        checked.cut("lb1", "backend1", true)?;
        checked.becomes("lb1", "backend1", "down", LIMIT)?;
        checked.hears("lb1", "backend1", true)?;
        checked.hears("lb2", "backend1", false)?;
        let shown = checked.said("lb1", &["server", "list"])?;
        ensure!(shown.contains("down from here, up from lb2: no "), "{shown}");
        let shown = checked.said("lb2", &["server", "list"])?;
        ensure!(shown.contains("ready (up from here, down from lb1)"), "{shown}");
        let status = checked.said("lb1", &["status"])?;
        ensure!(status.contains("server backend1 is down from here, up from lb2"), "{status}");
        // One server is enough to serve: no reason to move.
        holds_for(Duration::from_secs(6), "lb1 holds the address", || {
            Ok(all.pair.lab.holders(VIP)? == ["lb1"])
        })?;

        checked.cut("lb1", "backend2", true)?;
        let since = Instant::now();
        all.holder_is("lb2")?;
        figure(
            "health, last server lost until steady elsewhere",
            &format!("{} ms", since.elapsed().as_millis()),
        );
        let events = checked.said("lb1", &["events"])?;
        ensure!(events.contains("web cannot be served from here, but from lb2"), "{events}");
        for (server, _) in SERVERS {
            checked.cut("lb1", server, false)?;
        }
        let since = Instant::now();
        all.holder_is("lb1")?;
        figure("health, servers back until steady at home", &format!("{} ms", since.elapsed().as_millis()));

        // What is down for both moves nothing, and is served as well as it goes.
        for health in &checked.health {
            health.answer(500)?;
        }
        for node in BALANCERS {
            for (server, _) in SERVERS {
                checked.becomes(node, server, "down", LIMIT)?;
            }
        }
        holds_for(Duration::from_secs(6), "lb1 holds the address", || {
            Ok(all.pair.lab.holders(VIP)? == ["lb1"])
        })?;
        ensure!(checked.answered(4)?.len() == 4, "the last resort serves");
        Ok(())
    })
}
