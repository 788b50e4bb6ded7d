//! Many datagrams with one system call: recvmmsg(2) and sendmmsg(2) over headers and buffers that are made once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use super::address::Name;
use super::control::{Control, Local, Notes};
use super::train::{self, Train};

/// Datagrams in a batch. With 32 the call itself costs a few nanoseconds a datagram; more would only cost cache.
pub const BATCH: usize = 32;
/// Bytes of the longest datagram, with room to spare (65,507 in IPv4, 65,527 in IPv6). A buffer for it is memory only as
/// far as it has ever been filled.
pub const DATAGRAM_MAX: usize = 1 << 16;
/// Bytes between two buffers. Were their distance a multiple of the page's size, the beginnings of all buffers would fight
/// for the same few lines of the processor's caches.
const GAP: usize = 17 * 64;

/// A boxed slice to which the kernel writes through pointers that were made once.
///
/// It is held as a raw pointer because a `Box` that is moved may not be pointed into.
#[derive(Debug)]
pub(crate) struct Fixed<T>(NonNull<[T]>);

impl<T> Fixed<T> {
    pub(crate) fn new(items: Box<[T]>) -> Self {
        // SAFETY: a pointer out of a box is never null.
        Self(unsafe { NonNull::new_unchecked(Box::into_raw(items)) })
    }

    pub(crate) fn repeat(item: T) -> Self
    where
        T: Copy,
    {
        Self::new(vec![item; BATCH].into_boxed_slice())
    }

    /// A pointer to an item, good for as long as this lives and no reference from the methods below does.
    pub(crate) fn pointer(&self, at: usize) -> *mut T {
        assert!(at < self.0.len());
        // SAFETY: `at` is within the allocation (asserted above).
        unsafe { self.0.cast::<T>().as_ptr().add(at) }
    }

    pub(crate) fn items(&self) -> &[T] {
        // SAFETY: the slice is ours and initialised; nobody writes to it while `self` is borrowed: the kernel only does
        // during a call that has `&mut self` of the owner.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn items_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` makes it the only reference.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Fixed<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came out of a box, and nothing uses it after this.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Headers, and all that they point to.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) headers: Fixed<libc::mmsghdr>,
    pub(crate) vectors: Fixed<libc::iovec>,
    names: Fixed<Name>,
    controls: Fixed<Control>,
    bytes: Fixed<u8>,
    /// Bytes of a buffer.
    room: usize,
}

// SAFETY: all pointers, those within headers and vectors as well, are to memory that `Messages` owns alone; nothing in it
// belongs to a thread.
unsafe impl Send for Messages {}

impl Messages {
    /// BATCH of them, each with a buffer of `room` bytes.
    pub(crate) fn new(room: usize) -> Self {
        let stride = room + GAP;
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: `mmsghdr` is integers and pointers, for which all bits zero is a valid value.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let mut messages = Self {
            headers: Fixed::repeat(header),
            vectors: Fixed::repeat(vector),
            names: Fixed::repeat(Name::default()),
            controls: Fixed::repeat(Control::default()),
            // Zeroed memory of this size comes from the kernel page by page, when it is first written to.
            bytes: Fixed::new(vec![0; BATCH * stride].into_boxed_slice()),
            room,
        };
        for at in 0..BATCH {
            let base = messages.bytes.pointer(at * stride).cast();
            messages.vectors.items_mut()[at] = libc::iovec { iov_base: base, iov_len: room };
        }
        for at in 0..BATCH {
            let (vector, name) = (messages.vectors.pointer(at), messages.names.pointer(at));
            let header = &mut messages.headers.items_mut()[at].msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = name.cast();
        }
        messages
    }

    /// Sets the room for, or the length of, the address and the control messages.
    pub(crate) fn set_lengths(&mut self, at: usize, name: libc::socklen_t, control: usize) {
        let pointer = self.controls.pointer(at);
        let header = &mut self.headers.items_mut()[at].msg_hdr;
        header.msg_namelen = name;
        header.msg_control = if control == 0 { std::ptr::null_mut() } else { pointer.cast() };
        header.msg_controllen = control as _;
        header.msg_flags = 0;
    }

    /// A pointer into a buffer, `from` bytes behind its beginning.
    fn pointer(&self, at: usize, from: usize) -> *mut libc::c_void {
        self.bytes.pointer(at * (self.room + GAP) + from).cast()
    }

    pub(crate) fn buffer(&self, at: usize) -> &[u8] {
        &self.bytes.items()[at * (self.room + GAP)..][..self.room]
    }

    pub(crate) fn buffer_mut(&mut self, at: usize) -> &mut [u8] {
        &mut self.bytes.items_mut()[at * (self.room + GAP)..][..self.room]
    }
}

/// A datagram from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The client.
    pub from: SocketAddr,
    /// Which of this node's addresses it asked; `None` unless the listener has a wildcard address.
    pub to: Option<SocketAddr>,
    /// What it sent: one datagram, or several that came close together.
    pub train: Train<'a>,
}

/// Takes datagrams in. One per worker, some 100 KiB of memory (more after long datagrams, 2 MiB at most).
#[derive(Debug)]
pub struct Inbox {
    messages: Messages,
    filled: usize,
    /// Headers that may not be as a call wants them.
    stale: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbox {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self { messages: Messages::new(DATAGRAM_MAX), filled: 0, stale: BATCH }
    }

