use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cygnet_ha::vip::{Mode, Protocol};
use proptest::prelude::*;

use super::super::diff::{algorithm_word, diff};
use super::super::model::{Algorithm, ClusterConfig, Server, Service, Vip};
use super::*;

/// Prints a model as TOML, as a person would write it with every key given.
fn emit(config: &ClusterConfig) -> String {
    let mut text = String::new();
    for vip in &config.vips {
        let mode = if vip.mode == Mode::Hold { "hold" } else { "watch" };
        writeln!(
            text,
            "[[vip]]\nname = {:?}\naddress = \"{}\"\nprotocol = \"{}\"\nid = {}\nmode = \"{mode}\"\ninterval = \"{}\"\npreempt = {}",
            vip.name,
            vip.address,
            protocol_word(vip.protocol),
            vip.id,
            humantime::format_duration(vip.interval),
            vip.preempt
        )
        .unwrap();
    }
    for service in &config.services {
        let listen: Vec<String> = service.listen.iter().map(|listen| format!("\"{listen}\"")).collect();
        let duration = |of: Duration| humantime::format_duration(of).to_string();
        writeln!(
            text,
            "[[service]]\nname = {:?}\nlisten = [{}]\nalgorithm = \"{}\"\nconnect_timeout = \"{}\"\nblacklist = \"{}\"\nidle_timeout = \"{}\"",
            service.name,
            listen.join(", "),
            algorithm_word(service.algorithm),
            duration(service.connect_timeout),
            duration(service.blacklist),
            service.idle_timeout.map_or("never".to_owned(), duration)
        )
        .unwrap();
        if let Some(sticky) = service.sticky {
            writeln!(text, "sticky = \"{}\"", duration(sticky)).unwrap();
        }
        for Server { name, address, weight, max, .. } in &service.servers {
            writeln!(
                text,
                "[[service.server]]\nname = {name:?}\naddress = \"{address}\"\nweight = {weight}\nmax = {max}"
            )
            .unwrap();
        }
    }
    text
}

prop_compose! {
    fn a_vip(index: u8)(centis in 1u64..4096, preempt: bool, hold: bool) -> Vip {
        Vip {
            name: format!("v{index}"),
            address: Ipv4Addr::new(192, 0, 2, index).into(),
            protocol: Protocol::Vrrp3,
            id: index,
            mode: if hold { Mode::Hold } else { Mode::Watch },
            interval: Duration::from_millis(centis * 10).min(Duration::from_millis(40_950)),
            preempt,
            password: None,
        }
    }
}

prop_compose! {
    fn a_service(index: u8)(
        port in 1u16.., least: bool, sticky in proptest::option::of(1u64..86_400), connect_ms in 1u64..3_600_000,
        blacklist in 0u64..86_400, idle in proptest::option::of(1u64..86_400),
        servers in proptest::collection::vec((1u16.., 1u16..=256, 0u32..=1_000_000), 1..5),
    ) -> Service {
        Service {
            listen: vec![SocketAddr::new(Ipv4Addr::new(198, 51, 100, index).into(), port).into()],
            algorithm: if least { Algorithm::LeastConnections } else { Algorithm::RoundRobin },
            sticky: sticky.map(Duration::from_secs),
            connect_timeout: Duration::from_millis(connect_ms),
            blacklist: Duration::from_secs(blacklist),
            idle_timeout: idle.map(Duration::from_secs),
            servers: servers.into_iter().enumerate().map(|(n, (port, weight, max))| Server {
                weight,
                max,
                ..Server::new(format!("s{n}"), SocketAddr::new(Ipv4Addr::new(10, 0, index, n as u8 + 1).into(), port))
            }).collect(),
            ..Service::new(format!("s.{index}"))
        }
    }
}

fn a_config() -> impl Strategy<Value = ClusterConfig> {
    let vips = (0u8..4).prop_flat_map(|count| (1..=count).map(a_vip).collect::<Vec<_>>());
    let services = (0u8..4).prop_flat_map(|count| (1..=count).map(a_service).collect::<Vec<_>>());
    (vips, services).prop_map(|(vips, services)| ClusterConfig { vips, services, acls: Vec::new() })
}

/// Text that looks enough like a configuration to get past the TOML parser often.
fn nearly_a_configuration() -> impl Strategy<Value = String> {
    let pieces = proptest::sample::select(vec![
        "[[vip]]\n",
        "[[service]]\n",
        "[[service.server]]\n",
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
        let read = parse_cluster(&emit(&config), "c").map_err(|problems| TestCaseError::fail(printed(&problems)))?;
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
