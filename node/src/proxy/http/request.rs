//! The head of a request, line by line, and what is refused in it (RFC 9112 sections 2 to 6).

use super::awaited::Kind;
use super::body::Body;
use super::edit::names_h2c;
use super::refusal::{Fault, bad};
use super::section::{Lines, Name, content_length, elements, field, has_control, is_host, is_token, name_of};

/// The longest head of a request, bytes: what other servers take at most, and then some.
pub(super) const REQUEST_HEAD_MAX: usize = 32 * 1024;
/// The most field lines of a head.
pub(super) const FIELDS_MAX: u16 = 128;
/// Empty lines before a request that are overlooked: old clients send one after a body (RFC 9112 section 2.2).
const LEADING_LINES_MAX: u8 = 4;

/// What has been learnt from the lines so far.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether a line of its own was there")]
pub(super) struct RequestHead {
    /// Only what every reader understands in the same way passes.
    strict: bool,
    leading: u8,
    line: Option<RequestLine>,
    fields: u16,
    length: Option<u64>,
    chunked: bool,
    host: bool,
    upgrade: bool,
    expects: bool,
    /// How many `X-Forwarded-For` are there.
    pub(super) forwarded_for: u16,
    /// An `X-Forwarded-Proto` is there.
    pub(super) forwarded_proto: bool,
    /// One of them is there under a name that only looks like it.
    pub(super) forwarded_alias: bool,
    /// Lines that do not go on: a Content-Length that is there twice, an Upgrade to HTTP/2.
    pub(super) superfluous: bool,
}

#[derive(Clone, Copy, Debug)]
struct RequestLine {
    method: Method,
    old: bool,
    absolute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Head,
    Connect,
    Other,
}

/// What a complete head means.
pub(super) struct Meaning {
    pub(super) kind: Kind,
    pub(super) body: Option<Body>,
    /// The target names a host, which must be the same as in `Host`.
    pub(super) absolute: bool,
}

impl RequestHead {
    pub(super) fn new(strict: bool) -> Self {
        Self { strict, ..Self::default() }
    }

    /// The head is complete.
    pub(super) fn finish(&self) -> Result<Meaning, Fault> {
        let Some(line) = self.line else { return Err(bad("no request line")) };
        if self.chunked && self.length.is_some() {
            return Err(bad("both Content-Length and Transfer-Encoding"));
        }
        if self.chunked && line.old {
            return Err(bad("Transfer-Encoding in HTTP/1.0"));
        }
        if self.strict && !line.old && !self.host {
            return Err(bad("no Host"));
        }
        let kind = match line.method {
            Method::Connect if self.chunked || self.length.is_some_and(|length| length > 0) => {
                return Err(bad("CONNECT with a body"));
            }
            Method::Connect => Kind::Connect,
            // It cannot be both: a HEAD is not answered with 101.
            Method::Head => Kind::Head,
            Method::Other if self.upgrade => Kind::Upgrade,
            Method::Other => Kind::Plain,
        };
        let body = match self.length {
            _ if self.chunked => Some(Body::chunked(false)),
            None | Some(0) => None,
            Some(length) => Some(Body::Length(length)),
        };
        Ok(Meaning { kind, body, absolute: self.strict && line.absolute })
    }

    /// The empty lines before the request line, bytes. (Only CR LF passes in strict mode.)
    pub(super) fn leading_bytes(&self) -> usize {
        usize::from(self.leading) * 2
    }

