//! One socket of a connection, and what is known of it: calls that would come back empty are not made.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use super::reactor::Ready;

/// Whether the kernel may hold small segments back (Nagle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nagle {
    /// Nothing was sent yet. A first segment is never held back.
    Unsent,
    /// Something was sent; the next one might have to wait until that is acknowledged.
    Sent,
    /// It may not.
    Off,
}

/// One of the two sockets of a connection.
#[derive(Debug)]
pub(super) struct Side {
    socket: OwnedFd,
    ready: Ready,
    nagle: Nagle,
}

impl Side {
    /// A client that was accepted; it inherited `TCP_NODELAY` from its listener. `careful`: not TCP.
    pub(super) fn accepted(socket: OwnedFd, careful: bool) -> Self {
        let kind = if careful { Ready::CAREFUL } else { Ready::default() };
        Self { socket, ready: kind.with(Ready::WRITE), nagle: Nagle::Off }
    }

    /// A server to which a connection is being made.
    pub(super) fn dialled(socket: OwnedFd, careful: bool) -> Self {
        let (ready, nagle) = match careful {
            // Connected already.
            true => (Ready::CAREFUL.with(Ready::WRITE), Nagle::Off),
            false => (Ready::default(), Nagle::Unsent),
        };
        Self { socket, ready, nagle }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The kernel says so.
    pub(super) fn is_now(&mut self, ready: Ready) {
        self.ready = self.ready.with(ready);
    }

    pub(super) fn ready(&self) -> Ready {
        self.ready
    }

    /// There was nothing to read.
    pub(super) fn is_dry(&mut self) {
        self.ready = self.ready.without(Ready::READ);
    }

    /// There was no room to write.
    pub(super) fn is_full(&mut self) {
        self.ready = self.ready.without(Ready::WRITE);
    }

    /// Whether everything was read and the other side will send no more: known without a call, when the kernel had told
    /// of the end before a read that came back short.
    pub(super) fn has_ended(&self) -> bool {
        self.ready.any(Ready::END) && !self.ready.any(Ready::READ)
    }

    /// Reads what is there; `None`: nothing now, 0: the end.
    pub(super) fn recv(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((count, _)) => {
                    let may_have_more = count == buffer.len();
                    if !may_have_more && count > 0 && !self.ready.any(Ready::CAREFUL.with(Ready::ERROR)) {
                        self.is_dry();
                    }
                    return Ok(Some(count));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.is_dry();
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes as much as there is room for; 0: there is none. `and_end`: the end follows at once, and may go in the same
    /// segment.
    pub(super) fn send(&mut self, bytes: &[u8], and_end: bool) -> Result<usize, Errno> {
        self.is_about_to_send()?;
        let more = if and_end { SendFlags::MORE } else { SendFlags::empty() };
        loop {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL | more) {
                Ok(count) => {
                    if count < bytes.len() {
                        self.is_full();
                    }
                    return Ok(count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.is_full();
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Switches Nagle's algorithm off before the second send: a connection that sends once saves the call.
    pub(super) fn is_about_to_send(&mut self) -> Result<(), Errno> {
        match self.nagle {
            Nagle::Unsent => self.nagle = Nagle::Sent,
            Nagle::Sent => {
                sockopt::set_tcp_nodelay(&self.socket, true)?;
                self.nagle = Nagle::Off;
            }
            Nagle::Off => {}
        }
        Ok(())
    }

    /// Passes the end on.
    pub(super) fn shut(&self) -> Result<(), Errno> {
        shutdown(&self.socket, Shutdown::Write)
    }

    /// Closing will reset the connection, so that nobody takes half an answer for a whole one.
    pub(super) fn abort(&self) {
        // A side that is gone already does not mind.
        let _ = sockopt::set_socket_linger(&self.socket, Some(std::time::Duration::ZERO));
    }

    /// The error that a connect came to.
    pub(super) fn error(&self) -> Option<Errno> {
        match sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => None,
            Ok(Err(error)) | Err(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (Side, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        ours.set_nonblocking(true).expect("a flag");
        (Side::dialled(ours.into(), false), listener.accept().expect("it waits").0)
    }

    #[test]
    fn the_second_send_and_no_sooner_switches_delays_off() {
        let (mut side, _other) = pair();
        for expected in [false, true, true] {
            side.send(b"x", false).expect("room");
            assert_eq!(sockopt::tcp_nodelay(side.socket()), Ok(expected));
        }
    }

    #[test]
    fn a_short_read_after_the_end_was_told_is_the_last_unless_care_is_needed() {
        for (ready, known) in [
            (Ready::END, true),
            (Ready::default(), false),
            (Ready::END.with(Ready::CAREFUL), false),
            (Ready::END.with(Ready::ERROR), false),
        ] {
            let (mut side, mut other) = pair();
            std::io::Write::write_all(&mut other, b"last").expect("sent");
            drop(other);
            side.is_now(ready.with(Ready::READ));
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while side.recv(&mut [0; 64]).expect("no error").is_none() {
                assert!(std::time::Instant::now() < deadline);
                side.is_now(Ready::READ);
            }
            assert_eq!(side.has_ended(), known, "{ready:?}");
        }
    }
}
