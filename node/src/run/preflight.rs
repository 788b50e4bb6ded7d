//! What every node is asked before a configuration is committed: whether it could run it, with its own file, interfaces,
//! addresses, certificates and keys.
//!
//! Only what is new counts: a certificate that has vanished, or an interface that is gone, stops what needs it and shows in the
//! status, but must not stop the change of something else. A port that somebody else has taken is no objection either: it may
//! be free in a moment, and is tried again every second.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::vip::{VipSettings, shown};
use cygnet_netlink::kernel::{Kernel, Snapshot};
use tokio::runtime::Handle;

use super::running::{FILE, check, told};
use crate::config::model::{ClusterConfig, Direct, NodeConfig, Place, Service};
use crate::config::{CLUSTER_FILE, NODE_FILE, Problem, locate, vip_settings};
use crate::plan::check_files;

/// Reading links, addresses and routes takes a quarter of a second for the largest table; the other nodes wait 3 s for the answer.
const KERNEL_PATIENCE: Duration = Duration::from_secs(2);

/// Checks a configuration against this node. `running` is what runs on it now. Blocks on files and on the kernel; to be called on a
/// thread of tokio's that may block.
pub(crate) fn preflight(node: &NodeConfig, running: &ClusterConfig, text: &str) -> Result<(), String> {
    let checked = check(node, text)?;
    // A witness carries no traffic.
    if node.members.iter().any(|member| member.name == node.name && member.witness) {
        return Ok(());
    }
    let mut problems = check_files(&with_new_files(&checked.cluster, running), node.countries.as_deref());
    let wanted = Wanted::new(node, &checked.vips, &checked.cluster, running);
    if !wanted.is_empty() {
        problems.extend(wanted.missing_in(&look_around()?));
    }
    if problems.is_empty() {
        return Ok(());
    }
    for problem in &mut problems {
        locate(problem, CLUSTER_FILE, FILE, text);
    }
    Err(told(&problems))
}

fn look_around() -> Result<Snapshot, String> {
    let runtime = Handle::try_current().map_err(|error| error.to_string())?;
    let look = async {
        let kernel = Kernel::connect()?;
        tokio::time::timeout(KERNEL_PATIENCE, kernel.snapshot()).await?
    };
    runtime.block_on(look).map_err(|error| format!("interfaces and addresses cannot be read: {error}"))
}

/// The configuration without the settings whose files this node has loaded already, or has been told to.
fn with_new_files(cluster: &ClusterConfig, running: &ClusterConfig) -> ClusterConfig {
    let mut new = cluster.clone();
    if running.acls == new.acls {
        new.acls.clear();
    }
    for service in &mut new.services {
        let Some(old) = same(running, service) else { continue };
        if old.tls == service.tls {
            service.tls = None;
        }
        let olds = || old.servers.iter().chain(&old.emergency).chain(&old.abuse);
        for server in service.servers.iter_mut().chain(&mut service.emergency).chain(&mut service.abuse) {
            if olds().any(|old| old.name == server.name && old.tls == server.tls) {
                server.tls = None;
            }
        }
    }
    new
}

fn same<'c>(running: &'c ClusterConfig, service: &Service) -> Option<&'c Service> {
    running.services.iter().find(|old| old.name == service.name)
}

/// What a configuration wants of a node's surroundings, and the running one does not.
struct Wanted<'c> {
    vips: Vec<&'c VipSettings>,
    sources: Vec<&'c Service>,
    direct: Vec<(&'c Service, &'c Direct)>,
}

