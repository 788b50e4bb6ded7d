//! Pipes for bulk: bytes that go from socket to socket through one of them never come to user space.
//!
//! A worker has few of them. A direction borrows one when it has filled the buffer several times in a row (half.rs), and
//! gives it back when it carries little or has been dry for a tick; who gets none goes on copying.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

use super::side::Side;

/// What a pipe should hold. The kernel may refuse so much (`fs.pipe-max-size`, `fs.pipe-user-pages-soft`); then it holds
/// what the kernel gives.
const PIPE_BYTES: usize = 1 << 20;
/// Pipes of all workers together: twice as many descriptors.
pub(super) const PIPES_MAX: usize = 64;
const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// A pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    size: usize,
}

impl Pipe {
    fn new() -> Result<Self, Errno> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let size = fcntl_setpipe_size(&input, PIPE_BYTES).or_else(|_| fcntl_getpipe_size(&input))?;
        Ok(Self { output, input, size })
    }

    /// Fills the empty pipe with what the socket has; `None`: it has nothing now, 0: it has ended.
    pub(super) fn fill(&self, from: &mut Side) -> Result<Option<usize>, Errno> {
        loop {
            match splice(from.socket(), None, &self.input, None, self.size, FLAGS) {
                Ok(count) => return Ok(Some(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    from.is_dry();
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Passes on `held` bytes, as many as the socket takes; 0: none now.
    pub(super) fn drain(&self, to: &mut Side, held: usize) -> Result<usize, Errno> {
        to.is_about_to_send()?;
        loop {
            match splice(&self.output, None, to.socket(), None, held, FLAGS) {
                Ok(0) => return Err(Errno::PIPE),
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    to.is_full();
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A worker's pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    idle: Vec<Pipe>,
    lent: usize,
    max: usize,
}

impl Pipes {
    /// `max`: at most so many.
    pub(super) fn new(max: usize) -> Self {
        Self { idle: Vec::new(), lent: 0, max }
    }

    /// An empty pipe; `None` when all are lent, or there are no descriptors.
    pub(super) fn lend(&mut self) -> Option<Pipe> {
        if self.lent >= self.max {
            return None;
        }
        let pipe = match self.idle.pop() {
            Some(pipe) => pipe,
            None => Pipe::new().ok()?,
        };
        self.lent += 1;
        Some(pipe)
    }

    /// Takes a pipe back. One that still holds bytes is closed, and they are lost with their connection.
    pub(super) fn take_back(&mut self, pipe: Pipe, is_empty: bool) {
        self.lent = self.lent.saturating_sub(1);
        if is_empty {
            self.idle.push(pipe);
        }
    }
}

/// The pipes of one connection.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// Of the direction to the server, and to the client.
    pipes: [Option<Pipe>; 2],
    /// Bytes went through it since the last tick.
    used: [bool; 2],
}

impl Lent {
    pub(super) fn put(&mut self, way: usize, pipe: Pipe) {
        (self.pipes[way], self.used[way]) = (Some(pipe), true);
    }

    pub(super) fn pipe(&self, way: usize) -> Option<&Pipe> {
        self.pipes[way].as_ref()
    }

    pub(super) fn take(&mut self, way: usize) -> Option<Pipe> {
        self.pipes[way].take()
    }

    pub(super) fn is_used(&mut self, way: usize) {
        self.used[way] = true;
    }

    /// Whether the pipe was used since the last time that this was asked.
    pub(super) fn was_used(&mut self, way: usize) -> bool {
        std::mem::take(&mut self.used[way])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_lends_so_many_pipes_and_no_more_and_never_one_with_bytes_in_it() {
        let mut pipes = Pipes::new(2);
        let (first, second) = (pipes.lend().expect("one"), pipes.lend().expect("two"));
        assert!(pipes.lend().is_none());
        rustix::io::write(&first.input, b"left").expect("room");
        pipes.take_back(first, false);
        pipes.take_back(second, true);
        assert_eq!((pipes.lent, pipes.idle.len()), (0, 1), "the one with bytes is closed");
        for _ in 0..2 {
            let pipe = pipes.lend().expect("again");
            assert_eq!(rustix::io::read(&pipe.output, &mut [0; 8]), Err(Errno::AGAIN));
        }
        assert_eq!(pipes.lent, 2);
    }
}
