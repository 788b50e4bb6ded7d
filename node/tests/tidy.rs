//! The house rules that no compiler checks. A rule that is not enforced is a wish.

use std::fs;
use std::path::{Path, PathBuf};

/// No file is longer: it must be readable in one sitting.
const FILE_LINES_MAX: usize = 700;
/// No function is longer.
const FUNCTION_LINES_MAX: usize = 70;
/// How far above an `unsafe` block its reason may stand, lines.
const SAFETY_COMMENT_REACH: usize = 6;

/// Rooms whose code sees neither clock nor socket: they can be replayed, and run in a simulator.
const PURE: &[&str] = &[
    "ha/src/consensus/core",
    "ha/src/consensus/countdown.rs",
    "ha/src/consensus/rotation",
    "ha/src/sim/",
    "ha/src/state/",
    "ha/src/time.rs",
    "ha/src/vip/driver/heard.rs",
    "ha/src/vip/driver/views.rs",
    "ha/src/vip/fitness.rs",
    "ha/src/vip/group",
    "ha/src/vip/holder",
    "ha/src/vip/peers",
    "ha/src/vip/speaker",
    "ha/src/vip/transfer",
    "ha/src/vip/watch",
    "ha/src/vip/wire_view.rs",
    "netlink/src/wire/",
    "node/src/balance/acl",
    "node/src/balance/attempt.rs",
    "node/src/balance/choice",
    "node/src/balance/hash.rs",
    "node/src/balance/pen",
    "node/src/balance/select",
    "node/src/control/drain.rs",
    "node/src/control/health.rs",
    "node/src/control/switchover.rs",
    "node/src/control/why.rs",
    "node/src/health/checks",
    "node/src/health/news.rs",
    "node/src/health/verdict.rs",
    "node/src/pen/answers",
    "node/src/pen/command",
    "node/src/pen/model",
    "node/src/pen/options",
    "node/src/pen/pages",
    "node/src/pen/penctl_words",
    "node/src/pen/service",
    "node/src/pen/words",
    "node/src/pen/write",
    "node/src/proxy/dsr/core",
    "node/src/proxy/dsr/table.rs",
    "node/src/proxy/half.rs",
    "node/src/proxy/udp/rest.rs",
    "node/src/proxy/udp/table.rs",
    "node/src/proxy/http/",
    "node/src/proxy/tls/client_hello.rs",
    "node/src/proxy/tls/expiry.rs",
    "node/src/proxy/tls/scratch.rs",
    "node/src/proxy/tls/session.rs",
    "node/src/proxy/tls/tickets.rs",
    "node/src/proxy/tls/wire.rs",
    "node/src/run/upgrade/giver.rs",
    "node/src/run/upgrade/taker.rs",
    "node/src/run/upgrade/word.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_path_buf()
}

fn files(extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && (!name.starts_with('.') || name == ".ci") {
                folders.push(path);
            } else if name.ends_with(extension) {
                let shown = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((shown, fs::read_to_string(&path).expect("text file")));
            }
        }
    }
    assert!(!found.is_empty(), "no *{extension} found: the test looks in the wrong place");
    found.sort();
    found
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// The part of a line before a comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

