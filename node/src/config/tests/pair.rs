use cygnet_ha::vip::Mode;

use super::super::diff::diff;
use super::super::model::{Acl, AclEntry, AclMatch, ClusterConfig};
use super::*;

fn check(node: &str, cluster: &str) -> String {
    printed(&check_pair(&parse_node(node, "n").unwrap(), &parse_cluster(cluster, "c").unwrap()))
}

#[test]
fn a_good_pair_has_no_problems() {
    assert_eq!(check(NODE, CLUSTER), "");
}

#[test]
fn a_virtual_source_is_refused() {
    for source in ["\"192.0.2.100\"", "[\"fd00::1\", \"192.0.2.100\"]"] {
        let node = with(NODE, "interface", &format!("source = {source}\ninterface"));
        assert_eq!(
            check(&node, CLUSTER),
            "node: source: \"192.0.2.100\" is virtual (vip www): it moves away with the address and breaks every \
             backend session; write this node's own address, or \"auto\""
        );
    }
}

#[test]
fn a_list_with_a_country_needs_a_database_unless_the_node_is_a_witness() {
    let entry = AclEntry { permit: false, who: AclMatch::Country(*b"SE") };
    let acls = vec![Acl { name: "home".to_owned(), entries: vec![entry] }];
    let cluster = ClusterConfig { acls, ..parse_cluster(CLUSTER, "c").unwrap() };
    let mut node = parse_node(NODE, "n").unwrap();
    assert_eq!(
        printed(&check_pair(&node, &cluster)),
        "node: countries: access list home names countries, and this node has no database of them; add `countries = \
         \"/usr/share/GeoIP/GeoLite2-Country.mmdb\"` to the node file"
    );
    node.members
        .iter_mut()
        .filter(|member| member.name == node.name)
        .for_each(|member| member.witness = true);
    assert_eq!(printed(&check_pair(&node, &cluster)), "");
}

#[test]
fn a_virtual_member_address_is_refused() {
    assert_eq!(
        check(&with(NODE, "10.0.0.2:7300", "192.0.2.100:7300"), CLUSTER),
        "node: cluster.member[lb2].address: 192.0.2.100:7300 is virtual (vip www): the nodes would lose each other \
         when it moves; write an address that stays on the node"
    );
}

#[test]
fn a_virtual_server_address_is_refused() {
    assert_eq!(
        check(NODE, &with(CLUSTER, "10.1.0.11:8080", "192.0.2.100:8080")),
        "cluster: service[web].server[s1].address: 192.0.2.100:8080 is virtual (vip www): the balancer would connect \
         to itself; write the address of the server itself"
    );
}

#[test]
fn the_members_of_a_group_have_one_priority_on_a_node() {
    let six = "[[vip]]\nname = \"six\"\naddress = \"2001:db8::100\"\nprotocol = \"vrrp3\"\nid = 51\nmode = \"hold\"\n\
               sync_group = \"edge\"\n";
    let cluster = format!("{}{six}", with(CLUSTER, "id = 51", "id = 51\nsync_group = \"edge\""));
    assert_eq!(check(NODE, &cluster), "");
    let with_priority =
        |own: &str| with(NODE, "[cluster]", &format!("[vip.six]\npriority = {own}\n[cluster]"));
    let problems = check(&with_priority("90"), &cluster);
    assert!(
        problems.starts_with("node: vip[six].priority: www has priority ")
            && problems.ends_with(
                " here, six has 90, and both are of group edge; give all members of a group the same priority on a node"
            ),
        "{problems}"
    );
    assert_eq!(
        check(&with_priority("255"), &cluster),
        "node: vip[six].priority: the owner of six would take it at once, whatever its group edge does; write 1 to 254"
    );
}

#[test]
fn a_virtual_address_needs_an_interface_unless_the_node_is_a_witness() {
    let node = with(NODE, "interface = \"eth0\"\n", "");
    let problem = "node: interface: virtual address www (192.0.2.100) has no interface here; add `interface = \
                   \"eth0\"` at the top of the node file or in [vip.www]";
    assert_eq!(check(&node, CLUSTER), problem);
    let cluster = parse_cluster(CLUSTER, "c").unwrap();
    assert_eq!(printed(&vip_settings(&parse_node(&node, "n").unwrap(), &cluster).unwrap_err()), problem);
    let exception = with(&node, "[cluster]", "[vip.www]\ninterface = \"eth1\"\n[cluster]");
    assert_eq!(check(&exception, CLUSTER), "");
    let witness = with(&node, "10.0.0.1:7300\"", "10.0.0.1:7300\"\nwitness = true");
    assert_eq!(check(&witness, CLUSTER), "");
    assert_eq!(vip_settings(&parse_node(&witness, "n").unwrap(), &cluster).unwrap(), []);
}

