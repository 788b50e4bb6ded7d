//! Pen's front end in a lab: `pen` and `penctl` as people call them, web servers that say who they are, and a resolver
//! whose answer depends on who asks.
//!
//! Servers and resolver are threads of the lab's own process: they end with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{self, Signal};
use crate::peers::cygnet;
use crate::{enter, wait};

/// How long anything may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(20);
/// A second address of the machine, for a second client.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The headers of an HTTP answer, and of a name server's.
const HEAD_MAX: usize = 16 * 1024;
/// A question's fixed part (RFC 1035 section 4.1.1).
const QUESTION_HEAD: usize = 12;

/// Gives the lab its second address.
///
/// # Errors
/// If the kernel refuses.
pub fn add_addresses() -> Result<()> {
    command::run("ip", &["address", "add", "10.0.2.15/24", "dev", "lo"])?;
    // The C library resolves IPv6 addresses only on machines that have one beside ::1.
    command::run("ip", &["-6", "address", "add", "fd00::2/128", "dev", "lo"]).map(drop)
}

/// Starts a web server on a port of all addresses, which answers every request with `text` and a newline.
///
/// # Errors
/// If the port is taken.
pub fn serve_page(port: u16, text: &str) -> Result<()> {
    let listener = TcpListener::bind(("::", port)).with_context(|| format!("port {port}"))?;
    let text = text.to_owned();
    std::thread::Builder::new().name(format!("web-{port}")).spawn(move || {
        for client in listener.incoming().flatten() {
            let text = text.clone();
            // One thread a client: a handful in any test.
            std::thread::spawn(move || answer(client, &text));
        }
    })?;
    Ok(())
}

/// Answers requests of one connection until it ends.
fn answer(mut client: TcpStream, text: &str) -> Option<()> {
    let mut requests = BufReader::new(client.try_clone().ok()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if head.len() > HEAD_MAX || requests.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let seen = client.peer_addr().ok()?.ip();
        let forwarded = head.lines().find(|line| line.starts_with("X-Forwarded-For:")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Seen: {seen}\r\nX-Echo: {forwarded}\r\n\r\n",
            text.len() + 1
        );
        client.write_all(format!("{head}{text}\n").as_bytes()).ok()?;
    }
}

/// Starts a name server on `address` that knows one answer: 1.1.1.1 for those who ask from 127.0.0.0/8, else 2.2.2.2.
///
/// # Errors
/// If the port is taken.
pub fn serve_names(address: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| address.to_string())?;
    std::thread::Builder::new().name("names".to_owned()).spawn(move || {
        let mut buffer = [0; HEAD_MAX];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(reply) = resolve(&buffer[..length], from.ip()) {
                // A client that is gone needs no answer.
                let _ = socket.send_to(&reply, from);
            }
        }
    })?;
    Ok(())
}

/// The answer to a question (RFC 1035 section 4); `None`: it is none.
fn resolve(question: &[u8], from: IpAddr) -> Option<Vec<u8>> {
    let mut end = QUESTION_HEAD;
    while *question.get(end)? != 0 {
        end += usize::from(*question.get(end)?) + 1;
    }
    // The zero, the type and the class.
    end += 5;
    let mut reply = question.get(..2)?.to_vec();
    // An authoritative answer: one question, one record, nothing more.
    reply.extend([0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    reply.extend(question.get(QUESTION_HEAD..end)?);
    // The name of the question, an address, for three hours.
    reply.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0x2a, 0x30, 0, 4]);
    reply.extend(if from.is_loopback() { [1; 4] } else { [2; 4] });
    Some(reply)
}

/// A folder with `pen` and `penctl` in it, as an installation has them.
#[derive(Debug)]
pub struct Installed {
    folder: PathBuf,
}

