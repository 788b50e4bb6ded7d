//! What a client asks for, read from its first bytes (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2, RFC 6066
//! section 3, RFC 7301 section 3.1). Needs no library and keeps nothing.

use std::borrow::Cow;

/// The longest ClientHello that is looked at, octets with record headers. Browsers send up to 2 KiB (with a post-quantum
/// key share), a resumption with a client certificate in its ticket some more.
pub const HELLO_MAX: usize = 16 * 1024;
/// Octets of a record's header: type, version, length.
const RECORD_HEADER: usize = 5;
/// The most that a record may hold in clear (RFC 8446 section 5.1).
const RECORD_MAX: usize = 1 << 14;
/// Octets of a handshake message's header: type, length.
const MESSAGE_HEADER: usize = 4;
/// The longest host name (RFC 1035 section 2.3.4, without the outer length octets).
const NAME_MAX: usize = 253;

const RECORD_HANDSHAKE: u8 = 22;
const VERSION_MAJOR: u8 = 3;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const NAME_TYPE_HOST: u8 = 0;
const TLS_AES_128_GCM_SHA256: [u8; 2] = [0x13, 0x01];

/// What stands in the first bytes from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// So far a ClientHello; more must come.
    Incomplete,
    /// Not a ClientHello of SSL 3.0 or later, or one longer than [`HELLO_MAX`].
    NotTls,
    /// A whole one.
    Hello {
        /// The host name asked for, in lower case; `None` also if it is not a host name at all.
        server_name: Option<String>,
        /// The protocols above TLS, most wanted first.
        alpn: Vec<Vec<u8>>,
    },
}

/// Reads the ClientHello at the start of `bytes`; what follows it does not matter.
#[must_use]
pub fn peek(bytes: &[u8]) -> Hello {
    let message = match message(bytes) {
        Message::Incomplete if bytes.len() < HELLO_MAX => return Hello::Incomplete,
        Message::Incomplete | Message::NotTls => return Hello::NotTls,
        Message::Whole(message) => message,
    };
    match Fields::parse(&message) {
        None => Hello::NotTls,
        Some(fields) => Hello::Hello {
            server_name: fields.host_name(),
            alpn: Reader(fields.alpn).list().map(<[u8]>::to_vec).collect(),
        },
    }
}

/// A handshake message as it lies in its records.
pub(super) enum Message<'a> {
    Incomplete,
    NotTls,
    /// Without its header; assembled if it came in several records.
    Whole(Cow<'a, [u8]>),
}

/// Finds the ClientHello within the first [`HELLO_MAX`] of `bytes`; incomplete with more is too long.
pub(super) fn message(bytes: &[u8]) -> Message<'_> {
    let bytes = &bytes[..bytes.len().min(HELLO_MAX)];
    let mut assembled: Vec<u8> = Vec::new();
    let mut rest = bytes;
    loop {
        let fragment = match record(rest) {
            Ok(Some(fragment)) => fragment,
            // What is there of an incomplete record is checked as far as it goes.
            Ok(None) => return first_octets(&assembled, rest),
            Err(NotARecord) => return Message::NotTls,
        };
        if assembled.is_empty()
            && let Some(length) = message_length(fragment)
            && fragment.len() >= length
        {
            return whole(Cow::Borrowed(&fragment[..length]));
        }
        assembled.extend_from_slice(fragment);
        if assembled.len() > HELLO_MAX || too_long_or_other(&assembled) {
            return Message::NotTls;
        }
        if let Some(length) = message_length(&assembled)
            && assembled.len() >= length
        {
            assembled.truncate(length);
            return whole(Cow::Owned(assembled));
        }
        rest = &rest[RECORD_HEADER + fragment.len()..];
    }
}

