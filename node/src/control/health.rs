//! What the nodes know of the servers by their health checks: told between them, and shown side by side. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::status::age;

/// Servers that a node's report names at most: with names of 63 bytes some 8 KiB, half of what a report may have. Of those
/// beyond it the others know nothing.
pub const SERVERS_REPORTED: usize = 64;

/// What one node tells the others of its servers. Every server that is checked and not named is up from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// Servers that are down from there, by service.
    pub down: BTreeMap<String, Vec<String>>,
    /// Servers of which nothing is known there yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<String, Vec<String>>,
    /// There are more than [`SERVERS_REPORTED`]: of a server that is not named nothing is said.
    #[serde(default)]
    pub cut: bool,
}

impl HealthReport {
    /// Of the servers that are not up: service, server, and whether it is known to be down. Those that are down come first.
    pub fn of<'a>(not_up: impl Iterator<Item = (&'a str, &'a str, bool)> + Clone) -> Self {
        let mut report = Self { cut: not_up.clone().count() > SERVERS_REPORTED, ..Self::default() };
        let down = not_up.clone().filter(|(.., down)| *down);
        let all = down.chain(not_up.filter(|(.., down)| !*down));
        for (service, server, down) in all.take(SERVERS_REPORTED) {
            let list = if down { &mut report.down } else { &mut report.unknown };
            list.entry(service.to_owned()).or_default().push(server.to_owned());
        }
        report
    }

    /// Whether a checked server is up from there; `None`: it is not known.
    #[must_use]
    pub fn says(&self, service: &str, server: &str) -> Option<bool> {
        let has = |list: &BTreeMap<String, Vec<String>>| {
            list.get(service).is_some_and(|servers| servers.iter().any(|known| known == server))
        };
        match (has(&self.down), has(&self.unknown)) {
            (true, _) => Some(false),
            (false, true) => None,
            (false, false) => (!self.cut).then_some(true),
        }
    }
}

/// What is believed of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// No check has ended yet.
    #[default]
    Unknown,
    /// It gets connections.
    Up,
    /// It gets none while there is another.
    Down,
}

/// What the health checks of this node say of a server, and those of the others beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// What is believed here.
    pub state: CheckState,
    /// For how long.
    pub state_age_ms: u64,
    /// Why it is down, or why the last check failed.
    pub reason: Option<String>,
    /// Checks in a row that passed until now.
    pub passed_row: u32,
    /// Checks in a row that failed until now.
    pub failed_row: u32,
    /// Needed in a row to come up.
    pub rise: u32,
    /// Needed in a row to go down.
    pub fall: u32,
    /// Checks that passed since this node began to check the server.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
    /// Checks that this node could not make.
    pub not_asked: u64,
    /// Changes between up and down.
    pub flips: u64,
    /// How long the last check that passed took, microseconds.
    pub took_us: Option<u64>,
    /// What other nodes have said.
    pub elsewhere: Vec<Elsewhere>,
}

/// Another node's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The node.
    pub node: String,
    /// Up from there; otherwise down.
    pub up: bool,
    /// How old its word is.
    pub age_ms: u64,
}

/// A server, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCheck {
    /// Its name.
    pub server: String,
    /// What the checks say.
    pub check: CheckView,
}

