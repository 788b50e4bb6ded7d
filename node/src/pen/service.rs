//! Pen's state in the words of the rest of the program: for the data path ([`Pen::service`], [`Pen::config`]), and for those
//! who move to a file of this house ([`Pen::to_config`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::model::{ACLS, Host, Pen, ServerId, Slot};
use crate::config::model::{
    Acl, AclEntry, AclMatch, Algorithm, ClusterConfig, Endpoint, Forwarded, Http, Server, Service, TlsListen,
    TlsVersion,
};

/// The name of the one service.
pub const SERVICE: &str = "pen";
/// The access list of servers that nobody may use: those with a list or a limit that Pen lets nobody pass.
pub const NOBODY: &str = "nobody";
/// Ciphers of TLS 1.2 and older where `ssl_ciphers` says nothing: the library's own choice, as in Pen.
const CIPHERS_DEFAULT: &str = "DEFAULT";

/// What [`Pen::to_config`] gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// What can be said in a file of this house.
    pub config: ClusterConfig,
    /// What cannot, or not quite: a sentence each.
    pub unsaid: Vec<String>,
}

impl Pen {
    /// All of it for the data path.
    #[must_use]
    pub fn config(&self) -> ClusterConfig {
        ClusterConfig { vips: Vec::new(), services: vec![self.service()], acls: self.access_lists() }
    }

    /// The service, with Pen's exact order of choices. Its servers are named by their numbers ([`ServerId`]) and stand in
    /// the order of the slots. Slots without an address are there too, with the address 0.0.0.0 and port 0, which nobody
    /// connects to: `hash` counts them.
    #[must_use]
    pub fn service(&self) -> Service {
        let mut service = self.service_without_servers();
        service.servers = self.servers.iter().enumerate().map(|(n, slot)| self.server(n, slot)).collect();
        service
    }

    fn service_without_servers(&self) -> Service {
        let seconds = |value: i32| Duration::from_secs(u64::try_from(value).unwrap_or(0));
        let mut service = Service::new(SERVICE);
        service.transport = self.transport;
        service.listen = self.listen.iter().cloned().collect();
        service.algorithm = Algorithm::Pen(self.rules);
        service.sticky = Some(if self.tracking > 0 { seconds(self.tracking) } else { Duration::MAX });
        service.stubborn = self.stubborn;
        service.emergency = self.emergency.as_ref().map(|slot| self.named(ServerId::Emergency, slot));
        service.abuse = self.abuse.as_ref().map(|slot| self.named(ServerId::Abuse, slot));
        service.clients = self.list_name(i32::try_from(self.client_acl).unwrap_or(0));
        // Zero would let no connect succeed.
        service.connect_timeout = seconds(self.timeout.max(1));
        service.blacklist = seconds(self.blacklist);
        service.idle_timeout = (self.idle_timeout > 0).then(|| seconds(self.idle_timeout));
        service.fast_close = self.fast_close;
        service.keepalive = self.keepalive;
        service.source = self.source;
        // `source` wins.
        service.transparent = self.transparent && self.source.is_none();
        service.dummy = self.dummy;
        service.idlers = u32::try_from(self.idlers).unwrap_or(0);
        service.http =
            self.http.then_some(Http { forwarded: Forwarded::IfAbsent, hsts: None, lenient: true });
        service.tls = self.tls_listen();
        service
    }

    fn server(&self, number: usize, slot: &Slot) -> Server {
        self.named(ServerId::Regular(number), slot)
    }

    fn named(&self, id: ServerId, slot: &Slot) -> Server {
        let address: Endpoint = match &slot.host {
            Host::Unset => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into(),
            Host::Ip(address) => SocketAddr::new(*address, slot.port).into(),
            Host::Unix(path) => Endpoint::Unix(path.clone()),
        };
        let mut server = Server::new(id.to_string(), address);
        server.weight = u16::try_from(slot.weight.max(0)).unwrap_or(u16::MAX);
        server.priority = slot.prio;
        server.max = u32::try_from(slot.max).unwrap_or(0);
        server.hard = u32::try_from(slot.hard).unwrap_or(0);
        // A negative limit is always reached.
        server.acl = if slot.max < 0 { Some(NOBODY.to_owned()) } else { self.list_name(slot.acl) };
        server
    }

    /// The list's name; `None`: it permits everybody.
    fn list_name(&self, number: i32) -> Option<String> {
        let list = usize::try_from(number).ok().and_then(|number| self.acls.get(number));
        match list {
            None => Some(NOBODY.to_owned()),
            Some(entries) if entries.is_empty() => None,
            Some(_) => Some(number.to_string()),
        }
    }

    /// Those with entries, by their numbers, and [`NOBODY`] if it is needed.
    fn access_lists(&self) -> Vec<Acl> {
        let lists = self.acls.iter().take(ACLS).enumerate();
        let mut lists: Vec<_> = lists
            .filter(|(_, entries)| !entries.is_empty())
            .map(|(number, entries)| Acl { name: number.to_string(), entries: entries.clone() })
            .collect();
        let barred = |slot: &Slot| slot.max < 0 || usize::try_from(slot.acl).map_or(true, |acl| acl >= ACLS);
        if self.servers.iter().chain(&self.emergency).chain(&self.abuse).any(barred) {
            let all = [
                AclMatch::V4 { address: Ipv4Addr::UNSPECIFIED, mask: Ipv4Addr::UNSPECIFIED },
                AclMatch::V6 { address: Ipv6Addr::UNSPECIFIED, prefix: 0 },
            ];
            let entries = all.map(|who| AclEntry { permit: false, who }).into();
            lists.push(Acl { name: NOBODY.to_owned(), entries });
        }
        lists
    }

