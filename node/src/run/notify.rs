//! What the service manager is told (sd_notify(3)): that the node is up, and which process it is. Without one, nothing happens.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// The node is up.
pub(super) fn ready() {
    tell("READY=1\n");
}

/// The main process is another one from now on.
pub(super) fn main_process(pid: u32) {
    tell(&format!("MAINPID={pid}\n"));
}

fn tell(text: &str) {
    let Some(socket) = std::env::var_os(SOCKET).filter(|name| !name.is_empty()) else { return };
    if let Err(error) = tell_at(&socket, text) {
        tracing::warn!(%error, "the service manager was not told {text:?}");
    }
}

/// A name that begins with `@` is no file.
fn tell_at(socket: &OsString, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagrams = UnixDatagram::unbound()?;
    // A manager that does not read must not stop the node.
    datagrams.set_nonblocking(true)?;
    datagrams.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_told_at_a_file_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notify");
        let abstract_name = format!("cygnet-test-{}", std::process::id());
        let at_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let managers = [
            (UnixDatagram::bind(&file).unwrap(), file.into_os_string()),
            (UnixDatagram::bind_addr(&at_name).unwrap(), format!("@{abstract_name}").into()),
        ];
        for (manager, socket) in managers {
            tell_at(&socket, "READY=1\n").unwrap();
            let mut said = [0; 64];
            let length = manager.recv(&mut said).unwrap();
            assert_eq!(&said[..length], b"READY=1\n");
        }
        assert!(tell_at(&"/nowhere/at/all".into(), "READY=1\n").is_err());
    }
}
