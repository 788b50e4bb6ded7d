use super::*;

/// Each: what is written instead of which line of the sample, and the whole message.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "name = \"www\"",
        "name = \"-www\"",
        "c:2:8: vip[-www].name: \"-www\" does not start with a letter or digit; use letters, digits, `_`, `.` and `-`, first a letter or digit",
    ),
    ("name = \"www\"", "", "c:1:1: vip[#1].name: missing; add `name = \"www\"`"),
    (
        "192.0.2.100\"\n",
        "192.0.2.100/24\"\n",
        "c:3:11: vip[www].address: \"192.0.2.100/24\" has a prefix length; write the address alone: \"192.0.2.100\"",
    ),
    (
        "192.0.2.100\"\n",
        "192.0.2.100:80\"\n",
        "c:3:11: vip[www].address: \"192.0.2.100:80\" has a port; write the address alone: \"192.0.2.100\"",
    ),
    (
        "192.0.2.100\"\n",
        "192.0.2.300\"\n",
        "c:3:11: vip[www].address: \"192.0.2.300\" is not an IP address; write an IPv4 or IPv6 address such as \"192.0.2.100\" or \"2001:db8::100\"",
    ),
    (
        "192.0.2.100\"\n",
        "224.0.0.18\"\n",
        "c:3:11: vip[www].address: \"224.0.0.18\" is a multicast address; write the address of one machine",
    ),
    (
        "192.0.2.100\"\n",
        "::ffff:192.0.2.1\"\n",
        "c:3:11: vip[www].address: \"::ffff:192.0.2.1\" is an IPv4 address in IPv6 clothes; write the address of one machine",
    ),
    (
        "192.0.2.100\"\nprotocol = \"vrrp3",
        "2001:db8::1\"\nprotocol = \"vrrp2",
        "c:4:12: vip[www].protocol: VRRP version 2 knows no IPv6; write protocol = \"vrrp3\"",
    ),
    (
        "vrrp3",
        "carp",
        "c:1:1: vip[www].password: CARP signs its adverts and needs a password; add `password = \"...\"`, the one that the other hosts of the vhid have",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hold\"\npassword = \"123456789\"",
        "c:7:12: vip[www].password: VRRP version 3 has no password; remove it",
    ),
    (
        "vrrp3\"",
        "vrrp2\"\npassword = \"123456789\"",
        "c:5:12: vip[www].password: the password has 9 bytes, not 1 to 8; use the one that the other speakers use",
    ),
    ("vrrp3", "vrrp", "c:4:12: vip[www].protocol: \"vrrp\" is unknown; did you mean \"vrrp3\"?"),
    (
        "vrrp3",
        "hsrp",
        "c:4:12: vip[www].protocol: \"hsrp\" is unknown; write one of \"vrrp3\", \"vrrp2\", \"carp\"",
    ),
    (
        "id = 51",
        "id = 0",
        "c:5:6: vip[www].id: identifier (VRID or vhid) 0 is out of range; write a whole number from 1 to 255",
    ),
    (
        "id = 51",
        "id = \"51\"",
        "c:5:6: vip[www].id: expected an integer, not a string; write a whole number from 1 to 255",
    ),
    (
        "id = 51",
        "id = 99999999999999999999999999999999999999999999",
        "c:5:6: vip[www].id: identifier (VRID or vhid) 99999999999999999999999999999999999999999999 is out of range; write a whole number from 1 to 255",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hodl\"",
        "c:6:8: vip[www].mode: \"hodl\" is unknown; did you mean \"hold\"?",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hold\"\ninterval = \"15ms\"",
        "c:7:12: vip[www].interval: 15ms is not a multiple of 10ms; the protocol counts in such steps",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hold\"\ninterval = \"41s\"",
        "c:7:12: vip[www].interval: \"41s\" is out of range; write a duration from 10ms to 40s 950ms",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hold\"\ninterval = \"0s\"",
        "c:7:12: vip[www].interval: \"0s\" is out of range; write a duration from 10ms to 40s 950ms",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hold\"\ninterval = 1",
        "c:7:12: vip[www].interval: expected a duration, not an integer; write a number with its unit, such as \"500ms\", \"3s\", \"30m\" or \"1h\"",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hold\"\ninterval = \"1 sheep\"",
        "c:7:12: vip[www].interval: \"1 sheep\" is not a duration; write a number with its unit, such as \"500ms\", \"3s\", \"30m\" or \"1h\"",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hold\"\npreempt = \"yes\"",
        "c:7:11: vip[www].preempt: expected true or false, not a string; write true or false, without quotes",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hold\"\npassword = \"x\"",
        "c:7:12: vip[www].password: VRRP version 3 has no password; remove it",
    ),
    (
        "mode = \"hold\"",
        "mode = \"hold\"\nintervall = \"1s\"",
        "c:7:1: vip[www].intervall: unknown key; did you mean `interval`?",
    ),
    (
        "[[service]]",
        "[service]",
        "c:7:1: service: expected a list of tables, not a table; write each as [[service]]",
    ),
    (
        "name = \"web\"",
        "name = \"w/b\"",
        "c:8:8: service[w/b].name: \"w/b\" has the character '/'; use letters, digits, `_`, `.` and `-`, first a letter or digit",
    ),
    (
        "listen = [\"192.0.2.100:80\"]",
        "",
        "c:7:1: service[web].listen: the service listens nowhere; add `listen = [\"192.0.2.100:80\"]`",
    ),
    (
        "listen = [\"192.0.2.100:80\"]",
        "listen = [\"192.0.2.100\"]",
        "c:9:11: service[web].listen: \"192.0.2.100\" has no port; write it with the port, such as \"192.0.2.100:80\"",
    ),
    (
        "listen = [\"192.0.2.100:80\"]",
        "listen = [\"192.0.2.100:0\"]",
        "c:9:11: service[web].listen: \"192.0.2.100:0\" has port 0; write a port from 1 to 65535",
    ),
    (
        "listen = [\"192.0.2.100:80\"]",
        "listen = [\"1.2.3.4:80\", \"0.0.0.0:80\"]",
        "c:9:25: service[web].listen: 0.0.0.0:80 overlaps 1.2.3.4:80 of this service; a wildcard takes the whole port: write the addresses one by one",
    ),
    (
        "listen = [\"192.0.2.100:80\"]",
        "listen = [\"1.2.3.4:80\", \"1.2.3.4:80\"]",
        "c:9:25: service[web].listen: this service already listens on 1.2.3.4:80; remove one of the two",
    ),
    (
        "listen = [\"192.0.2.100:80\"]",
        "listen = [\"2001:db8::1:80\"]",
        "c:9:11: service[web].listen: \"2001:db8::1:80\" has no port; write it with the port, such as \"[2001:db8::1:80]:80\"",
    ),
    (
        "[[service.server]]",
        "algorithm = \"round_robin\"\n[[service.server]]",
        "c:10:13: service[web].algorithm: \"round_robin\" is unknown; did you mean \"round-robin\"?",
    ),
    (
        "[[service.server]]",
        "algorithm = \"hash\"\n[[service.server]]",
        "c:10:13: service[web].algorithm: \"hash\" is unknown; write one of \"round-robin\", \"least-connections\", \"priority\", \"source-hash\", \"source-port-hash\"",
    ),
    (
        "[[service.server]]",
        "sticky = \"0s\"\n[[service.server]]",
        "c:10:10: service[web].sticky: \"0s\" is out of range; write a duration from 1s to 30days",
    ),
    (
        "name = \"s1\"",
        "name = \"s1\"\nweight = 0",
        "c:12:10: service[web].server[s1].weight: weight 0 is out of range; write a whole number from 1 to 256; to take a server out of service: `cygnet server drain SERVICE SERVER`",
    ),
    (
        "name = \"s1\"",
        "name = \"s1\"\nmax = -1",
        "c:12:7: service[web].server[s1].max: limit -1 is out of range; write a whole number from 0 to 1000000",
    ),
    (
        "10.1.0.11:8080",
        "192.0.2.100:80",
        "c:12:11: service[web].server[s1].address: 192.0.2.100:80 is where service web listens: connections would go round in a circle; write the address of the server itself",
    ),
    (
        "id = 51",
        "id = ",
        "c:5:6: not valid TOML: string values must be quoted, expected literal string; strings stand in double quotes, tables in [brackets]",
    ),
];

