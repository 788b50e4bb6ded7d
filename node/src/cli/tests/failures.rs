use std::os::unix::net::UnixListener;
use std::path::Path;

use clap::CommandFactory;
use serde_json::Value;

use super::{Served, Terminal, run, run_on};
use crate::cli::{Cli, Command, Exit, author, parse};

const PLAIN: Terminal<'static> = Terminal { answer: None, colour: false };

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_node_that_is_not_there_is_named_with_the_remedy() {
    let ran = run_on(Path::new("/nonexistent/c.sock"), &["status"], &PLAIN);
    assert_eq!(ran.exit, Exit::Error);
    assert_eq!(
        ran.err,
        "error: cannot reach the node at /nonexistent/c.sock: No such file or directory (os error 2)\n  \
         is it running (`systemctl status cygnet`)? Another socket: --api PATH or CYGNET_API\n"
    );
    let ran = run_on(Path::new("/nonexistent/c.sock"), &["status", "-o", "json"], &PLAIN);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.exit, &json["code"], &json["schema"]), (Exit::Error, &"unreachable".into(), &1.into()));
    assert_eq!(ran.err, "");
}

#[test]
fn the_option_overrides_the_environment() {
    let served = Served::start();
    let socket = served.socket();
    let arguments = ["--api", socket.to_str().unwrap(), "vip"];
    assert_eq!(run_on(Path::new("/nonexistent"), &arguments, &PLAIN).exit, Exit::Ok);
}

#[test]
fn a_node_that_hangs_up_or_talks_nonsense_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let answers: [&[u8]; 3] = [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
    ];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Read::read(&mut stream, &mut [0; 1024]).unwrap();
            std::io::Write::write_all(&mut stream, answer).unwrap();
        }
    });
    for expected in ["the connection to", "the node's answer cannot be read", "the node's answer ended early"]
    {
        let ran = run_on(&path, &["status"], &PLAIN);
        assert_eq!(ran.exit, Exit::Error);
        assert!(ran.err.contains(expected), "{}", ran.err);
    }
    server.join().unwrap();
}

#[test]
fn a_wrong_command_line_is_exit_code_2_also_in_json() {
    let served = Served::start();
    for arguments in
        [&["sattus"][..], &["status", "--chekc"], &["config", "apply"], &["server", "drain", "web"]]
    {
        let ran = run(&served, arguments);
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::Usage, ""), "{arguments:?}");
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
    }
    let ran = run(&served, &["sattus", "-o", "json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.exit, &json["code"], ran.err.as_str()), (Exit::Usage, &"usage".into(), ""));
    assert_eq!(json["error"], "unrecognized subcommand 'sattus'");
}

#[test]
fn help_goes_to_the_output_and_is_no_error() {
    let served = Served::start();
    let ran = run(&served, &["--help"]);
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Ok, ""));
    for word in ["run", "status", "vip", "config", "server", "clients", "events", "Exit codes: 0 ok"] {
        assert!(ran.out.contains(word), "{word} is missing in\n{}", ran.out);
    }
    assert!(!ran.out.contains("guard"), "hidden commands stay hidden");
    assert_eq!(run(&served, &["--version"]).out, format!("cygnet {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn run_and_guard_are_parsed_for_the_program() {
    let Command::Run(run) = parse(["cygnet", "run"]).unwrap().command else { panic!("not run") };
    assert_eq!(run.config, Path::new("/etc/cygnet/node.toml"));
    let Command::Run(run) = parse(["cygnet", "run", "--config", "x.toml"]).unwrap().command else {
        panic!("not run")
    };
    assert_eq!(run.config, Path::new("x.toml"));
    assert!(matches!(parse(["cygnet", "guard"]).unwrap().command, Command::Guard));
}

#[test]
fn a_page_is_written_for_every_command() {
    let served = Served::start();
    let directory = served.directory().to_str().unwrap();
    assert_eq!(run(&served, &["man", directory]).exit, Exit::Ok);
    for page in ["cygnet.1", "cygnet-status.1", "cygnet-config-apply.1", "cygnet-server-drain.1"] {
        let text = std::fs::read_to_string(served.directory().join(page)).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}");
    }
    let ran = run(&served, &["man", "/nonexistent/directory"]);
    assert_eq!(ran.exit, Exit::Error);
}

#[test]
fn the_author_is_the_person_behind_sudo() {
    let both = |name: &str| match name {
        "SUDO_USER" => Some("alice".to_owned()),
        "USER" => Some("root".to_owned()),
        _ => None,
    };
    assert_eq!(author(both, Some("desk".to_owned())), "alice@desk");
    assert_eq!(author(|name| both(name).filter(|_| name == "USER"), None), "root");
    assert_eq!(author(|_| None, None), "unknown");
}
