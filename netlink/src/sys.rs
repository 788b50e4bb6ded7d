//! The system calls that neither the standard library nor socket2 wraps, each wrapped once.
//!
//! What is unsafe of the kernel side stands here, and in the files that share memory with the kernel.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for an interface name with its closing zero (IFNAMSIZ).
const INTERFACE_NAME_MAX: usize = libc::IFNAMSIZ;

/// What a reader waits for. An error alone (the link went down) does not count as readable.
pub(crate) const INPUT: Interest = Interest::READABLE.add(Interest::ERROR);

/// Turns the C convention "-1 and errno" into a result.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The index of an interface. Errors: `InvalidInput` for a name that no interface can have, `ENODEV` if there is
/// none with this name.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    if name.is_empty() || name.len() >= INTERFACE_NAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is no interface name")));
    }
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `name` is a valid string closed by a zero and lives until the call returns; the call keeps no pointer.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()) } else { Ok(index) }
}

/// Sets a socket option whose value is an `int`.
pub(crate) fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: i32,
) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which lives until the call returns; the kernel only reads it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    check(result).map(drop)
}

/// The address of a packet socket on one interface. `protocol` is an EtherType in host order, 0 to receive nothing.
fn link_address(interface: u32, protocol: u16) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: `sockaddr_ll` is plain integers and arrays of them, for which all bits zero is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex =
        i32::try_from(interface).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(address)
}

/// Binds a packet socket to an interface and a protocol (an EtherType in host order, 0 to receive nothing).
pub(crate) fn bind_packet(socket: &impl AsRawFd, interface: u32, protocol: u16) -> io::Result<()> {
    let address = link_address(interface, protocol)?;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `address`, which lives until the call returns; the kernel only reads it.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// The hardware type (ARPHRD) of the interface to which a packet socket is bound.
pub(crate) fn hardware_type(socket: &impl AsRawFd) -> io::Result<u16> {
    bound_link(socket).map(|address| address.sll_hatype)
}

/// The link-layer address, with its length, of the interface to which a packet socket is bound.
pub(crate) fn hardware_address(socket: &impl AsRawFd) -> io::Result<([u8; 8], usize)> {
    bound_link(socket).map(|address| (address.sll_addr, usize::from(address.sll_halen)))
}

fn bound_link(socket: &impl AsRawFd) -> io::Result<libc::sockaddr_ll> {
    let mut address = link_address(0, 0)?;
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: both pointers are to live values of this frame, and `len` tells the kernel how much it may write.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len) })?;
    Ok(address)
}

/// Receives one packet: the bytes copied into `buffer`, and the link-layer address of the sender with its length.
pub(crate) fn receive_packet(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
) -> io::Result<(usize, [u8; 8], usize)> {
    let mut from = link_address(0, 0)?;
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `buffer` is writable for `buffer.len()` bytes and `from` for `len` bytes, both outlive the call, and the
    // kernel writes at most that much.
    let received = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut from).cast(),
            &raw mut len,
        )
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    Ok((received, from.sll_addr, usize::from(from.sll_halen)))
}

/// Registers a nonblocking descriptor with the runtime, for reading. An error rather than tokio's panic where there is
/// no runtime; one without I/O still panics, as it would for every other socket.
pub(crate) fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    // SAFETY: an `OwnedFd` is open, always answers with the same number, and closes only when it is dropped, which the
    // `AsyncFd` that takes it does after it has taken it off the poll set.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, INPUT) }?)
}

/// Makes reads and writes through this descriptor's open file return `WouldBlock` instead of waiting.
pub(crate) fn set_nonblocking(file: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: F_GETFL takes no further argument and touches no memory.
    let flags = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes an int and touches no memory.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// A descriptor that becomes readable when the process ends (Linux 5.3).
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the call takes two integers and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = check(libc::c_int::try_from(descriptor).unwrap_or(-1))?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Starts a session of our own, so that signals to the parent's group or terminal do not reach us. Succeeds as well if
/// this process leads its session already.
pub(crate) fn own_session() -> io::Result<()> {
    // SAFETY: the calls take no pointer and change only the session of this process.
    let (session, own) = unsafe { (libc::getsid(0), libc::getpid()) };
    if session == own {
        return Ok(());
    }
    // SAFETY: as above; async-signal-safe, so also fit for the time between fork and exec.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Has the child start a session of its own before it becomes the new program, so that no signal to our group or
/// terminal can reach it, not even in its first moments.
pub(crate) fn start_in_own_session(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec the closure makes only calls that are async-signal-safe (getsid, getpid, setsid),
    // allocates nothing and takes no lock.
    unsafe { command.pre_exec(own_session) }
}

/// Ignores a signal from now on.
pub(crate) fn ignore_signal(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: SIG_IGN is no function of ours, so no code runs in signal context.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits until one of the descriptors can be read, is closed at the other end, or `timeout` is over (`None`: for ever).
/// Says of each whether it is so.
pub(crate) fn wait_readable<const N: usize>(
    descriptors: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // Rounded up: a wait of part of a millisecond must not become a busy loop.
    let timeout = timeout.map_or(-1, |t| i32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    // SAFETY: pointer and length describe `polled`, which the kernel may read and write until the call returns.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) }) {
        Ok(_) => Ok(polled.map(|entry| entry.revents != 0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(error) => Err(error),
    }
}

/// Whether a small write would be taken at once.
pub(crate) fn writable_now(descriptor: BorrowedFd<'_>) -> io::Result<bool> {
    let mut polled = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: pointer and length describe `polled`, which the kernel may read and write until the call returns.
    check(unsafe { libc::poll(&raw mut polled, 1, 0) })?;
    Ok(polled.revents & libc::POLLOUT != 0)
}