#[test]
fn each_wrong_cluster_file_is_named_with_line_column_key_and_remedy() {
    for (line, replacement, expected) in WRONG {
        let problems = parse_cluster(&with(CLUSTER, line, replacement), "c").unwrap_err();
        assert_eq!(printed(&problems), *expected, "for {replacement}");
    }
}

/// The sample followed by another object.
fn followed_by(more: &str) -> String {
    printed(&parse_cluster(&format!("{CLUSTER}{more}"), "c").unwrap_err())
}

#[test]
fn what_must_be_unique_is() {
    let vip = "[[vip]]\nname = \"www\"\naddress = \"192.0.2.100\"\nprotocol = \"vrrp3\"\nid = 51\nmode = \"hold\"\n";
    assert_eq!(
        followed_by(vip),
        "c:14:8: vip[www].name: www is taken by the vip www above; give each its own name\n\
         c:15:11: vip[www].address: 192.0.2.100 is taken by the vip www above; give each its own address\n\
         c:17:6: vip[www].id: vrrp3 51 is taken by the vip www above; give each its own id"
    );
    let service = "[[service]]\nname = \"web\"\nlisten = \"192.0.2.100:80\"\n\
                   [[service.server]]\nname = \"s1\"\naddress = \"10.1.0.11:8080\"\n\
                   [[service.server]]\nname = \"s1\"\naddress = \"10.1.0.11:8080\"\n";
    assert_eq!(
        followed_by(service),
        "c:14:8: service[web].name: web is taken by the service web above; give each its own name\n\
         c:15:10: service[web].listen: this service already listens on 192.0.2.100:80; remove one of the two\n\
         c:20:8: service[web].server[s1].name: s1 is taken by the server s1 above; give each its own name\n\
         c:21:11: service[web].server[s1].address: 10.1.0.11:8080 is taken by the server s1 above; give each its own address"
    );
}

