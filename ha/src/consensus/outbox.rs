//! What waits to be sent to one peer. Putting in never waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::frame::Frame;
use super::limits::{OUTBOX_BYTES, OUTBOX_FRAMES};

/// A bounded queue of frames. When it is full, the oldest raft message goes; other frames are refused.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    open: bool,
    frames: VecDeque<(usize, Frame)>,
    bytes: usize,
    dropped: u64,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection stands: frames are taken.
    pub(crate) fn open(&self) {
        self.lock().open = true;
    }

    /// The connection is gone: what waits is dropped. True if a snapshot was among it.
    pub(crate) fn close(&self) -> bool {
        let mut queue = self.lock();
        queue.open = false;
        queue.bytes = 0;
        let frames = std::mem::take(&mut queue.frames);
        queue.dropped += frames.len() as u64;
        frames.iter().any(|(_, frame)| matches!(frame, Frame::Snapshot(_)))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open
    }

    /// How many frames were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// How many frames and bytes wait.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let queue = self.lock();
        (queue.frames.len(), queue.bytes)
    }

    /// False if the frame was not taken: no connection, or no room.
    pub(crate) fn push(&self, frame: Frame) -> bool {
        let size = frame.size();
        {
            let mut queue = self.lock();
            if !queue.open {
                return false;
            }
            while queue.frames.len() >= OUTBOX_FRAMES || queue.bytes + size > OUTBOX_BYTES {
                if !queue.drop_oldest() {
                    queue.dropped += 1;
                    return false;
                }
            }
            queue.bytes += size;
            queue.frames.push_back((size, frame));
        }
        self.filled.notify_one();
        true
    }

    /// The next frame; waits for one.
    pub(crate) async fn next(&self) -> Frame {
        loop {
            if let Some(frame) = self.pop() {
                return frame;
            }
            self.filled.notified().await;
        }
    }

    /// The next frame, if one waits.
    pub(crate) fn pop(&self) -> Option<Frame> {
        let mut queue = self.lock();
        let (size, frame) = queue.frames.pop_front()?;
        queue.bytes -= size;
        Some(frame)
    }
}

impl Queue {
    /// Snapshots stay: raft waits for word of them.
    fn drop_oldest(&mut self) -> bool {
        let Some(at) = self.frames.iter().position(|(_, frame)| matches!(frame, Frame::Raft(_))) else {
            return false;
        };
        if let Some((size, _)) = self.frames.remove(at) {
            self.bytes -= size;
            self.dropped += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Message;

    use super::*;

    fn raft(term: u64) -> Frame {
        Frame::Raft(Box::new(Message { term, ..Message::default() }))
    }

    #[test]
    fn a_full_outbox_drops_the_oldest_raft_message_and_refuses_other_frames() {
        let outbox = Outbox::default();
        assert!(!outbox.push(Frame::Ping { mute: false }), "nothing is taken without a connection");
        outbox.open();
        for _ in 0..OUTBOX_FRAMES - 1 {
            assert!(outbox.push(Frame::NotProposed { sequence: 1 }));
        }
        assert!(outbox.push(raft(1)));
        assert!(outbox.push(raft(2)));
        assert_eq!(outbox.dropped(), 1);
        assert!(outbox.push(Frame::Ping { mute: false }), "in place of the last raft message");
        assert!(!outbox.push(Frame::Ping { mute: false }), "no room");
        assert!(!outbox.push(raft(3)), "nothing to drop for it");
        assert_eq!(outbox.dropped(), 4);
    }

    #[test]
    fn closing_tells_whether_a_snapshot_was_lost() {
        let outbox = Outbox::default();
        outbox.open();
        outbox.push(raft(1));
        assert!(!outbox.close());
        outbox.open();
        outbox.push(Frame::Snapshot(Box::default()));
        assert!(outbox.close());
        assert!(!outbox.is_open());
    }
}