impl CheckView {
    /// Down from here.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state == CheckState::Down
    }

    /// Down from another node.
    #[must_use]
    pub fn is_down_elsewhere(&self) -> bool {
        self.elsewhere.iter().any(|other| !other.up)
    }

    /// `down from here, up from lb2: HTTP 503 instead of 200-399, for 12s, 3 of 3 failed`.
    #[must_use]
    pub fn told(&self) -> String {
        let nodes = |up: bool| {
            let names = self.elsewhere.iter().filter(|other| other.up == up).map(|other| other.node.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let (ups, downs) = (nodes(true), nodes(false));
        let place = match (self.is_down(), ups.is_empty(), downs.is_empty()) {
            (true, false, _) => format!("down from here, up from {ups}"),
            (true, true, false) => format!("down, from {downs} too"),
            (true, true, true) => "down".to_owned(),
            (false, _, false) if self.state == CheckState::Up => format!("up from here, down from {downs}"),
            (false, _, false) => format!("not checked yet here, down from {downs}"),
            (false, _, true) => "up".to_owned(),
        };
        match &self.reason {
            Some(reason) => format!("{place}: {reason}, for {}, {}", age(self.state_age_ms), self.row()),
            None => place,
        }
    }

    fn row(&self) -> String {
        if self.passed_row > 0 {
            return format!("{} of {} passed", self.passed_row, self.rise);
        }
        format!("{} of {} failed", self.failed_row.min(self.fall), self.fall)
    }

    /// Where to look next.
    #[must_use]
    pub fn remedy(&self) -> String {
        let down_here = self.is_down();
        match self.elsewhere.iter().find(|other| other.up == down_here) {
            Some(_) if down_here => "look at this node's way to the server".to_owned(),
            Some(other) => format!("look at the way from {} to the server", other.node),
            None => "look at the server".to_owned(),
        }
    }

    /// How long the last check that passed took, for people.
    #[must_use]
    pub fn took(&self) -> Option<String> {
        self.took_us.map(|us| format!("{}.{:03}ms", us / 1000, us % 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere(node: &str, up: bool) -> Elsewhere {
        Elsewhere { node: node.into(), up, age_ms: 300 }
    }

    fn down() -> CheckView {
        CheckView {
            state: CheckState::Down,
            state_age_ms: 12_400,
            reason: Some("HTTP 503 instead of 200-399".into()),
            failed_row: 7,
            rise: 2,
            fall: 3,
            ..CheckView::default()
        }
    }

    #[test]
    fn down_from_here_is_told_apart_from_down() {
        let why = "HTTP 503 instead of 200-399, for 12s, 3 of 3 failed";
        let told = |elsewhere: Vec<Elsewhere>| {
            let view = CheckView { elsewhere, ..down() };
            (view.told(), view.remedy())
        };
        assert_eq!(told(vec![]), (format!("down: {why}"), "look at the server".into()));
        let one_sided =
            (format!("down from here, up from lb2: {why}"), "look at this node's way to the server".into());
        assert_eq!(told(vec![elsewhere("lb2", true)]), one_sided);
        let both = (format!("down, from lb2 too: {why}"), "look at the server".into());
        assert_eq!(told(vec![elsewhere("lb2", false)]), both);
        let rising = CheckView { passed_row: 1, failed_row: 0, ..down() };
        assert!(rising.told().ends_with("for 12s, 1 of 2 passed"), "{}", rising.told());
        let up = CheckView {
            state: CheckState::Up,
            elsewhere: vec![elsewhere("lb2", false)],
            ..CheckView::default()
        };
        assert_eq!(up.told(), "up from here, down from lb2");
        assert_eq!(up.remedy(), "look at the way from lb2 to the server");
    }

    #[test]
    fn a_report_says_of_each_server_what_is_known() {
        let not_up = [("web", "s1", true), ("web", "s2", false), ("dns", "s1", true)];
        let report = HealthReport::of(not_up.into_iter());
        assert_eq!(report.says("web", "s1"), Some(false));
        assert_eq!(report.says("web", "s2"), None, "not known yet there");
        assert_eq!(report.says("web", "s3"), Some(true));
        assert_eq!(report.says("dns", "s1"), Some(false));
    }

    #[test]
    fn a_report_is_bounded_and_says_nothing_of_what_it_leaves_out() {
        let names: Vec<String> = (0..1000).map(|n| format!("{n:0>63}")).collect();
        // The last ones are down, and come first all the same.
        let not_up = names.iter().enumerate().map(|(n, name)| (name.as_str(), name.as_str(), n >= 990));
        let report = HealthReport::of(not_up);
        assert_eq!(report.says(&names[995], &names[995]), Some(false));
        assert_eq!(report.says(&names[989], &names[989]), None);
        assert_eq!(report.says("web", "s1"), None);
        let named = |list: &BTreeMap<String, Vec<String>>| list.values().map(Vec::len).sum::<usize>();
        assert_eq!(named(&report.down) + named(&report.unknown), SERVERS_REPORTED);
        assert!(serde_json::to_vec(&report).unwrap().len() < super::super::status::REPORT_BYTES_MAX * 2 / 3);
    }
}
