//! A node to test: the built program with its files in a directory of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "each test program uses some of it")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A busy machine is no defect.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition, not for luck.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

/// Servers that tell their name to each client.
pub(crate) struct Servers(Vec<(&'static str, SocketAddr)>);

impl Servers {
    pub(crate) fn start<const N: usize>(names: [&'static str; N]) -> Self {
        Self(names.into_iter().map(|name| (name, tell(name))).collect())
    }
}

fn tell(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that has gone is nobody's fault.
            let _ = stream.and_then(|mut stream| stream.write_all(name.as_bytes()));
        }
    });
    address
}

/// A member of a cluster. It ends with the value.
pub(crate) struct Node {
    directory: TempDir,
    name: &'static str,
    /// Of the 127/8, so that tests side by side do not meet.
    address: String,
    /// The part of the node's file that is the same on all of them.
    members: String,
    child: Option<Child>,
}

impl Node {
    /// A node, the only member of its cluster, with these lines in its file. It does not run yet.
    pub(crate) fn new(lines: &str) -> Self {
        let [node] = Self::cluster([("lb1", lines)]);
        node
    }

    /// The members of a cluster, by name and lines of their files. Who is called `witness` is one. None runs yet.
    pub(crate) fn cluster<const N: usize>(wanted: [(&'static str, &str); N]) -> [Self; N] {
        let mut members = String::new();
        let addressed = wanted.map(|(name, lines)| (name, lines, own_address()));
        for (id, (name, _, address)) in (1..).zip(&addressed) {
            let witness = *name == "witness";
            members += &format!(
                "[[cluster.member]]\nid = {id}\nname = {name:?}\naddress = \"{address}:7300\"\nwitness = {witness}\n"
            );
        }
        addressed.map(|(name, lines, address)| {
            let directory = TempDir::new().unwrap();
            let node = Self { directory, name, address, members: members.clone(), child: None };
            node.write(lines);
            node
        })
    }

    /// Writes the node's file anew.
    pub(crate) fn write(&self, lines: &str) {
        let (name, api, state, members) = (self.name, self.api(), self.path("state"), &self.members);
        let text = format!(
            "name = {name:?}\nworkers = 2\napi = {api:?}\nstate_dir = {state:?}\n{lines}\n\
             [cluster]\nname = \"demo\"\ninsecure = true\n{members}"
        );
        fs::write(self.path("node.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn api(&self) -> PathBuf {
        self.path("api.sock")
    }

    /// Where the service of [`Node::service`] listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        format!("{}:8080", self.address).parse().unwrap()
    }

    /// A cluster file with the service `web`.
    pub(crate) fn service(&self, servers: &Servers) -> String {
        let mut text = format!("[[service]]\nname = \"web\"\nlisten = [\"{}\"]\n", self.listen());
        for (name, address) in &servers.0 {
            text += &format!("[[service.server]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        }
        text
    }

    fn program() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cygnet"));
        command.stdin(Stdio::null()).env_remove("CYGNET_API").env_remove("CYGNET_LOG");
        command
    }

    /// Starts the node.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let node = Self::program().args(["run", "--config"]).arg(self.path("node.toml")).stderr(log).spawn();
        self.child = Some(node.unwrap());
    }

    /// Starts the node and waits until it can decide.
    pub(crate) fn start(&mut self) {
        self.spawn();
        self.decides();
    }

    /// Waits until enough nodes agree.
    pub(crate) fn decides(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.cygnet(&["-o", "json", "status"]).out.replace(' ', "").contains("\"reached\":true") {
            assert!(Instant::now() < deadline, "it does not start: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs the program with the same file, and waits for its end.
    pub(crate) fn second(&self) -> Answer {
        let mut command = Self::program();
        command.args(["run", "--config"]).arg(self.path("node.toml"));
        answer(&mut command)
    }

    /// Asks the node.
    pub(crate) fn cygnet(&self, arguments: &[&str]) -> Answer {
        answer(Self::program().arg("--api").arg(self.api()).args(arguments))
    }

    pub(crate) fn try_apply(&self, text: &str) -> Answer {
        let file = self.path("cluster.toml");
        fs::write(&file, text).unwrap();
        self.cygnet(&["config", "apply", "--yes", file.to_str().unwrap()])
    }

    pub(crate) fn apply(&self, text: &str) {
        let applied = self.try_apply(text);
        assert!(applied.ok(), "{applied:?} {}", self.log());
    }

    /// Who answers on a new connection.
    pub(crate) fn ask(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.listen())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut name = String::new();
        stream.read_to_string(&mut name)?;
        Ok(name)
    }

    /// Who answers on so many connections: the names, sorted, each once.
    pub(crate) fn answers(&self, count: usize) -> Vec<String> {
        let mut names: Vec<String> = (0..count).map(|_| self.ask().unwrap()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// SIGTERM, and how the node ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let mut ended = None;
        until("the node ends", || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        ended.expect("it has ended")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What it has written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn own_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{low}.{}", 128 | (high & 0x3f), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn answer(command: &mut Command) -> Answer {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
