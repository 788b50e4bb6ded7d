//! Whatever is typed, nothing panics and nothing grows without bound.

use proptest::prelude::*;

use super::*;
use crate::pen::{Effect, LINE_BYTES_MAX};

/// A word that is likely to mean something.
fn word() -> impl Strategy<Value = String> {
    let known = commands::TABLE
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .flat_map(|line| line.split(' '))
        .filter(|word| !word.is_empty())
        .collect::<std::collections::BTreeSet<_>>();
    let known: Vec<_> = known.into_iter().map(str::to_owned).collect();
    prop_oneof![8 => proptest::sample::select(known), 1 => any::<i32>().prop_map(|n| n.to_string()), 1 => ".{0,8}"]
}

fn line() -> impl Strategy<Value = String> {
    proptest::collection::vec(word(), 0..8).prop_map(|words| words.join(" "))
}

fn option() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "-[a-zA-Z?]{1,3}",
        3 => word(),
        1 => line(),
        1 => ".{0,8}",
        2 => r"(\[::1\]|127\.0\.0\.1|::1|/x|localhost)?(:[0-9a-z-]{0,6}){0,6}",
    ]
}

proptest! {
    #[test]
    fn no_command_panics_and_all_that_is_set_stays_within_its_bounds(lines in proptest::collection::vec(line(), 1..20)) {
        let world = World::default();
        let mut pen = started("-F /file 8000 127.0.0.1:80", &world);
        for line in &lines {
            let outcome = pen.command(line, world.around());
            let applies = outcome.effects.iter().filter(|effect| **effect == Effect::Apply).count();
            prop_assert!(applies <= 1);
        }
        prop_assert!(pen.servers.len() <= crate::pen::SLOTS_MAX);
        prop_assert!(pen.client_acl < crate::pen::ACLS && pen.control_acl < crate::pen::ACLS);
        prop_assert!(pen.clients_max >= 1 && pen.conn_max >= 1 && pen.pending_max >= 1);
        // What it has become can be shown, written, and said to the data path.
        prop_assert!(!pen.config().services.is_empty());
        prop_assert!(!pen.to_config().config.services.is_empty());
        answer(&mut pen, "web_stats /stats", &world);
        for command in ["status", "servers", "mode", "write /written"] {
            answer(&mut pen, command, &world);
        }
    }

    #[test]
    fn no_command_line_panics(line in proptest::collection::vec(option(), 0..12)) {
        let world = World::default().with_file("file", "listen 80\nblacklist 3\n");
        match parse(&line, &world) {
            Ok(start) => prop_assert!(start.pen.listen.is_some() && start.pen.conn_max > 0),
            Err(stop) => prop_assert!(stop.code <= 1),
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let world = World::default();
        let mut pen = started("8000", &world);
        answer(&mut pen, &String::from_utf8_lossy(crate::pen::first_line(&bytes)), &world);
    }

    #[test]
    fn whatever_was_set_is_written_and_read_the_same(lines in proptest::collection::vec(line(), 1..30)) {
        let world = World::default();
        let mut pen = started("-F /first 127.0.0.1:8000 127.0.0.1:80", &world);
        for line in &lines {
            answer(&mut pen, line, &world);
        }
        pen.listen_words = Some("127.0.0.1:8000".to_owned());
        (pen.clients_max, pen.conn_max) = (2048, 500);
        answer(&mut pen, "write /first", &world);
        let mut again = started("-F /first 127.0.0.1:8000", &world);
        answer(&mut again, "write /second", &world);
        let second = world.file("/second").replace("/second", "/first");
        prop_assert_eq!(second, world.file("/first"));
    }
}

#[test]
fn files_that_include_themselves_come_to_an_end() {
    let world = World::default().with_file("/loop", &"include /loop\nblacklist 5\n".repeat(50));
    let mut pen = started("8000", &world);
    let outcome = pen.command("include /loop", world.around());
    assert!(outcome.answer.starts_with("error: "), "{}", outcome.answer);
    assert!(outcome.effects.len() < 2000, "{} effects", outcome.effects.len());
}

#[test]
fn a_line_that_is_too_long_is_refused() {
    let world = World::default();
    let mut pen = started("8000", &world);
    let long = format!("blacklist {}", "7".repeat(LINE_BYTES_MAX));
    assert!(answer(&mut pen, &long, &world).starts_with("error: a command of "));
    assert_eq!(pen.blacklist, 30);
}

#[test]
fn a_table_that_would_take_all_memory_is_refused() {
    let world = World::default();
    let mut pen = started("8000", &world);
    for line in ["server 2000000000 max 1", "clients_max 2000000000", "conn_max 2000000000"] {
        assert!(answer(&mut pen, line, &world).starts_with("error: "), "{line}");
    }
    assert!(pen.servers.is_empty());
}
