//! The role of a node that only watches: another daemon moves the address.

use std::net::IpAddr;

use super::{Action, Holder, event};
use crate::events::Severity;
use crate::time::Time;
use crate::vip::{Role, shown};

impl Holder {
    /// Watch mode: the role is what the kernel shows.
    pub(super) fn watched(&mut self, now: Time, obstacle: Option<String>) -> Vec<Action> {
        let interface = &self.settings.interface;
        let here: Vec<IpAddr> =
            self.places.iter().filter(|place| place.presence.any()).map(|place| place.address).collect();
        let (role, why) = match obstacle {
            Some(why) => (Role::Down, why),
            None if !here.is_empty() => (Role::Active, format!("{} is on {interface}", shown(&here))),
            None => {
                let all = shown(&self.settings.addresses);
                (Role::Standby, format!("{all} is not on {interface}"))
            }
        };
        if role == self.role {
            self.reason = why;
            return Vec::new();
        }
        self.enter(now, role, why.clone());
        let severity = if role == Role::Down { Severity::Warning } else { Severity::Info };
        let mut actions = vec![event(severity, role.word().to_owned(), why)];
        if let (Role::Active, Some(unready)) = (role, &self.unready) {
            let what = "this node holds the address but cannot serve".to_owned();
            actions.push(event(Severity::Alert, what, unready.clone()));
        }
        actions
    }
}