    /// The body comes after 100 (Continue).
    pub(super) fn expects(&self) -> bool {
        self.expects
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Fault> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(bad("a folded line"));
        }
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Fault { status: 431, reason: "too many header fields" });
        }
        let Some((name, value)) = field(line) else {
            return Err(bad("a header field without a proper name"));
        };
        if has_control(value) {
            return Err(bad("a control character in a header field"));
        }
        match name_of(name) {
            Some((Name::ContentLength | Name::TransferEncoding, true)) if self.strict => {
                Err(bad("an underscore in the name of a field that decides where the body ends"))
            }
            Some((Name::XForwardedFor | Name::XForwardedProto, true)) => {
                self.forwarded_alias = true;
                Ok(())
            }
            Some((name, false)) => self.known(name, value),
            _ => Ok(()),
        }
    }

    fn known(&mut self, name: Name, value: &[u8]) -> Result<(), Fault> {
        match name {
            Name::ContentLength => self.content_length(value)?,
            Name::TransferEncoding => self.transfer_encoding(value)?,
            Name::Host if self.strict => {
                if self.host {
                    return Err(bad("two Hosts"));
                }
                if !is_host(value) {
                    return Err(bad("a Host that is none"));
                }
                self.host = true;
            }
            Name::Connection if self.strict => connection(value)?,
            // The tunnel that HTTP/2 without TLS makes would take later requests past us, so the server is not asked.
            Name::Upgrade if self.strict && names_h2c(value) => self.superfluous = true,
            Name::Upgrade => self.upgrade = true,
            Name::Expect => self.expects |= value.eq_ignore_ascii_case(b"100-continue"),
            Name::XForwardedFor => self.forwarded_for += 1,
            Name::XForwardedProto => self.forwarded_proto = true,
            Name::Host | Name::Connection | Name::StrictTransportSecurity => {}
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let length = content_length(value).ok_or(bad("a Content-Length that is no number"))?;
        match self.length {
            Some(other) if other != length => return Err(bad("two different Content-Lengths")),
            // The same twice means one thing only; one of them goes on (RFC 9110 section 8.6).
            Some(_) if self.strict => self.superfluous = true,
            Some(_) => {}
            None => self.length = Some(length),
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.chunked {
            return Err(bad("two Transfer-Encodings"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let mut codings = elements(value);
        let last = codings.next_back().is_some_and(is_chunked);
        if last && !codings.any(|coding| is_chunked(coding) || !is_token(coding)) {
            return Err(Fault { status: 501, reason: "a transfer coding other than chunked" });
        }
        Err(bad("a Transfer-Encoding that does not end with one chunked"))
    }

    fn request_line(&self, line: &[u8]) -> Result<RequestLine, Fault> {
        if line == b"PRI * HTTP/2.0" {
            return Err(Fault { status: 505, reason: "HTTP/2 is not spoken here, only HTTP/1.1" });
        }
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad("a request line that is not method, target and version"));
        };
        let visible = target.iter().all(|byte| byte.is_ascii_graphic() || (!self.strict && *byte >= 0x80));
        if !is_token(method) || target.is_empty() || !visible {
            return Err(bad("a request line with characters that may not be there"));
        }
        let old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(Fault { status: 505, reason: "neither HTTP/1.0 nor HTTP/1.1" });
            }
            _ => return Err(bad("a request line without a proper version")),
        };
        let method = match method {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            // Servers differ in whether they take it for the real one, and so would the meaning of the answer.
            _ if self.strict
                && (method.eq_ignore_ascii_case(b"HEAD") || method.eq_ignore_ascii_case(b"CONNECT")) =>
            {
                return Err(bad("a method in the wrong case"));
            }
            _ if method.eq_ignore_ascii_case(b"HEAD") => Method::Head,
            _ => Method::Other,
        };
        let absolute = method != Method::Connect && !matches!(target[0], b'/' | b'*');
        Ok(RequestLine { method, old, absolute })
    }
}

/// A field that a sender names as its own may be taken off by the next proxy; ours, and those that decide where a
/// message ends, must not be.
fn connection(value: &[u8]) -> Result<(), Fault> {
    if elements(value).any(|option| {
        name_of(option)
            .is_some_and(|(name, _)| !matches!(name, Name::Connection | Name::Expect | Name::Upgrade))
    }) {
        return Err(bad("Connection names a field that must not be taken off"));
    }
    Ok(())
}

impl Lines for RequestHead {
    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if self.line.is_some() {
            return self.field(line);
        }
        self.line = Some(self.request_line(line)?);
        Ok(())
    }

    fn empty(&mut self) -> Result<bool, Fault> {
        if self.line.is_none() {
            self.leading += 1;
            if self.leading > LEADING_LINES_MAX {
                return Err(bad("empty lines instead of a request"));
            }
        }
        Ok(self.line.is_some())
    }

    fn bare_lf(&self) -> Result<(), Fault> {
        if self.strict { Err(bad("a line that ends with a bare LF")) } else { Ok(()) }
    }

    fn too_long(&self) -> Fault {
        Fault { status: 431, reason: "the head of the request is too long" }
    }

    fn bytes_max(&self) -> usize {
        REQUEST_HEAD_MAX
    }
}

/// Whether a request whose target names a host has the same in `Host`: two readers must not come to two hosts.
pub(super) fn hosts_agree(head: &[u8]) -> bool {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let Some(line) = lines.find(|line| !line.is_empty()) else { return false };
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let Some(colon) = memchr::memmem::find(target, b"://") else { return false };
    let (scheme, rest) = (&target[..colon], &target[colon + 3..]);
    let authority = rest.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next().unwrap_or_default();
    let port: &[u8] = if scheme.eq_ignore_ascii_case(b"https") { b":443" } else { b":80" };
    let plain = |host: &'_ [u8]| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    let host = lines
        .filter_map(field)
        .find(|(name, _)| name.eq_ignore_ascii_case(b"host"))
        .map(|(_, value)| plain(value));
    // HTTP/1.0 need not have one.
    is_host(authority) && host.is_none_or(|host| host == plain(authority))
}

/// The trailer section after a body in chunks. Some servers take its fields for those of the head.
#[derive(Debug)]
pub(super) struct Trailer {
    pub(super) strict: bool,
    pub(super) fields: u16,
}

/// The longest trailer section, bytes.
pub(super) const TRAILER_MAX: usize = 8 * 1024;

impl Lines for Trailer {
    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Fault { status: 431, reason: "too many trailer fields" });
        }
        let Some((name, _)) = field(line).filter(|(_, value)| !has_control(value)) else {
            return Err(bad("a trailer that is no header field"));
        };
        if self.strict && name_of(name).is_some() {
            return Err(bad("a field in the trailer that belongs to the head"));
        }
        Ok(())
    }

    fn empty(&mut self) -> Result<bool, Fault> {
        Ok(true)
    }

    fn bare_lf(&self) -> Result<(), Fault> {
        Err(bad("a line of the trailer that ends with a bare LF"))
    }

    fn too_long(&self) -> Fault {
        Fault { status: 431, reason: "the trailer is too long" }
    }

    fn bytes_max(&self) -> usize {
        TRAILER_MAX
    }
}
