//! A new process beside the one that runs: what it does until everything is its own to open.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context;
use cygnet_netlink::succession::take_standard_input;
use tokio::net::UnixListener;

use super::board::Started;
use super::channel::{Channel, Heard};
use super::give::own_program;
use super::taker::{Step, Taker};
use super::word::{Go, LEVEL, Name, Program, State, Word};
use crate::config::model::{ClusterConfig, NodeConfig};
use crate::control;
use crate::proxy::Legacy;
use crate::run::preflight::preflight;
use crate::run::running::check;

/// The option by which the process that runs starts this one. Its standard input is the socket between them.
pub(super) const SUCCESSOR: &str = "--successor";
/// What the process that runs starts.
pub(super) const FIRST_STAGE: &str = "first";
const SECOND_STAGE: &str = "second";

/// The first stage.
///
/// # Errors
/// The second one cannot be started.
pub(crate) fn beside() -> anyhow::Result<()> {
    let socket = take_standard_input().context("the socket to the process that runs cannot be had")?;
    let called = std::env::args_os().next().unwrap_or_default();
    let started = Started::by(std::env::args_os());
    Command::new("/proc/self/exe")
        .arg0(called)
        .args(started.arguments)
        .arg(format!("{SUCCESSOR}={SECOND_STAGE}"))
        .stdin(socket)
        .spawn()
        .context("the new process cannot be started")?;
    Ok(())
}

/// What the process before has given.
pub(crate) struct Succession {
    pub(super) channel: Channel,
    pub(super) taker: Taker,
    pub(super) state: State,
    pub(super) go: Go,
    sockets: Legacy,
    peers: Option<TcpListener>,
    api: Option<OwnedFd>,
    /// With how many connections each has.
    pub(super) earlier: Vec<(Program, u64, OwnedFd)>,
}

impl Succession {
    /// Says who this is, sees whether it could take over, and waits for everything; `None`: nothing comes of it. `read`: reads and checks
    /// the node's own file.
    ///
    /// # Errors
    /// This node cannot take over; the process before was told why.
    pub(crate) async fn receive(
        read: impl FnOnce() -> anyhow::Result<NodeConfig>,
    ) -> anyhow::Result<Option<(Arc<NodeConfig>, Self)>> {
        let socket = take_standard_input().context("there is no socket to a process that runs")?;
        let mut channel = Channel::of(socket).context("standard input is no socket")?;
        let mut taker = Taker::default();
        channel.say(&Word::Here { level: LEVEL, program: own_program() }, &[]).await?;
        let Some((Step::Check(state), _)) = next(&mut channel, &mut taker).await? else { return Ok(None) };
        let config = match prepare(read, &state).await {
            Ok(config) => config,
            Err(error) => {
                channel.say(&Word::Refused { why: format!("{error:#}") }, &[]).await?;
                return Err(error);
            }
        };
        taker.prepared();
        channel.say(&Word::Prepared, &[]).await?;
        let mut given = Self {
            channel,
            taker,
            state: *state,
            go: Go::default(),
            sockets: Legacy::default(),
            peers: None,
            api: None,
            earlier: Vec::new(),
        };
        loop {
            match next(&mut given.channel, &mut given.taker).await? {
                Some((Step::Keep(names), sockets)) => given.keep(names, sockets),
                Some((Step::Begin(go), _)) => {
                    given.go = go;
                    return Ok(Some((config, given)));
                }
                _ => return Ok(None),
            }
        }
    }

    fn keep(&mut self, names: Vec<Name>, sockets: Vec<OwnedFd>) {
        for (name, socket) in names.into_iter().zip(sockets) {
            match name {
                Name::Peers => self.peers = Some(socket.into()),
                Name::Api => self.api = Some(socket),
                Name::Earlier { program, connections } => {
                    self.earlier.push((program, connections, socket));
                }
                served => {
                    if let Some(at) = served.listen_at() {
                        self.sockets.add(at, socket);
                    }
                }
            }
        }
    }

    /// The API's socket: that of the process before, unless this one is to have another.
    pub(crate) fn api(&mut self, config: &NodeConfig) -> io::Result<UnixListener> {
        let given = self.api.take().map(std::os::unix::net::UnixListener::from);
        let fits = |socket: &std::os::unix::net::UnixListener| {
            socket.local_addr().is_ok_and(|at| at.as_pathname() == Some(&*config.api))
        };
        match given.filter(fits) {
            Some(socket) => {
                control::admit(&config.api, config.roles.is_some())?;
                socket.set_nonblocking(true)?;
                UnixListener::from_std(socket)
            }
            None => control::bind(&config.api, config.roles.is_some()),
        }
    }

    /// What the parts of the node begin with.
    pub(crate) fn legacy(&mut self) -> Inheritance {
        Inheritance {
            sockets: self.sockets.clone(),
            peers: self.peers.take(),
            held: Some(self.go.held.iter().cloned().collect()),
            down: self.go.down.clone(),
        }
    }

