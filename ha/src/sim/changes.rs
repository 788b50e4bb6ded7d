//! What operators and workers ask for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::process::Input;
use super::world::{Event, World};
use crate::state::{Admin, AnnounceTicketKey, ClientFact, ConfirmConfig, Kind, PutConfig, SetServer};

/// The longest trial of a configuration, ms. Short enough to be over when the cluster has to have converged.
const TRIAL_MS_MAX: u64 = 3000;

/// Clients that come again and again.
const CLIENTS: u64 = 40;

impl World {
    /// A change or a fact at a random node, until all faults are over.
    pub(super) fn next_change(&mut self) {
        if self.healed {
            return;
        }
        let mean = u64::try_from(self.plan.change_gap.as_millis()).unwrap_or(100);
        let gap = Duration::from_millis(self.random.between(1, mean * 2));
        self.after(gap, Event::Change);
        let node = self.random.between(1, self.plan.nodes);
        let input = match self.random.below(10) {
            0 => self.on_trial(node),
            1..=3 => self.put(),
            4 if self.random.per_mille(200) => self.hurry_tickets(node),
            4 => self.set_server(),
            _ => self.fact(),
        };
        self.tell(node, input);
    }

    pub(super) fn burst(&mut self, node: u64) {
        let changes = self.random.between(10, 120);
        for _ in 0..changes {
            let input = if self.random.per_mille(300) { self.put() } else { self.fact() };
            self.tell(node, input);
        }
    }

    fn put(&mut self) -> Input {
        self.changes += 1;
        let length = usize::try_from(self.random.below(300)).unwrap_or(0);
        let text = format!("change {} {}", self.changes, "x".repeat(length));
        // Now and then on the condition that nobody was quicker.
        let if_version = self.random.per_mille(100).then(|| self.random.below(50));
        Input::Operator(Box::new(Kind::PutConfig(PutConfig { text, if_version, ..PutConfig::default() })))
    }

    /// A configuration on trial, or the confirmation of the one that waits as far as this node knows, or of another one.
    fn on_trial(&mut self, node: u64) -> Input {
        let process = self.machine(node).process.as_ref();
        let version =
            process.and_then(|process| process.core.as_ref()).map_or(0, |core| core.state().version());
        if self.random.per_mille(300) {
            let version = version.saturating_sub(self.random.below(2));
            return Input::Operator(Box::new(Kind::ConfirmConfig(ConfirmConfig {
                version,
                author: "anna".to_owned(),
            })));
        }
        self.changes += 1;
        let put = PutConfig {
            text: format!("trial {}", self.changes),
            unix_ms: self.now.0 / 1_000_000,
            confirm_within_ms: Some(self.random.between(200, TRIAL_MS_MAX)),
            ..PutConfig::default()
        };
        Input::Operator(Box::new(Kind::PutConfig(put)))
    }

    /// An operator does not like the key of session tickets any more.
    fn hurry_tickets(&mut self, node: u64) -> Input {
        let core = self.machine(node).process.as_ref().and_then(|process| process.core.as_ref());
        let after = core.map_or(0, |core| core.state().tickets().newest());
        let (unix_ms, author) = (self.now.0 / 1_000_000, "anna".to_owned());
        let announce = AnnounceTicketKey { after, unix_ms, sealed: vec![0], hurry: true, author };
        Input::Operator(Box::new(Kind::AnnounceTicketKey(announce)))
    }

    fn set_server(&mut self) -> Input {
        let state = if self.random.per_mille(500) { Admin::Drain } else { Admin::Ready };
        let server = format!("s{}", self.random.below(6));
        let service = "web".to_owned();
        Input::Operator(Box::new(Kind::SetServer(SetServer { service, server, state: state as i32 })))
    }

    fn fact(&mut self) -> Input {
        let client = IpAddr::from([10, 0, 0, u8::try_from(self.random.below(CLIENTS)).unwrap_or(0)]);
        let server: Arc<str> = format!("s{}", self.random.below(6)).into();
        // The wall clocks of the nodes differ, and are set back now and then.
        let seen = u32::try_from(self.now.0 / 1_000_000_000 + self.random.below(5)).unwrap_or(0);
        Input::Fact(ClientFact { service: "web".into(), client, server, seen })
    }

    /// When all is well again, a change must be possible.
    pub(super) fn ask_last_change(&mut self) {
        let node = self.random.between(1, self.plan.nodes);
        self.trace.note(self.now, node, format_args!("is asked for the last change"));
        let text = "the last change".to_owned();
        self.last_change = Some(text.clone());
        self.tell(
            node,
            Input::Operator(Box::new(Kind::PutConfig(PutConfig { text, ..PutConfig::default() }))),
        );
    }
}
