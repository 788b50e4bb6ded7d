//! `penctl`: one command to a running pen, its answer to stdout.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::str::from_utf8;

use super::penctl_words::is_refusal;

/// Longest command, bytes, without the newline.
const COMMAND_BYTES_MAX: usize = 1021;
/// How much of an answer must be seen to know whether it is a refusal, bytes.
const HEAD_BYTES: usize = 4096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("no port given")]
    NoPort,
    #[error("error connecting to server")]
    Connect,
    #[error("getaddrinfo: {0}")]
    Lookup(String),
    #[error("Overlong argument list")]
    Long,
    #[error("error reading from socket")]
    Read,
    #[error("error writing to socket")]
    Write,
    #[error("error writing the answer")]
    Answer,
}

/// The program: `arguments` without its name. Ends with 1 if the command was refused, or could not be given.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut out = io::stdout().lock();
    let [server, words @ ..] = arguments.as_slice() else { return usage(&mut out) };
    if words.is_empty() {
        return usage(&mut out);
    }
    match give(server, words, &mut out) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::FAILURE,
        Err(trouble) => {
            // There is nowhere left to complain to if this fails.
            let _ = writeln!(io::stderr(), "{trouble}");
            ExitCode::FAILURE
        }
    }
}

fn usage(out: &mut dyn Write) -> ExitCode {
    let _ = writeln!(out, "usage: penctl host:port command");
    ExitCode::SUCCESS
}

/// Both kinds of sockets.
trait Stream: Read + Write {
    /// We have said all.
    fn end(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Gives the command, and copies the answer. Whether it is a refusal.
fn give(server: &OsString, words: &[OsString], out: &mut dyn Write) -> Result<bool, Trouble> {
    let mut stream = connect(server)?;
    let mut command = words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>().join(&b' ');
    if command.len() > COMMAND_BYTES_MAX {
        return Err(Trouble::Long);
    }
    command.push(b'\n');
    stream.write_all(&command).map_err(|_| Trouble::Write)?;
    // Old versions of pen read once and do not care.
    let _ = stream.end();
    copy(&mut *stream, out)
}

fn connect(server: &OsString) -> Result<Box<dyn Stream>, Trouble> {
    if server.as_bytes().contains(&b'/') {
        let stream = UnixStream::connect(server).map_err(|_| Trouble::Connect)?;
        return Ok(Box::new(stream));
    }
    let name = from_utf8(server.as_bytes()).map_err(|_| Trouble::NoPort)?;
    let (host, port) = name.rsplit_once(':').ok_or(Trouble::NoPort)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port =
        super::system::port(port).ok_or_else(|| Trouble::Lookup("Servname not supported".to_owned()))?;
    // Only the first one is tried: the others would be other machines.
    let address = (host, port).to_socket_addrs().map_err(|error| Trouble::Lookup(reason(&error)))?.next();
    let address = address.ok_or_else(|| Trouble::Lookup("Name or service not known".to_owned()))?;
    let stream = TcpStream::connect(address).map_err(|_| Trouble::Connect)?;
    Ok(Box::new(stream))
}

/// What getaddrinfo(3) said, without the words that the standard library puts before it.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason).to_owned()
}

fn copy(stream: &mut dyn Stream, out: &mut dyn Write) -> Result<bool, Trouble> {
    let mut head = Vec::new();
    let mut buffer = [0; HEAD_BYTES];
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Trouble::Read),
        };
        let wanted = HEAD_BYTES.saturating_sub(head.len()).min(length);
        head.extend_from_slice(&buffer[..wanted]);
        match out.write_all(&buffer[..length]) {
            // The reader has seen enough (`| head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other.map_err(|_| Trouble::Answer)?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Trouble::Answer),
        _ => Ok(is_refusal(&head)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Gives a command to a server that answers with `answer`. What the server read, what was printed, and the end.
    fn given(words: &[&str], answer: &'static [u8]) -> (Vec<u8>, Vec<u8>, Result<bool, Trouble>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = Vec::new();
            stream.read_to_end(&mut read).unwrap();
            // The client may have given up.
            let _ = stream.write_all(answer);
            read
        });
        let mut out = Vec::new();
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let end = give(&path.into_os_string(), &words, &mut out);
        (server.join().unwrap(), out, end)
    }

    #[test]
    fn words_are_joined_and_the_answer_is_printed() {
        let (read, out, end) = given(&["server", "0", "port  7"], b"x\ny");
        assert_eq!((read.as_slice(), out.as_slice()), (b"server 0 port  7\n".as_slice(), b"x\ny".as_slice()));
        assert!(!end.unwrap());
    }

    #[test]
    fn a_refusal_is_printed_and_known() {
        let (_, out, end) = given(&["foo"], b"do_cmd: ignoring command starting with 'foo'\n");
        assert!(out.starts_with(b"do_cmd"));
        assert!(end.unwrap());
    }

    #[test]
    fn a_command_that_pen_would_not_read_is_not_given() {
        let (read, _, end) = given(&["a", &"b".repeat(1019)], b"");
        assert_eq!(read.len(), 1022);
        assert!(end.is_ok());
        let (read, _, end) = given(&["a", &"b".repeat(1020)], b"");
        assert!(read.is_empty() && matches!(end, Err(Trouble::Long)));
    }

    #[test]
    fn a_server_that_is_not_there_is_told_in_pens_words() {
        let end = |server: &str| give(&OsString::from(server), &[OsString::from("pid")], &mut Vec::new());
        assert_eq!(end("localhost").unwrap_err().to_string(), "no port given");
        assert_eq!(end("/nonexistent/ctl").unwrap_err().to_string(), "error connecting to server");
        assert!(end("a b:80").unwrap_err().to_string().starts_with("getaddrinfo: "));
    }
}
