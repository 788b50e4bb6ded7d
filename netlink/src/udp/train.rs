//! Several datagrams of one flow in one system call. The kernel puts datagrams of one sender that come close together into
//! a train where the socket asks for it (`UDP_GRO`), and cuts a train into its datagrams when it is sent (`UDP_SEGMENT`); see
//! udp(7). It never joins what is of two senders, two lengths, or for two ports: a train is one flow's.

use std::io;
use std::num::NonZeroU16;
use std::os::fd::AsRawFd;

use super::control::{Control, Notes};

/// Datagrams of one flow, end to end: all of the same length, but for the last one, which may be shorter. Mostly just one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train<'a> {
    /// All of them.
    pub bytes: &'a [u8],
    /// The length of each; `None` when it is just one.
    pub segment: Option<NonZeroU16>,
}

impl<'a> Train<'a> {
    /// A train of one is none.
    #[must_use]
    pub fn new(bytes: &'a [u8], segment: Option<NonZeroU16>) -> Self {
        Self { bytes, segment: segment.filter(|segment| usize::from(segment.get()) < bytes.len()) }
    }

    /// How many datagrams it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.segment.map_or(1, |segment| self.bytes.len().div_ceil(segment.get().into()))
    }

    /// Its datagrams.
    pub fn datagrams(self) -> impl Iterator<Item = &'a [u8]> {
        let length = self.segment.map_or(self.bytes.len(), |segment| segment.get().into());
        (0..self.count()).map(move |at| &self.bytes[at * length..self.bytes.len().min((at + 1) * length)])
    }
}

/// Whether the kernel will not cut a train: its datagrams are longer than the route allows in one packet, it has too many of
/// them, or the way leads through something that cannot. Each alone may pass.
pub(super) fn is_uncut(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|number| [libc::EINVAL, libc::EMSGSIZE, libc::EIO, libc::EOPNOTSUPP].contains(&number))
}

/// Sends a train through a connected socket.
pub(super) fn send(socket: &impl AsRawFd, bytes: &[u8], segment: NonZeroU16) -> io::Result<()> {
    let mut control = Control::default();
    let length = control.write(Notes { local: None, segment: Some(segment) });
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let header = header(&mut vector, &mut control, length);
    // SAFETY: the header points to one vector and to `length` bytes of control messages, both of this frame, and the vector
    // to `bytes`; the kernel only reads them, until the call returns.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives a datagram or a train: its length, and that of each datagram.
pub(super) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, Option<NonZeroU16>)> {
    let mut control = Control::default();
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header = header(&mut vector, &mut control, Control::LENGTH);
    // SAFETY: the header points to one vector and to room for control messages, both of this frame, and the vector to
    // `buffer`, which nobody else sees; the kernel writes no more than their lengths, until the call returns.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    #[allow(clippy::unnecessary_cast, reason = "another type in other C libraries")]
    let notes = control.parse(header.msg_controllen as usize);
    Ok((received, Train::new(&buffer[..received], notes.segment).segment))
}

fn header(vector: &mut libc::iovec, control: &mut Control, length: usize) -> libc::msghdr {
    // SAFETY: `msghdr` is integers and pointers, for which all bits zero is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = vector;
    header.msg_iovlen = 1;
    header.msg_control = std::ptr::from_mut(control).cast();
    header.msg_controllen = length as _;
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_is_its_datagrams_and_nothing_else() {
        for (length, segment, expected) in [
            (0, None, vec![0]),
            (7, None, vec![7]),
            (7, Some(7), vec![7]),
            (7, Some(3), vec![3, 3, 1]),
            (6, Some(3), vec![3, 3]),
        ] {
            let bytes: Vec<u8> = (0..length).collect();
            let train = Train::new(&bytes, segment.and_then(NonZeroU16::new));
            assert_eq!(train.datagrams().map(<[u8]>::len).collect::<Vec<_>>(), expected);
            assert_eq!(
                (train.datagrams().collect::<Vec<_>>().concat(), train.count()),
                (bytes.clone(), expected.len())
            );
        }
    }
}
