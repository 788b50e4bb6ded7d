//! Moves between nodes that know each other: asked for, certain, and without a moment in which nobody has the address.
//!
//! ```text
//!   old: Active, asks the new one ............... hears its advert: Standby, keeps the address for [`LINGER_MAX`], removes it
//!   new: Standby, is asked: adds the address, announces it, advertises: Active
//! ```

use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::Message;

use super::place::Place;
use super::{Action, Holder};
use crate::time::Time;
use crate::vip::speaker::Reason;
use crate::vip::speaker::vrrp::PRIORITY_OWNER;
use crate::vip::{Mode, Role};

/// So long the old holder keeps the address, silently, when the new one has announced it: requests that are under way here may
/// end. Shorter than the pause after which the new one announces again ([`super::ANNOUNCE_AGAIN`]), so that whoever asked
/// meanwhile and heard us is put right.
pub const LINGER_MAX: Duration = Duration::from_millis(80);

/// An address that another has taken, and that is still here.
#[derive(Clone, Debug)]
pub(super) struct Linger {
    pub(super) until: Time,
    /// The loser's repeated claim, which is for the time when the address is gone.
    pub(super) last_word: Option<Message>,
}

impl Holder {
    /// Whether the address is kept only until what is under way has ended.
    #[must_use]
    pub fn lingers(&self) -> bool {
        self.linger.is_some()
    }

    /// Gives way to the next advert from there, as if that router were better. `None`: not any more.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn set_heir(&mut self, heir: Option<IpAddr>) -> Result<(), String> {
        if self.settings.mode == Mode::Watch {
            return Err("another daemon moves it; this node only watches".to_owned());
        }
        if self.role != Role::Active {
            return Err("this node does not hold it".to_owned());
        }
        if self.settings.priority == PRIORITY_OWNER && heir.is_some() {
            return Err("this node owns it (priority 255); give it a lower priority".to_owned());
        }
        self.speaker.set_heir(heir);
        Ok(())
    }

    /// Takes over from the router at `from`, which holds the address and asks for it.
    ///
    /// # Errors
    /// Why not.
    pub fn take(&mut self, now: Time, from: IpAddr) -> Result<Vec<Action>, String> {
        match (self.settings.mode, self.role) {
            (Mode::Watch, _) => Err("this node only watches it".to_owned()),
            (Mode::Hold, Role::Active) => Err("this node holds it already".to_owned()),
            (Mode::Hold, Role::Down) => Err(self.reason.clone()),
            (Mode::Hold, Role::Standby) => {
                let said = self.speaker.take(now, from);
                Ok(self.follow(now, said))
            }
        }
    }

    /// The router at `source` holds nothing any more, for certain: it is dead and its guard has said so, or it has let go and
    /// says so itself. `at_once`: no better node is there to take over.
    pub fn bereft(&mut self, now: Time, source: IpAddr, at_once: bool, reason: Reason) -> Vec<Action> {
        if self.settings.mode == Mode::Watch {
            return Vec::new();
        }
        let said = self.speaker.bereft(now, source, at_once, reason);
        self.follow(now, said)
    }

    /// A router that repeats its claim must do so within the interval in which the winner expects it.
    pub(super) fn begin_linger(&self, now: Time, reason: &Reason) -> Linger {
        let time = match reason {
            Reason::HandedOver(_) => LINGER_MAX,
            _ => LINGER_MAX.min(self.settings.interval / 2),
        };
        Linger { until: now + time, last_word: None }
    }

    /// Removes what lingers, if its time is over.
    pub(super) fn end_linger(&mut self, now: Time) -> Vec<Action> {
        let Some(linger) = self.linger.take_if(|linger| linger.until <= now) else { return Vec::new() };
        self.last_word = linger.last_word;
        self.places.iter().filter(|place| place.ours).map(Place::remove).collect()
    }
}
