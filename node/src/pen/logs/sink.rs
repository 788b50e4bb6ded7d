//! Where log lines end: a file, or datagrams.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use super::Line;

/// Bytes of a chunk that a line of the file shows.
const FILE_TEXT_MAX: usize = 100;
/// Longest datagram, bytes.
const DATAGRAM_MAX: usize = 1024;
/// Bytes of a chunk that any log can use.
pub(in crate::pen) const TEXT_MAX: usize = DATAGRAM_MAX;

/// An open log.
#[derive(Debug)]
pub(in crate::pen) enum Sink {
    /// One line a chunk.
    File(BufWriter<File>),
    /// One datagram a chunk.
    Network(UdpSocket),
}

impl Sink {
    /// A file, appended to.
    pub(in crate::pen) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File(BufWriter::new(File::options().append(true).create(true).open(path)?)))
    }

    /// Datagrams to `address`. One that cannot be sent at once is left out.
    pub(in crate::pen) fn network(address: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Network(socket))
    }

    pub(super) fn line(&mut self, line: &Line) -> io::Result<()> {
        match self {
            Self::File(file) => {
                write!(file, "{} {} {} ", line.client, line.unix, line.server)?;
                file.write_all(&printable(beginning(&line.text, FILE_TEXT_MAX)))?;
                file.write_all(b"\n")
            }
            Self::Network(socket) => {
                let mut datagram = format!("+ {} {} ", line.client, line.server).into_bytes();
                datagram.extend_from_slice(beginning(&line.text, TEXT_MAX));
                datagram.truncate(DATAGRAM_MAX - 1);
                datagram.push(b'\n');
                // Nobody listening there now is no reason to stop.
                let _ = socket.send(&datagram);
                Ok(())
            }
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Network(_) => Ok(()),
        }
    }
}

/// Up to the first CR or LF, or `most` bytes.
pub(in crate::pen) fn beginning(text: &[u8], most: usize) -> &[u8] {
    let text = &text[..text.len().min(most)];
    let end = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(text.len());
    &text[..end]
}

/// Bytes above 127 as dots; control characters as they are.
fn printable(text: &[u8]) -> Vec<u8> {
    text.iter().map(|&byte| if byte.is_ascii() { byte } else { b'.' }).collect()
}
