//! The socket between the two processes: words, and the descriptors that go with them (SCM_RIGHTS, unix(7)).

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::word::{Decoder, SOCKETS_PER_WORD, Word};

/// Bytes that are read at once.
const READ_LEN: usize = 16 * 1024;
/// Descriptors that have come and that no word has named yet: those of two words.
const WAITING_MAX: usize = 2 * SOCKETS_PER_WORD;

/// A word, and what came with it.
pub(super) struct Heard {
    pub(super) word: Word,
    pub(super) sockets: Vec<OwnedFd>,
}

/// One end.
pub(crate) struct Channel {
    stream: UnixStream,
    decoder: Decoder,
    sockets: VecDeque<OwnedFd>,
}

impl Channel {
    /// Our end, and one for a child.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        Ok((Self::of(ours.into())?, theirs.into()))
    }

    /// An end that was given to this process.
    pub(super) fn of(socket: OwnedFd) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: UnixStream::from_std(stream)?,
            decoder: Decoder::default(),
            sockets: VecDeque::new(),
        })
    }

    /// A copy of this end.
    pub(super) fn copy(&self) -> io::Result<OwnedFd> {
        self.stream.as_fd().try_clone_to_owned()
    }

    /// Says a word. To be waited for to its end: half a word would be the last one.
    pub(super) async fn say(&self, word: &Word, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = word.encode().map_err(io::Error::other)?;
        let (mut rest, mut sockets) = (&*bytes, sockets);
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_io(Interest::WRITABLE, || send(&self.stream, rest, sockets)) {
                Ok(sent) => {
                    rest = rest.get(sent..).unwrap_or_default();
                    // They have gone with the first byte.
                    sockets = &[];
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says a short word without waiting; an error if it does not fit.
    pub(super) fn say_now(&self, word: &Word) -> io::Result<()> {
        say_now(&self.stream, word)
    }

    /// The next word; `None`: the other end is closed. May be given up at any moment.
    pub(super) async fn hear(&mut self) -> io::Result<Option<Heard>> {
        loop {
            if let Some(word) = self.decoder.word().map_err(io::Error::other)? {
                let count = word.sockets();
                if count > self.sockets.len() {
                    return Err(io::Error::other("descriptors are missing"));
                }
                return Ok(Some(Heard { word, sockets: self.sockets.drain(..count).collect() }));
            }
            self.stream.readable().await?;
            let mut buffer = [0; READ_LEN];
            let (stream, waiting) = (&self.stream, &mut self.sockets);
            match stream.try_io(Interest::READABLE, || receive(stream, &mut buffer, waiting)) {
                Ok(0) => return Ok(None),
                Ok(length) => self.decoder.feed(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Says a word on a copy of an end, without waiting.
pub(super) fn say_now(socket: &impl AsFd, word: &Word) -> io::Result<()> {
    let bytes = word.encode().map_err(io::Error::other)?;
    send(socket, &bytes, &[]).map(drop)
}

fn send(socket: &impl AsFd, bytes: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_WORD))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many descriptors for one word"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

fn receive(socket: &impl AsFd, buffer: &mut [u8], waiting: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_PER_WORD))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(buffer)];
    let received =
        recvmsg(socket, &mut pieces, &mut ancillary, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sockets) = message {
            waiting.extend(sockets);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || waiting.len() > WAITING_MAX {
        return Err(io::Error::other("descriptors were lost: too many at once, or the limit on open files"));
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::run::upgrade::word::{Name, State};

    #[tokio::test]
    async fn descriptors_arrive_with_their_word_and_long_words_whole() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut theirs = Channel::of(theirs).unwrap();
        let text = "x".repeat(crate::config::TEXT_BYTES_MAX);
        let long = Word::State(Box::new(State { text, ..State::default() }));
        let (first, second) = std::os::unix::net::UnixStream::pair().unwrap();
        let speaks = async {
            ours.say(&long, &[]).await.unwrap();
            ours.say(&Word::Sockets(vec![Name::Api, Name::Peers]), &[first.as_fd(), second.as_fd()])
                .await
                .unwrap();
            ours.say(&Word::Took, &[]).await.unwrap();
        };
        let hears = async {
            assert_eq!(theirs.hear().await.unwrap().unwrap().word, long);
            let heard = theirs.hear().await.unwrap().unwrap();
            assert_eq!(theirs.hear().await.unwrap().unwrap().word, Word::Took);
            heard.sockets
        };
        let ((), sockets) = tokio::join!(speaks, hears);
        drop((first, second));
        let [mut first, mut second] =
            <[OwnedFd; 2]>::try_from(sockets).unwrap().map(std::os::unix::net::UnixStream::from);
        first.write_all(b"there").unwrap();
        drop(first);
        let mut said = String::new();
        second.read_to_string(&mut said).unwrap();
        assert_eq!(said, "there");
        drop(ours);
        assert!(theirs.hear().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_word_whose_descriptors_are_missing_is_an_error() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut theirs = Channel::of(theirs).unwrap();
        ours.say(&Word::Sockets(vec![Name::Api]), &[]).await.unwrap();
        assert!(theirs.hear().await.is_err());
    }
}
