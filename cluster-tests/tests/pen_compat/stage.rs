//! One balancer, and what is done with it.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cygnet_lab::peers::cygnet;
use cygnet_lab::{command, wait};
use socket2::{Domain, Socket, Type};

use crate::table::{escape, unescape, words};

/// The control socket of all cases.
const CONTROL: &str = "/run/lab/ctl";
/// Where the cases keep their files.
const FILES: &str = "/run/lab";
/// Where clients connect.
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long an answer may take; a balancer that closes is quicker.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Files and sockets that the servers keep between cases.
const KEPT: [&str; 3] = ["s", "logs", "bin"];

/// Which pen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The one of Debian.
    Pen,
    /// Ours.
    Ours,
}

impl Program {
    /// The path of `pen` or `penctl`; ours is called by its name through a link.
    fn path(self, name: &str) -> Result<PathBuf> {
        if self == Self::Pen {
            return Ok(Path::new("/usr/bin").join(name));
        }
        let folder = Path::new(FILES).join("bin");
        let link = folder.join(name);
        if !link.exists() {
            fs::create_dir_all(&folder)?;
            std::os::unix::fs::symlink(cygnet::program()?, &link)?;
        }
        Ok(link)
    }
}

/// A balancer and its clients.
#[derive(Debug)]
pub(crate) struct Stage {
    program: Program,
    running: Option<Child>,
    held: Vec<Socket>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Stage {
    pub(crate) fn new(program: Program) -> Result<Self> {
        for file in fs::read_dir(FILES)? {
            let file = file?;
            if !KEPT.iter().any(|kept| file.file_name() == *kept) {
                fs::remove_file(file.path())?;
            }
        }
        Ok(Self { program, running: None, held: Vec::new() })
    }

    pub(crate) fn step(&mut self, word: &str, rest: &str) -> Result<String> {
        match word {
            "run" | "run1" => self.run(rest, word == "run1"),
            "pen" => self.start(rest).map(|()| String::new()),
            "ask" => {
                let got = Self::request(rest, b"ask").0;
                self.settle();
                Ok(first_word(&got))
            }
            "get" => Ok(format!("{}\n", escape(&Self::request("", &unescape(rest)).0))),
            "hold" => Ok(self.hold(rest)),
            "udp" => udp(rest),
            "ctl" => self.answer(rest).map(|answer| shown(&answer)),
            "raw" => self.give(&unescape(rest)).map(|answer| shown(&answer)),
            "until" => self.until(rest),
            "penctl" => self.penctl(rest),
            "put" => {
                let (file, text) = rest.split_once(' ').context("put FILE TEXT")?;
                fs::write(file, unescape(text)).map(|()| String::new()).context("put")
            }
            "cat" => Ok(self.normal(&escape_lines(&fs::read(rest).with_context(|| rest.to_owned())?))),
            "wait" => wait::until(LIMIT, rest, || {
                let text = fs::read(rest).unwrap_or_default();
                Ok(text.ends_with(b"</html>\n").then(String::new))
            }),
            "gone" => Ok(format!("{}\n", if Path::new(rest).exists() { "there" } else { "gone" })),
            "move" => {
                let (from, to) = rest.split_once(' ').context("move FROM TO")?;
                fs::rename(from, to).map(|()| String::new()).context("move")
            }
            "signal" => {
                let pid = self.child()?.id().to_string();
                command::run("kill", &[&format!("-{rest}"), &pid]).map(|_| String::new())
            }
            "end" => self.end(),
            "certificates" => certificates().map(|()| String::new()),
            "tls" => tls(rest),
            "stdout" | "stderr" => Ok(self.normal(&fs::read_to_string(Path::new(FILES).join(word))?)),
            _ => bail!("there is no step {word}"),
        }
    }

    fn child(&mut self) -> Result<&mut Child> {
        self.running.as_mut().context("no pen runs")
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child()?.try_wait()?.is_some())
    }

