//! What a service can be and cannot be, beside the plain one of the sample.

use super::super::diff::diff;
use super::super::model::{Algorithm, ClusterConfig};
use super::*;

/// Each: what stands between the sample's `listen` and its server (line 10 on), what follows the server's address (the
/// lines after it), and the whole message.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "transport = \"sctp\"",
        "",
        "c:10:13: service[web].transport: \"sctp\" is unknown; write one of \"tcp\", \"udp\"",
    ),
    (
        "clients = \"offices\"",
        "[[acl]]\nname = \"office\"\nentries = \"permit 10.0.0.0/8\"",
        "c:10:11: service[web].clients: there is no access list offices; did you mean \"office\"?",
    ),
    (
        "",
        "acl = \"x\"",
        "c:14:7: service[web].server[s1].acl: there is no access list x; add it as [[acl]] with name and entries",
    ),
    (
        "sticky = \"for ever\"",
        "",
        "c:10:10: service[web].sticky: \"for ever\" is not a duration; write a number with its unit, such as \"500ms\", \"3s\", \"30m\" or \"1h\"",
    ),
    (
        "fast_close = \"upp\"",
        "",
        "c:10:14: service[web].fast_close: \"upp\" is unknown; did you mean \"up\"?",
    ),
    (
        "",
        "max = 5\nhard = 5",
        "c:15:8: service[web].server[s1].hard: 5 is no more than the limit for all (5); it is the limit for remembered clients: write more than `max`, or remove it",
    ),
    (
        "",
        "[service.abuse]\naddress = \"10.1.0.9:80\"",
        "c:14:1: service[web].abuse: no client is ever denied; name an access list with `clients`, or remove the server",
    ),
    (
        "",
        "[service.emergency]\naddress = \"192.0.2.100:80\"",
        "c:15:11: service[web].emergency.address: 192.0.2.100:80 is where service web listens: connections would go round in a circle; write the address of the server itself",
    ),
    (
        "",
        "[service.emergency]\nname = \"s1\"\naddress = \"10.1.0.9:80\"",
        "c:15:8: service[web].emergency.name: s1 is taken by the server s1 above; give each its own name",
    ),
    (
        "",
        "[service.emergency]\nweight = 2\naddress = \"10.1.0.9:80\"",
        "c:15:1: service[web].emergency.weight: unknown key; known here: name, address, max, check_port, tls",
    ),
    (
        "",
        "[service.check]\ntype = \"htp\"",
        "c:15:8: service[web].check.type: \"htp\" is unknown; did you mean \"http\"?",
    ),
    (
        "",
        "[service.check]\npath = \"/health\"",
        "c:15:8: service[web].check.path: a check of type \"tcp\" has no such thing; remove it, or write type = \"http\"",
    ),
    (
        "",
        "[service.check]\ntype = \"http\"\nexpect = \"20x\"",
        "c:16:10: service[web].check.expect: \"20x\" is no list of statuses: it has an element that is no status from 200 to 599, nor a range of them; write statuses from 200 to 599, such as \"200-399\" or \"200-299,401\"",
    ),
    (
        "",
        "[service.check]\ntype = \"http\"\npath = \"health\"",
        "c:16:8: service[web].check.path: \"health\" is not the path of a request; write it from `/` on, such as \"/health\", what is not ASCII as %XX",
    ),
    (
        "",
        "[service.check]\nsend = \"hex:0\"",
        "c:15:8: service[web].check.send: \"hex:0\" is not made of pairs of hexadecimal digits; write a text such as \"PING\\r\\n\", or bytes as \"hex:0a1b\"",
    ),
    (
        "",
        "[service.check]\ninterval = \"1s\"\ntimeout = \"2s\"",
        "c:16:11: service[web].check.timeout: a check may take longer than the time to the next one; write no more than `interval`",
    ),
    (
        "",
        "[service.check]\nfall = 0",
        "c:15:8: service[web].check.fall: number of checks 0 is out of range; write a whole number from 1 to 100",
    ),
    (
        "",
        "[service.check]\ntype = \"udp\"\nsend = \"?\"",
        "c:14:1: service[web].check: the service carries no datagrams; write type = \"tcp\" or type = \"http\"",
    ),
    (
        "",
        "[service.check]\ntype = \"tls\"",
        "c:14:1: service[web].check: nobody says whose certificate server s1 must have; add [service.server.tls], or write type = \"tcp\"",
    ),
    (
        "transport = \"udp\"",
        "[service.check]",
        "c:14:1: service[web].check: nobody answers a datagram that was never sent; add send = \"...\", or write type = \"tcp\"",
    ),
    (
        "",
        "check_port = 81",
        "c:14:14: service[web].server[s1].check_port: the service has no health check; add [service.check], or remove it",
    ),
    (
        "transparent = true\nsource = \"10.0.0.9\"",
        "",
        "c:10:15: service[web].transparent: connections cannot start from two addresses; remove `transparent` or `source`",
    ),
    (
        "transparent = true",
        "[[service.server]]\nname = \"s2\"\naddress = \"unix:/run/s2\"",
        "c:10:15: service[web].transparent: a Unix socket has no address that could be passed on; remove it, or give the socket a service of its own",
    ),
    (
        "source = \"fd00::9\"",
        "",
        "c:10:10: service[web].source: fd00::9 cannot reach server s1 (10.1.0.11:8080); give the servers of the other family a service of their own, or remove `source`",
    ),
    (
        "",
        "[service.http]\nhsts = \"max-age=1\"",
        "c:15:8: service[web].http.hsts: clients believe this header only when it comes over TLS; add [service.tls], or remove it",
    ),
    (
        "",
        "[service.http]\nhsts = \"max-age=\"\n[service.tls]\ncertificate = \"/c\"",
        "c:15:8: service[web].http.hsts: \"max-age=\" does not say for how many seconds; write hsts = \"max-age=63072000\"",
    ),
    (
        "",
        "[service.http]\nforwarded = \"add\"",
        "c:15:13: service[web].http.forwarded: \"add\" is unknown; write one of \"replace\", \"append\", \"if-absent\", \"keep\"",
    ),
    (
        "http = true",
        "",
        "c:10:8: service[web].http: expected a table, not a boolean; write it as [service.http]",
    ),
    (
        "",
        "[service.tls]\nkey = \"/k\"",
        "c:14:1: service[web].tls.certificate: missing; add `certificate = \"/etc/cygnet/web.crt\"`",
    ),
    (
        "",
        "[service.tls]\ncertificate = \"web.crt\"",
        "c:15:15: service[web].tls.certificate: \"web.crt\" is not an absolute path; write it from `/` on: the working directory of a daemon is nobody's guess",
    ),
    (
        "",
        "[service.tls]\ncertificate = \"/c\"\nclient_required = true",
        "c:16:19: service[web].tls.client_required: no authority of client certificates is named, so no client could pass; add client_authorities = \"/etc/cygnet/clients.crt\"",
    ),
    (
        "",
        "[service.tls]\ncertificate = \"/c\"\noldest = \"1.3\"\nnewest = \"1.2\"",
        "c:17:10: service[web].tls.newest: the newest protocol is older than the oldest; write \"1.3\", or remove it",
    ),
    (
        "",
        "[service.tls]\ncertificate = \"/c\"\noldest = \"1.4\"",
        "c:16:10: service[web].tls.oldest: \"1.4\" is unknown; did you mean \"1.2\"?",
    ),
    (
        "",
        "[service.tls]\ncertificate = \"/c\"\nciphers = \"a b\"",
        "c:16:11: service[web].tls.ciphers: \"a b\" is not a list of ciphers; write a list in OpenSSL's words, such as \"ECDHE+AESGCM:ECDHE+CHACHA20\"",
    ),
    (
        "",
        "[service.tls]\ncertificate = \"/c\"\nalpn = [\"h2\", \"\"]",
        "c:16:15: service[web].tls.alpn: not the name of a protocol; write alpn = [\"h2\", \"http/1.1\"]",
    ),
    (
        "",
        "[service.server.tls]\nname = \"-a b\"",
        "c:15:8: service[web].server[s1].tls.name: \"-a b\" is not a host name; write \"www.example.org\", names beyond ASCII in their xn-- form",
    ),
    (
        "",
        "[service.server.tls]\ninsecure = true\nauthorities = \"/a\"",
        "c:15:12: service[web].server[s1].tls.insecure: authorities are named, and any certificate is taken; remove one of the two",
    ),
    (
        "",
        "[[service.route]]\nnames = [\"*.*.org\"]\nservice = \"web\"",
        "c:15:10: service[web].route[web].names: \"*.*.org\" is not a host name; write \"www.example.org\", names beyond ASCII in their xn-- form, and `*.` only at the front\n\
         c:16:11: service[web].route[web].service: the service routes to itself; name another service, or remove the route",
    ),
    (
        "",
        "[[service.route]]\nnames = []\nservice = \"webb\"",
        "c:15:9: service[web].route[webb].names: 0 names, not 1 to 256; write names = [\"www.example.org\", \"*.example.org\"]\n\
         c:16:11: service[web].route[webb].service: there is no service webb; did you mean \"web\"?",
    ),
    (
        "",
        "[[service.route]]\nnames = [\"a\"]\nservice = \"b\"\n[[service]]\nname = \"b\"\n[[service.server]]\nname = \"s\"\naddress = \"10.1.1.1:1\"\n[[service.route]]\nnames = [\"b\"]\nservice = \"web\"",
        "c:16:11: service[web].route[b].service: service b has routes itself, and could lead round in a circle; route to the last service at once\n\
         c:24:11: service[b].route[web].service: service web has routes itself, and could lead round in a circle; route to the last service at once",
    ),
    (
        "transport = \"udp\"\nkeepalive = true\nfast_close = \"up\"",
        "[service.tls]\ncertificate = \"/c\"",
        "c:11:13: service[web].keepalive: datagrams have no such thing; remove it, or write transport = \"tcp\"\n\
         c:12:14: service[web].fast_close: datagrams have no such thing; remove it, or write transport = \"tcp\"\n\
         c:16:1: service[web].tls: datagrams have no such thing; remove it, or write transport = \"tcp\"",
    ),
    (
        "",
        "[[acl]]\nname = \"a\"\nentries = [\"permit 10.0.0.0\", \"allow x\", \"deny 10.0.0.1/8\", \"deny 10.0.0.1 255.0.255.0\", \"deny fd00::1/8\", \"deny country Q\", 5]",
        "c:16:31: acl[a].entries: \"allow x\" is not an entry; write \"permit 10.0.0.0/8\", \"deny 2001:db8::/32\", \"permit 10.0.0.0 255.0.0.255\" or \"deny country XX\"\n\
         c:16:42: acl[a].entries: \"deny 10.0.0.1/8\" has bits outside its mask, and would fit nobody; write 10.0.0.0/8\n\
         c:16:61: acl[a].entries: \"deny 10.0.0.1 255.0.255.0\" has bits outside its mask, and would fit nobody; write 10.0.0.0 255.0.255.0\n\
         c:16:90: acl[a].entries: \"deny fd00::1/8\" has bits outside its mask, and would fit nobody; write fd00::/8\n\
         c:16:108: acl[a].entries: \"deny country Q\" is not an entry; write \"permit 10.0.0.0/8\", \"deny 2001:db8::/32\", \"permit 10.0.0.0 255.0.0.255\" or \"deny country XX\"\n\
         c:16:126: acl[a].entries: an entry is not a string; write \"permit 10.0.0.0/8\", \"deny 2001:db8::/32\", \"permit 10.0.0.0 255.0.0.255\" or \"deny country XX\"",
    ),
    (
        "",
        "[[acl]]\nname = \"a\"",
        "c:14:1: acl[a].entries: the list is empty; add entries = [\"permit 10.0.0.0/8\"]; who is on no entry is treated unlike the last one",
    ),
];