impl Installed {
    /// Makes it, for everybody to read and to write.
    ///
    /// # Errors
    /// If there is no program to install.
    pub fn new(name: &str) -> Result<Self> {
        let folder = Path::new(enter::FILES).join(name);
        std::fs::create_dir_all(&folder)?;
        command::run("chmod", &["777", &folder.display().to_string()])?;
        // A copy: other users may not be able to look into the folder where it was built.
        let program = folder.join("cygnet");
        std::fs::copy(cygnet::program()?, &program)?;
        for name in ["pen", "penctl"] {
            symlink(&program, folder.join(name))?;
        }
        Ok(Self { folder })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The command that runs `pen` with these words, in the folder.
    #[must_use]
    pub fn pen(&self, words: &[&str]) -> Command {
        self.program("pen", words)
    }

    fn program(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new(self.folder.join(name));
        command.args(words).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Starts `pen` in the background, as Pen does by itself: with a control socket and a pid file. Gives the pid.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, words: &[&str]) -> Result<Running<'_>> {
        let mut all = vec!["-C", "./ctl", "-p", "./pid", "-X", "-u", "root"];
        all.extend(words);
        let output = self.pen(&all).output()?;
        ensure!(output.status.success(), "pen {all:?}: {}: {}", output.status, said(&output));
        let pid = wait::until(LIMIT, "the pid file", || {
            Ok(std::fs::read_to_string(self.folder.join("pid")).ok().and_then(|text| text.parse().ok()))
        })?;
        Ok(Running { at: self, pid })
    }
}

/// What a program wrote.
#[must_use]
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A pen in the background. Ends with this.
#[derive(Debug)]
pub struct Running<'i> {
    at: &'i Installed,
    /// Its process id.
    pub pid: u32,
}

impl Running<'_> {
    /// Runs `penctl` with these words, and gives the answer.
    ///
    /// # Errors
    /// If it does not end with 0.
    pub fn ctl(&self, words: &str) -> Result<String> {
        let output = self.ctl_output(words)?;
        ensure!(output.status.success(), "penctl {words}: {}: {}", output.status, said(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, whatever the end.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn ctl_output(&self, words: &str) -> Result<Output> {
        let mut all = vec!["./ctl"];
        all.extend(words.split_whitespace());
        Ok(self.at.program("penctl", &all).output()?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        command::signal(signal, &[self.pid])
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        command::stat_field(self.pid, 0).is_some_and(|state| state != "Z")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn wait_end(&self) -> Result<()> {
        wait::until(LIMIT, "the end of pen", || Ok((!self.is_running()).then_some(())))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.is_running() {
            // It may have ended just now.
            let _ = self.signal(Signal::Kill);
        }
        // The next one must not be taken for this one.
        let _ = std::fs::remove_file(self.at.folder.join("pid"));
    }
}

/// Fetches a page from `address`: the answer with its head, from the client address `from` if one is given.
///
/// # Errors
/// If there is no whole answer.
pub fn fetch(address: SocketAddr, from: Option<IpAddr>) -> Result<String> {
    let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect_timeout(&address.into(), LIMIT)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: lab\r\n\r\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "no answer: {text:?}");
    Ok(text)
}

/// The name of the server that answers at a port of 127.0.0.1.
///
/// # Errors
/// If there is no whole answer.
pub fn ask(port: u16) -> Result<String> {
    page(&fetch(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), None)?)
}

/// The name in an answer.
///
/// # Errors
/// If there is none.
pub fn page(answer: &str) -> Result<String> {
    let (_, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
    Ok(body.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_by_where_it_comes_from() {
        let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01extra";
        let reply = resolve(question, IpAddr::from([127, 0, 0, 1])).unwrap();
        assert_eq!(&reply[..2], b"\x12\x34");
        assert!(reply.ends_with(&[0, 4, 1, 1, 1, 1]));
        let reply = resolve(question, IpAddr::from([10, 0, 2, 15])).unwrap();
        assert!(reply.ends_with(&[0, 4, 2, 2, 2, 2]));
        assert_eq!(resolve(b"\x12\x34", IpAddr::from([127, 0, 0, 1])), None);
    }
}