fn whole(message: Cow<'_, [u8]>) -> Message<'_> {
    if too_long_or_other(&message) {
        return Message::NotTls;
    }
    Message::Whole(match message {
        Cow::Borrowed(message) => Cow::Borrowed(&message[MESSAGE_HEADER..]),
        Cow::Owned(mut message) => {
            message.drain(..MESSAGE_HEADER);
            Cow::Owned(message)
        }
    })
}

/// With an incomplete record at the end: whether it can still become a ClientHello.
fn first_octets<'a>(assembled: &[u8], rest: &[u8]) -> Message<'a> {
    let mut head: Vec<u8> = assembled.iter().copied().take(MESSAGE_HEADER).collect();
    head.extend(rest.iter().copied().skip(RECORD_HEADER).take(MESSAGE_HEADER - head.len()));
    if too_long_or_other(&head) { Message::NotTls } else { Message::Incomplete }
}

/// The length of the message with its header, as soon as that is there.
fn message_length(message: &[u8]) -> Option<usize> {
    let [_, a, b, c, ..] = *message else { return None };
    Some(MESSAGE_HEADER + usize::from(a) * 65_536 + usize::from(b) * 256 + usize::from(c))
}

fn too_long_or_other(message: &[u8]) -> bool {
    message.first().is_some_and(|kind| *kind != MESSAGE_CLIENT_HELLO)
        || message_length(message).is_some_and(|length| length > HELLO_MAX)
}

struct NotARecord;

/// The content of the first record; `None` if it is not all there.
fn record(bytes: &[u8]) -> Result<Option<&[u8]>, NotARecord> {
    if bytes.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE)
        || bytes.get(1).is_some_and(|major| *major != VERSION_MAJOR)
    {
        return Err(NotARecord);
    }
    let [_, _, _, high, low, ..] = *bytes else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > RECORD_MAX {
        return Err(NotARecord);
    }
    Ok(bytes.get(RECORD_HEADER..RECORD_HEADER + length))
}

/// The parts of a ClientHello that we look at.
pub(super) struct Fields<'a> {
    suites: &'a [u8],
    name: Option<&'a [u8]>,
    alpn: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(message);
        reader.take(2 + 32)?; // legacy_version, random
        if reader.vector8()?.len() > 32 {
            return None; // legacy_session_id
        }
        let suites = reader.vector16()?;
        if suites.len() < 2 || !suites.len().is_multiple_of(2) || reader.vector8()?.is_empty() {
            return None;
        }
        let mut fields = Self { suites, name: None, alpn: &[] };
        if reader.0.is_empty() {
            return Some(fields); // TLS 1.2 and older may do without extensions
        }
        let mut extensions = Reader(reader.vector16()?);
        if !reader.0.is_empty() {
            return None;
        }
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let content = extensions.vector16()?;
            match kind {
                EXTENSION_SERVER_NAME if fields.name.is_none() => fields.name = Some(host(content)?),
                EXTENSION_ALPN if fields.alpn.is_empty() => fields.alpn = protocols(content)?,
                // Either of them twice.
                EXTENSION_SERVER_NAME | EXTENSION_ALPN => return None,
                _ => {}
            }
        }
        Some(fields)
    }

    /// The host name in lower case, if it is one.
    pub(super) fn host_name(&self) -> Option<String> {
        let name = std::str::from_utf8(self.name?).ok()?;
        is_host_name(name).then(|| name.to_ascii_lowercase())
    }

    /// Whether the client can do TLS_AES_128_GCM_SHA256.
    #[cfg_attr(
        not(feature = "fast-tls"),
        expect(dead_code, reason = "OpenSSL keeps our order of suites by itself")
    )]
    pub(super) fn offers_aes_128(&self) -> bool {
        self.suites.chunks_exact(2).any(|suite| suite == TLS_AES_128_GCM_SHA256)
    }
}

/// The host name of a server name list (RFC 6066 section 3): the first entry of that type; empty if there is none.
fn host(content: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(content);
    let mut list = Reader(reader.vector16()?);
    if !reader.0.is_empty() || list.0.is_empty() {
        return None;
    }
    let mut found: Option<&[u8]> = None;
    while !list.0.is_empty() {
        let kind = list.take(1)?;
        let name = list.vector16()?;
        if kind == [NAME_TYPE_HOST] && found.is_none() {
            found = Some(name);
        }
    }
    Some(found.unwrap_or_default())
}

/// The list of protocol names (RFC 7301 section 3.1), checked: none of them is empty.
fn protocols(content: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(content);
    let list = reader.vector16()?;
    let mut names = Reader(list);
    while !names.0.is_empty() {
        if names.vector8()?.is_empty() {
            return None;
        }
    }
    (reader.0.is_empty() && !list.is_empty()).then_some(list)
}

/// Whether this can be a host name: labels of letters, digits, `-` and `_`, between dots. Nothing else ever names a file.
pub(super) fn is_host_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
        })
}

/// Takes fields off the front of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        let octets = self.take(2)?;
        Some(u16::from_be_bytes([octets[0], octets[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// The entries of a list whose entries have one octet of length.
    fn list(mut self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || if self.0.is_empty() { None } else { self.vector8() })
    }
}
