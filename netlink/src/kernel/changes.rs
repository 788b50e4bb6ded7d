//! News from the kernel, as "something changed": what changed is read afresh, so nothing depends on the messages.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rtnetlink::MulticastGroup;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// The groups to hear. All below 32, so that they fit the bit mask of `bind`.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Messages taken off the socket in one go. A kernel that talks faster than this is answered with a wake-up, so that
/// the caller's other work goes on.
const BURST_MAX: usize = 1024;

/// Wakes when a link, an address or a route has changed.
#[derive(Debug)]
pub struct Changes {
    pub(super) socket: AsyncFd<OwnedFd>,
}

impl Changes {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        let groups = GROUPS.into_iter().fold(0, |mask, group| mask | 1 << (group as u32 - 1));
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Self { socket: sys::register(socket.as_fd().try_clone_to_owned()?)? })
    }

    /// Waits until something has changed since the last call (or since [`super::Kernel::watch`]). Everything that is
    /// waiting is one wake-up; messages that the kernel had to drop (`ENOBUFS`) are one too. Cancel-safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.ready(sys::INPUT).await?;
            let mut heard = 0;
            while heard < BURST_MAX {
                match ready.try_io(|socket| take(socket.get_ref())) {
                    Ok(Ok(())) => heard += 1,
                    Ok(Err(error)) => return Err(error),
                    Err(_would_block) => break,
                }
            }
            if heard > 0 {
                return Ok(());
            }
        }
    }
}

/// Takes one datagram off the socket and forgets it.
fn take(socket: &OwnedFd) -> io::Result<()> {
    // An empty buffer: the kernel drops what does not fit.
    match sys::receive_packet(socket, &mut []) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
    }
}