    /// Takes in what waits at the socket, at most [`BATCH`] datagrams, and says how many that were. Never waits. What was in
    /// the inbox before is gone.
    ///
    /// # Errors
    /// Those of recvmmsg(2). That nothing waits is none.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        for at in 0..self.stale {
            self.messages.set_lengths(at, Name::LENGTH, Control::LENGTH);
        }
        (self.filled, self.stale) = (0, BATCH);
        let headers = self.messages.headers.pointer(0);
        // SAFETY: there are BATCH headers, and each points to one vector, name, control and buffer of `self.messages` with
        // their lengths; all of it lives as long as `self`, to which no other reference exists during the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                headers,
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(received) {
            Ok(received) => {
                (self.filled, self.stale) = (received.min(BATCH), received.min(BATCH));
                Ok(self.filled)
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
            }
        }
    }

    /// The `at`-th of the datagrams that came; `None` if there are not so many, or it came from nowhere.
    #[must_use]
    pub fn datagram(&self, at: usize) -> Option<Datagram<'_>> {
        let header = self.messages.headers.items().get(..self.filled)?.get(at)?;
        let from = self.messages.names.items()[at].parse()?;
        #[allow(clippy::unnecessary_cast, reason = "another type in other C libraries")]
        let control = header.msg_hdr.msg_controllen as usize;
        let Notes { local, segment } = self.messages.controls.items()[at].parse(control);
        let bytes = self.messages.buffer(at).get(..header.msg_len as usize)?;
        Some(Datagram { from, to: local.map(Local::socket_address), train: Train::new(bytes, segment) })
    }
}

/// What became of the datagrams that were to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// The kernel took them.
    pub sent: usize,
    /// The kernel refused them: no room, no route, or no such address any more.
    pub dropped: usize,
}

/// Gathers datagrams and sends them. One per worker, memory as for [`Inbox`].
#[derive(Debug)]
pub struct Outbox {
    messages: Messages,
    /// Of the messages that are trains.
    segments: [Option<NonZeroU16>; BATCH],
    filled: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Outbox {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self { messages: Messages::new(DATAGRAM_MAX), segments: [None; BATCH], filled: 0 }
    }

    /// The buffer for the next datagram; `None` when the outbox is full and must be sent first.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        (!self.is_full()).then(|| self.messages.buffer_mut(self.filled))
    }

    /// The first `length` bytes of the room are a datagram to this client, `from` one of this node's addresses (`None`: the
    /// one to which the socket is bound; the port does not count). `segment`: they are a train of datagrams of this length.
    pub fn push(
        &mut self,
        length: usize,
        segment: Option<NonZeroU16>,
        to: SocketAddr,
        from: Option<SocketAddr>,
    ) {
        if self.is_full() {
            return;
        }
        let at = self.filled;
        let name = self.messages.names.items_mut()[at].write(to);
        let notes = Notes { local: from.map(Local::from), segment };
        let is_plain = notes == Notes::default();
        let control = if is_plain { 0 } else { self.messages.controls.items_mut()[at].write(notes) };
        self.segments[at] = segment;
        self.messages.set_lengths(at, name, control);
        self.messages.vectors.items_mut()[at].iov_len = length.min(DATAGRAM_MAX);
        self.filled += 1;
    }

    /// How many datagrams are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether it must be sent before there is room again.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.filled == BATCH
    }

    /// Whether nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Sends all there is, and is empty then. Never waits: what the kernel does not take at once is dropped.
    pub fn flush(&mut self, socket: &impl AsFd) -> Flushed {
        let mut flushed = Flushed::default();
        let mut next = 0;
        while next < self.filled {
            // An error is the first datagram's: those behind it may go.
            match self.send(socket, next, self.filled - next) {
                Ok(sent) if sent > 0 => (flushed.sent, next) = (flushed.sent + sent, next + sent),
                Err(error) if train::is_uncut(&error) && self.segments[next].is_some() => {
                    self.send_singly(socket, next, &mut flushed);
                    next += 1;
                }
                _ => (flushed.dropped, next) = (flushed.dropped + 1, next + 1),
            }
        }
        self.filled = 0;
        flushed
    }

    /// Sends so many messages from `first` on, and says how many the kernel took.
    fn send(&mut self, socket: &impl AsFd, first: usize, count: usize) -> io::Result<usize> {
        assert!(first + count <= self.filled, "only what is filled");
        let headers = self.messages.headers.pointer(first);
        // SAFETY: the headers from `first` on, `count` of them, point to vectors, names, controls and buffers of
        // `self.messages` with their lengths; the kernel reads them, and writes the headers' `msg_len`, until the call returns.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                headers,
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Sends a train that the kernel will not cut as the datagrams that it is.
    fn send_singly(&mut self, socket: &impl AsFd, at: usize, flushed: &mut Flushed) {
        let Some(segment) = self.segments[at].take() else { return };
        let (whole, step) = (self.messages.vectors.items()[at], usize::from(segment.get()));
        let header = &mut self.messages.headers.items_mut()[at].msg_hdr;
        header.msg_controllen -= Control::SEGMENT as libc::size_t;
        for from in (0..whole.iov_len).step_by(step) {
            let base = self.messages.pointer(at, from);
            self.messages.vectors.items_mut()[at] =
                libc::iovec { iov_base: base, iov_len: step.min(whole.iov_len - from) };
            match self.send(socket, at, 1) {
                Ok(sent) => flushed.sent += sent,
                Err(_) => flushed.dropped += 1,
            }
        }
        self.messages.vectors.items_mut()[at] = whole;
    }
}

impl Local {
    fn socket_address(self) -> SocketAddr {
        let mut address = SocketAddr::new(self.address, 0);
        if let SocketAddr::V6(v6) = &mut address {
            v6.set_scope_id(self.interface);
        }
        address
    }
}

impl From<SocketAddr> for Local {
    fn from(address: SocketAddr) -> Self {
        let interface = match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        let address: IpAddr = address.ip();
        Self { address, interface }
    }
}
