//! The state that Pen's options and commands change.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::answers::Names;
use super::words::{ipv4, number};
use crate::config::model::{AclEntry, Endpoint, FastClose, PenRules, Transport};

/// Access lists.
pub const ACLS: usize = 10;
/// Most server slots; each costs about a hundred bytes in the model and more in a plan. Pen has no limit, and `server
/// 2000000000` takes all memory there.
pub const SLOTS_MAX: usize = 4096;
/// Most entries of an access list: a check walks over them.
pub const ACL_ENTRIES_MAX: usize = 65_536;
/// Most entries of the client table (`-c`, `clients_max`).
pub const CLIENTS_MAX: i32 = 4 * 1024 * 1024;
/// Most connections (`-x`, `conn_max`).
pub const CONNECTIONS_MAX: i32 = 1024 * 1024;
/// The largest file of commands, bytes.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where a country database is looked for when `--countries` names none: where Debian's packages and MaxMind's own
/// updater put it.
pub const COUNTRIES: [&str; 2] =
    ["/usr/share/GeoIP/GeoLite2-Country.mmdb", "/var/lib/GeoIP/GeoLite2-Country.mmdb"];

/// `blacklist`, s.
pub const BLACKLIST_DEFAULT: i32 = 30;
/// `timeout`, s. Pen's manual says 5; its code, and so ours, 3.
pub const TIMEOUT_DEFAULT: i32 = 3;
/// `clients_max`.
pub const CLIENTS_DEFAULT: i32 = 2048;
/// `conn_max`.
pub const CONNECTIONS_DEFAULT: i32 = 500;
/// `pending_max`.
pub const PENDING_DEFAULT: i32 = 100;
/// `-m`.
pub const MULTI_ACCEPT_DEFAULT: i32 = 100;
/// `-q`.
pub const LISTEN_QUEUE_DEFAULT: i32 = 500;

/// A server, as Pen numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerId {
    /// `server N`.
    Regular(usize),
    /// `-e`.
    Emergency,
    /// `-B`.
    Abuse,
}

impl ServerId {
    /// The server of this name in the configuration that [`Pen`] makes.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "-1" => Some(Self::Emergency),
            "-2" => Some(Self::Abuse),
            _ => name.parse().ok().map(Self::Regular),
        }
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Regular(slot) => slot.fmt(out),
            Self::Emergency => out.write_str("-1"),
            Self::Abuse => out.write_str("-2"),
        }
    }
}

/// A server's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Where it is.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Connections at once; 0: no limit.
    pub max: i32,
    /// The limit for clients whose last server it is, if it is larger than `max`.
    pub hard: i32,
    /// The access list that clients of it must pass.
    pub acl: i32,
    /// Its share with `weight`; 0: none.
    pub weight: i32,
    /// The lower the earlier with `prio`.
    pub prio: i32,
}

/// Where a server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// Nobody has said: a slot below one that was set.
    #[default]
    Unset,
    /// An address.
    Ip(IpAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Host {
    /// The host of this name, address or path.
    #[must_use]
    pub fn find(word: &str, names: &dyn Names) -> Option<Self> {
        if word.contains('/') {
            return Some(Self::Unix(PathBuf::from(word)));
        }
        names.address(bare(word)).map(Self::Ip)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The closing bracket is missing in Pen too, and scripts have learnt to live with it.
            Self::Unset => out.write_str("(unknown address family 0"),
            Self::Ip(address) => address.fmt(out),
            Self::Unix(path) => path.display().fmt(out),
        }
    }
}

impl Slot {
    /// The port that Pen shows: 1 for a Unix socket, 0 where there is no address.
    #[must_use]
    pub fn shown_port(&self) -> u16 {
        match self.host {
            Host::Unset => 0,
            Host::Ip(_) => self.port,
            Host::Unix(_) => 1,
        }
    }
}

/// Without the brackets of an IPv6 address.
fn bare(word: &str) -> &str {
    word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word)
}