    /// It does not come up.
    pub(crate) async fn refuse(&mut self, why: String) {
        // The process before may be gone.
        let _ = self.channel.say(&Word::Refused { why }, &[]).await;
    }
}

/// What the parts of a node begin with; empty at an ordinary start.
#[derive(Default)]
pub(crate) struct Inheritance {
    /// Where clients are served.
    pub(crate) sockets: Legacy,
    /// Where the other nodes come in.
    pub(crate) peers: Option<TcpListener>,
    /// The addresses that the process before holds; `None`: there is no such process.
    pub(crate) held: Option<BTreeSet<String>>,
    /// Servers that are down.
    pub(crate) down: Vec<(String, String)>,
}

/// What the process before wants next; `None`: nothing comes of it.
async fn next(channel: &mut Channel, taker: &mut Taker) -> io::Result<Option<(Step, Vec<OwnedFd>)>> {
    loop {
        let (step, sockets) = match channel.hear().await? {
            Some(Heard { word, sockets }) => (taker.heard(word), sockets),
            None => (taker.closed(), Vec::new()),
        };
        match step {
            Step::Wait => {}
            Step::Leave(why) => {
                tracing::info!("this process does not take over: {why}");
                return Ok(None);
            }
            step => return Ok(Some((step, sockets))),
        }
    }
}

/// Whether this program, with the files as they are now, could take over.
async fn prepare(
    read: impl FnOnce() -> anyhow::Result<NodeConfig>,
    state: &State,
) -> anyhow::Result<Arc<NodeConfig>> {
    anyhow::ensure!(
        state.level <= LEVEL,
        "the process that runs hands over at level {}, and this program knows {LEVEL}: it is older; stop the node and start it",
        state.level
    );
    let config = Arc::new(read()?);
    fits(&config, state).map_err(anyhow::Error::msg)?;
    if !state.text.is_empty() {
        let (own, text) = (Arc::clone(&config), state.text.clone());
        // As a configuration that is new here: all its files are read.
        let looked = tokio::task::spawn_blocking(move || preflight(&own, &ClusterConfig::default(), &text));
        looked.await?.map_err(anyhow::Error::msg)?;
    }
    Ok(config)
}

/// Whether the node's file still names the same node.
fn fits(config: &NodeConfig, state: &State) -> Result<(), String> {
    let other = |what: &str, now: &dyn std::fmt::Display, before: &dyn std::fmt::Display| {
        format!(
            "the node's file has another {what} ({now}) than the process that runs ({before}); restart the node for that"
        )
    };
    if config.name != state.node {
        return Err(other("name", &config.name, &state.node));
    }
    if config.state_dir != state.state_dir {
        let shown = |path: &Path| path.display().to_string();
        return Err(other("state_dir", &shown(&config.state_dir), &shown(&state.state_dir)));
    }
    if state.held.is_empty() {
        return Ok(());
    }
    let vips = check(config, &state.text)?.vips;
    for held in &state.held {
        let here = vips.iter().find(|vip| vip.name == held.name);
        match here {
            None => return Err(format!("vip {} is held and not configured", held.name)),
            Some(vip) if vip.interface != held.interface => {
                return Err(other(
                    &format!("interface of vip {}", held.name),
                    &vip.interface,
                    &held.interface,
                ));
            }
            Some(vip) if vip.addresses != held.addresses => {
                return Err(format!("vip {} has other addresses than are held", held.name));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_node;
    use crate::control::tests::fake::NODE;
    use crate::run::upgrade::word::Held;

    const CLUSTER: &str = "[[vip]]\nname = \"www\"\naddress = \"192.0.2.100\"\nprotocol = \"vrrp3\"\nid = 51\nmode = \"hold\"\n";

    fn state(config: &NodeConfig) -> State {
        let held = Held {
            name: "www".into(),
            interface: "eth0".into(),
            addresses: vec!["192.0.2.100".parse().unwrap()],
        };
        State {
            node: config.name.clone(),
            state_dir: config.state_dir.clone(),
            text: CLUSTER.into(),
            held: vec![held],
            ..State::default()
        }
    }

    #[test]
    fn a_file_that_moves_what_is_held_or_names_another_node_is_refused_with_the_remedy() {
        let config = parse_node(NODE, "node.toml").unwrap();
        assert_eq!(fits(&config, &state(&config)), Ok(()));
        let refused = |change: &dyn Fn(&mut State)| {
            let mut state = state(&config);
            change(&mut state);
            fits(&config, &state).unwrap_err()
        };
        assert!(refused(&|state| state.node = "lb2".into()).contains("another name (lb1)"));
        assert!(refused(&|state| state.state_dir = "/x".into()).contains("restart the node"));
        assert!(refused(&|state| state.held[0].interface = "eth1".into()).contains("interface of vip www"));
        assert!(refused(&|state| state.held[0].addresses.clear()).contains("other addresses"));
        assert!(refused(&|state| state.held[0].name = "db".into()).contains("not configured"));
    }
}
