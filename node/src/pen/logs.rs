//! The request log: to a file, or as datagrams to another machine; and the dumps of debug level 3.
//!
//! Workers hand lines over and go on. Between them and the one thread that writes is a queue with two bounds
//! ([`LINES_MAX`], [`BYTES_MAX`]); what does not fit is left out, counted, and told.

mod sink;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::messages::Messages;
pub(super) use sink::{Sink, TEXT_MAX, beginning};

/// Lines that may wait.
const LINES_MAX: usize = 8192;
/// Bytes of text that may wait; dumps are long.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// A file is written at the latest after so long without a line.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// Losses are told at most once in this time.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A line for the log.
#[derive(Debug)]
pub(super) struct Line {
    /// Who sent it.
    pub(super) client: IpAddr,
    /// When, seconds since 1970.
    pub(super) unix: i64,
    /// The address of the server that gets it.
    pub(super) server: Arc<str>,
    /// The beginning of what was sent.
    pub(super) text: Box<[u8]>,
}

#[derive(Debug)]
enum Entry {
    Line(Line),
    Dump { bytes: Box<[u8]>, ascii: bool },
    Turn(Option<Sink>),
    End,
}

/// The workers' end of the log.
#[derive(Debug)]
pub(super) struct Logs {
    queue: SyncSender<Entry>,
    waiting_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    /// Whether lines are wanted.
    open: AtomicBool,
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer(JoinHandle<()>);

impl Logs {
    /// Starts the thread; nothing is logged before the first [`Logs::turn`].
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(messages: Messages) -> io::Result<(Self, Writer)> {
        let (queue, entries) = sync_channel(LINES_MAX);
        let logs =
            Self { queue, waiting_bytes: Arc::default(), lost: Arc::default(), open: AtomicBool::new(false) };
        let desk = Desk {
            waiting_bytes: Arc::clone(&logs.waiting_bytes),
            lost: Arc::clone(&logs.lost),
            messages,
            sink: None,
            told: None,
            failing: false,
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || desk.run(&entries))?;
        Ok((logs, Writer(thread)))
    }

    /// From now on to another place, or nowhere. Waits for what is in the queue; not for workers.
    pub(super) fn turn(&self, sink: Option<Sink>) {
        self.open.store(sink.is_some(), Ordering::Relaxed);
        // The thread ends only after us.
        let _ = self.queue.send(Entry::Turn(sink));
    }

    /// Nothing more is written after what is in the queue.
    pub(super) fn end(&self, writer: Writer) {
        self.open.store(false, Ordering::Relaxed);
        // A writer that has panicked has nothing to write any more.
        let _ = self.queue.send(Entry::End);
        let _ = writer.0.join();
    }

    /// Whether lines are wanted.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// A line, if there is room for it.
    pub(super) fn line(&self, line: Line) {
        self.offer(line.text.len(), Entry::Line(line));
    }

    /// A dump of a chunk on stderr, if there is room for it.
    pub(super) fn dump(&self, bytes: &[u8], ascii: bool) {
        self.offer(bytes.len(), Entry::Dump { bytes: Box::from(bytes), ascii });
    }

    fn offer(&self, bytes: usize, entry: Entry) {
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting.saturating_add(bytes) > BYTES_MAX || self.queue.try_send(entry).is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The writing thread.
struct Desk {
    waiting_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    messages: Messages,
    sink: Option<Sink>,
    /// When losses were last told.
    told: Option<Instant>,
    /// The last write failed, which has been told.
    failing: bool,
}

impl Desk {
    fn run(mut self, entries: &Receiver<Entry>) {
        loop {
            match entries.recv_timeout(FLUSH_AFTER) {
                Ok(Entry::Line(line)) => {
                    self.done_with(line.text.len());
                    self.write(|sink| sink.line(&line));
                }
                Ok(Entry::Dump { bytes, ascii }) => {
                    self.done_with(bytes.len());
                    // There is nowhere left to complain to if this fails.
                    let _ = io::stderr().write_all(dump(&bytes, ascii).as_bytes());
                }
                Ok(Entry::Turn(sink)) => {
                    self.write(Sink::flush);
                    (self.sink, self.failing) = (sink, false);
                }
                Err(RecvTimeoutError::Timeout) => self.write(Sink::flush),
                Ok(Entry::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tell_losses();
        }
        self.write(Sink::flush);
    }

    fn done_with(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn write(&mut self, act: impl FnOnce(&mut Sink) -> io::Result<()>) {
        let Some(sink) = &mut self.sink else { return };
        match act(sink) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                self.messages.tell(format_args!("cannot write the log: {error}"));
            }
            Err(_) => {}
        }
    }

    fn tell_losses(&mut self) {
        if self.lost.load(Ordering::Relaxed) == 0 || self.told.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        let lost = self.lost.swap(0, Ordering::Relaxed);
        self.messages.tell(format_args!("{lost} lines are missing in the log, which could not keep up"));
    }
}

/// `LENGTH: `, then the bytes in hexadecimal, or as text with dots for what cannot be printed.
fn dump(bytes: &[u8], ascii: bool) -> String {
    let mut text = format!("{}: ", bytes.len());
    for &byte in bytes {
        if ascii {
            text.push(if byte == b' ' || byte.is_ascii_graphic() { char::from(byte) } else { '.' });
        } else {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x} ");
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
