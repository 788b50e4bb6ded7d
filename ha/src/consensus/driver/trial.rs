//! A configuration on trial, as the driver follows it.

use super::Driver;
use crate::consensus::join::unix_ms;
use crate::events::Severity;
use crate::state::Outcome;

/// What the events are about.
const SUBJECT: &str = "config";

impl Driver {
    /// The newest kind of command that may be proposed: what every member has announced, or what is in the log already, where
    /// a member that cannot be asked now has to understand it too.
    pub(super) fn level(&self) -> u32 {
        let in_log = self.core.as_ref().map_or(0, |core| core.state().level());
        self.shared.common_level().max(in_log.min(self.shared.settings.level))
    }

    /// The configuration may be another one. `fresh`: it was agreed on just now.
    pub(super) fn count_down(&mut self, fresh: bool) {
        if let Some(core) = &self.core {
            let configuration = core.state().configuration();
            self.countdown.follow(configuration, fresh, self.shared.now_ms(), unix_ms());
        }
    }

    /// The end of a trial is told on every node.
    pub(super) fn tell_trial(&self, outcome: &Outcome) {
        let events = &self.shared.settings.events;
        match outcome {
            Outcome::Confirmed { version, author } => {
                let what = format!("configuration v{version} was confirmed");
                events.record(Severity::Info, SUBJECT, what, format!("by {author}"));
            }
            Outcome::Returned { version, back_to, unasked } => {
                let trial = version.saturating_sub(1);
                let (severity, how, why) = if *unasked {
                    let why = "nobody ran `cygnet config confirm`";
                    (Severity::Warning, "was not confirmed in time", why)
                } else {
                    (Severity::Info, "was taken back", "see `cygnet config history`")
                };
                let what = format!("configuration v{trial} {how}; v{back_to} is back, as v{version}");
                events.record(severity, SUBJECT, what, why);
            }
            _ => {}
        }
    }
}
