//! `upgrade`, and what `status` tells afterwards.

use super::{Served, run};
use crate::cli::{Command, Exit, RunArgs, Stage, parse};
use crate::control::types::{ApiError, ErrorCode, ProcessBefore};

#[test]
fn an_upgrade_says_what_would_happen_does_it_and_says_what_has() {
    let served = Served::start();
    let ran = run(&served, &["upgrade", "--dry-run", "--binary", "/opt/cygnet"]);
    let dry = "lb1: 0.1.0 (/opt/cygnet) could take over from 0.1.0 (pid 100): 312 connections would go on there until they end; \
               0 would break; nothing was changed\n";
    assert_eq!((ran.exit, &*ran.out), (Exit::Ok, dry));
    let ran = run(&served, &["upgrade", "--deadline", "1h"]);
    let done = "lb1: 0.1.0 (pid 200) has taken over from 0.1.0 (pid 100) in 180ms, which holds www: 4 listening sockets, the log \
                (away for 90ms); 312 connections go on in the old process for 1h0m at most; 0 were broken\n";
    assert_eq!((ran.exit, &*ran.out), (Exit::Ok, done));
    served.node.world().refusal =
        Some(ApiError::new(ErrorCode::Refused, "the new program hangs", "nothing was changed"));
    let ran = run(&served, &["upgrade"]);
    assert_eq!((ran.exit, ran.out.is_empty()), (Exit::Refused, true));
}

#[test]
fn status_tells_of_a_process_that_has_connections_still() {
    let served = Served::start();
    let before = ProcessBefore { pid: 100, version: "0.1.0".into(), connections: 312, since_ms: 240_000 };
    served.node.world().facts.before = vec![before];
    let told = "312 connections go on in the process before, 0.1.0 (pid 100), which handed over 4m0s ago\n";
    assert!(run(&served, &["status"]).out.contains(told));
    assert!(run(&served, &["status", "-o", "json"]).out.contains("\"before\""));
}

#[test]
fn the_place_of_a_successor_is_an_option_that_nobody_sees() {
    let cli = parse(["cygnet", "run", "--config", "/etc/n.toml", "--successor=second"]).unwrap();
    let Command::Run(RunArgs { successor, .. }) = cli.command else { panic!("{cli:?}") };
    assert_eq!(successor, Some(Stage::Second));
    let help = parse(["cygnet", "run", "--help"]).unwrap_err().to_string();
    assert!(!help.contains("successor"), "{help}");
}
