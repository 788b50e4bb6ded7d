use std::path::Path;
use std::time::Duration;

use cygnet_ha::consensus::LogLimits;
use cygnet_ha::vip::{Mode, Protocol};

use super::super::model::{Algorithm, Check, CheckKind, HttpCheck, Source, Talk};
use super::*;

#[test]
fn a_short_node_file_gets_the_defaults() {
    let node = parse_node(NODE, "node.toml").unwrap();
    assert_eq!(node.name, "lb1");
    assert_eq!(node.state_dir, Path::new("/var/lib/cygnet"));
    assert_eq!(node.api, Path::new("/run/cygnet/cygnet.sock"));
    assert!((1..=WORKERS_MAX).contains(&node.workers));
    assert_eq!(node.source, Source::Auto);
    assert_eq!(node.priority, 100);
    assert_eq!(node.storage, LogLimits::default());
    assert_eq!(node.cluster, "demo");
    assert_eq!(node.members.len(), 2);
    assert_eq!((node.members[1].id, node.members[1].witness), (2, false));
}

#[test]
fn a_full_node_file_says_what_it_says() {
    let text = r#"
name = "lb1"
state_dir = "/srv/cygnet"
api = "/tmp/c.sock"
workers = 2
source = ["10.0.0.1", "fd00::1"]
interface = "eth0"
priority = 150
[storage]
snapshot_entries = 1000
tail_mib = 1
[vip.www]
interface = "eth1"
priority = 90
[cluster]
name = "demo"
insecure = true
member = [{ id = 1, name = "lb1", address = "[fd00::1]:7300" }, { id = 3, name = "w1", address = "10.0.0.3:7300", witness = true }]
"#;
    let node = parse_node(text, "node.toml").unwrap();
    assert_eq!(node.state_dir, Path::new("/srv/cygnet"));
    assert_eq!((node.workers, node.priority), (2, 150));
    assert_eq!(node.source, Source::Fixed(vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]));
    assert_eq!(node.per_vip["www"].interface.as_deref(), Some("eth1"));
    assert_eq!(node.per_vip["www"].priority, Some(90));
    let usual = LogLimits::default();
    assert_eq!(node.storage, LogLimits { snapshot_entries: 1000, tail_bytes: 1 << 20, ..usual });
    assert!(node.members[1].witness);
}

#[test]
fn a_short_cluster_file_gets_the_defaults() {
    let cluster = parse_cluster(CLUSTER, "cluster.toml").unwrap();
    let vip = &cluster.vips[0];
    assert_eq!((vip.protocol, vip.mode, vip.id), (Protocol::Vrrp3, Mode::Hold, 51));
    assert_eq!((vip.interval, vip.preempt), (Duration::from_secs(1), true));
    let service = &cluster.services[0];
    assert_eq!((service.algorithm, service.sticky), (Algorithm::RoundRobin, None));
    assert_eq!(service.connect_timeout, Duration::from_secs(3));
    assert_eq!(service.blacklist, Duration::from_secs(30));
    assert_eq!(service.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!((service.servers[0].weight, service.servers[0].max), (1, 0));
}

#[test]
fn a_full_cluster_file_says_what_it_says() {
    let text = r#"
[[vip]]
name = "www"
address = "192.0.2.100"
protocol = "vrrp3"
id = 51
mode = "hold"
interval = "10ms"
preempt = false
[[vip]]
name = "old"
address = "2001:db8::100"
protocol = "carp"
id = 51
mode = "watch"
password = "secret"
[[service]]
name = "web"
listen = ["0.0.0.0:80", "[::]:80", "192.0.2.100:81"]
algorithm = "least-connections"
sticky = "1h 30m"
connect_timeout = "1500ms"
blacklist = "0s"
idle_timeout = "never"
[[service.server]]
name = "s1"
address = "[2001:db8::11]:8080"
weight = 256
max = 500
"#;
    let cluster = parse_cluster(text, "cluster.toml").unwrap();
    assert_eq!(cluster.vips[0].interval, Duration::from_millis(10));
    assert!(!cluster.vips[0].preempt);
    assert_eq!(cluster.vips[1].password.as_deref(), Some("secret"));
    let service = &cluster.services[0];
    assert_eq!(service.listen.len(), 3, "IPv4 and IPv6 wildcards share a port");
    assert_eq!(service.sticky, Some(Duration::from_secs(5400)));
    assert_eq!((service.blacklist, service.idle_timeout), (Duration::ZERO, None));
    assert_eq!((service.servers[0].weight, service.servers[0].max), (256, 500));
}

#[test]
fn a_check_gets_the_defaults_of_its_type_and_says_what_it_says() {
    let check = |lines: &str| {
        let text = format!("{CLUSTER}check_port = 8081\n[service.check]\n{lines}");
        let cluster = parse_cluster(&text, "c").map_err(|problems| printed(&problems)).unwrap();
        assert_eq!(cluster.services[0].servers[0].check_port, Some(8081));
        cluster.services[0].check.clone().unwrap()
    };
    let plain = check("");
    assert_eq!(plain, Check::new(CheckKind::Tcp(Talk::default())));
    assert_eq!((plain.interval, plain.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((plain.rise, plain.fall), (2, 3));
    assert_eq!(check("type = \"http\"").kind, CheckKind::Http(HttpCheck::default()));
    assert_eq!(
        check("interval = \"200ms\"").timeout,
        Duration::from_millis(200),
        "no longer than the interval"
    );
    let bytes = check("send = \"PING\\r\\n\"\nexpect = \"hex:2B50\"");
    assert_eq!(bytes.kind, CheckKind::Tcp(Talk { send: b"PING\r\n".to_vec(), expect: b"+P".to_vec() }));
    for expect in ["\"200-299, 401\"", "[\"200-299\", 401]"] {
        let CheckKind::Http(http) =
            check(&format!("type = \"http\"\nmethod = \"HEAD\"\nexpect = {expect}")).kind
        else {
            panic!("it is one of HTTP")
        };
        assert_eq!((http.head, http.expect.to_string()), (true, "200-299,401".to_owned()));
    }
}

#[test]
fn an_empty_cluster_file_is_an_empty_cluster() {
    assert_eq!(parse_cluster("", "cluster.toml").unwrap(), model::ClusterConfig::default());
}
