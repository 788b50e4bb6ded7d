//! Words for the administrator: on stderr in the foreground, else for syslog. Nobody waits for either.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};

use cygnet_netlink::process::wall_time;

use super::clock;

/// Where the daemon of syslog listens.
const SYSLOG: &str = "/dev/log";
/// What Pen calls itself there.
const TAG: &str = "pen";
/// Facility user, severity debug (RFC 3164 section 4.1.1).
const USER_DEBUG: u8 = (1 << 3) | 7;
/// Facility user, severity error.
const USER_ERROR: u8 = (1 << 3) | 3;
/// Longest message, bytes (RFC 3164 section 4.1).
const MESSAGE_BYTES_MAX: usize = 1024;
/// The months as RFC 3164 writes them.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Where messages go. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Messages(Arc<Way>);

#[derive(Debug)]
enum Way {
    Stderr,
    /// `None` while the daemon of syslog is not there.
    Syslog(Mutex<Option<UnixDatagram>>),
}

impl Messages {
    /// With time stamps on stderr.
    pub(super) fn stderr() -> Self {
        Self(Arc::new(Way::Stderr))
    }

    /// To syslog, which is looked for at once: it may be out of reach later, in a jail.
    pub(super) fn syslog() -> Self {
        Self(Arc::new(Way::Syslog(Mutex::new(connect().ok()))))
    }

    /// Something worth knowing.
    pub(super) fn tell(&self, what: impl Display) {
        match &*self.0 {
            Way::Stderr => {
                // There is nowhere left to complain to if this fails.
                let _ = writeln!(io::stderr(), "{}: {what}", clock::local_time(clock::unix()));
            }
            Way::Syslog(socket) => send(socket, USER_DEBUG, &what),
        }
    }

    /// Why this process ends.
    pub(super) fn fatal(&self, what: impl Display) {
        let _ = writeln!(io::stderr(), "{what}");
        if let Way::Syslog(socket) = &*self.0 {
            send(socket, USER_ERROR, &what);
        }
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(SYSLOG)?;
    Ok(socket)
}

/// Sends one message; if the daemon was started anew, to the new one. A message that finds no room is lost.
fn send(socket: &Mutex<Option<UnixDatagram>>, priority: u8, what: &dyn Display) {
    let message = datagram(priority, clock::unix(), &what.to_string());
    let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    let sent = |socket: &UnixDatagram| match socket.send(&message) {
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        Ok(_) => true,
    };
    if !socket.as_ref().is_some_and(sent) {
        *socket = connect().ok();
        let _ = socket.as_ref().is_some_and(sent);
    }
}

/// `<PRIORITY>Mmm dd hh:mm:ss pen: TEXT` (RFC 3164 section 4.1), on one line.
fn datagram(priority: u8, unix: i64, text: &str) -> Vec<u8> {
    let date = wall_time(unix).map_or_else(String::new, |time| {
        let month = MONTHS.get(usize::from(time.month).wrapping_sub(1)).unwrap_or(&MONTHS[0]);
        let (day, hour, minute, second) = (time.day, time.hour, time.minute, time.second);
        format!("{month} {day:2} {hour:02}:{minute:02}:{second:02} ")
    });
    let mut message = format!("<{priority}>{date}{TAG}: {}", text.replace('\n', " ")).into_bytes();
    message.truncate(MESSAGE_BYTES_MAX);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_for_syslog_has_the_form_of_rfc_3164() {
        let text = String::from_utf8(datagram(USER_DEBUG, 1_783_000_000, "two\nlines")).unwrap();
        let (head, rest) = text.split_at("<15>Jul  2 ".len());
        assert_eq!(head, "<15>Jul  2 ");
        assert!(rest.ends_with(" pen: two lines"), "{text}");
        assert_eq!(rest.len(), "13:46:40 pen: two lines".len());
    }

    #[test]
    fn a_long_message_is_cut() {
        assert_eq!(datagram(USER_ERROR, 0, &"x".repeat(5000)).len(), MESSAGE_BYTES_MAX);
    }
}
