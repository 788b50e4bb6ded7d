//! What a service wants to know of its servers: its health check.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Between two checks of a server when the file does not say.
pub const DEFAULT_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long a check may take when the file does not say; the interval, if that is shorter. A lost SYN is sent again after
/// a second: a check that was that unlucky counts as failed, and [`DEFAULT_FALL`] forgives it.
pub const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// So many checks in a row must pass before a server that is down is up again, when the file does not say.
pub const DEFAULT_RISE: u32 = 2;
/// So many checks in a row must fail before a server that is up is down, when the file does not say.
pub const DEFAULT_FALL: u32 = 3;
/// Most ranges of one list of statuses: there are not more classes that anybody tells apart.
pub const STATUS_RANGES_MAX: usize = 32;
/// The statuses of final answers (RFC 9110 section 15).
const STATUSES: (u16, u16) = (200, 599);

/// A health check: what each node asks each server of the service, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// From the start of one check to that of the next.
    pub interval: Duration,
    /// The same while a server goes up or down; `None`: as `interval`.
    pub fast_interval: Option<Duration>,
    /// A check that has not ended by then has failed.
    pub timeout: Duration,
    /// Checks in a row that must pass before a server that is down is up, at least 1.
    pub rise: u32,
    /// Checks in a row that must fail before a server that is up is down, at least 1.
    pub fall: u32,
}

impl Check {
    /// A check of this kind with the defaults of the file.
    #[must_use]
    pub fn new(kind: CheckKind) -> Self {
        Self {
            kind,
            interval: DEFAULT_CHECK_INTERVAL,
            fast_interval: None,
            timeout: DEFAULT_CHECK_TIMEOUT,
            rise: DEFAULT_RISE,
            fall: DEFAULT_FALL,
        }
    }
}

/// What is asked of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// It accepts a connection, and says what is expected.
    Tcp(Talk),
    /// The same after a TLS handshake as its connections have it.
    Tls(Talk),
    /// It answers an HTTP/1.1 request, over TLS if it speaks it.
    Http(HttpCheck),
    /// It answers a datagram.
    Udp(Talk),
}

impl CheckKind {
    /// The word of the file for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Tls(_) => "tls",
            Self::Http(_) => "http",
            Self::Udp(_) => "udp",
        }
    }
}

/// What is sent, and how the answer must begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Talk {
    /// Empty: nothing is sent.
    pub send: Vec<u8>,
    /// Empty: nothing is waited for (of a datagram: any answer will do).
    pub expect: Vec<u8>,
}

/// An HTTP request, and the status that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// HEAD instead of GET.
    pub head: bool,
    /// The target of the request, from `/` on.
    pub path: String,
    /// The `Host`; `None`: the TLS name of the server, else its address.
    pub host: Option<String>,
    /// The statuses of a server that is well.
    pub expect: Statuses,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self { head: false, path: "/".to_owned(), host: None, expect: Statuses::default() }
    }
}

/// A set of HTTP statuses, as `200-299,304`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Default for Statuses {
    /// What is neither the client's fault nor the server's.
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

impl Statuses {
    /// Whether this one is in the set.
    #[must_use]
    pub fn has(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match first == last {
                true => write!(out, "{comma}{first}")?,
                false => write!(out, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Why a text is no set of statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusesError {
    /// An element is neither a status nor two of them with a hyphen.
    #[error("it has an element that is no status from 200 to 599, nor a range of them")]
    NotAStatus,
    /// A range that ends before it begins.
    #[error("{0}-{1} ends before it begins")]
    Backwards(u16, u16),
    /// More than [`STATUS_RANGES_MAX`] elements.
    #[error("it has more than {STATUS_RANGES_MAX} elements")]
    TooMany,
}

impl FromStr for Statuses {
    type Err = StatusesError;

    /// Reads `200`, `200-399`, `200-299,304`; blanks around elements are taken. What overlaps or adjoins becomes one.
    fn from_str(text: &str) -> Result<Self, StatusesError> {
        let mut ranges = Vec::new();
        for element in text.split(',') {
            if ranges.len() == STATUS_RANGES_MAX {
                return Err(StatusesError::TooMany);
            }
            let (first, last) = element.split_once('-').unwrap_or((element, element));
            let (first, last) = (status(first)?, status(last)?);
            if last < first {
                return Err(StatusesError::Backwards(first, last));
            }
            ranges.push((first, last));
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ok(Self(merged))
    }
}

fn status(text: &str) -> Result<u16, StatusesError> {
    let text = text.trim();
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let status = text.parse().ok().filter(|status| digits && (STATUSES.0..=STATUSES.1).contains(status));
    status.ok_or(StatusesError::NotAStatus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, StatusesError> {
        text.parse().map(|statuses: Statuses| statuses.to_string())
    }

    #[test]
    fn sets_of_statuses_are_read_in_any_order_and_written_in_one() {
        assert_eq!(read("200"), Ok("200".into()));
        assert_eq!(read(" 304 , 200-299 "), Ok("200-299,304".into()));
        assert_eq!(read("200-250,240-299,300"), Ok("200-300".into()), "what touches is one");
        assert_eq!(Statuses::default().to_string(), "200-399");
        let statuses: Statuses = "200-299,401".parse().unwrap();
        assert!(statuses.has(200) && statuses.has(299) && statuses.has(401));
        assert!(!statuses.has(300) && !statuses.has(400) && !statuses.has(503));
    }

    #[test]
    fn what_is_no_status_is_refused_with_its_reason() {
        for text in
            ["", ",", "20", "2000", "+200", "200-", "-200", "199", "600", "200-299-300", "ok", "２００"]
        {
            assert_eq!(read(text), Err(StatusesError::NotAStatus), "{text:?}");
        }
        assert_eq!(read("299-200"), Err(StatusesError::Backwards(299, 200)));
        assert_eq!(read(&["200"; STATUS_RANGES_MAX].join(",")), Ok("200".into()));
        assert_eq!(read(&["200"; STATUS_RANGES_MAX + 1].join(",")), Err(StatusesError::TooMany));
    }
}
