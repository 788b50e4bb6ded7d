//! Virtual routers of one node that move together (keepalived's `vrrp_sync_group`); pure. Roles go in, steps come out.
//!
//! ```text
//!            one cannot take part: all are barred
//!          +--------------------------------------+
//!          v                                      |
//!   +------------+      all can            +------+-------+
//!   |  all Down  |------------------------>| all Standby  |<------------------+
//!   +------------+                         +------+-------+                   |
//!          ^                 each would take over |                           | one gave way, or did not come along:
//!          |                                      v                           | the others step down
//!          |                 add addresses, one member after the other -------+
//!          |                                      | all are there             |
//!          |                                      v                           |
//!          |   one cannot take part        +--------------+                   |
//!          +-------------------------------|  all Active  |-------------------+
//!                                          +--------------+
//! ```
//!
//! Three rules keep it from swinging. A member takes over only when each of the others would, or does already: as keepalived has
//! it, rather Standby than a half. None claims anything before all have their addresses, and one that could not be added the last
//! time is tried first: what a node cannot hold it does not take from another, and not for a moment. And one that gave way because of the
//! others takes over only with them.
//!
//! Two roles at once are there only for a while: when a planned move, which goes router by router, is under way; and when a router is new
//! in its group. Whoever has not come along by [`Group::patience`] takes the others with it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Role;
use super::holder::Holder;
use crate::time::Time;

/// In a group with two roles the last one may come along for so long, beside [`PATIENCE_INTERVALS`].
const PATIENCE: Duration = Duration::from_secs(5);

/// Twice the time after which a silent holder counts as gone (three intervals and a skew), in intervals.
const PATIENCE_INTERVALS: u32 = 8;

/// What is to be done with a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// [`Holder::bar`].
    Bar(Option<String>),
    /// [`Holder::consent`].
    Consent,
    /// [`Holder::claim`].
    Claim,
    /// [`Holder::step_down`].
    StepDown(String),
    /// Tell the operator that nobody holds it, and why this node does not.
    Tell(String),
}

/// What one group remembers.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The roles of the members at the last look.
    roles: BTreeMap<String, Role>,
    /// Who gave way first since all had one role, and why.
    gave_way: Option<(String, String)>,
    /// Since when there are two roles.
    mixed: Option<Time>,
    /// Since when a member would take over and another would not.
    waits: Option<Time>,
    told: bool,
    /// The last look. What was due by then has come, or is kept back by a move.
    looked: Time,
}

