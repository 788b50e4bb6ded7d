//! The servers behind the proxy for UDP: they send each datagram back. And the proof that they are reached.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::load::datagrams::DATAGRAM_BYTES;
use super::process::{Running, wait_for};
use super::sandbox::{FRONT, SERVERS};

/// How long a proxy may take until it serves.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long one echo may take.
const ECHO_DEADLINE: Duration = Duration::from_millis(200);
/// Clients that must be echoed before anything is counted: enough for each worker and each server.
const PROOFS: usize = 16;

/// Starts a thread for each server; they end with this process.
pub(super) fn start() -> Result<()> {
    for server in SERVERS {
        let socket = UdpSocket::bind(server).with_context(|| format!("cannot bind {server}"))?;
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            loop {
                // An error is an ICMP answer to an echo that nobody waits for any more.
                if let Ok((count, client)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..count], client);
                }
            }
        });
    }
    Ok(())
}

/// Waits until echoes come through the proxy; it must live meanwhile.
pub(super) fn answers(proxy: &mut Running) -> Result<()> {
    for number in 0..PROOFS {
        wait_for("an echo", START_DEADLINE, || {
            proxy.check()?;
            Ok(echo(number as u8)?.then_some(()))
        })?;
    }
    Ok(())
}

/// Whether a datagram of a new client comes back as it was.
fn echo(number: u8) -> Result<bool> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("cannot bind")?;
    socket.connect(FRONT).context("cannot connect")?;
    socket.set_read_timeout(Some(ECHO_DEADLINE)).context("time limit")?;
    let sent = [number; DATAGRAM_BYTES];
    let mut buffer = [0; 2 * DATAGRAM_BYTES];
    if socket.send(&sent).is_err() {
        return Ok(false);
    }
    let Ok(count) = socket.recv(&mut buffer) else { return Ok(false) };
    ensure!(buffer[..count] == sent, "another datagram came back than was sent");
    Ok(true)
}