/// The listening address `[HOST:]PORT` (without a colon: all IPv4 addresses) or `/PATH`. With direct server return also
/// an address alone, for all its ports.
pub fn listen_address(words: &str, all_ports: bool, names: &dyn Names) -> Result<Endpoint, String> {
    if words.contains('/') {
        return Ok(Endpoint::Unix(PathBuf::from(words)));
    }
    if all_ports && let Some(address) = ipv4(words).filter(|_| words.contains('.')) {
        return Ok(SocketAddr::from((address, 0)).into());
    }
    let (host, port) = words.rsplit_once(':').unwrap_or(("0.0.0.0", words));
    let number = number(port).or_else(|| names.port(port).map(i32::from)).unwrap_or(0);
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("Port {number} out of range"))?;
    let address = names.address(bare(host)).ok_or_else(|| format!("Can't convert address '{host}'"))?;
    Ok(SocketAddr::new(address, port).into())
}

/// Where requests are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// A file, appended to.
    File(PathBuf),
    /// `HOST:PORT`: one datagram for each chunk. The address may be absent when the name has none.
    Network {
        /// As given.
        host: String,
        /// Its port, as given.
        port: String,
    },
}

impl LogTarget {
    /// A network log has a colon in it and does not begin with `/`.
    #[must_use]
    pub fn from_words(words: &str) -> Self {
        match words.rsplit_once(':') {
            Some((host, port)) if !words.starts_with('/') => {
                Self::Network { host: host.to_owned(), port: port.to_owned() }
            }
            _ => Self::File(PathBuf::from(words)),
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(out),
            Self::Network { host, port } => write!(out, "{host}:{port}"),
        }
    }
}

/// The mechanism that Pen would have used; here it changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Events {
    /// epoll(7).
    #[default]
    Epoll,
    /// poll(2), `-P`.
    Poll,
    /// select(2).
    Select,
    /// kqueue(2): not on Linux, and asking for it ends the start.
    Kqueue,
}

/// TLS towards clients; on when there is a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// `-E`.
    pub certificate: Option<PathBuf>,
    /// `-K`.
    pub key: Option<PathBuf>,
    /// `-G`.
    pub authorities: Option<PathBuf>,
    /// `-A`.
    pub authorities_directory: Option<PathBuf>,
    /// `-R`.
    pub client_required: bool,
    /// `-Z`: work-arounds of the library; today's have none that matter.
    pub compatible: bool,
    /// `ssl_option no_tlsv1` and its like.
    pub no_tls10: bool,
    /// `ssl_option no_tlsv1.1`.
    pub no_tls11: bool,
    /// `ssl_option no_tlsv1.2`.
    pub no_tls12: bool,
    /// `ssl_option cipher_server_preference`.
    pub prefer_own_order: bool,
    /// `ssl_ciphers`.
    pub ciphers: Option<String>,
    /// `ssl_sni_path`.
    pub names: Option<PathBuf>,
    /// `ssl_ocsp_response`.
    pub ocsp: Option<PathBuf>,
    /// `ssl_client_renegotiation_interval`, s: kept, without effect (clients may not renegotiate at all).
    pub renegotiation_interval: i32,
}