impl Group {
    /// When [`Group::step`] wants to be called next, if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self, members: &[&Holder]) -> Option<Time> {
        let told = self.waits.filter(|_| !self.told);
        let due = self.mixed.into_iter().chain(told).map(|since| since + Self::patience(members));
        due.filter(|due| *due > self.looked).min()
    }

    /// How long two roles may be there.
    #[must_use]
    pub fn patience(members: &[&Holder]) -> Duration {
        let longest = members.iter().map(|member| member.settings().interval).max();
        PATIENCE + longest.unwrap_or_default() * PATIENCE_INTERVALS
    }

    /// The next step, with the member that it is for; to be called again when it is done, until there is none. `moving`: some
    /// of the members are being handed over to another node.
    pub fn step(
        &mut self,
        now: Time,
        name: &str,
        members: &[&Holder],
        moving: bool,
    ) -> Option<(usize, Step)> {
        self.look(now, members);
        if let Some(step) = bar(name, members) {
            return Some(step);
        }
        let is_active = |member: &&&Holder| member.role() == Role::Active;
        let is_standby = |member: &&&Holder| member.role() == Role::Standby;
        if members.iter().any(|member| member.role() == Role::Down) {
            // One that is barred says why; the others follow in this turn or the next.
            return None;
        }
        if members.iter().all(|member| is_active(&member)) {
            let claims = members.iter().position(|member| member.waits_to_claim());
            return claims.map(|which| (which, Step::Claim));
        }
        let behind = members.iter().find(|member| is_standby(member) && member.wish().is_none());
        match (members.iter().position(|member| is_active(&member)), behind) {
            (_, None) if self.gave_way.is_none() || moving => consent(members),
            (Some(active), behind) => {
                let why = self.parts(now, members, behind, moving)?;
                Some((active, Step::StepDown(format!("its group {name} moves as one: {why}"))))
            }
            (None, None) => consent(members),
            (None, Some(behind)) => self.waits(now, name, members, behind),
        }
    }

    fn look(&mut self, now: Time, members: &[&Holder]) {
        self.looked = now;
        for member in members {
            let before = self.roles.get(&member.settings().name);
            if before == Some(&Role::Active) && member.role() == Role::Standby {
                let gave_way = || (member.settings().name.clone(), member.reason().to_owned());
                self.gave_way.get_or_insert_with(gave_way);
            }
        }
        self.roles = members.iter().map(|member| (member.settings().name.clone(), member.role())).collect();
        let first = members.first().map(|member| member.role());
        if members.iter().all(|member| Some(member.role()) == first) {
            (self.gave_way, self.mixed) = (None, None);
        } else {
            self.mixed.get_or_insert(now);
        }
        if first != Some(Role::Standby)
            || self.mixed.is_some()
            || members.iter().all(|member| member.wish().is_none())
        {
            (self.waits, self.told) = (None, false);
        }
    }

    /// Some are Active and some are not: why the former step down now.
    fn parts(
        &self,
        now: Time,
        members: &[&Holder],
        behind: Option<&&Holder>,
        moving: bool,
    ) -> Option<String> {
        if moving {
            return None;
        }
        if let Some((who, why)) = &self.gave_way {
            return Some(format!("{who}: {why}"));
        }
        let behind = behind?;
        let over = self.mixed.is_some_and(|since| now.since(since) >= Self::patience(members));
        let late = over || members.iter().any(|member| member.waits_to_claim());
        late.then(|| format!("{} has not come along: {}", behind.settings().name, behind.reason()))
    }

    /// Some would take over and some would not. That is so for a moment at every take-over; when it lasts, nobody holds the
    /// address.
    fn waits(
        &mut self,
        now: Time,
        name: &str,
        members: &[&Holder],
        behind: &Holder,
    ) -> Option<(usize, Step)> {
        let (which, wish) =
            members.iter().enumerate().find_map(|(which, member)| Some((which, member.wish()?)))?;
        let since = *self.waits.get_or_insert(now);
        if self.told || now.since(since) < Self::patience(members) {
            return None;
        }
        self.told = true;
        let other = &behind.settings().name;
        Some((
            which,
            Step::Tell(format!(
                "{wish}; but its group {name} moves as one, and {other} follows another router"
            )),
        ))
    }
}

/// Each member has the reason of the first of the others that cannot take part.
fn bar(name: &str, members: &[&Holder]) -> Option<(usize, Step)> {
    let obstacles: Vec<Option<String>> = members.iter().map(|member| member.obstacle()).collect();
    members.iter().enumerate().find_map(|(which, member)| {
        let others = members.iter().zip(&obstacles).enumerate().filter(|(other, _)| *other != which);
        let why = others.filter_map(|(_, (other, why))| Some((&other.settings().name, why.as_ref()?))).next();
        let why = why.map(|(other, why)| format!("its group {name} moves as one: {other}: {why}"));
        (member.barred() != why.as_deref()).then_some((which, Step::Bar(why)))
    })
}

/// The next that takes over: one whose addresses could not be added the last time comes first.
fn consent(members: &[&Holder]) -> Option<(usize, Step)> {
    let wishes = || members.iter().enumerate().filter(|(_, member)| member.wish().is_some());
    let next = wishes().find(|(_, member)| member.is_troubled()).or_else(|| wishes().next());
    next.map(|(which, _)| (which, Step::Consent))
}

#[cfg(test)]
mod tests;
