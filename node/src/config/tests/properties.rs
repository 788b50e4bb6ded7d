use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cygnet_ha::vip::transfer::{AtDeadline, Patience};
use cygnet_ha::vip::{Mode, Protocol};
use cygnet_netlink::wire::vrrp::ChecksumForm;
use proptest::prelude::*;

use super::super::diff::diff;
use super::super::model::{
    Acl, AclEntry, AclMatch, Algorithm, Check, CheckKind, ClusterConfig, Direct, Endpoint, Forwarded, Http,
    HttpCheck, Place, Route, Server, Service, Talk, TlsConnect, TlsListen, TlsVersion, Transport, Vip,
};
use super::super::service::{ALGORITHMS, FAST_CLOSES};
use super::*;

prop_compose! {
    fn a_vip(index: u8)(
        centis in 1u64..4096, preempt: bool, hold: bool, more in 0u8..3,
    ) -> Vip {
        Vip {
            name: format!("v{index}"),
            addresses: (2..=2 + more).map(|third| Ipv4Addr::new(192, 0, third, index).into()).collect(),
            protocol: Protocol::Vrrp3,
            id: index,
            mode: if hold { Mode::Hold } else { Mode::Watch },
            interval: Duration::from_millis(centis * 10).min(Duration::from_millis(40_950)),
            preempt,
            preempt_delay: Duration::from_secs(if preempt { centis % 1000 } else { 0 }),
            patience: Patience {
                deadline: (centis % 3 > 0).then(|| Duration::from_secs(centis)),
                at_deadline: if centis % 3 > 1 { AtDeadline::Keep } else { AtDeadline::Close },
            },
            password: None,
            peers: (0..more).map(|last| Ipv4Addr::new(192, 0, 9, last + 1).into()).collect(),
            min_ttl: if more == 2 { 254 } else { 1 },
            sync_group: None,
            checksum: [None, Some(ChecksumForm::Message), Some(ChecksumForm::PseudoHeader)][usize::from(more)],
        }
    }
}

fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>> {
    proptest::option::of(strategy)
}

fn a_path() -> impl Strategy<Value = PathBuf> {
    "/[a-z \"\\\\ü.]{1,12}".prop_map(PathBuf::from)
}

fn an_entry() -> impl Strategy<Value = AclEntry> {
    let v4 = (any::<u32>(), any::<u32>(), 0u8..40).prop_map(|(address, mask, prefix)| {
        let mask = Ipv4Addr::from(u32::MAX.checked_shl(u32::from(prefix)).unwrap_or(mask));
        AclMatch::V4 { address: Ipv4Addr::from(address) & mask, mask }
    });
    let v6 = (any::<u128>(), 0u8..=128).prop_map(|(address, prefix)| {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        AclMatch::V6 { address: Ipv6Addr::from(address & mask), prefix }
    });
    let country = "[A-Z]{2}".prop_map(|code| AclMatch::Country([code.as_bytes()[0], code.as_bytes()[1]]));
    (any::<bool>(), prop_oneof![v4, v6, country]).prop_map(|(permit, who)| AclEntry { permit, who })
}

fn acls() -> impl Strategy<Value = Vec<Acl>> {
    proptest::collection::vec(proptest::collection::vec(an_entry(), 1..6), 0..3).prop_map(|lists| {
        let acl = |(n, entries)| Acl { name: format!("l{n}"), entries };
        lists.into_iter().enumerate().map(acl).collect()
    })
}

fn a_version() -> impl Strategy<Value = TlsVersion> {
    prop_oneof![
        Just(TlsVersion::Tls10),
        Just(TlsVersion::Tls11),
        Just(TlsVersion::Tls12),
        Just(TlsVersion::Tls13)
    ]
}

prop_compose! {
    fn a_tls()(
        certificate in a_path(),
        files in proptest::collection::vec(maybe(a_path()), 6),
        [required, prefer_own_order] in any::<[bool; 2]>(),
        oldest in a_version(), newest in maybe(a_version()),
        ciphers in maybe("[A-Z+:!-]{1,20}"), alpn in proptest::collection::vec("[a-z/0-9.]{1,9}", 0..3),
    ) -> TlsListen {
        let mut files = files.into_iter();
        let mut file = || files.next().flatten();
        let (key, chain, names, ocsp) = (file(), file(), file(), file());
        let (client_authorities, client_authorities_directory) = (file(), file());
        let client_required = required && client_authorities.is_some();
        let newest = newest.filter(|newest| *newest >= oldest);
        TlsListen {
            certificate, key, chain, names, ocsp, client_authorities, client_authorities_directory, client_required,
            oldest, newest, ciphers, prefer_own_order, alpn,
        }
    }
}