fn is_test_file(path: &str) -> bool {
    // The replays of captures are a test module too.
    path.contains("/tests/")
        || path.contains("/captures/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

#[test]
fn no_file_is_too_long_to_read_in_one_sitting() {
    let broken: Vec<_> = files(".rs")
        .iter()
        .filter(|(_, text)| text.lines().count() > FILE_LINES_MAX)
        .map(|(path, text)| format!("{path}: {} lines, at most {FILE_LINES_MAX}", text.lines().count()))
        .collect();
    report("files are split before they are a burden", &broken);
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut broken = Vec::new();
    for (path, text) in files(".rs") {
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words: Vec<&str> = code(line).split_whitespace().collect();
            let is_function = words.contains(&"fn")
                && words.first().is_some_and(|first| {
                    ["fn", "pub", "pub(crate)", "pub(super)", "async", "const", "unsafe", "extern"]
                        .contains(first)
                });
            // A declaration without a body ends with a semicolon.
            let head = lines[start..].iter().find(|line| code(line).trim_end().ends_with(['{', ';', '}']));
            if !is_function || !head.is_some_and(|line| code(line).trim_end().ends_with('{')) {
                continue;
            }
            let close = format!("{}}}", " ".repeat(indent));
            if let Some(length) = lines[start..].iter().position(|line| *line == close)
                && length + 1 > FUNCTION_LINES_MAX
            {
                broken.push(format!(
                    "{path}:{}: {} lines, at most {FUNCTION_LINES_MAX}",
                    start + 1,
                    length + 1
                ));
            }
        }
    }
    report("functions are split", &broken);
}

#[test]
fn unsafe_lives_in_netlink_and_each_block_says_why_it_is_sound() {
    let keyword = ["unsafe", " "].concat();
    let mut broken = Vec::new();
    for (path, text) in files(".rs") {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| code(line).contains(&keyword)) {
            if code(line).contains('"') {
                continue;
            }
            let above = &lines[at.saturating_sub(SAFETY_COMMENT_REACH)..=at];
            if !path.starts_with("netlink/") {
                broken.push(format!("{path}:{}: outside netlink", at + 1));
            } else if !above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
                broken.push(format!("{path}:{}: no SAFETY comment", at + 1));
            }
        }
    }
    report("`unsafe` is rare, in one room, and explained", &broken);
}

#[test]
fn every_queue_is_bounded() {
    let banned = [
        ["unbounded", "_channel("].concat(),
        ["mpsc::", "channel::<"].concat(),
        ["futures::channel::mpsc::", "unbounded"].concat(),
    ];
    let mut broken = Vec::new();
    for (path, text) in files(".rs") {
        for (at, line) in text.lines().enumerate() {
            let unbounded = banned.iter().any(|word| code(line).contains(word.as_str()));
            if unbounded && !line.contains("tokio::sync::mpsc::channel::<") {
                broken.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    report("unbounded queues are not allowed", &broken);
}

#[test]
fn pure_cores_see_neither_clock_nor_socket() {
    let banned =
        ["Instant::now", "SystemTime::now", "TcpStream", "UdpSocket", "std::fs", "tokio::", "thread::spawn"];
    let mut broken = Vec::new();
    for (path, text) in files(".rs") {
        if !PURE.iter().any(|room| path.starts_with(room)) || is_test_file(&path) {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            if line.starts_with("mod tests") || line.contains("#[cfg(test)]") {
                break;
            }
            if banned.iter().any(|word| code(line).contains(word)) {
                broken.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    report("a pure core takes `now` and inputs, and gives actions", &broken);
}

#[test]
fn nothing_is_left_open_in_the_code() {
    let banned = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!("));
    let marks = [["FIX", "ME"].concat(), ["X", "XX:"].concat(), ["TO", "DO"].concat()];
    let mut broken = Vec::new();
    for (path, text) in files(".rs") {
        for (at, line) in text.lines().enumerate() {
            if banned.iter().chain(&marks).any(|word| line.contains(word.as_str())) {
                broken.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    report("real, or not at all", &broken);
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in files(".md") {
        let folder = root().join(&path).parent().expect("a file has a folder").to_path_buf();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or("");
            let outside = target.contains("://") || target.starts_with("mailto:");
            if !outside && !file.is_empty() && !folder.join(file).exists() {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    report("dead links", &broken);
}

#[test]
fn files_named_in_the_architecture_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let rooms = ["netlink/", "ha/", "node/", "cluster-tests/", "vagrant/", "scripts/", "docs/", "packaging/"];
    let broken: Vec<_> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| rooms.iter().any(|room| name.starts_with(room)) && !name.contains(['*', '<', ' ']))
        .filter(|name| !root().join(name).exists())
        .map(str::to_owned)
        .collect();
    report("ARCHITECTURE.md names files that are not there", &broken);
}
