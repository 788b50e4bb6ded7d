use super::*;
use crate::config::model::{FastClose, PenRules, Transport};
use crate::pen::fixture::World;

fn pen(lines: &[&str]) -> Pen {
    let world = World::default();
    let mut pen = Pen::default();
    for line in lines {
        let outcome = pen.command(line, world.around());
        assert!(!outcome.answer.starts_with("error"), "{line}: {}", outcome.answer);
    }
    pen
}

#[test]
fn servers_are_named_by_their_slots_and_empty_slots_keep_their_place() {
    let mut pen =
        pen(&["server 0 address 127.0.0.1 port 80 max 3 hard 4 weight 5 prio 6", "server 2 address /run/x"]);
    pen.emergency = Some(pen.servers[0].clone());
    let service = pen.service();
    let names: Vec<_> = service.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["0", "1", "2"]);
    let first = &service.servers[0];
    assert_eq!((first.max, first.hard, first.weight, first.priority), (3, 4, 5, 6));
    assert_eq!(first.address, Endpoint::Inet("127.0.0.1:80".parse().expect("an address")));
    assert!(is_unset(&service.servers[1]));
    assert_eq!(service.servers[2].address, Endpoint::Unix("/run/x".into()));
    let emergency = service.emergency.expect("an emergency server");
    assert_eq!(ServerId::from_name(&emergency.name), Some(ServerId::Emergency));
    assert_eq!(ServerId::from_name("2"), Some(ServerId::Regular(2)));
}

#[test]
fn defaults_are_pens() {
    let service = Pen::default().service();
    assert_eq!(service.algorithm, Algorithm::Pen(PenRules::default()));
    assert_eq!(service.sticky, Some(Duration::MAX), "clients are remembered as long as there is room");
    assert_eq!(
        (service.connect_timeout, service.blacklist),
        (Duration::from_secs(3), Duration::from_secs(30))
    );
    assert_eq!((service.idle_timeout, service.clients, service.http, service.tls), (None, None, None, None));
    assert_eq!((service.transport, service.fast_close), (Transport::Tcp, FastClose::Off));
}

#[test]
fn times_that_make_no_sense_do_no_harm() {
    let service = pen(&["timeout -3", "blacklist -3", "tracking -1"]).service();
    assert_eq!((service.connect_timeout, service.blacklist), (Duration::from_secs(1), Duration::ZERO));
    assert_eq!(service.sticky, Some(Duration::MAX));
}

#[test]
fn a_list_out_of_range_and_a_negative_limit_let_nobody_pass() {
    let pen = pen(&[
        "acl 3 deny 192.0.2.1",
        "client_acl 3",
        "server 0 address 127.0.0.1 acl 77",
        "server 1 address 127.0.0.1 max -1",
        "server 2 address 127.0.0.1 acl 3",
        "server 3 address 127.0.0.1 acl 4",
    ]);
    let config = pen.config();
    let acls: Vec<_> = config.services[0].servers.iter().map(|server| server.acl.as_deref()).collect();
    assert_eq!(acls, [Some(NOBODY), Some(NOBODY), Some("3"), None]);
    assert_eq!(config.services[0].clients.as_deref(), Some("3"));
    let names: Vec<_> = config.acls.iter().map(|list| list.name.as_str()).collect();
    assert_eq!(names, ["3", NOBODY]);
    assert!(config.acls[1].entries.iter().all(|entry| !entry.permit));
}

#[test]
fn source_wins_over_transparent() {
    assert!(pen(&["transparent"]).service().transparent);
    let service = pen(&["transparent", "source 127.0.0.1"]).service();
    assert!(!service.transparent && service.source.is_some());
}

fn tls(lines: &[&str], required: bool) -> TlsListen {
    let mut pen = pen(lines);
    pen.tls.certificate = Some("/cert".into());
    pen.tls.authorities = Some("/ca".into());
    pen.tls.client_required = required;
    pen.service().tls.expect("TLS")
}

#[test]
fn tls_is_as_wide_as_pens_until_options_narrow_it() {
    let wide = tls(&[], false);
    assert_eq!(
        (wide.oldest, wide.newest, wide.ciphers.as_deref()),
        (TlsVersion::Tls10, None, Some("DEFAULT"))
    );
    assert_eq!((wide.prefer_own_order, wide.client_required, wide.client_authorities), (false, false, None));
    assert_eq!(wide.chain, Some("/ca".into()));
    let recipe = [
        "ssl_option no_sslv2",
        "ssl_option no_sslv3",
        "ssl_option no_tlsv1",
        "ssl_option no_tlsv1.1",
        "ssl_option cipher_server_preference",
        "ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256",
    ];
    let narrow = tls(&recipe, true);
    assert_eq!((narrow.oldest, narrow.prefer_own_order), (TlsVersion::Tls12, true));
    assert_eq!(narrow.ciphers.as_deref(), Some("ECDHE-ECDSA-AES128-GCM-SHA256"));
    assert_eq!((narrow.client_required, narrow.client_authorities), (true, Some("/ca".into())));
    assert_eq!(tls(&["ssl_option no_tlsv1"], false).oldest, TlsVersion::Tls11);
    assert_eq!(tls(&["ssl_option no_tlsv1.2"], false).oldest, TlsVersion::Tls13);
}

#[test]
fn the_translation_has_names_for_files_and_says_what_is_lost() {
    let mut pen = pen(&[
        "acl 3 deny 192.0.2.1",
        "client_acl 3",
        "server 1 address 127.0.0.1 port 80",
        "hash",
        "roundrobin",
        "tarpit_acl 2",
    ]);
    pen.abuse = Some(pen.servers[1].clone());
    let Translation { config, unsaid } = pen.to_config();
    let service = &config.services[0];
    assert_eq!(service.algorithm, Algorithm::SourceHash { with_port: true });
    assert_eq!((service.sticky, service.clients.as_deref()), (None, Some("list3")));
    assert_eq!(config.acls[0].name, "list3");
    let names: Vec<_> =
        service.servers.iter().chain(&service.abuse).map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["server1", "abuse"]);
    assert_eq!(service.servers[0].weight, 1);
    assert!(
        unsaid.iter().any(|what| what.contains("tarpit")) && unsaid.iter().any(|what| what.contains("slots"))
    );
    assert!(Pen::default().to_config().unsaid.is_empty());
}

#[test]
fn direct_server_return_is_translated_with_its_address_its_servers_and_its_tarpit() {
    let pen = pen(&[
        "dsr_if eth0",
        "listen 192.0.2.80:53",
        "acl 2 permit 192.0.2.200",
        "tarpit_acl 2",
        "roundrobin",
        "server 0 address 192.0.2.11 port 99 max 7",
        "server 1 address 2001:db8::1",
    ]);
    let Translation { config, unsaid } = pen.to_config();
    let text = crate::config::to_toml(&config);
    let again = crate::config::parse_cluster(&text, "c").expect("a file that can be read");
    assert_eq!(again, config, "{text}");
    let service = &config.services[0];
    let dsr = service.dsr.as_ref().expect("direct server return");
    assert_eq!((dsr.to_string(), dsr.tarpit.as_deref()), ("192.0.2.80:53".to_owned(), Some("list2")));
    assert_eq!(service.algorithm, Algorithm::SourceHash { with_port: true });
    let servers: Vec<String> = service.servers.iter().map(|server| server.address.to_string()).collect();
    assert_eq!(servers, ["192.0.2.11:53"], "frames go on to the port that clients ask");
    assert!(unsaid.iter().any(|what| what.contains("`vip` instead of `interface`")), "{unsaid:?}");
}