prop_compose! {
    fn a_http()(
        forwarded in prop_oneof![
            Just(Forwarded::Keep), Just(Forwarded::Replace), Just(Forwarded::Append), Just(Forwarded::IfAbsent)
        ],
        hsts in maybe(0u64..99_999_999), lenient: bool,
    ) -> Http {
        Http { forwarded, hsts: hsts.map(|age| format!("max-age={age}; includeSubDomains")), lenient }
    }
}

fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..9),
        "(hex:)?[a-z\r\n\t\"\\\\ü]{0,9}".prop_map(String::into_bytes),
    ]
}

prop_compose! {
    fn a_check()(
        type_of in 0u8..3, send in some_bytes(), expect in some_bytes(), head: bool, path in "/[a-z?=%]{0,9}",
        host in maybe("[a-z]{1,9}\\.test"), first in 200u16..400, interval_ms in 100u64..60_000, fast in any::<bool>(),
        timeout in any::<bool>(), [rise, fall] in [1u32..100, 1u32..100],
    ) -> Check {
        let statuses = format!("{first},{}-599", first + 5).parse().unwrap_or_default();
        let talk = Talk { send, expect };
        let kind = match type_of {
            0 => CheckKind::Tcp(talk),
            1 => CheckKind::Http(HttpCheck { head, path, host, expect: statuses }),
            _ => CheckKind::Udp(Talk { send: [b"?", talk.send.as_slice()].concat(), expect: talk.expect }),
        };
        let interval = Duration::from_millis(interval_ms);
        Check {
            kind, interval, fast_interval: fast.then(|| Duration::from_millis(100.min(interval_ms))),
            timeout: if timeout { Duration::from_millis(10) } else { Duration::from_secs(1).min(interval) }, rise, fall,
        }
    }
}

fn tls_connect() -> impl Strategy<Value = TlsConnect> {
    (maybe("[a-z]{1,9}\\.test"), maybe(a_path()), any::<bool>(), maybe(a_path())).prop_map(
        |(name, authorities, insecure, certificate)| {
            let insecure = insecure && authorities.is_none();
            TlsConnect { name, authorities, insecure, certificate }
        },
    )
}

fn an_endpoint(service: u8, server: u8) -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        4 => (1u16..).prop_map(move |port| SocketAddr::new(Ipv4Addr::new(10, 0, service, server).into(), port).into()),
        1 => Just(Endpoint::Unix(format!("/run/s{service}.{server}").into())),
    ]
}

prop_compose! {
    fn a_server(service: u8, n: u8)(
        address in an_endpoint(service, n), weight in 1u16..=256, priority: i32, max in 0u32..=1_000_000,
        hard in maybe(1u32..1000), acl in maybe(Just("l0".to_owned())), tls in maybe(tls_connect()),
    ) -> Server {
        let hard = hard.filter(|_| max > 0 && max < 900_000).map_or(0, |more| max + more);
        Server { weight, priority, max, hard, acl, tls, ..Server::new(format!("s{n}"), address) }
    }
}

prop_compose! {
    fn a_spare(service: u8, name: &'static str)(
        address in an_endpoint(service, 99), max in 0u32..9, tls in maybe(tls_connect()),
    ) -> Server {
        Server { max, tls, ..Server::new(name, address) }
    }
}

prop_compose! {
    fn times_and_rules(index: u8)(
        algorithm in proptest::sample::select(ALGORITHMS.map(|(_, algorithm)| algorithm).to_vec()),
        sticky in maybe(prop_oneof![4 => seconds(1..86_400), 1 => Just(Duration::MAX)]),
        connect_ms in 1u64..3_600_000, blacklist in seconds(0..86_400), idle_timeout in maybe(seconds(1..86_400)),
        stubborn: bool, clients in maybe(Just("l0".to_owned())),
        fast_close in proptest::sample::select(FAST_CLOSES.map(|(_, whose)| whose).to_vec()),
        [keepalive, dummy] in any::<[bool; 2]>(), idlers in 0u32..9,
    ) -> Service {
        Service {
            algorithm, sticky, connect_timeout: Duration::from_millis(connect_ms), blacklist, idle_timeout,
            stubborn, clients, fast_close, keepalive, dummy, idlers, ..Service::new(format!("s.{index}"))
        }
    }
}