    /// Starts a balancer in the foreground, and waits until it can be spoken to.
    fn start(&mut self, line: &str) -> Result<()> {
        let arguments = words(line);
        let own_control =
            arguments.iter().position(|word| word == "-C").and_then(|at| arguments.get(at + 1).cloned());
        let mut command = Command::new(self.program.path("pen")?);
        // Where a pen that crashes leaves its core.
        command.args(["-f", "-u", "root"]).current_dir(FILES);
        if own_control.is_none() {
            command.args(["-C", CONTROL]);
        }
        let file = |name: &str| fs::File::create(Path::new(FILES).join(name));
        command.args(&arguments).stdin(Stdio::null()).stdout(file("stdout")?).stderr(file("stderr")?);
        self.running = Some(command.spawn().context("cannot start pen")?);
        wait::until(LIMIT, "the control socket", || {
            if self.has_ended()? {
                bail!("pen has ended: {}", fs::read_to_string(Path::new(FILES).join("stderr"))?);
            }
            Ok(match &own_control {
                Some(address) => std::net::TcpStream::connect(address.as_str()).is_ok(),
                None => self.answer("mode").is_ok_and(|answer| !answer.is_empty()),
            }
            .then_some(()))
        })
    }

    /// Runs to the end; `briefly`: to see what it says, for it would not end.
    fn run(&self, line: &str, briefly: bool) -> Result<String> {
        let mut command = Command::new("timeout");
        command.arg(if briefly { "1" } else { "10" }).arg(self.program.path("pen")?).args(words(line));
        let output = command.stdin(Stdio::null()).output()?;
        // Killed by `timeout` at the end, each in its way.
        let status = if briefly { None } else { Some(&output) };
        Ok(self.normal(&said(&output, status)))
    }

    fn penctl(&self, line: &str) -> Result<String> {
        let output =
            Command::new(self.program.path("penctl")?).args(words(line)).stdin(Stdio::null()).output()?;
        Ok(self.normal(&said(&output, Some(&output))))
    }

    fn end(&mut self) -> Result<String> {
        let child = self.child()?;
        let status = wait::until(LIMIT, "the end of pen", || Ok(child.try_wait()?))?;
        Ok(format!("{status}\n"))
    }

    /// A command through the control socket; for figures of servers, when the connections are gone that are to go.
    pub(crate) fn answer(&self, line: &str) -> Result<String> {
        let mut last = String::new();
        let settled = wait::until(ANSWER_LIMIT, "connections to end", || {
            last = self.give(format!("{line}\n").as_bytes())?;
            Ok((line != "servers" || connections(&last) <= self.held.len()).then_some(()))
        });
        // As it is then: the comparison will tell.
        drop(settled);
        Ok(self.normal(&last))
    }

    /// Waits until the balancer has seen that the last client is gone: the next choice may depend on it.
    fn settle(&self) {
        // A case with another control socket, or without servers, waits for nothing.
        let _ = self.answer("servers");
    }

    fn give(&self, bytes: &[u8]) -> Result<String> {
        let mut stream = UnixStream::connect(CONTROL).context("control socket")?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(bytes)?;
        let mut answer = Vec::new();
        // A pen that crashes resets the connection: no answer.
        let _ = stream.read_to_end(&mut answer);
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// `COMMAND = ANSWER`: asks until it is so.
    fn until(&self, rest: &str) -> Result<String> {
        let (line, expected) = rest.split_once(" = ").context("until COMMAND = ANSWER")?;
        wait::until(LIMIT, rest, || Ok((self.answer(line)?.trim_end() == expected).then(String::new)))
    }

    /// Sends `bytes` and reads what comes, which is in one piece: it is short. `from`: an address to come from, or the path
    /// of a Unix listener. Whoever is closed without an answer, in whatever way, gets nothing.
    fn request(from: &str, bytes: &[u8]) -> (Vec<u8>, Option<Socket>) {
        let talk = || -> Result<(Vec<u8>, Socket)> {
            let mut stream = connect(from)?;
            stream.write_all(bytes)?;
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer)?;
            Ok((buffer[..length].to_vec(), stream))
        };
        talk().map_or_else(|_| (Vec::new(), None), |(got, stream)| (got, Some(stream)))
    }

    /// A connection that stays.
    fn hold(&mut self, from: &str) -> String {
        let (got, stream) = Self::request(from, b"hold");
        if !got.is_empty() {
            self.held.extend(stream);
        }
        first_word(&got)
    }

    /// Without what differs from run to run.
    fn normal(&self, text: &str) -> String {
        let pid = self.running.as_ref().map(|child| child.id().to_string());
        let program = self.program.path("pen").map(|path| path.display().to_string()).unwrap_or_default();
        let lines = text.split_inclusive('\n').filter(|line| {
            // Addresses in memory, the mechanism's complaint about a listener that was not opened, the resolver's words, and
            // those of the library for countries where its files are not installed.
            !["Before: ", "After: ", "epoll_ctl: ", "getaddrinfo: ", "Error Opening file /usr/share/GeoIP"]
                .iter()
                .any(|part| line.contains(part))
        });
        lines
            .map(|line| {
                let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
                let body =
                    if pid.as_deref() == Some(body) { "{pid}".to_owned() } else { without_times(body) };
                body.replace(&program, "pen").replace(CONTROL, "{control}") + end
            })
            .collect()
    }
}