impl<'c> Wanted<'c> {
    fn new(
        node: &NodeConfig,
        vips: &'c [VipSettings],
        cluster: &'c ClusterConfig,
        running: &ClusterConfig,
    ) -> Self {
        let before = vip_settings(node, running).unwrap_or_default();
        let known = |vip: &&VipSettings| {
            let is_it = |old: &VipSettings| {
                old.name == vip.name && old.interface == vip.interface && old.peers == vip.peers
            };
            before.iter().any(is_it)
        };
        let sourced = |service: &&Service| {
            service.source.is_some() && same(running, service).is_none_or(|old| old.source != service.source)
        };
        Self {
            vips: vips.iter().filter(|vip| !known(vip)).collect(),
            sources: cluster.services.iter().filter(sourced).collect(),
            direct: cluster
                .services
                .iter()
                .filter(|service| same(running, service).is_none_or(|old| old.dsr != service.dsr))
                .filter_map(|service| Some((service, service.dsr.as_ref()?)))
                .collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.vips.is_empty() && self.sources.is_empty() && self.direct.is_empty()
    }

    fn missing_in(&self, snapshot: &Snapshot) -> Vec<Problem> {
        let problem = |file: &str, key: String, what: String, remedy: String| Problem {
            file: file.to_owned(),
            line: 0,
            column: 0,
            key,
            what,
            remedy,
        };
        let no_interface = |vip: &&VipSettings| {
            let names: Vec<&str> = snapshot.links.iter().map(|link| link.name.as_str()).collect();
            let what = format!(
                "vip {} is to be on {}, and this node has no such interface",
                vip.name, vip.interface
            );
            let remedy = format!("it has {}; correct the node file", names.join(", "));
            problem(NODE_FILE, "interface".to_owned(), what, remedy)
        };
        let vips = self.vips.iter().filter(|vip| snapshot.link(&vip.interface).is_none()).map(no_interface);
        let no_source = |service: &&Service| {
            let source = service.source.filter(|source| !source.is_loopback())?;
            let here = snapshot.addresses.iter().any(|own| own.address == source);
            let what = format!("\"{source}\" is on no interface of this node");
            let remedy = "add it there, or remove it: the nodes' own `source` counts".to_owned();
            (!here).then(|| problem(CLUSTER_FILE, format!("service[{}].source", service.name), what, remedy))
        };
        let direct = self.direct.iter().filter_map(|(service, direct)| {
            let (key, what, remedy) = not_passed_on(direct, snapshot)?;
            Some(problem(CLUSTER_FILE, format!("service[{}].dsr.{key}", service.name), what, remedy))
        });
        let no_peer = |vip: &&VipSettings| {
            let is_here = |peer: &IpAddr| snapshot.addresses.iter().any(|own| own.address == *peer);
            (!vip.peers.is_empty() && vip.peers.iter().all(is_here)).then(|| {
                let what = format!("{} is this node itself: it would advertise to nobody", shown(&vip.peers));
                let remedy =
                    "add the addresses of the other speakers, or remove it: the multicast group is used then";
                problem(CLUSTER_FILE, format!("vip[{}].peers", vip.name), what, remedy.to_owned())
            })
        };
        let vips = vips.chain(self.vips.iter().filter_map(no_peer));
        vips.chain(self.sources.iter().filter_map(no_source)).chain(direct).collect()
    }
}

/// Why this node could not pass a service on: the key, what is wrong, and what to do.
fn not_passed_on(direct: &Direct, snapshot: &Snapshot) -> Option<(&'static str, String, String)> {
    let address = direct.address;
    if let Some(own) = snapshot.addresses.iter().find(|own| own.address == address) {
        let on = snapshot.links.iter().find(|link| link.index == own.interface);
        let on = on.map_or_else(|| "an interface".to_owned(), |link| link.name.clone());
        let what = format!("\"{address}\" is on {on} of this node, whose kernel would answer clients itself");
        return Some(("address", what, format!("remove it there: `ip address del {address} dev {on}`")));
    }
    match &direct.place {
        Place::Interface(name) if snapshot.link(name).is_none() => {
            let names: Vec<&str> = snapshot.links.iter().map(|link| link.name.as_str()).collect();
            let what = format!("this node has no interface {name}");
            Some(("interface", what, format!("it has {}", names.join(", "))))
        }
        _ => None,
    }
}

/// What answers the other nodes.
pub(crate) fn answerer(
    node: &Arc<NodeConfig>,
    running: tokio::sync::watch::Receiver<Arc<super::running::Running>>,
) -> cygnet_ha::consensus::Preflight {
    let node = Arc::clone(node);
    Arc::new(move |text: &str| {
        let cluster = Arc::clone(&running.borrow().cluster);
        preflight(&node, &cluster, text)
    })
}

#[cfg(test)]
mod tests {
    use cygnet_netlink::kernel::{Address, Link};
    use cygnet_netlink::wire::Mac;

    use super::*;
    use crate::config::{parse_cluster, parse_node};

    const NODE: &str = "name = \"lb1\"\ninterface = \"eth0\"\n[cluster]\nname = \"demo\"\ninsecure = true\n\
                        [[cluster.member]]\nid = 1\nname = \"lb1\"\naddress = \"10.0.0.1:7300\"\n";
    const VIP: &str = "[[vip]]\nname = \"www\"\naddress = \"192.0.2.100\"\nprotocol = \"vrrp3\"\nid = 51\nmode = \"hold\"\n";
    const SERVICE: &str = "[[service]]\nname = \"web\"\nlisten = [\"10.0.0.1:80\"]\nsource = \"10.0.0.9\"\n\
                           [[service.server]]\nname = \"s0\"\naddress = \"10.1.0.9:80\"\n";
    const TLS: &str = "[service.tls]\ncertificate = \"/nonexistent/web.crt\"\n";