#[test]
fn what_does_not_go_into_one_list_of_addresses_is_named_at_its_place() {
    let one = "address = \"192.0.2.100\"";
    let wrong = |list: &str| printed(&parse_cluster(&with(CLUSTER, one, list), "c").unwrap_err());
    assert_eq!(
        wrong("addresses = [\"192.0.2.100\", \"192.0.2.1000\", \"192.0.2.100\", \"2001:db8::1\"]"),
        "c:3:29: vip[www].addresses: \"192.0.2.1000\" is not an IP address; write an IPv4 or IPv6 address such as \"192.0.2.100\" or \"2001:db8::100\"\n\
         c:3:45: vip[www].addresses: 192.0.2.100 is there twice; write each once\n\
         c:3:60: vip[www].addresses: 192.0.2.100 and 2001:db8::1 are of two families, and one advertisement carries one; give the other family a [[vip]] of its own; it may have the same id"
    );
    assert_eq!(
        wrong("addresses = []"),
        "c:3:13: vip[www].addresses: 0 addresses, not 1 to 20; write `addresses = [\"192.0.2.100\", \"192.0.2.101\"]`, and more in another [[vip]]"
    );
    let both = format!("{one}\naddresses = [\"192.0.2.101\"]");
    assert_eq!(
        wrong(&both),
        "c:3:11: vip[www].address: `addresses` is there as well; write all of them there, and remove this one"
    );
    let second = "[[vip]]\nname = \"mail\"\naddresses = [\"192.0.2.101\", \"192.0.2.100\"]\nprotocol = \"vrrp3\"\nid = 52\nmode = \"hold\"\n";
    assert_eq!(
        followed_by(second),
        "c:15:29: vip[mail].addresses: 192.0.2.100 is taken by the vip www above; give each its own address"
    );
}

#[test]
fn a_form_of_checksum_is_for_those_who_have_two() {
    let id = "id = 51";
    let wrong = |lines: &str| printed(&parse_cluster(&with(CLUSTER, id, lines), "c").unwrap_err());
    assert_eq!(
        wrong("id = 51\nchecksum = \"pseudo\""),
        "c:6:12: vip[www].checksum: \"pseudo\" is unknown; write one of \"pseudo-header\", \"message\""
    );
    let two = with(CLUSTER, "vrrp3", "vrrp2");
    let problems = parse_cluster(&with(&two, id, "id = 51\nchecksum = \"message\""), "c").unwrap_err();
    assert_eq!(
        printed(&problems),
        "c:6:12: vip[www].checksum: only VRRP version 3 over IPv4 has two forms of the checksum; remove it"
    );
}