/// Dates become `{time}`, and seconds since 1970 `{unix}`.
fn without_times(line: &str) -> String {
    let shape =
        |text: &str| -> String { text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect() };
    let mut out = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        if rest.get(..19).is_some_and(|start| shape(start) == "0000-00-00 00:00:00") {
            out += "{time}";
            rest = &rest[19..];
            continue;
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 10 {
            out += "{unix}";
            rest = &rest[10..];
        } else {
            let length = digits.max(rest.chars().next().map_or(1, char::len_utf8));
            out += &rest[..length];
            rest = &rest[length..];
        }
    }
    // A message of the foreground begins with the time.
    out.strip_prefix("{time}: ").map(str::to_owned).unwrap_or(out)
}

fn connections(servers: &str) -> usize {
    let words: Vec<_> = servers.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[0] == "conn").filter_map(|pair| pair[1].parse::<usize>().ok()).sum()
}

fn connect(from: &str) -> Result<Socket> {
    let socket = if from.starts_with('/') {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.connect(&socket2::SockAddr::unix(from)?)?;
        socket
    } else {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let from: IpAddr = if from.is_empty() { Ipv4Addr::LOCALHOST.into() } else { from.parse()? };
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&SERVICE.into())?;
        socket
    };
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    Ok(socket)
}

/// An authority, a certificate for the server signed by it, and one for a client.
fn certificates() -> Result<()> {
    let make = |arguments: &str| command::run("openssl", &words(arguments)).map(drop);
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    make(&format!("req -x509 {key} -subj /CN=authority -days 2 -keyout {FILES}/ca.key -out {FILES}/ca.crt"))?;
    for name in ["server", "client"] {
        let file = format!("{FILES}/{name}");
        make(&format!("req {key} -subj /CN={name} -keyout {file}.key -out {file}.csr"))?;
        let authority = format!("-CA {FILES}/ca.crt -CAkey {FILES}/ca.key -CAcreateserial");
        make(&format!("x509 -req {authority} -in {file}.csr -days 2 -out {file}.crt"))?;
    }
    let both = ["crt", "key"].map(|kind| fs::read_to_string(format!("{FILES}/server.{kind}")));
    let both = both.into_iter().collect::<std::io::Result<String>>()?;
    Ok(fs::write(format!("{FILES}/both.pem"), both)?)
}

/// A client's request over TLS, with openssl(1): the answer, or that there was none.
fn tls(arguments: &str) -> Result<String> {
    let mut client = Command::new("timeout");
    client.args(["5", "openssl", "s_client", "-quiet", "-connect", "127.0.0.1:8000"]).args(words(arguments));
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut input = client.stdin.take().context("no input")?;
    let mut output = client.stdout.take().context("no output")?;
    // The client may be refused before it has said anything.
    let _ = input.write_all(b"ask\n");
    let mut buffer = [0; 256];
    let length = output.read(&mut buffer)?;
    drop(input);
    client.kill()?;
    client.wait()?;
    Ok(first_word(&buffer[..length]))
}

fn udp(text: &str) -> Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    socket.send_to(text.as_bytes(), SERVICE)?;
    let mut buffer = [0; 256];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => Ok(format!("{} from {from}\n", escape(&buffer[..length]))),
        Err(error) => Ok(format!("no answer ({})\n", error.kind())),
    }
}

fn first_word(answer: &[u8]) -> String {
    let text = escape(answer);
    format!("{}\n", text.split(' ').next().filter(|word| !word.is_empty()).unwrap_or("closed"))
}

/// An answer without an end of line is shown with a mark.
fn shown(answer: &str) -> String {
    if answer.is_empty() || answer.ends_with('\n') { answer.to_owned() } else { format!("{answer}\\\n") }
}

fn escape_lines(bytes: &[u8]) -> String {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| line.strip_suffix(b"\n").map_or_else(|| escape(line) + "\n", |line| escape(line) + "\n"))
        .collect()
}

fn said(output: &Output, status: Option<&Output>) -> String {
    let mut said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if let Some(output) = status {
        said += &format!("status {}\n", output.status.code().unwrap_or(-1));
    }
    said
}
