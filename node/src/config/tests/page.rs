use super::*;

/// The manual page of the two files.
fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/man/cygnet-config.5.md")).unwrap()
}

#[test]
fn the_examples_of_the_manual_page_are_a_good_pair() {
    let page = page();
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 6, "{}", examples.len());
    assert_eq!((file_kind(examples[0]), file_kind(examples[1])), (FileKind::Node, FileKind::Cluster));
    let node = parse_node(examples[0], "node.toml").unwrap();
    let cluster = parse_cluster(examples[1], "cluster.toml").unwrap();
    assert_eq!(check_pair(&node, &cluster), []);
    let vip = examples[1].split("[[service]]").next().unwrap();
    for example in &examples[2..] {
        let cluster =
            parse_cluster(&format!("{vip}{example}"), "page").map_err(|problems| printed(&problems)).unwrap();
        assert_eq!(check_pair(&node, &cluster), [], "{example}");
    }
}

/// Every key of both files.
const KEYS: &str = "name state_dir api workers source interface priority advskew id address addresses witness protocol mode interval \
                    preempt preempt_delay drain_deadline at_deadline password checksum peers min_ttl sync_group listen algorithm sticky connect_timeout blacklist idle_timeout weight max \
                    countries transport stubborn clients fast_close keepalive transparent dummy idlers forwarded hsts \
                    lenient port vip tarpit certificate key chain names ocsp client_authorities client_authorities_directory \
                    client_required check_port type fast_interval timeout rise fall path host method expect send oldest newest ciphers prefer_own_order alpn service hard acl authorities insecure \
                    entries snapshot_entries snapshot_mib tail_entries tail_mib";

#[test]
fn the_manual_page_names_every_key_and_the_limits() {
    let page = page();
    for key in KEYS.split_whitespace() {
        assert!(page.contains(&format!("| `{key}` |")), "{key} is missing");
    }
    let limits = [
        format!("at most {} KiB", TEXT_BYTES_MAX / 1024),
        format!("1 to {NAME_BYTES_MAX} letters"),
        format!("At most {SOCKET_PATH_BYTES_MAX} bytes"),
        format!("1 to {WORKERS_MAX}."),
        format!("at most {MEMBERS_MAX}."),
        format!("at most {VIPS_MAX}:"),
        format!("1 to {ADDRESSES_MAX} addresses"),
        format!("1 to {} addresses", vip::PEERS_MAX),
        format!("at most {SERVICES_MAX}:"),
        format!("at most {LISTENS_MAX} addresses"),
        format!("1 to {SERVERS_MAX} a service"),
        format!("1 to {WEIGHT_MAX}."),
        format!("up to {CONNECTIONS_MAX};"),
        format!("at most {PASSWORD_BYTES_MAX} bytes"),
        format!("at most {ACLS_MAX}:"),
        format!("1 to {ACL_ENTRIES_MAX} entries"),
        format!("at most {ROUTES_MAX} a service"),
        format!("1 to {ROUTE_NAMES_MAX} names"),
        format!("up to {IDLERS_MAX}."),
        format!("at most {ALPN_MAX} protocols"),
        format!("1 to {CHECK_BYTES_MAX} bytes"),
        format!("1 to {CHECK_ROW_MAX} in a row"),
        format!("at most {CHECK_PATH_MAX} bytes"),
        format!("`\"{}\"` for datagrams", humantime::format_duration(DEFAULT_UDP_IDLE_TIMEOUT)),
        format!("| `{DEFAULT_PRIORITY}` |"),
        format!("`\"{DEFAULT_STATE_DIR}\"`"),
        format!("`\"{DEFAULT_API}\"`"),
        format!("| `\"{}\"` | A server", humantime::format_duration(DEFAULT_CONNECT_TIMEOUT)),
        format!("| `\"{}\"` | How long", humantime::format_duration(DEFAULT_BLACKLIST)),
        format!("| `\"{}\"` | A connection", humantime::format_duration(DEFAULT_IDLE_TIMEOUT)),
        format!("| `\"{}\"` | Between", humantime::format_duration(DEFAULT_INTERVAL)),
    ];
    for limit in limits {
        assert!(page.contains(&limit), "{limit} is missing");
    }
}
