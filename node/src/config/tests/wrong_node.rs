use super::*;

/// Each: what is written instead of which line of the sample, and the whole message.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "name = \"lb1\"",
        "nmae = \"lb1\"",
        "n:1:1: nmae: unknown key; did you mean `name`?\nn:1:1: name: missing; add `name = \"lb1\"`",
    ),
    (
        "name = \"lb1\"",
        "name = \"lb1\"\ncolour = 1",
        "n:2:1: colour: unknown key; known here: name, state_dir, api, workers, source, interface, priority, countries, roles, storage, vip, cluster",
    ),
    (
        "name = \"lb1\"",
        "name = \"lb1\"\nroles = { operators = [\"alice\", \"@\", 7], writers = [] }",
        "n:2:33: roles.operators: \"@\" is no user or group; write a user (\"alice\"), a group (\"@netops\") or \"*\" for everybody on this machine\nn:2:38: roles.operators: expected a string, not an integer; write a user (\"alice\"), a group (\"@netops\") or \"*\" for everybody on this machine\nn:2:42: roles.writers: unknown key; known here: operators, readers",
    ),
    (
        "name = \"lb1\"",
        "name = \"lb1\"\nstorage = { tail_entries = 1, snapshot_gib = 1 }",
        "n:2:28: storage.tail_entries: number of entries 1 is out of range; write a whole number from 64 to 1000000\nn:2:31: storage.snapshot_gib: unknown key; did you mean `snapshot_mib`?",
    ),
    (
        "name = \"lb1\"",
        "name = \"lb3\"",
        "n:1:8: name: \"lb3\" is not a member; the members are lb1, lb2: use one of these names, or add a member",
    ),
    (
        "name = \"lb1\"",
        "name = 1",
        "n:1:8: name: expected a string, not an integer; write it in quotes: \"web\"",
    ),
    (
        "name = \"lb1\"",
        "name = \"\"",
        "n:1:8: name: empty name; use letters, digits, `_`, `.` and `-`, first a letter or digit",
    ),
    (
        "name = \"lb1\"",
        "name = \"l b\"",
        "n:1:8: name: \"l b\" has the character ' '; use letters, digits, `_`, `.` and `-`, first a letter or digit",
    ),
    (
        "interface = \"eth0\"",
        "state_dir = \"lib\"",
        "n:2:13: state_dir: \"lib\" is not an absolute path; write it from `/` on: the working directory of a daemon is nobody's guess",
    ),
    (
        "interface = \"eth0\"",
        "workers = 0",
        "n:2:11: workers: number of workers 0 is out of range; write a whole number from 1 to 256",
    ),
    (
        "interface = \"eth0\"",
        "interface = \"a-very-long-interface\"",
        "n:2:13: interface: \"a-very-long-interface\" has 21 bytes, not 1 to 15; `ip link` lists the interfaces",
    ),
    (
        "interface = \"eth0\"",
        "interface = \"eth 0\"",
        "n:2:13: interface: \"eth 0\" is not an interface name; `ip link` lists the interfaces",
    ),
    (
        "interface = \"eth0\"",
        "countries = \"GeoLite2.mmdb\"",
        "n:2:13: countries: \"GeoLite2.mmdb\" is not an absolute path; write it from `/` on: the working directory of a daemon is nobody's guess",
    ),
    (
        "interface = \"eth0\"",
        "priority = 255",
        "n:2:12: priority: priority 255 is out of range; write 1 to 254; higher is preferred (0 and 255 have a meaning of their own)",
    ),
    (
        "interface = \"eth0\"",
        "source = \"atuo\"",
        "n:2:10: source: \"atuo\" is not an IP address; write an IPv4 or IPv6 address such as \"192.0.2.100\" or \"2001:db8::100\", or \"auto\"",
    ),
    (
        "interface = \"eth0\"",
        "source = [\"10.0.0.1\", \"10.0.0.2\"]",
        "n:2:10: source: both 10.0.0.1 and 10.0.0.2 are given for one address family; keep one IPv4 and one IPv6 address at most",
    ),
    ("interface = \"eth0\"", "source = []", "n:2:10: source: the list is empty; write source = \"auto\""),
    (
        "interface = \"eth0\"",
        "source = 4",
        "n:2:10: source: expected \"auto\", an address or a list of addresses, not an integer; write source = \"auto\"",
    ),
    (
        "interface = \"eth0\"",
        "[vip.www]\niface = \"eth1\"",
        "n:3:1: vip[www].iface: unknown key; known here: interface, priority, advskew",
    ),
    (
        "interface = \"eth0\"",
        "[vip]\nwww = \"eth1\"",
        "n:3:7: vip[www]: expected a table, not a string; write [vip.NAME] with the keys below it",
    ),
    ("name = \"demo\"", "", "n:3:1: cluster.name: missing; add `name = \"demo\"`"),
    (
        "id = 2",
        "id = 1",
        "n:11:6: cluster.member[lb2].id: 1 is taken by the member lb1 above; give each its own id",
    ),
    (
        "id = 2",
        "id = 0",
        "n:11:6: cluster.member[lb2].id: id 0 is out of range; write a whole number from 1 to 4294967295",
    ),
    (
        "name = \"lb2\"",
        "name = \"lb1\"",
        "n:12:8: cluster.member[lb1].name: lb1 is taken by the member lb1 above; give each its own name",
    ),
    (
        "10.0.0.2:7300",
        "10.0.0.1:7300",
        "n:13:11: cluster.member[lb2].address: 10.0.0.1:7300 is taken by the member lb1 above; give each its own address",
    ),
    (
        "10.0.0.2:7300",
        "10.0.0.2",
        "n:13:11: cluster.member[lb2].address: \"10.0.0.2\" has no port; write it with the port, such as \"10.0.0.2:80\"",
    ),
    (
        "10.0.0.2:7300",
        "0.0.0.0:7300",
        "n:13:11: cluster.member[lb2].address: \"0.0.0.0:7300\" is the unspecified address; write the address of one machine",
    ),
    (
        "10.0.0.2:7300",
        "10.0.0.2/24",
        "n:13:11: cluster.member[lb2].address: \"10.0.0.2/24\" has a prefix length; write address and port, such as \"192.0.2.100:80\"",
    ),
    (
        "10.0.0.2:7300",
        "lb2.example:7300",
        "n:13:11: cluster.member[lb2].address: \"lb2.example:7300\" is not an address with a port; names are not looked up: write the address, such as \"192.0.2.100:80\"",
    ),
];