/// The sample with lines before and after the server's.
fn sample(before: &str, after: &str) -> String {
    let before = if before.is_empty() { "#" } else { before };
    format!("{}{after}\n", with(CLUSTER, "[[service.server]]", &format!("{before}\n[[service.server]]")))
}

#[test]
fn each_wrong_service_is_named_with_line_column_key_and_remedy() {
    for (before, after, expected) in WRONG {
        let problems = parse_cluster(&sample(before, after), "c").map(|_| ()).unwrap_err();
        assert_eq!(printed(&problems), *expected, "for {before}\n{after}");
    }
}

#[test]
fn a_unix_socket_is_a_path_with_or_without_a_word_before_it_and_belongs_to_one_service() {
    let listen = |place: &str| with(CLUSTER, "\"192.0.2.100:80\"", place);
    let cluster = parse_cluster(&listen("\"unix:/run/a\", \"/run/b\""), "c").unwrap();
    let places: Vec<String> = cluster.services[0].listen.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["/run/a", "/run/b"]);
    let problems = parse_cluster(&listen("\"/run/a\", \"unix:/run/a\""), "c").unwrap_err();
    assert_eq!(
        printed(&problems),
        "c:9:21: service[web].listen: this service already listens on /run/a; remove one of the two"
    );
    let problems = parse_cluster(&listen("\"unix:run/a\""), "c").unwrap_err();
    assert!(printed(&problems).contains("\"run/a\" is not an absolute path"));
    let problems = parse_cluster(&listen(&format!("\"/{}\"", "a".repeat(107))), "c").unwrap_err();
    assert!(printed(&problems).contains("the path has 108 bytes, and 107 is the limit"));
    let circle = with(&listen("\"/run/a\""), "10.1.0.11:8080", "/run/a");
    assert!(printed(&parse_cluster(&circle, "c").unwrap_err()).contains("round in a circle"));
}

