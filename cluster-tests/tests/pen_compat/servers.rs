//! Servers that say their name and what they got.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

/// How often a server looks whether it is to end.
const TICK: Duration = Duration::from_millis(10);
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// The TCP servers.
const TCP: [(&str, u16); 4] = [("a", 81), ("b", 82), ("c", 83), ("d", 84)];
/// The UDP server.
const UDP: (&str, u16) = ("u", 85);
/// The Unix server.
const UNIX: (&str, &str) = ("s", "/run/lab/s");

/// All servers.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    running: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    name: String,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of a server shows in the answers.
            let _ = thread.join();
        }
    }
}

impl Servers {
    pub(crate) fn start_all() -> Result<Self> {
        let mut servers = Self::default();
        for name in TCP.map(|(name, _)| name).into_iter().chain([UDP.0, UNIX.0]) {
            servers.start(name)?;
        }
        Ok(servers)
    }

    pub(crate) fn stop(&mut self, name: &str) {
        self.running.retain(|server| server.name != name);
    }

    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        let ending = Arc::new(AtomicBool::new(false));
        let (until, owned) = (Arc::clone(&ending), name.to_owned());
        let thread = if let Some((_, port)) = TCP.iter().find(|(known, _)| *known == name) {
            let listener = TcpListener::bind(("127.0.0.1", *port))?;
            listener.set_nonblocking(true)?;
            thread::spawn(move || serve(&until, &owned, || listener.accept().map(|(stream, _)| stream)))
        } else if name == UNIX.0 {
            let listener = UnixListener::bind(UNIX.1)?;
            listener.set_nonblocking(true)?;
            thread::spawn(move || serve(&until, &owned, || listener.accept().map(|(stream, _)| stream)))
        } else {
            let socket = UdpSocket::bind(("127.0.0.1", UDP.1)).context("udp")?;
            socket.set_read_timeout(Some(TICK))?;
            thread::spawn(move || echo(&until, &owned, &socket))
        };
        self.running.push(Server { name: name.to_owned(), ending, thread: Some(thread) });
        Ok(())
    }
}

trait Blocking: Read + Write + Send + 'static {
    fn block(&self) -> std::io::Result<()>;
}

impl Blocking for std::net::TcpStream {
    fn block(&self) -> std::io::Result<()> {
        self.set_nonblocking(false)?;
        self.set_read_timeout(Some(PATIENCE))
    }
}

impl Blocking for std::os::unix::net::UnixStream {
    fn block(&self) -> std::io::Result<()> {
        self.set_nonblocking(false)?;
        self.set_read_timeout(Some(PATIENCE))
    }
}

fn serve<S: Blocking>(ending: &AtomicBool, name: &str, accept: impl Fn() -> std::io::Result<S>) {
    while !ending.load(Ordering::Relaxed) {
        match accept() {
            Ok(stream) => {
                let name = name.to_owned();
                thread::spawn(move || answer(&name, stream));
            }
            Err(_) => thread::sleep(TICK),
        }
    }
}

/// Says each chunk again, with our name before it.
fn answer<S: Blocking>(name: &str, mut stream: S) -> std::io::Result<()> {
    stream.block()?;
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&[format!("{name} ").as_bytes(), &buffer[..length]].concat())?;
    }
}

fn echo(ending: &AtomicBool, name: &str, socket: &UdpSocket) {
    let mut buffer = [0; 4096];
    while !ending.load(Ordering::Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        let answer = [format!("{name} ").as_bytes(), &buffer[..length]].concat();
        // Whoever asked may have gone.
        let _ = socket.send_to(&answer, peer);
    }
}
