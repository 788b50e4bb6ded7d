//! Which of many sockets are ready: epoll, level-triggered.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// Events taken at once.
const EVENTS: usize = 256;

/// Sockets, each known by a number.
pub(super) struct Ready {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Ready {
    pub(super) fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS) })
    }

    /// Tells when there is something to read. A socket that is closed is forgotten by itself.
    pub(super) fn add(&self, socket: impl AsFd, number: usize) -> Result<()> {
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN).context("epoll")
    }

    /// The numbers of those that are ready, into `numbers`; none when the time is over.
    pub(super) fn wait(&mut self, time: Duration, numbers: &mut Vec<usize>) -> Result<()> {
        numbers.clear();
        self.events.clear();
        let timeout = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll"),
        }
        numbers.extend(self.events.iter().map(|event| event.data.u64() as usize));
        Ok(())
    }
}