#[test]
fn connections_and_datagrams_share_a_port() {
    let dns = "[[service]]\nname = \"dns\"\ntransport = \"udp\"\nlisten = [\"192.0.2.100:80\"]\n\
               [[service.server]]\nname = \"s1\"\naddress = \"10.1.0.11:8080\"\n";
    let cluster = parse_cluster(&format!("{CLUSTER}{dns}"), "c").unwrap();
    assert_eq!(cluster.services[1].idle_timeout, Some(DEFAULT_UDP_IDLE_TIMEOUT));
}

#[test]
fn a_service_without_servers_or_listeners_is_one_that_needs_none() {
    let dummy = "[[service]]\nname = \"d\"\nlisten = [\"192.0.2.100:81\"]\ndummy = true\n";
    assert!(parse_cluster(dummy, "c").unwrap().services[0].dummy);
    let text = format!(
        "{CLUSTER}[[service.route]]\nnames = [\"x.test\"]\nservice = \"x\"\n[[service]]\nname = \"x\"\n\
                        [[service.server]]\nname = \"s1\"\naddress = \"10.1.0.12:8080\"\n"
    );
    let cluster = parse_cluster(&text, "c").unwrap();
    assert_eq!(cluster.services[1].listen, []);
    assert_eq!(cluster.services[0].routes[0].service, "x");
}

