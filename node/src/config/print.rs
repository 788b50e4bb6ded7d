//! A model as the text of a cluster's file: what is not the default, in the order of the manual page.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use cygnet_ha::vip::Mode;
use cygnet_ha::vip::transfer::AtDeadline;

use super::check::written;
use super::cluster::{
    DEFAULT_BLACKLIST, DEFAULT_CONNECT_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_UDP_IDLE_TIMEOUT,
};
use super::diff::algorithm_word;
use super::model::{
    Acl, Algorithm, Check, CheckKind, ClusterConfig, DEFAULT_CHECK_INTERVAL, DEFAULT_CHECK_TIMEOUT,
    DEFAULT_FALL, DEFAULT_RISE, Direct, FastClose, Forwarded, Http, HttpCheck, Place, Server, Service,
    Statuses, Talk, TlsConnect, TlsListen, TlsVersion, Transport, Vip,
};
use super::secure::{FORWARDEDS, VERSIONS};
use super::service::{FAST_CLOSES, FOREVER};
use super::vip::{DEFAULT_INTERVAL, MIN_TTL, at_deadline_word, checksum_word, protocol_word};

/// The text of a cluster's file that says the same as the model; reading it gives an equal model. Except for what no file
/// can say: Pen's rules become the round robin of the house, and a weight of 0 is not written.
#[must_use]
pub fn to_toml(config: &ClusterConfig) -> String {
    let mut out = Toml(String::new());
    config.vips.iter().for_each(|vip| out.vip(vip));
    config.acls.iter().for_each(|acl| out.acl(acl));
    config.services.iter().for_each(|service| out.service(service));
    out.0
}

/// A string in TOML's quotes.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list<'t>(texts: impl IntoIterator<Item = &'t String>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn word<T: PartialEq>(words: &[(&'static str, T)], wanted: &T) -> String {
    quoted(words.iter().find(|(_, meaning)| meaning == wanted).map_or("", |(word, _)| *word))
}

