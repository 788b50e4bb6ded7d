//! Lines for somebody who may not read them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::sys;

/// What is written in one go, bytes: a pipe that is writable takes this much at once (`PIPE_BUF`, pipe(7)), and so does
/// the socket of the system's journal.
const PIECE: usize = libc::PIPE_BUF;

/// An output that never makes the writer wait: what the reader has left no room for is counted and left out.
///
/// An election that waits until somebody reads its log loses its address; so does one behind a full disk of the journal.
/// Another process that writes to the same pipe may fill it between the question and the write: its room is one page, and
/// the guard, the only such process that we start, writes a line when it is at an end.
#[derive(Debug)]
pub struct Output {
    file: Mutex<File>,
    lost: AtomicU64,
}

impl Output {
    /// Writes to this descriptor.
    #[must_use]
    pub fn new(descriptor: OwnedFd) -> Self {
        Self { file: Mutex::new(File::from(descriptor)), lost: AtomicU64::new(0) }
    }

    /// Writes to what is standard error now.
    ///
    /// # Errors
    /// It is closed, or there is no descriptor left.
    pub fn stderr() -> io::Result<Self> {
        Ok(Self::new(io::stderr().as_fd().try_clone_to_owned()?))
    }

    fn put(&self, text: &[u8]) -> io::Result<()> {
        // Whoever has it does not wait for anything.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && sys::writable_now(file.as_fd())? {
            writeln!(file, "({lost} lines are missing here: nobody read them in time)")?;
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        for piece in text.chunks(PIECE) {
            if !sys::writable_now(file.as_fd())? {
                self.lost.fetch_add(1, Ordering::Relaxed);
                break;
            }
            file.write_all(piece)?;
        }
        Ok(())
    }
}

/// Each write is one line, or several that belong together.
impl Write for &Output {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.put(text).map(|()| text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Reads what is there; at least one byte is.
    fn read(reader: &mut io::PipeReader, room: usize) -> String {
        let mut bytes = vec![0; room];
        let count = reader.read(&mut bytes).expect("readable");
        String::from_utf8(bytes[..count].to_vec()).expect("text")
    }

    #[test]
    fn a_reader_who_stops_reading_costs_lines_and_no_time() {
        const LINES: usize = 5000;
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let output = Output::new(writer.into());
        let line = [b'x'; 99].into_iter().chain([b'\n']).collect::<Vec<_>>();
        // Far more than a pipe holds; that it returns is the proof.
        for _ in 0..LINES {
            (&output).write_all(&line).expect("no error");
        }
        let kept = read(&mut reader, 1 << 20).lines().count();
        assert!(kept > 100 && kept < LINES, "{kept}");
        (&output).write_all(b"after\n").expect("no error");
        let lost = LINES - kept;
        assert_eq!(
            read(&mut reader, 1 << 20),
            format!("({lost} lines are missing here: nobody read them in time)\nafter\n")
        );
        (&output).write_all(b"and on\n").expect("no error");
        assert_eq!(read(&mut reader, 1 << 20), "and on\n", "told once");
    }

    #[test]
    fn a_long_text_arrives_whole_while_somebody_reads() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let text = "0123456789\n".repeat(2000);
        let output = Output::new(writer.into());
        (&output).write_all(text.as_bytes()).expect("no error");
        drop(output);
        let mut got = String::new();
        reader.read_to_string(&mut got).expect("readable");
        assert_eq!(got, text);
    }

    #[test]
    fn a_reader_who_is_gone_is_an_error_and_nothing_worse() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let output = Output::new(writer.into());
        assert_eq!((&output).write(b"x\n").expect_err("broken").kind(), io::ErrorKind::BrokenPipe);
    }
}
