//! The servers behind the proxy for TCP: one nginx with one worker, two addresses, and what must come back from it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::identity::Identity;
use super::process::{Running, find, wait_for};
use super::sandbox::{BACKLOG, SERVERS};
use super::tls::{self, Client};
use super::workload::Handshake;

pub(super) const SMALL_PATH: &str = "/small";
pub(super) const BULK_PATH: &str = "/bulk";

/// The small answer: 71 bytes, as in the first measurements of the data path.
const SMALL: &str = "Cygnet: seventy-one bytes of answer, so that a request is a small one.\n";
/// Bytes of the large answer.
pub(super) const BULK_BYTES: usize = 8 << 20;
/// How long a server or a proxy may take until it answers right.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long one fetch may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);
/// Fetches of each document through the proxy before anything is counted: enough for each worker and each server.
const PROOFS: usize = 8;

/// Starts the servers, and waits until they answer.
pub(super) fn start(folder: &Path) -> Result<Running> {
    let www = folder.join("www");
    fs::create_dir_all(&www).context("cannot make the documents' folder")?;
    fs::write(www.join("small"), SMALL).context("cannot write a document")?;
    fs::write(www.join("bulk"), bulk()).context("cannot write a document")?;
    let config = folder.join("origin.conf");
    fs::write(&config, configuration(folder)).context("cannot write the servers' configuration")?;
    let mut origin = Running::start(
        Command::new(find("nginx")?).arg("-c").arg(&config).arg("-e").arg("stderr"),
        &folder.join("origin.log"),
    )?;
    for server in SERVERS {
        answers(&mut origin, server, None)?;
    }
    Ok(origin)
}

/// Waits until both documents come back right from `address`, over TLS if it has an identity, which it must show;
/// `program` must live meanwhile.
pub(super) fn answers(program: &mut Running, address: &str, identity: Option<&Identity>) -> Result<()> {
    let address: SocketAddr = address.parse().context("an address")?;
    let mut last = None;
    let waited = wait_for("a right answer", START_DEADLINE, || {
        program.check()?;
        match fetch(address, SMALL_PATH, identity) {
            Ok(_) => Ok(Some(())),
            Err(error) => {
                last = Some(error);
                Ok(None)
            }
        }
    });
    match (waited, last) {
        (Err(error), Some(cause)) => return Err(error.context(format!("{address}: {cause:#}"))),
        (waited, _) => waited?,
    }
    let bulk = bulk();
    for _ in 0..PROOFS {
        let small = fetch(address, SMALL_PATH, identity)?;
        ensure!(small == SMALL.as_bytes(), "{address} answers {} bytes, not the small document", small.len());
        ensure!(
            fetch(address, BULK_PATH, identity)? == bulk,
            "{address}: the large document is not what the server has"
        );
    }
    Ok(())
}

/// Gets one document over a connection of its own.
fn fetch(address: SocketAddr, path: &str, identity: Option<&Identity>) -> Result<Vec<u8>> {
    let stream = TcpStream::connect_timeout(&address, FETCH_DEADLINE).context("connect")?;
    stream.set_read_timeout(Some(FETCH_DEADLINE)).context("time limit")?;
    let Some(identity) = identity else { return get(stream, path) };
    let stream = Client::new(Handshake::Full13)?.connect(stream)?;
    tls::presented(&stream, &identity.certificate)?;
    get(stream, path)
}

fn get(mut stream: impl Read + Write, path: &str) -> Result<Vec<u8>> {
    stream.write_all(request(path, false).as_bytes()).context("send")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("receive")?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no HTTP answer")?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("answer: {}", String::from_utf8_lossy(&answer[..answer.len().min(40)]));
    }
    Ok(answer.split_off(head + 4))
}

/// The text of a request.
pub(super) fn request(path: &str, keep: bool) -> String {
    let connection = if keep { "" } else { "Connection: close\r\n" };
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{connection}\r\n")
}

/// 8 MiB in which no place looks like another: a piece lost, doubled or moved is seen. (xorshift, a fixed seed)
fn bulk() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(BULK_BYTES);
    while bytes.len() < BULK_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    let listen: String =
        SERVERS.iter().map(|server| format!("        listen {server} backlog={BACKLOG};\n")).collect();
    format!(
        "daemon off;
pid {folder}/origin.pid;
user root;
worker_processes 1;
error_log stderr error;
events {{
    worker_connections 19900;
    multi_accept on;
}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    open_file_cache max=16;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
{listen}        root {folder}/www;
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_answer_has_the_size_that_is_printed() {
        assert_eq!(SMALL.len(), 71);
    }

    #[test]
    fn the_large_answer_has_its_size_and_does_not_repeat() {
        let bytes = bulk();
        assert_eq!(bytes.len(), BULK_BYTES);
        assert!(bytes.chunks(8).skip(1).all(|chunk| chunk != &bytes[..8]));
    }

    #[test]
    fn a_request_says_close_only_for_the_last_one() {
        assert!(request("/x", false).contains("\r\nConnection: close\r\n\r\n"));
        assert_eq!(request("/x", true), "GET /x HTTP/1.1\r\nHost: bench\r\n\r\n");
    }
}