prop_compose! {
    fn a_service(index: u8)(
        base in times_and_rules(index), port in 1u16.., unix: bool,
        servers in (1u8..5).prop_flat_map(move |count| (1..=count).map(|n| a_server(index, n)).collect::<Vec<_>>()),
        emergency in maybe(a_spare(index, "emergency")), abuse in maybe(a_spare(index, "abuse")),
        http in maybe(a_http()), tls in maybe(a_tls()),
        (check, check_port) in (maybe(a_check()), maybe(1u16..)), udp in proptest::bool::weighted(0.2), transparent: bool, source in maybe(Just(Ipv4Addr::new(10, 9, 9, 9))),
    ) -> Service {
        let mut listen = vec![SocketAddr::new(Ipv4Addr::new(198, 51, 100, index).into(), port).into()];
        listen.extend((unix && !udp).then(|| Endpoint::Unix(format!("/run/l{index}").into())));
        let abuse = abuse.filter(|_| base.clients.is_some());
        let mut service = Service { listen, servers, emergency, abuse, tls, ..base };
        service.http = http.map(|http| Http { hsts: http.hsts.filter(|_| service.tls.is_some()), ..http });
        if udp {
            as_datagrams(&mut service);
        }
        service.check = check.filter(|check| udp || !matches!(check.kind, CheckKind::Udp(_)));
        let first = &mut service.servers[0];
        first.check_port = check_port.filter(|_| service.check.is_some() && first.address.inet().is_some());
        let spares = service.emergency.iter().chain(&service.abuse);
        let has_unix = service.servers.iter().chain(spares).any(|server| server.address.inet().is_none());
        service.source = source.map(Into::into);
        service.transparent = transparent && source.is_none() && !has_unix && service.listen.len() == 1;
        service
    }
}

prop_compose! {
    fn a_direct(index: u8)(
        port in maybe(1u16..), of_vip: bool, tarpit in maybe(Just("l0".to_owned())),
    ) -> Direct {
        let place = if of_vip { Place::Vip("vip.1".to_owned()) } else { Place::Interface("eth0".to_owned()) };
        Direct { address: Ipv4Addr::new(198, 51, 101, index), port, place, tarpit }
    }
}

/// Leaves what direct server return can have.
fn as_frames(service: &mut Service, direct: Direct) {
    let transport = service.transport;
    let idle_timeout =
        Some(if transport == Transport::Udp { DEFAULT_UDP_IDLE_TIMEOUT } else { DEFAULT_IDLE_TIMEOUT });
    let servers = (1u8..).zip(&service.servers).map(|(n, server)| {
        let address = SocketAddr::from(([10, 1, 1, n], direct.port.unwrap_or(7)));
        Server { weight: server.weight, ..Server::new(&server.name, address) }
    });
    let algorithm = match service.algorithm {
        hash @ Algorithm::SourceHash { .. } => hash,
        _ => Algorithm::SourceHash { with_port: false },
    };
    let (servers, blacklist) = (servers.collect(), service.blacklist);
    let name = std::mem::take(&mut service.name);
    *service = Service {
        transport,
        idle_timeout,
        algorithm,
        blacklist,
        servers,
        dsr: Some(direct),
        ..Service::new(name)
    };
}

/// Takes away what datagrams cannot have.
fn as_datagrams(service: &mut Service) {
    let plain = Service::new("");
    service.transport = Transport::Udp;
    (service.http, service.tls) = (None, None);
    (service.fast_close, service.keepalive) = (plain.fast_close, plain.keepalive);
    (service.dummy, service.idlers) = (plain.dummy, plain.idlers);
    let Service { servers, emergency, abuse, .. } = service;
    for (n, server) in (1u8..).zip(servers.iter_mut().chain(emergency).chain(abuse)) {
        server.tls = None;
        server.address = SocketAddr::from(([10, 1, 0, n], 53)).into();
    }
}

prop_compose! {
    fn a_config()(
        vips in (0u8..4).prop_flat_map(|count| (1..=count).map(a_vip).collect::<Vec<_>>()),
        services in (0u8..4).prop_flat_map(|count| (1..=count).map(a_service).collect::<Vec<_>>()),
        acls in acls(), routed: bool, direct in maybe(a_direct(9)),
    ) -> ClusterConfig {
        let mut config = ClusterConfig { vips, services, acls };
        let has_list = !config.acls.is_empty();
        if let [first, second, ..] = config.vips.as_mut_slice()
            && routed && first.mode == Mode::Hold && second.mode == Mode::Hold
        {
            (second.preempt, second.preempt_delay) = (first.preempt, first.preempt_delay);
            (first.sync_group, second.sync_group) = (Some("edge".to_owned()), Some("edge".to_owned()));
        }
        if let (Some(mut direct), Some(last)) = (direct, config.services.get_mut(2)) {
            direct.tarpit = direct.tarpit.filter(|_| has_list);
            if let Place::Vip(name) = &mut direct.place {
                match config.vips.first() {
                    Some(vip) => name.clone_from(&vip.name),
                    None => direct.place = Place::Interface("eth1".to_owned()),
                }
            }
            as_frames(last, direct);
        }
        for service in &mut config.services {
            service.clients = service.clients.take().filter(|_| has_list);
            service.abuse = service.abuse.take().filter(|_| has_list);
            service.servers.iter_mut().for_each(|server| server.acl = server.acl.take().filter(|_| has_list));
        }
        if let [first, second, ..] = config.services.as_mut_slice()
            && routed && first.transport == Transport::Tcp && second.transport == Transport::Tcp
        {
            let names = vec!["www.example.org".to_owned(), "*.x.test".to_owned()];
            first.routes = vec![Route { names, service: second.name.clone() }];
            second.listen.clear();
        }
        config
    }
}