#[test]
fn each_wrong_node_file_is_named_with_line_column_key_and_remedy() {
    for (line, replacement, expected) in WRONG {
        let problems = parse_node(&with(NODE, line, replacement), "n").unwrap_err();
        assert_eq!(printed(&problems), *expected, "for {replacement}");
    }
}

#[test]
fn a_node_without_members_is_refused() {
    let problems = parse_node("name = \"lb1\"\n[cluster]\nname = \"demo\"\n", "n").unwrap_err();
    assert_eq!(
        printed(&problems),
        "n:2:1: cluster.address: missing; add this node's own address for the other nodes, such as address = \"10.0.0.1:7300\""
    );
    let problems = parse_node("name = \"lb1\"\n", "n").unwrap_err();
    assert_eq!(
        printed(&problems),
        "n:1:1: cluster: missing; add [cluster] with its name and this node's own address, such as \"10.0.0.1:7300\""
    );
}

#[test]
fn a_cluster_of_witnesses_alone_is_refused() {
    let text = NODE.replace(":7300\"\n", ":7300\"\nwitness = true\n");
    let problems = parse_node(&text, "n").unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].what, "all members are witnesses");
}

#[test]
fn a_socket_path_longer_than_the_kernel_takes_is_refused() {
    let text = with(NODE, "interface = \"eth0\"", &format!("api = \"/{}\"", "a".repeat(107)));
    let problems = parse_node(&text, "n").unwrap_err();
    assert_eq!(
        printed(&problems),
        "n:2:7: api: the path has 108 bytes, and 107 is the limit; choose a shorter path"
    );
}

#[test]
fn too_many_members_are_refused() {
    let mut text = NODE.to_owned();
    for id in 3..=8 {
        text.push_str(&format!(
            "[[cluster.member]]\nid = {id}\nname = \"n{id}\"\naddress = \"10.0.0.{id}:7300\"\n"
        ));
    }
    let problems = parse_node(&text, "n").unwrap_err();
    assert!(problems.iter().any(|problem| problem.what == "8 of them, and 7 is the limit"), "{problems:?}");
}
