//! What stands against taking part in the election.

use super::{Holder, Link};
use crate::vip::{Mode, shown};

impl Holder {
    /// The first reason against taking part, its group aside.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let interface = &self.settings.interface;
        if let Some(why) = self.stopped {
            return Some(why.to_owned());
        }
        match self.ground.link {
            Link::Unknown => return Some("starting".to_owned()),
            Link::Missing => return Some(format!("there is no interface {interface}")),
            Link::Renamed => return Some(format!("{interface} has another name now")),
            Link::Down => return Some(format!("{interface} is down or has no carrier")),
            Link::Up => {}
        }
        if self.settings.mode == Mode::Watch {
            return None;
        }
        if let Some(error) = &self.ground.socket_error {
            return Some(format!("no socket for advertisements on {interface}: {error}"));
        }
        if self.ground.source.is_none() {
            // Over IPv6 adverts come from the link-local one (RFC 9568 section 5.1.2.1), which the kernel tries out for a second.
            let kind = if self.settings.is_ipv4() { "IPv4" } else { "link-local IPv6" };
            return Some(format!("{interface} has no {kind} address of this node that may be used"));
        }
        if let Some(why) = &self.unready {
            return Some(format!("not ready: {why}"));
        }
        let waits = self.add_retry.is_some_and(|retry| retry.due.is_some());
        waits.then(|| {
            let all = shown(&self.settings.addresses);
            format!("{all} could not be added to {interface}; it is tried again")
        })
    }
}
