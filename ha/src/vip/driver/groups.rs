//! Groups of virtual routers at work ([`crate::vip::group`]): their steps done, and planned moves made whole.

use std::collections::BTreeSet;

use super::run::{Driver, Vip};
use crate::events::Severity;
use crate::time::Time;
use crate::vip::Role;
use crate::vip::group::Step;
use crate::vip::holder::Holder;

/// Steps of a group in one turn, for each member: barred, consenting, claiming, and one to spare. What is left waits for the next
/// turn.
const STEPS_MAX: usize = 4;

impl Driver {
    /// Lets each group have one role.
    pub(super) async fn look_after_the_groups(&mut self) {
        let vips = self.vips.iter().filter(|vip| !vip.leaving);
        let names: BTreeSet<String> = vips.filter_map(|vip| group_of(vip).map(str::to_owned)).collect();
        self.groups.retain(|name, _| names.contains(name));
        for name in names {
            let members = self.members(&name);
            for _ in 0..STEPS_MAX * members.len() {
                let now = self.now();
                let moving = members.iter().any(|which| self.is_moving(*which));
                let holders: Vec<&Holder> =
                    members.iter().filter_map(|which| self.vips.get(*which)).map(|vip| &vip.holder).collect();
                let group = self.groups.entry(name.clone()).or_default();
                let Some((member, step)) = group.step(now, &name, &holders, moving) else { break };
                let Some(which) = members.get(member) else { break };
                self.take_step(now, *which, step).await;
            }
        }
    }

    async fn take_step(&mut self, now: Time, which: usize, step: Step) {
        let Some(vip) = self.vips.get_mut(which) else { return };
        let actions = match step {
            Step::Bar(why) => vip.holder.bar(now, why),
            Step::Consent => vip.holder.consent(now),
            Step::Claim => vip.holder.claim(now),
            Step::StepDown(why) => vip.holder.step_down(now, &why),
            Step::Tell(why) => {
                let what = "nobody is heard that holds it, and this node does not take it";
                return self.events.record(Severity::Alert, &vip.subject, what, why);
            }
        };
        self.act(which, actions).await;
    }

    /// When [`Driver::look_after_the_groups`] wants to be called next.
    pub(super) fn group_timeout(&self) -> Option<Time> {
        let timeout = |(name, group): (&String, &crate::vip::group::Group)| {
            let members = self.members(name);
            let holders: Vec<&Holder> =
                members.iter().filter_map(|which| self.vips.get(*which)).map(|vip| &vip.holder).collect();
            group.poll_timeout(&holders)
        };
        self.groups.iter().filter_map(timeout).min()
    }

    /// The members of a group that are to stay, in the order of the configuration.
    fn members(&self, group: &str) -> Vec<usize> {
        let is_member = |vip: &Vip| !vip.leaving && group_of(vip) == Some(group);
        (0..self.vips.len()).filter(|which| self.vips.get(*which).is_some_and(is_member)).collect()
    }

    /// These virtual routers, and whoever moves with them.
    pub(super) fn with_their_groups(&self, names: Vec<String>) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for name in names {
            let group = self.named(&name).and_then(|which| group_of(self.vips.get(which)?));
            let members = group.map(|group| self.members(group)).unwrap_or_default();
            let members = members.into_iter().filter_map(|which| self.vips.get(which));
            let members = members.filter(|vip| vip.holder.role() == Role::Active);
            for name in std::iter::once(name).chain(members.map(|vip| vip.holder.settings().name.clone())) {
                if !all.contains(&name) {
                    all.push(name);
                }
            }
        }
        all
    }

    /// Whether it is the one that speaks for its group, or for itself.
    pub(super) fn leads(&self, which: usize) -> bool {
        let group = self.vips.get(which).and_then(group_of);
        group.is_none_or(|group| self.members(group).first() == Some(&which))
    }

    /// The node that takes a virtual router, and all that move with it.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn successor(&self, now: Time, name: &str, to: Option<&str>) -> Result<u64, String> {
        let peers = &self.link.peers;
        let group = self.named(name).and_then(|which| group_of(self.vips.get(which)?));
        let Some(group) = group else { return peers.successor(now, name, to) };
        let names: Vec<&str> = self.members(group).into_iter().filter_map(|which| self.name(which)).collect();
        let Some(first) = names.first() else { return peers.successor(now, name, to) };
        let of = |member: &str, to: Option<&str>| {
            let together = |why| match member == name {
                true => why,
                false => format!("its group {group} moves as one: {member}: {why}"),
            };
            peers.successor(now, member, to).map_err(together)
        };
        // All to the one that is best for the first.
        let node = of(first, to)?;
        let to = peers.name(node);
        names.iter().try_for_each(|member| of(member, Some(&to)).map(drop))?;
        Ok(node)
    }

    fn name(&self, which: usize) -> Option<&str> {
        self.vips.get(which).map(|vip| vip.holder.settings().name.as_str())
    }

    fn is_moving(&self, which: usize) -> bool {
        self.name(which).is_some_and(|name| self.link.has_move(name))
    }
}

fn group_of(vip: &Vip) -> Option<&str> {
    vip.holder.settings().sync_group.as_deref()
}