fn time(duration: Duration) -> String {
    quoted(&humantime::format_duration(duration).to_string())
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

struct Toml(String);

impl Toml {
    fn head(&mut self, head: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{gap}{head}");
    }

    fn key(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    /// Writes a key unless it says the default.
    fn unless<T: PartialEq>(&mut self, default: &T, key: &str, value: &T, show: impl Fn(&T) -> String) {
        if value != default {
            self.key(key, show(value));
        }
    }

    fn given<T>(&mut self, key: &str, value: Option<&T>, show: impl Fn(&T) -> String) {
        if let Some(value) = value {
            self.key(key, show(value));
        }
    }

    fn flag(&mut self, default: bool, key: &str, value: bool) {
        self.unless(&default, key, &value, bool::to_string);
    }

    fn vip(&mut self, vip: &Vip) {
        self.head("[[vip]]");
        self.key("name", quoted(&vip.name));
        let addresses: Vec<String> = vip.addresses.iter().map(ToString::to_string).collect();
        match addresses.as_slice() {
            [one] => self.key("address", quoted(one)),
            many => self.key("addresses", list(many)),
        }
        self.key("protocol", quoted(protocol_word(vip.protocol)));
        self.key("id", vip.id);
        self.key("mode", quoted(if vip.mode == Mode::Hold { "hold" } else { "watch" }));
        self.unless(&DEFAULT_INTERVAL, "interval", &vip.interval, |interval| time(*interval));
        self.flag(true, "preempt", vip.preempt);
        self.unless(&Duration::ZERO, "preempt_delay", &vip.preempt_delay, |delay| time(*delay));
        self.given("drain_deadline", vip.patience.deadline.as_ref(), |deadline| time(*deadline));
        if vip.patience.deadline.is_some() {
            self.unless(&AtDeadline::default(), "at_deadline", &vip.patience.at_deadline, |at| {
                quoted(at_deadline_word(*at))
            });
        }
        self.given("password", vip.password.as_ref(), |password| quoted(password));
        self.given("checksum", vip.checksum.as_ref(), |form| quoted(checksum_word(*form)));
        let peers: Vec<String> = vip.peers.iter().map(ToString::to_string).collect();
        self.unless(&Vec::new(), "peers", &peers, |peers| list(peers));
        self.unless(&MIN_TTL, "min_ttl", &vip.min_ttl, u8::to_string);
        self.given("sync_group", vip.sync_group.as_ref(), |group| quoted(group));
    }

    fn acl(&mut self, acl: &Acl) {
        self.head("[[acl]]");
        self.key("name", quoted(&acl.name));
        let entries: Vec<String> = acl.entries.iter().map(ToString::to_string).collect();
        match entries.as_slice() {
            [one] => self.key("entries", list([one])),
            many => {
                let lines: String = many.iter().map(|entry| format!("    {},\n", quoted(entry))).collect();
                self.key("entries", format_args!("[\n{lines}]"));
            }
        }
    }

    fn service(&mut self, service: &Service) {
        self.head("[[service]]");
        self.key("name", quoted(&service.name));
        self.unless(&Transport::Tcp, "transport", &service.transport, |_| quoted("udp"));
        if !service.listen.is_empty() {
            let listen: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
            self.key("listen", list(&listen));
        }
        self.rules(service);
        self.manner(service);
        self.given_tables(service);
    }

    fn rules(&mut self, service: &Service) {
        if !matches!(service.algorithm, Algorithm::RoundRobin | Algorithm::Pen(_)) {
            self.key("algorithm", quoted(algorithm_word(service.algorithm)));
        }
        self.given("sticky", service.sticky.as_ref(), |sticky| {
            if *sticky == Duration::MAX { quoted(FOREVER) } else { time(*sticky) }
        });
        self.flag(false, "stubborn", service.stubborn);
        self.given("clients", service.clients.as_ref(), |list| quoted(list));
        let usual = match service.transport {
            Transport::Tcp => DEFAULT_IDLE_TIMEOUT,
            Transport::Udp => DEFAULT_UDP_IDLE_TIMEOUT,
        };
        self.unless(&DEFAULT_CONNECT_TIMEOUT, "connect_timeout", &service.connect_timeout, |of| time(*of));
        self.unless(&DEFAULT_BLACKLIST, "blacklist", &service.blacklist, |of| time(*of));
        self.unless(&Some(usual), "idle_timeout", &service.idle_timeout, |of| {
            of.map_or_else(|| quoted("never"), time)
        });
    }

    fn manner(&mut self, service: &Service) {
        self.unless(&FastClose::Off, "fast_close", &service.fast_close, |of| word(&FAST_CLOSES, of));
        self.flag(false, "keepalive", service.keepalive);
        self.flag(false, "transparent", service.transparent);
        self.given("source", service.source.as_ref(), |source| quoted(&source.to_string()));
        self.flag(false, "dummy", service.dummy);
        self.unless(&0, "idlers", &service.idlers, u32::to_string);
    }

    fn given_tables(&mut self, service: &Service) {
        if let Some(check) = &service.check {
            self.check(check);
        }
        if let Some(direct) = &service.dsr {
            self.direct(direct);
        }
        if let Some(http) = &service.http {
            self.http(http);
        }
        if let Some(tls) = &service.tls {
            self.tls(tls);
        }
        for route in &service.routes {
            self.head("[[service.route]]");
            self.key("names", list(&route.names));
            self.key("service", quoted(&route.service));
        }
        for server in &service.servers {
            self.server("[[service.server]]", "[service.server.tls]", server);
        }
        for (key, spare) in [("emergency", &service.emergency), ("abuse", &service.abuse)] {
            if let Some(server) = spare {
                self.server(&format!("[service.{key}]"), &format!("[service.{key}.tls]"), server);
            }
        }
    }

    fn check(&mut self, check: &Check) {
        self.head("[service.check]");
        self.key("type", quoted(check.kind.word()));
        self.unless(&DEFAULT_CHECK_INTERVAL, "interval", &check.interval, |of| time(*of));
        self.given("fast_interval", check.fast_interval.as_ref(), |of| time(*of));
        let usual = DEFAULT_CHECK_TIMEOUT.min(check.interval);
        self.unless(&usual, "timeout", &check.timeout, |of| time(*of));
        self.unless(&DEFAULT_RISE, "rise", &check.rise, u32::to_string);
        self.unless(&DEFAULT_FALL, "fall", &check.fall, u32::to_string);
        match &check.kind {
            CheckKind::Http(HttpCheck { head, path, host, expect }) => {
                self.unless(&false, "method", head, |_| quoted("HEAD"));
                self.unless(&"/".to_owned(), "path", path, |path| quoted(path));
                self.given("host", host.as_ref(), |host| quoted(host));
                self.unless(&Statuses::default(), "expect", expect, |of| quoted(&of.to_string()));
            }
            CheckKind::Tcp(talk) | CheckKind::Tls(talk) | CheckKind::Udp(talk) => {
                let Talk { send, expect } = talk;
                self.unless(&Vec::new(), "send", send, |bytes| quoted(&written(bytes)));
                self.unless(&Vec::new(), "expect", expect, |bytes| quoted(&written(bytes)));
            }
        }
    }

    fn direct(&mut self, direct: &Direct) {
        self.head("[service.dsr]");
        self.key("address", quoted(&direct.address.to_string()));
        self.given("port", direct.port.as_ref(), u16::to_string);
        match &direct.place {
            Place::Vip(vip) => self.key("vip", quoted(vip)),
            Place::Interface(interface) => self.key("interface", quoted(interface)),
        }
        self.given("tarpit", direct.tarpit.as_ref(), |list| quoted(list));
    }

    fn http(&mut self, http: &Http) {
        self.head("[service.http]");
        self.unless(&Forwarded::Keep, "forwarded", &http.forwarded, |of| word(&FORWARDEDS, of));
        self.given("hsts", http.hsts.as_ref(), |value| quoted(value));
        self.flag(false, "lenient", http.lenient);
    }

    fn tls(&mut self, tls: &TlsListen) {
        self.head("[service.tls]");
        self.key("certificate", path(&tls.certificate));
        let files = [
            ("key", &tls.key),
            ("chain", &tls.chain),
            ("names", &tls.names),
            ("ocsp", &tls.ocsp),
            ("client_authorities", &tls.client_authorities),
            ("client_authorities_directory", &tls.client_authorities_directory),
        ];
        for (key, file) in files {
            self.given(key, file.as_ref(), |file| path(file));
        }
        self.flag(false, "client_required", tls.client_required);
        self.unless(&TlsVersion::Tls12, "oldest", &tls.oldest, |of| word(&VERSIONS, of));
        self.given("newest", tls.newest.as_ref(), |of| word(&VERSIONS, of));
        self.given("ciphers", tls.ciphers.as_ref(), |list| quoted(list));
        self.flag(true, "prefer_own_order", tls.prefer_own_order);
        if !tls.alpn.is_empty() {
            self.key("alpn", list(&tls.alpn));
        }
    }

    fn server(&mut self, head: &str, tls_head: &str, server: &Server) {
        self.head(head);
        self.key("name", quoted(&server.name));
        self.key("address", quoted(&server.address.to_string()));
        if server.weight != 0 {
            self.unless(&1, "weight", &server.weight, u16::to_string);
        }
        self.unless(&0, "priority", &server.priority, i32::to_string);
        self.unless(&0, "max", &server.max, u32::to_string);
        self.unless(&0, "hard", &server.hard, u32::to_string);
        self.given("acl", server.acl.as_ref(), |list| quoted(list));
        self.given("check_port", server.check_port.as_ref(), u16::to_string);
        if let Some(TlsConnect { name, authorities, insecure, certificate }) = &server.tls {
            self.head(tls_head);
            self.given("name", name.as_ref(), |name| quoted(name));
            self.given("authorities", authorities.as_ref(), |file| path(file));
            self.flag(false, "insecure", *insecure);
            self.given("certificate", certificate.as_ref(), |file| path(file));
        }
    }
}