#[test]
fn an_exception_for_an_unknown_virtual_address_is_refused() {
    let node = with(NODE, "[cluster]", "[vip.wwww]\npriority = 90\n[cluster]");
    assert_eq!(
        check(&node, CLUSTER),
        "node: vip[wwww]: no such virtual address in the cluster; did you mean [vip.www]?"
    );
    assert_eq!(
        check(&node, ""),
        "node: vip[wwww]: no such virtual address in the cluster; the cluster has no virtual address; remove the section"
    );
}

#[test]
fn a_service_on_the_port_of_the_node_connection_is_refused() {
    for listen in ["0.0.0.0:7300", "10.0.0.1:7300"] {
        let problems = check(NODE, &with(CLUSTER, "192.0.2.100:80", listen));
        assert_eq!(
            problems,
            format!(
                "cluster: service[web].listen: {listen} takes the port on which this node listens for its peers \
                 (10.0.0.1:7300); choose another port, or name the addresses instead of a wildcard"
            )
        );
    }
    assert_eq!(check(NODE, &with(CLUSTER, "192.0.2.100:80", "[::]:7300")), "");
    assert_eq!(check(NODE, &with(CLUSTER, "192.0.2.100:80", "192.0.2.100:7300")), "");
}

#[test]
fn the_address_from_which_a_service_connects_must_not_be_virtual_either() {
    let cluster = with(CLUSTER, "[[service.server]]", "source = \"192.0.2.100\"\n[[service.server]]");
    assert_eq!(
        check(NODE, &cluster),
        "cluster: service[web].source: \"192.0.2.100\" is virtual (vip www): it moves away with the address and breaks \
         every backend session; write an address that every node has and keeps, or remove it: the nodes' own `source` \
         counts"
    );
    let cluster = format!("{CLUSTER}[service.emergency]\naddress = \"192.0.2.100:8080\"\n");
    assert!(
        check(NODE, &cluster)
            .starts_with("cluster: service[web].emergency.address: 192.0.2.100:8080 is virtual")
    );
}

#[test]
fn settings_that_are_seldom_made_show_when_they_are_made() {
    let after = format!(
        "{}[[acl]]\nname = \"l\"\nentries = [\"deny 10.0.0.0 255.0.0.255\", \"permit fd00::/8\"]\n\
         [[service]]\nname = \"x\"\nlisten = \"/run/x\"\n[[service.server]]\nname = \"s1\"\naddress = \"/run/y\"\n",
        with(
            CLUSTER,
            "[[service.server]]",
            "sticky = \"forever\"\nstubborn = true\nclients = \"l\"\n[service.tls]\ncertificate = \"/c\"\n\
             [service.http]\nforwarded = \"replace\"\n[service.emergency]\naddress = \"10.1.0.9:80\"\n[[service.server]]"
        )
    );
    assert_eq!(
        difference(CLUSTER, &after),
        "+ acl l: entries deny 10.0.0.0 255.0.0.255; permit fd00::/8\n\
         ~ service web: sticky none -> forever, stubborn none -> true, clients none -> l, http none -> on, \
         http.forwarded none -> replace, tls.certificate none -> /c\n\
         + service web, emergency: address 10.1.0.9:80, weight 1, max 0\n\
         + service x: listen /run/x, algorithm round-robin, sticky none, connect_timeout 3s, blacklist 30s, \
         idle_timeout 1h\n\
         + service x, server s1: address /run/y, weight 1, max 0"
    );
    assert!(
        difference(&after, CLUSTER).contains("~ service web: sticky forever -> none, stubborn true -> none")
    );
}

#[test]
fn settings_take_the_exceptions_of_the_node() {
    let node = with(NODE, "[cluster]", "[vip.www]\ninterface = \"eth1\"\npriority = 90\n[cluster]");
    let cluster = parse_cluster(CLUSTER, "c").unwrap();
    let settings = vip_settings(&parse_node(&node, "n").unwrap(), &cluster).unwrap();
    assert_eq!(settings.len(), 1);
    assert_eq!((settings[0].interface.as_str(), settings[0].priority), ("eth1", 90));
    assert_eq!((settings[0].id, settings[0].mode), (51, Mode::Hold));
    let settings = vip_settings(&parse_node(NODE, "n").unwrap(), &cluster).unwrap();
    assert_eq!((settings[0].interface.as_str(), settings[0].priority), ("eth0", 100));
}