/// Pen's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pen {
    /// Connections, or datagrams with `-U`.
    pub transport: Transport,
    /// The listening address.
    pub listen: Option<Endpoint>,
    /// The same as given: what `listen` and `write` show.
    pub listen_words: Option<String>,
    /// How a server is chosen.
    pub rules: PenRules,
    /// `-s`.
    pub stubborn: bool,
    /// The servers by number.
    pub servers: Vec<Slot>,
    /// `-e`.
    pub emergency: Option<Slot>,
    /// `-B`.
    pub abuse: Option<Slot>,
    /// The access lists, [`ACLS`] of them.
    pub acls: Vec<Vec<AclEntry>>,
    /// The list that clients must pass.
    pub client_acl: usize,
    /// The list that control connections must pass.
    pub control_acl: usize,
    /// The list of addresses that the tarpit answers for.
    pub tarpit_acl: Option<usize>,
    /// How long a server that failed is left alone, s.
    pub blacklist: i32,
    /// Connect timeout, s.
    pub timeout: i32,
    /// How long clients are remembered, s; 0: as long as there is room.
    pub tracking: i32,
    /// Silent connections are closed, s; 0: never.
    pub idle_timeout: i32,
    /// Size of the client table; 0 until the start is over: nobody has said.
    pub clients_max: i32,
    /// Connections at once; 0 until the start is over: nobody has said.
    pub conn_max: i32,
    /// Connects to servers in progress at once.
    pub pending_max: i32,
    /// Accepted at once.
    pub multi_accept: i32,
    /// Listen backlog.
    pub listen_queue: i32,
    /// Idle connections to servers.
    pub idlers: i32,
    /// Whose end ends the connection.
    pub fast_close: FastClose,
    /// TCP_NODELAY towards servers. Ours has it always on; the switch is kept for `write`.
    pub tcp_nodelay: bool,
    /// SO_KEEPALIVE towards servers.
    pub keepalive: bool,
    /// Connections to servers start from the client's address.
    pub transparent: bool,
    /// Connections to servers start from here.
    pub source: Option<IpAddr>,
    /// `-H`.
    pub http: bool,
    /// Answers itself.
    pub dummy: bool,
    /// TLS towards clients.
    pub tls: TlsSettings,
    /// The interface of direct server return.
    pub dsr_if: Option<String>,
    /// `dsr_ip`: kept, without effect, as in Pen.
    pub dsr_ip: Option<String>,
    /// The mechanism that Pen would use.
    pub events: Events,
    /// Dumps in ASCII.
    pub ascii: bool,
    /// Debug level.
    pub debug: i32,
    /// Fatal errors abort.
    pub abort_on_error: bool,
    /// `exit` is allowed.
    pub exit_enabled: bool,
    /// `-f`.
    pub foreground: bool,
    /// `-j`.
    pub jail: Option<PathBuf>,
    /// `-u`.
    pub user: Option<String>,
    /// `-p`.
    pub pid_file: Option<PathBuf>,
    /// `-l`, `log`.
    pub log: Option<LogTarget>,
    /// `-w`, `web_stats`.
    pub web_stats: Option<PathBuf>,
    /// `-F`.
    pub config_file: Option<PathBuf>,
    /// `-C`, as given.
    pub control: Option<String>,
    /// `-e` as given, for `write`.
    pub emergency_words: Option<String>,
    /// `-B` as given, for `write`.
    pub abuse_words: Option<String>,
    /// `--workers N` (ours): data path threads. With more than one, the order of choices is each worker's own.
    pub workers: usize,
    /// `--countries FILE` (ours): the country database, in MaxMind's format.
    pub countries: Option<PathBuf>,
}

impl Default for Pen {
    fn default() -> Self {
        Self {
            transport: Transport::Tcp,
            listen: None,
            listen_words: None,
            rules: PenRules::default(),
            stubborn: false,
            servers: Vec::new(),
            emergency: None,
            abuse: None,
            acls: vec![Vec::new(); ACLS],
            client_acl: 0,
            control_acl: 0,
            tarpit_acl: None,
            blacklist: BLACKLIST_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
            tracking: 0,
            idle_timeout: 0,
            clients_max: 0,
            conn_max: 0,
            pending_max: PENDING_DEFAULT,
            multi_accept: MULTI_ACCEPT_DEFAULT,
            listen_queue: LISTEN_QUEUE_DEFAULT,
            idlers: 0,
            fast_close: FastClose::Off,
            tcp_nodelay: false,
            keepalive: false,
            transparent: false,
            source: None,
            http: false,
            dummy: false,
            tls: TlsSettings::default(),
            dsr_if: None,
            dsr_ip: None,
            events: Events::Epoll,
            ascii: false,
            debug: 0,
            abort_on_error: false,
            exit_enabled: false,
            foreground: false,
            jail: None,
            user: None,
            pid_file: None,
            log: None,
            web_stats: None,
            config_file: None,
            control: None,
            emergency_words: None,
            abuse_words: None,
            workers: 1,
            countries: None,
        }
    }
}