#[test]
fn faults_elsewhere_make_no_names_unknown() {
    let text = sample("clients = \"l\"", "[[acl]]\nname = \"l\"\nentries = [\"x\"]");
    let problems = parse_cluster(&text, "c").unwrap_err();
    assert_eq!(problems.len(), 1, "{}", printed(&problems));
}

/// Each: what stands in the table `[service.dsr]` (line 4 on), what follows it, and the whole message.
const WRONG_DIRECT: &[(&str, &str, &str)] = &[
    (
        "address = \"192.0.2.80\"",
        "",
        "c:3:1: service[dns].dsr.interface: nothing says which node answers for the address; write vip = \"www\" for the holder of that virtual address, or, on a node alone, interface = \"eth0\"",
    ),
    (
        "address = \"2001:db8::80\"\nvip = \"www\"",
        "",
        "c:4:11: service[dns].dsr.address: \"2001:db8::80\" is an IPv6 address, and direct server return goes by ARP; write an IPv4 address; IPv6 wants a service with `listen`",
    ),
    (
        "address = \"192.0.2.80\"\nvip = \"ww\"",
        "",
        "c:5:7: service[dns].dsr.vip: there is no vip ww; did you mean \"www\"?",
    ),
    (
        "address = \"192.0.2.80\"\nvip = \"www\"\ninterface = \"eth0\"",
        "",
        "c:6:13: service[dns].dsr.interface: the vip has an interface already; write vip = \"www\" for the holder of that virtual address, or, on a node alone, interface = \"eth0\"",
    ),
    (
        "address = \"192.0.2.100\"\nvip = \"www\"",
        "",
        "c:4:11: service[dns].dsr.address: 192.0.2.100 is put on an interface by vip www; direct server return wants an address that is on no interface of a balancer",
    ),
    (
        "address = \"192.0.2.80\"\nvip = \"www\"\ntarpit = \"pit\"",
        "",
        "c:6:10: service[dns].dsr.tarpit: there is no access list pit; add it as [[acl]] with name and entries",
    ),
    (
        "address = \"192.0.2.80\"\nvip = \"www\"\nport = 54",
        "",
        "c:9:11: service[dns].server[s1].address: frames go on as they are, to port 54, not to 53; write port 54; `check_port` is for another one of health checks",
    ),
    (
        "address = \"10.1.0.11\"\nvip = \"www\"",
        "",
        "c:4:11: service[dns].dsr.address: 10.1.0.11 is a server's own address; direct server return wants an address that is on no interface of a balancer\nc:8:11: service[dns].server[s1].address: that is the service's address, which every server has; write the server's own address, by which ARP finds it",
    ),
    (
        "address = \"192.0.2.80\"\nvip = \"www\"",
        "max = 5",
        "c:9:7: service[dns].server[s1].max: with direct server return this node has no connections to the server; remove it",
    ),
    (
        "address = \"192.0.2.80\"\nvip = \"www\"",
        "[service.http]",
        "c:9:1: service[dns].http: with direct server return this node has frames, not connections; remove it, or remove [service.dsr]",
    ),
    (
        "address = \"192.0.2.80\"\nvip = \"www\"",
        "[service.emergency]\naddress = \"10.1.0.12:53\"",
        "c:9:1: service[dns].emergency: with direct server return this node has frames, not connections; remove it, or remove [service.dsr]",
    ),
];