#[test]
fn a_preference_is_written_as_the_protocol_counts_it() {
    let node = |line: &str| with(NODE, "[cluster]", &format!("[vip.www]\n{line}\n[cluster]"));
    let carp = with(CLUSTER, "protocol = \"vrrp3\"", "protocol = \"carp\"\npassword = \"secret\"");
    let priority = |line: &str| {
        let (node, cluster) = (parse_node(&node(line), "n").unwrap(), parse_cluster(&carp, "c").unwrap());
        vip_settings(&node, &cluster).unwrap()[0].priority
    };
    assert_eq!(["advskew = 0", "advskew = 100", "advskew = 254"].map(priority), [254, 154, 0]);
    assert_eq!(
        check(&node("advskew = 10"), CLUSTER),
        "node: vip[www].advskew: www is elected by VRRP, which has no advskew; write `priority`, 1 to 254; higher is preferred"
    );
    assert_eq!(check(&node("priority = 255"), CLUSTER), "");
    assert_eq!(
        check(&node("priority = 255"), &carp),
        "node: vip[www].priority: www is elected by CARP, which knows no owner; write 1 to 254, or `advskew = 0`"
    );
    assert_eq!(
        printed(&parse_node(&node("priority = 9\nadvskew = 9"), "n").unwrap_err()).split("advskew: ").nth(1),
        Some("`priority` is there as well, and says the same the other way round; remove one of the two")
    );
}

fn difference(before: &str, after: &str) -> String {
    let changes = diff(&parse_cluster(before, "b").unwrap(), &parse_cluster(after, "a").unwrap());
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn comments_and_layout_are_no_difference() {
    assert_eq!(difference(CLUSTER, &format!("# a comment\n{CLUSTER}\n\n")), "");
}

#[test]
fn changed_fields_are_named_with_both_values() {
    let after = CLUSTER
        .replace("id = 51", "id = 52\npreempt = false")
        .replace("[[service.server]]", "sticky = \"30m\"\nidle_timeout = \"never\"\n[[service.server]]");
    let after = format!("{after}weight = 3\n");
    assert_eq!(
        difference(CLUSTER, &after),
        "~ vip www: id 51 -> 52, preempt true -> false\n\
         ~ service web: sticky none -> 30m, idle_timeout 1h -> never\n\
         ~ service web, server s1: weight 1 -> 3"
    );
}

#[test]
fn added_and_removed_objects_are_listed_whole() {
    let expected = "vip www: address 192.0.2.100, protocol vrrp3, id 51, mode hold, interval 1s, preempt true, \
                    password none\n\
                    # service web: listen 192.0.2.100:80, algorithm round-robin, sticky none, connect_timeout 3s, \
                    blacklist 30s, idle_timeout 1h\n\
                    # service web, server s1: address 10.1.0.11:8080, weight 1, max 0";
    assert_eq!(difference("", CLUSTER), format!("+ {}", expected.replace('#', "+")));
    assert_eq!(difference(CLUSTER, ""), format!("- {}", expected.replace('#', "-")));
}

#[test]
fn the_order_of_servers_matters_and_shows() {
    let second = "[[service.server]]\nname = \"s2\"\naddress = \"10.1.0.12:8080\"\n";
    let first = "[[service.server]]\nname = \"s1\"\naddress = \"10.1.0.11:8080\"\n";
    let base = CLUSTER.replace(first, "");
    assert_eq!(
        difference(&format!("{base}{first}{second}"), &format!("{base}{second}{first}")),
        "~ service web, servers: order s1, s2 -> s2, s1"
    );
}

#[test]
fn a_password_is_compared_and_never_shown() {
    let carp = |password: &str| {
        format!(
            "[[vip]]\nname = \"a\"\naddress = \"192.0.2.1\"\nprotocol = \"carp\"\nid = 1\nmode = \"watch\"\n{password}"
        )
    };
    let (none, one, two) = (carp(""), carp("password = \"none\"\n"), carp("password = \"two\"\n"));
    assert_eq!(difference(&none, &one), "~ vip a: password none -> (set)");
    assert_eq!(difference(&one, &two), "~ vip a: password (set) -> (another)");
    assert!(difference("", &two).ends_with("password (set)"));
    assert_eq!(difference(&two, &two), "");
}