    /// TLS with Pen's wide defaults: every protocol and cipher that the library has, in the client's order.
    fn tls_listen(&self) -> Option<TlsListen> {
        let tls = &self.tls;
        let mut listen = TlsListen::new(tls.certificate.clone()?);
        listen.key.clone_from(&tls.key);
        listen.chain.clone_from(&tls.authorities);
        listen.names.clone_from(&tls.names);
        listen.ocsp.clone_from(&tls.ocsp);
        if tls.client_required {
            listen.client_required = true;
            listen.client_authorities.clone_from(&tls.authorities);
            listen.client_authorities_directory.clone_from(&tls.authorities_directory);
        }
        listen.oldest = match (tls.no_tls10, tls.no_tls11, tls.no_tls12) {
            (_, _, true) => TlsVersion::Tls13,
            (_, true, false) => TlsVersion::Tls12,
            (true, false, false) => TlsVersion::Tls11,
            (false, false, false) => TlsVersion::Tls10,
        };
        listen.ciphers = Some(tls.ciphers.clone().unwrap_or_else(|| CIPHERS_DEFAULT.to_owned()));
        listen.prefer_own_order = tls.prefer_own_order;
        Some(listen)
    }

    /// The same in what a file of this house can say: without Pen's order, without slots that were not set, and with
    /// names that a file may have (`server0`, `list0`).
    #[must_use]
    pub fn to_config(&self) -> Translation {
        let mut config = self.config();
        for list in &mut config.acls {
            list.name = file_name("list", &list.name);
        }
        let mut unsaid = self.unsaid();
        for service in &mut config.services {
            service.servers.retain(|server| !is_unset(server));
            if let Some(direct) = super::direct::translated(self, service) {
                *service = direct;
            } else {
                self.house_rules(service);
            }
            service.clients = service.clients.as_deref().map(|name| file_name("list", name));
            let all = service.servers.iter_mut().chain(&mut service.emergency).chain(&mut service.abuse);
            for server in all {
                server.acl = server.acl.as_deref().map(|name| file_name("list", name));
                server.name = match server.name.as_str() {
                    "-1" => "emergency".to_owned(),
                    "-2" => "abuse".to_owned(),
                    number => format!("server{number}"),
                };
                // Without `weight` Pen's 0 means nothing.
                if server.weight == 0 && self.rules.weight {
                    unsaid.push(format!(
                        "{} has weight 0, which Pen never chooses; it gets 1 here",
                        server.name
                    ));
                }
                server.weight = server.weight.max(1);
            }
        }
        Translation { config, unsaid }
    }

    /// Pen's switches as one of our algorithms.
    fn house_rules(&self, service: &mut Service) {
        let rules = self.rules;
        service.algorithm = match (rules.prio, rules.weight, rules.hash) {
            (true, _, _) => Algorithm::Priority,
            (_, true, _) => Algorithm::LeastConnections,
            (_, _, true) => Algorithm::SourceHash { with_port: rules.round_robin },
            _ => Algorithm::RoundRobin,
        };
        if rules.round_robin {
            service.sticky = None;
        }
    }

    fn unsaid(&self) -> Vec<String> {
        let tls = &self.tls;
        let cases: [(bool, &str); 13] = [
            (
                self.countries.is_some() || self.acls.iter().flatten().any(names_country),
                "the country database: `countries` in the node file names it",
            ),
            (
                self.dsr_if.is_some(),
                "direct server return on a pair: write `vip` instead of `interface` in [service.dsr]",
            ),
            (
                self.dsr_if.is_none() && self.tarpit_acl.is_some(),
                "the tarpit (`tarpit_acl`) belongs to direct server return (`dsr_if`)",
            ),
            (self.log.is_some(), "the request log (`log`, -l): `cygnet` logs events, not requests"),
            (self.web_stats.is_some(), "the HTML statistics (`web_stats`, -w): see `cygnet status`"),
            (
                self.control.is_some(),
                "the control socket (-C) and `control_acl`: `cygnet` has its own API socket",
            ),
            (self.jail.is_some() || self.user.is_some(), "-j and -u: the unit file sandboxes the program"),
            (self.pid_file.is_some(), "the pid file (-p): systemd keeps the process"),
            (self.clients_max > 0, "`clients_max`: the client table has one size for the node"),
            (self.conn_max > 0, "`conn_max` and `pending_max`: connections have one limit for the node"),
            (
                tls.authorities_directory.is_some() && !tls.client_required,
                "-A as a source of the chain: give the chain as a file",
            ),
            (tls.no_tls12, "`no_tlsv1.2` with older protocols left on: TLS 1.3 alone is offered"),
            (tls.no_tls11 && !tls.no_tls10, "`no_tlsv1.1` with TLS 1.0 left on: TLS 1.2 and 1.3 are offered"),
        ];
        let mut said: Vec<_> =
            cases.iter().filter(|(there, _)| *there).map(|(_, what)| (*what).to_owned()).collect();
        if self.servers.iter().any(|slot| slot.host == Host::Unset) {
            said.push("slots without an address are left out; with `hash` they count in Pen".to_owned());
        }
        said
    }
}

fn names_country(entry: &AclEntry) -> bool {
    matches!(entry.who, AclMatch::Country(_))
}

fn is_unset(server: &Server) -> bool {
    server.address.inet() == Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
}

/// Names in files begin with a letter, to be told from numbers.
pub(super) fn file_name(what: &str, name: &str) -> String {
    if name == NOBODY { name.to_owned() } else { format!("{what}{name}") }
}

#[cfg(test)]
mod tests;