    fn node() -> NodeConfig {
        parse_node(NODE, "node.toml").unwrap()
    }

    fn cluster(text: &str) -> ClusterConfig {
        parse_cluster(text, "c.toml").unwrap()
    }

    fn told_of(new: &str, running: &str, snapshot: &Snapshot) -> Vec<String> {
        let (node, new, running) = (node(), cluster(new), cluster(running));
        let vips = vip_settings(&node, &new).unwrap();
        let problems = Wanted::new(&node, &vips, &new, &running).missing_in(snapshot);
        problems.into_iter().map(|problem| problem.what).collect()
    }

    fn machine(interface: &str, address: &str) -> Snapshot {
        let link = Link { index: 2, name: interface.to_owned(), mac: Mac([0; 6]), up: true };
        let address = Address {
            interface: 2,
            address: address.parse().unwrap(),
            prefix: 24,
            peer: None,
            tentative: false,
            deprecated: false,
            temporary: false,
            global: true,
            ours: false,
        };
        Snapshot { links: vec![link], addresses: vec![address], ..Snapshot::default() }
    }

    #[test]
    fn an_interface_and_a_source_that_a_node_lacks_are_objections() {
        let both = format!("{VIP}{SERVICE}");
        assert_eq!(told_of(&both, "", &machine("eth0", "10.0.0.9")), Vec::<String>::new());
        let told = told_of(&both, "", &machine("eth1", "10.0.0.8"));
        assert_eq!(told[0], "vip www is to be on eth0, and this node has no such interface");
        assert_eq!(told[1], "\"10.0.0.9\" is on no interface of this node");
    }

    #[test]
    fn peers_that_are_all_this_node_are_an_objection() {
        let with_peers = |peers: &str| format!("{VIP}peers = [{peers}]\n");
        let told = |peers: &str| told_of(&with_peers(peers), VIP, &machine("eth0", "192.0.2.11"));
        assert_eq!(told("\"192.0.2.11\", \"192.0.2.12\""), Vec::<String>::new());
        assert_eq!(told("\"192.0.2.11\""), ["192.0.2.11 is this node itself: it would advertise to nobody"]);
        let running = with_peers("\"192.0.2.11\"");
        assert_eq!(told_of(&running, &running, &machine("eth0", "192.0.2.11")), Vec::<String>::new());
    }

    #[test]
    fn direct_server_return_wants_an_address_that_the_node_does_not_have_and_an_interface_that_it_has() {
        let told = |place: &str| {
            let text = format!(
                "[[service]]\nname = \"dns\"\n[service.dsr]\naddress = \"10.0.0.80\"\n{place}\n\
                 [[service.server]]\nname = \"s0\"\naddress = \"10.0.0.11:53\"\n{VIP}"
            );
            move |own: &str| told_of(&text, VIP, &machine("eth0", own))
        };
        let with_vip = told("vip = \"www\"");
        assert_eq!(with_vip("10.0.0.1"), Vec::<String>::new());
        assert_eq!(
            with_vip("10.0.0.80"),
            ["\"10.0.0.80\" is on eth0 of this node, whose kernel would answer clients itself"]
        );
        assert_eq!(told("interface = \"eth7\"")("10.0.0.1"), ["this node has no interface eth7"]);
    }

    #[test]
    fn what_runs_already_is_no_reason_to_refuse_the_change_of_something_else() {
        let both = format!("{VIP}{SERVICE}");
        let more = format!("{both}[[service.server]]\nname = \"s1\"\naddress = \"10.1.0.1:80\"\n");
        assert_eq!(told_of(&more, &both, &machine("eth1", "10.0.0.8")), Vec::<String>::new());
    }

    #[test]
    fn a_missing_certificate_is_an_objection_where_it_is_new() {
        let with_tls = cluster(&format!("{SERVICE}{TLS}"));
        let files = |running: &ClusterConfig| check_files(&with_new_files(&with_tls, running), None).len();
        assert_eq!(files(&ClusterConfig::default()), 1);
        assert_eq!(files(&cluster(SERVICE)), 1);
        assert_eq!(files(&with_tls), 0);
    }

    #[tokio::test]
    async fn the_machine_is_looked_at_from_a_thread_that_may_block() {
        let object = tokio::task::spawn_blocking(move || {
            let wrong = NODE.replace("eth0", "no-such-if");
            preflight(&parse_node(&wrong, "node.toml").unwrap(), &ClusterConfig::default(), VIP)
        });
        let told = object.await.unwrap().unwrap_err();
        assert!(told.contains("vip www is to be on no-such-if") && told.contains("it has "), "{told}");
    }
}
