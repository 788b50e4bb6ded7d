//! The addresses on the interface: how they come there when this node takes over, what follows when one cannot be added or
//! removed, and how one that somebody else took away comes back.

use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::Message;

use super::place::Place;
use super::retry::Retry;
use super::{Action, Holder, event};
use crate::events::Severity;
use crate::time::Time;
use crate::vip::speaker::Reason;
use crate::vip::{Mode, Role, shown};

/// An address that somebody else removes is added again at most so often: against a daemon that fights us.
pub const READD_SPACING: Duration = Duration::from_secs(1);

/// What waits for addresses to be added.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// The event of the take-over; without it the addresses are only added again.
    pub(super) taken_over: Option<Reason>,
    pub(super) advert: Option<Message>,
    /// Those that the kernel has not answered for.
    pub(super) waiting: Vec<IpAddr>,
    /// Those that were there already.
    pub(super) adopted: Vec<IpAddr>,
    /// When all are there, the group is waited for.
    pub(super) holds_back: bool,
}

impl Pending {
    /// Whether nothing is waited for.
    pub(super) fn is_complete(&self) -> bool {
        self.waiting.is_empty() && !self.holds_back
    }
}

impl Holder {
    /// The answer to [`Action::AddAddress`]: whether it was new.
    pub fn added(&mut self, now: Time, address: IpAddr, answer: Result<bool, String>) -> Vec<Action> {
        let Some(place) = self.places.iter_mut().find(|place| place.address == address) else {
            return Vec::new();
        };
        if let Ok(new) = answer {
            place.is_there(new);
        }
        let Some(mut pending) = self.adding.take().filter(|_| self.role == Role::Active) else {
            // Another one of them failed meanwhile.
            return if place.ours && self.role != Role::Active { vec![place.remove()] } else { Vec::new() };
        };
        match answer {
            Ok(new) => {
                pending.waiting.retain(|waiting| *waiting != address);
                pending.adopted.extend((!new).then_some(address));
            }
            Err(error) => return self.failed_to_add(now, address, &error, &pending),
        }
        if pending.is_complete() {
            return self.added_all(now, pending);
        }
        self.adding = Some(pending);
        Vec::new()
    }

    /// The answer to [`Action::RemoveAddress`].
    pub fn removed(&mut self, now: Time, address: IpAddr, answer: Result<bool, String>) -> Vec<Action> {
        let Some(place) = self.places.iter_mut().find(|place| place.address == address) else {
            return Vec::new();
        };
        match answer {
            Ok(_) => {
                place.is_gone();
                if self.is_ours() {
                    return Vec::new();
                }
                self.last_word.take().map(Action::SendAdvert).into_iter().collect()
            }
            Err(error) => {
                self.last_word = None;
                let first = place.remove_retry.is_none();
                place.remove_retry = Some(Retry::after(now, place.remove_retry));
                if !first {
                    return Vec::new();
                }
                let what = format!("cannot remove {address}: two nodes may hold it");
                vec![event(Severity::Alert, what, error)]
            }
        }
    }

    pub(super) fn added_all(&mut self, now: Time, pending: Pending) -> Vec<Action> {
        self.add_retry = None;
        let mut actions = Vec::new();
        if let Some(reason) = &pending.taken_over {
            let (all, interface) = (shown(&self.settings.addresses), &self.settings.interface);
            let what = match self.places.iter().all(Place::is_own) {
                true => format!("active: {all} is on {interface} as this node's own"),
                false => format!("active: holds {all} on {interface}"),
            };
            actions.push(event(reason.severity(), what, reason.to_string()));
            if !pending.adopted.is_empty() {
                let what = format!("adopts {}, which was there already", shown(&pending.adopted));
                let why = "it is removed when this node is active no more".to_owned();
                actions.push(event(Severity::Info, what, why));
            }
        }
        actions.push(Action::Announce);
        self.announce = Some(Self::next_announcement(now, 0));
        actions.extend(pending.advert.map(Action::SendAdvert));
        actions
    }

    /// A node that cannot add the address must not stay Active: it would be a black hole.
    fn failed_to_add(&mut self, now: Time, address: IpAddr, error: &str, pending: &Pending) -> Vec<Action> {
        let first = self.add_retry.is_none();
        self.add_retry = Some(Retry::after(now, self.add_retry));
        let mut actions = Vec::new();
        if first {
            let what = format!("cannot add {address} to {}", self.settings.interface);
            actions.push(event(Severity::Alert, what, error.to_owned()));
        }
        let said = self.speaker.stop(&format!("{address} cannot be added: {error}"));
        let followed = self.follow(now, said);
        // At a take-over nothing was claimed yet, so there is nothing to resign from.
        let claimed = pending.taken_over.is_none();
        actions.extend(
            followed.into_iter().filter(|action| claimed || !matches!(action, Action::SendAdvert(_))),
        );
        actions
    }

    /// Adds the addresses that are gone although this node is Active.
    pub(super) fn add_again(&mut self, now: Time, why: &str) -> Vec<Action> {
        self.readd_not_before = now + READD_SPACING;
        let gone = self.places.iter().filter(|place| !place.presence.any());
        let waiting: Vec<IpAddr> = gone.map(|place| place.address).collect();
        let what = format!("{} was gone from {}", shown(&waiting), self.settings.interface);
        let event = event(Severity::Warning, what, why.to_owned());
        let actions = std::iter::once(event).chain(waiting.iter().copied().map(Action::AddAddress)).collect();
        self.adding = Some(Pending { waiting, ..Pending::default() });
        actions
    }

    /// Active, and free to speak, but the kernel does not have all addresses any more.
    pub(super) fn lacks_address(&self) -> bool {
        self.settings.mode == Mode::Hold
            && self.role == Role::Active
            && self.speaker.listens().is_none()
            && self.adding.is_none()
            && !self.is_present()
    }
}