/// Text that looks enough like a configuration to get past the TOML parser often.
fn nearly_a_configuration() -> impl Strategy<Value = String> {
    let pieces = proptest::sample::select(vec![
        "[[vip]]\n",
        "[[service]]\n",
        "[[service.server]]\n",
        "[service.emergency]\n",
        "[service.tls]\n",
        "[service.http]\n",
        "[service.check]\n",
        "[service.dsr]\n",
        "type",
        "expect",
        "\"hex:0\"",
        "[[service.route]]\n",
        "[[acl]]\n",
        "entries",
        "names",
        "service",
        "clients",
        "transport",
        "certificate",
        "\"permit 10.0.0.0/8\"",
        "\"deny 10.0.0.0 255.0.0\"",
        "\"unix:/x\"",
        "\"udp\"",
        "[cluster]\n",
        "[[cluster.member]]\n",
        "[vip.www]\n",
        "[vip]\n",
        "name",
        "address",
        "listen",
        "id",
        "interval",
        "source",
        "server",
        "member",
        " = ",
        "= [",
        "]",
        "{",
        "}",
        ",",
        "\n",
        "\"192.0.2.1:80\"",
        "\"::1\"",
        "\"1s\"",
        "\"999999999999y\"",
        "\"\"",
        "0",
        "-1",
        "1e9",
        "true",
        "ü",
        "'",
        "\"",
        "\\u0000",
        "1979-05-27",
        "0x10",
        "1_0",
    ]);
    proptest::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in any::<String>()) {
        let _ = parse_node(&text, "n").map_err(|problems| printed(&problems));
        let _ = parse_cluster(&text, "c").map_err(|problems| printed(&problems));
    }

    #[test]
    fn no_near_configuration_makes_the_parsers_panic(text in nearly_a_configuration()) {
        for problems in [parse_node(&text, "n").err(), parse_cluster(&text, "c").err()].into_iter().flatten() {
            prop_assert!(!problems.is_empty() && problems.len() <= PROBLEMS_MAX);
        }
    }

    #[test]
    fn any_key_is_looked_up_in_any_text(text in nearly_a_configuration(), key in "[a-z.\\[\\]ü]{0,30}") {
        let _ = file_kind(&text);
        let (file, what) = ("f".to_owned(), String::new());
        let mut problem = Problem { file, line: 0, column: 0, key, remedy: what.clone(), what };
        locate(&mut problem, "f", "g", &text);
        prop_assert!(problem.line <= text.lines().count() + 1);
    }

    #[test]
    fn a_printed_model_reads_back_equal(config in a_config()) {
        let read = parse_cluster(&to_toml(&config), "c").map_err(|problems| TestCaseError::fail(printed(&problems)))?;
        prop_assert_eq!(&read, &config);
        prop_assert!(diff(&read, &config).is_empty());
    }

    #[test]
    fn different_models_have_a_difference(one in a_config(), other in a_config()) {
        prop_assert_eq!(diff(&one, &other).is_empty(), one == other);
    }
}

#[test]
fn a_text_that_nests_without_end_is_refused_and_not_a_crash() {
    let fill = |piece: &str, end: &str| piece.repeat((TEXT_BYTES_MAX - 16) / piece.len()) + end;
    let texts = [
        fill("a.", "a = 1"),
        format!("[{}]", fill("a.", "a")),
        format!("[[{}]]", fill("a.", "a")),
        format!("a = {}", fill("[", "")),
        format!("a = {}", fill("{a=", "")),
        format!("a = {{ {} }}", fill("a.", "a = 1")),
        fill("a=1\n", ""),
        fill("[a]\n", ""),
        fill("[[vip]]\n", ""),
        fill("\"", ""),
        (0..20_000).map(|n| format!("k{n}={n}\n")).collect(),
    ];
    for text in texts {
        assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
        let start = std::time::Instant::now();
        let shown: String = text.chars().take(20).collect();
        for problems in [parse_node(&text, "n").unwrap_err(), parse_cluster(&text, "c").unwrap_err()] {
            assert!(!problems.is_empty() && problems.len() <= PROBLEMS_MAX, "{shown}");
        }
        let _ = file_kind(&text);
        assert!(start.elapsed() < Duration::from_secs(10), "{shown} took {:?}", start.elapsed());
    }
}