#[test]
fn peers_that_cannot_be_are_named_at_their_place() {
    let wrong = |lines: &str| {
        printed(&parse_cluster(&with(CLUSTER, "id = 51", &format!("id = 51\n{lines}")), "c").unwrap_err())
    };
    assert_eq!(
        wrong("peers = [\"192.0.2.11\", \"192.0.2.11\", \"192.0.2.100\", \"2001:db8::1\", \"224.0.0.18\"]"),
        "c:6:24: vip[www].peers: 192.0.2.11 is there twice; write each once\n\
         c:6:38: vip[www].peers: 192.0.2.100 is the virtual address itself, which moves; write the address that the peer keeps\n\
         c:6:53: vip[www].peers: 2001:db8::1 is not of the family of 192.0.2.100; advertisements go over the family of the virtual address\n\
         c:6:68: vip[www].peers: \"224.0.0.18\" is a multicast address; write the address of one machine"
    );
    assert_eq!(
        wrong("peers = []"),
        "c:6:9: vip[www].peers: 0 peers, not 1 to 16; write the addresses of the other speakers, or remove it: the multicast group is used then"
    );
    assert_eq!(
        wrong("min_ttl = 255"),
        "c:6:11: vip[www].min_ttl: advertisements to the multicast group are refused with any TTL but 255; remove it, or write `peers`"
    );
    assert_eq!(
        wrong("peers = \"192.0.2.11\"\nmin_ttl = 0"),
        "c:7:11: vip[www].min_ttl: TTL 0 is out of range; write a whole number from 1 to 255"
    );
}

#[test]
fn a_balancer_accepts_what_is_sent_to_its_address() {
    let wrong = |line: &str| {
        printed(&parse_cluster(&with(CLUSTER, "id = 51", &format!("id = 51\n{line}")), "c").unwrap_err())
    };
    let refused = "a balancer that does not accept what is sent to its virtual address serves nobody; \
                   remove it; an access list (`clients`) keeps clients off a service";
    assert_eq!(wrong("accept = false"), format!("c:6:10: vip[www].accept: {refused}"));
    assert_eq!(wrong("no_accept = true"), format!("c:6:13: vip[www].no_accept: {refused}"));
    assert_eq!(
        wrong("accept_mode = true"),
        "c:6:15: vip[www].accept_mode: the holder always accepts what is sent to the address; remove it"
    );
}

#[test]
fn who_does_not_preempt_has_no_delay() {
    let lines = "id = 51\npreempt = false\npreempt_delay = \"10s\"";
    assert_eq!(
        printed(&parse_cluster(&with(CLUSTER, "id = 51", lines), "c").unwrap_err()),
        "c:7:17: vip[www].preempt_delay: this node does not preempt; remove it, or write preempt = true"
    );
}

/// `www` with these lines, and `six`, its fellow over IPv6, with those.
fn a_group(www: &str, six: &str) -> String {
    let text = with(CLUSTER, "id = 51", &format!("id = 51\n{www}"));
    format!(
        "{text}[[vip]]\nname = \"six\"\naddress = \"2001:db8::100\"\nprotocol = \"vrrp3\"\nid = 51\n{six}\n"
    )
}

#[test]
fn a_group_has_several_members_that_move_by_the_same_rules() {
    const EDGE: &str = "sync_group = \"edge\"";
    let hold = format!("mode = \"hold\"\n{EDGE}");
    let cluster = parse_cluster(&a_group(EDGE, &hold), "c").unwrap();
    assert!(cluster.vips.iter().all(|vip| vip.sync_group.as_deref() == Some("edge")));
    assert_eq!(parse_cluster(&to_toml(&cluster), "c").unwrap(), cluster);
    let wrong = |www: &str, six: &str| printed(&parse_cluster(&a_group(www, six), "c").unwrap_err());
    assert_eq!(
        wrong(EDGE, "mode = \"hold\""),
        "c:6:14: vip[www].sync_group: group edge has no other member; write `sync_group = \"edge\"` in another [[vip]] \
         too, or remove it here"
    );
    assert!(wrong(EDGE, &hold.replace("hold", "watch")).contains(
        "vip[six].sync_group: six is moved by another daemon, which knows nothing of the group; remove it, or write \
         mode = \"hold\""
    ));
    assert!(wrong(EDGE, &format!("{hold}\npreempt = false")).contains(
        "vip[six].preempt: www and six of group edge differ in it; write the same `preempt` in all of its [[vip]]: they \
         move together"
    ));
    assert!(
        wrong(EDGE, &format!("{hold}\npreempt_delay = \"3s\""))
            .contains("vip[six].preempt_delay: www and six")
    );
    assert!(wrong("sync_group = \"\"", &hold).contains("vip[www].sync_group"));
}

