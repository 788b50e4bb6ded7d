//! The unit files of `packaging/systemd`, by the word of `systemd-analyze verify` where that is installed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd");

/// The unit files. A template gets an instance's name, or nothing of it is looked at.
fn units(into: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let services = files.filter(|file| file.extension().is_some_and(|ending| ending == "service"));
    services
        .map(|file| {
            let name = file.file_name().unwrap().to_str().unwrap().replace("@.", "@test.");
            fs::copy(&file, into.join(&name)).unwrap();
            into.join(name)
        })
        .collect()
}

/// What systemd finds wrong; `None`: it is not installed. That our programs are not installed is no fault of the file.
fn verified(unit: &Path) -> Option<Vec<String>> {
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = unit.file_name().unwrap().to_str().unwrap();
    let ours = |line: &&str| line.contains(name) && !line.contains("is not executable");
    Some(said.lines().filter(ours).map(str::to_owned).collect())
}

#[test]
fn each_unit_file_has_lines_that_a_unit_file_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let units = units(folder.path());
    assert!(units.len() >= 2, "{units:?}");
    for unit in units {
        let (text, mut section) = (fs::read_to_string(&unit).unwrap(), "");
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                assert!(["Unit", "Service", "Install"].contains(&name), "{unit:?}: {line}");
                section = name;
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{unit:?}: {line}"));
            assert!(!section.is_empty() && key.chars().all(char::is_alphanumeric), "{unit:?}: {line}");
            assert!(!key.starts_with("Exec") || value.starts_with('/'), "{unit:?}: {line}");
        }
        for wanted in ["\nExecStart=/usr/bin/", "\nRestart=", "\nLimitNOFILE=", "\nWantedBy="] {
            assert!(text.contains(wanted), "{unit:?}: no {wanted:?}");
        }
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_them_and_would_find_it() {
    let folder = tempfile::tempdir().unwrap();
    for unit in units(folder.path()) {
        let Some(faults) = verified(&unit) else { return eprintln!("SKIPPED: no systemd-analyze") };
        assert_eq!(faults, Vec::<String>::new());
        let text = fs::read_to_string(&unit).unwrap();
        fs::write(&unit, text.replace("\nRestart=", "\nRestrat=")).unwrap();
        assert_ne!(verified(&unit), Some(Vec::new()), "{unit:?}");
    }
}