fn direct(inside: &str, after: &str) -> String {
    format!(
        "[[service]]\nname = \"dns\"\n[service.dsr]\n{inside}\n[[service.server]]\nname = \"s1\"\n\
         address = \"10.1.0.11:53\"\n{after}\n{CLUSTER}"
    )
}

#[test]
fn each_contradiction_of_direct_server_return_is_named() {
    for (inside, after, expected) in WRONG_DIRECT {
        let problems = parse_cluster(&direct(inside, after), "c").map(|_| ()).unwrap_err();
        assert_eq!(printed(&problems), *expected, "for {inside}\n{after}");
    }
}

#[test]
fn direct_server_return_shares_its_address_only_with_another_port() {
    let one = direct("address = \"192.0.2.80\"\nvip = \"www\"\nport = 53", "");
    let two = |port: u16, place: &str| {
        format!(
            "{one}[[service]]\nname = \"two\"\n[service.dsr]\naddress = \"192.0.2.80\"\n{place}\nport = {port}\n\
             [[service.server]]\nname = \"s1\"\naddress = \"10.1.0.12:{port}\"\n"
        )
    };
    let dns = &parse_cluster(&two(54, "vip = \"www\""), "c").unwrap().services[0];
    assert_eq!(dns.dsr.as_ref().unwrap().to_string(), "192.0.2.80:53");
    assert_eq!(dns.algorithm, Algorithm::SourceHash { with_port: false });
    let added = diff(
        &ClusterConfig::default(),
        &ClusterConfig { services: vec![dns.clone()], ..ClusterConfig::default() },
    );
    assert_eq!(
        added[0].to_string(),
        "+ service dns: dsr 192.0.2.80:53, dsr.vip www, algorithm source-hash, blacklist 30s"
    );
    for taken in [two(53, "vip = \"www\""), two(54, "interface = \"eth0\"")] {
        let told = printed(&parse_cluster(&taken, "c").unwrap_err());
        assert!(told.contains("service dns has 192.0.2.80 already"), "{told}");
    }
}