#[test]
fn what_happens_at_a_deadline_needs_a_deadline() {
    let wrong = |lines: &str| printed(&parse_cluster(&with(CLUSTER, "id = 51", lines), "c").unwrap_err());
    assert_eq!(
        wrong("id = 51\nat_deadline = \"keep\""),
        "c:6:15: vip[www].at_deadline: there is no deadline; add `drain_deadline = \"1h\"`, or remove it: connections go on \
         until they end"
    );
    assert!(
        wrong("id = 51\ndrain_deadline = \"1h\"\nat_deadline = \"wait\"")
            .contains("write one of \"close\", \"keep\"")
    );
    assert!(wrong("id = 51\ndrain_deadline = \"0s\"").contains("write a duration from 1s to 30days"));
}

#[test]
fn the_families_have_their_own_numbers() {
    let six = "[[vip]]\nname = \"six\"\naddresses = [\"fe80::100\", \"2001:db8::100\"]\nprotocol = \"vrrp3\"\nid = 51\nmode = \"hold\"\n";
    let cluster = parse_cluster(&format!("{CLUSTER}{six}"), "c").unwrap();
    assert_eq!(cluster.vips[1].addresses.len(), 2);
}

#[test]
fn a_wildcard_shares_its_port_with_nothing() {
    let service = "[[service]]\nname = \"all\"\nlisten = [\"0.0.0.0:80\"]\n\
                   [[service.server]]\nname = \"s1\"\naddress = \"10.1.0.11:8080\"\n";
    assert_eq!(
        followed_by(service),
        "c:15:11: service[all].listen: 0.0.0.0:80 overlaps 192.0.2.100:80 of service web; \
         a wildcard takes the whole port: write the addresses one by one"
    );
}

#[test]
fn a_service_without_servers_is_refused() {
    let service = "[[service]]\nname = \"none\"\nlisten = [\"192.0.2.100:81\"]\n";
    assert_eq!(
        followed_by(service),
        "c:13:1: service[none].server: the service has no servers; add each as [[service.server]] with name and address"
    );
}

#[test]
fn all_problems_are_reported_at_once_and_in_order() {
    let text = "[[vip]]\nid = 0\n[[service]]\nname = \"a b\"\nlisten = [\"x\"]\nblacklist = 3\n";
    let problems = parse_cluster(text, "c").unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "vip[#1].name",
            "vip[#1].address",
            "vip[#1].protocol",
            "vip[#1].mode",
            "vip[#1].id",
            "service[a b].server",
            "service[a b].name",
            "service[a b].listen",
            "service[a b].blacklist",
        ]
    );
}

#[test]
fn limits_are_named() {
    let problems = parse_cluster(&" ".repeat(TEXT_BYTES_MAX + 1), "c").unwrap_err();
    assert_eq!(
        printed(&problems),
        "c: the text has 262145 bytes, and 262144 is the limit; split it over several clusters"
    );
    let long = with(CLUSTER, "\"web\"", &format!("\"{}\"", "w".repeat(64)));
    assert!(printed(&parse_cluster(&long, "c").unwrap_err()).contains("has 64 bytes, and 63 is the limit"));
    let many = "[[vip]]\n".repeat(300);
    let problems = parse_cluster(&many, "c").unwrap_err();
    assert_eq!(problems.len(), PROBLEMS_MAX);
    assert_eq!(problems[0].what, "300 of them, and 255 is the limit");
    let carp = "[[vip]]\nname = \"a\"\naddress = \"192.0.2.1\"\nprotocol = \"carp\"\nid = 1\nmode = \"watch\"\n\
                password = \"12345678901234567890\"\ninterval = \"1500ms\"\n";
    assert_eq!(
        printed(&parse_cluster(carp, "c").unwrap_err()),
        "c:7:12: vip[a].password: the password has 20 bytes, not 1 to 19; use the one that the other speakers use\n\
         c:8:12: vip[a].interval: 1s 500ms is not a multiple of 1s; the protocol counts in such steps"
    );
}

#[test]
fn a_message_never_carries_control_characters() {
    let problems = parse_cluster("\"a\\u001b[31m\" = 1\n", "c").unwrap_err();
    assert_eq!(printed(&problems), "c:1:1: a\\u{1b}[31m: unknown key; known here: vip, service, acl");
}
