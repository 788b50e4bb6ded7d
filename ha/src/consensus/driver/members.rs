//! The members as the driver tends them: adopted, promoted, told about; and the cluster's recovery.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{Driver, SUBJECT, publish_state};
use crate::consensus::core::{Core, CoreError, Discarded};
use crate::consensus::frame::Frame;
use crate::consensus::handle::ProposeError;
use crate::consensus::join::unix_ms;
use crate::consensus::keeper::remember_members;
use crate::consensus::limits::TEND_EVERY;
use crate::consensus::shared::{Input, Member};
use crate::consensus::store::Epoch;
use crate::events::Severity;
use crate::state::{
    AdoptMembers, Command, Kind, MemberId, MemberRecord, Members, Origin, Standing, WireMember,
};

/// Where the configurations that a node had to give up are kept, in the state directory.
const DISCARDED_FILE: &str = "discarded.toml";

impl Driver {
    /// What is due every now and then: a configuration that nobody confirmed gives way, the list in the files moves into the
    /// log, learners become voters, leadership goes to the node that holds the address.
    pub(super) fn tend(&mut self, now: Instant) {
        if now < self.tend_not_before {
            return;
        }
        self.tend_not_before = now + TEND_EVERY;
        let Some(core) = &self.core else { return };
        if !core.is_leader() {
            if let Some(leader) = core.leader().filter(|_| self.active && core.last() == core.commit()) {
                self.shared.send(leader, Frame::Lead);
            }
            return;
        }
        let members = core.state().members();
        let returned = self.countdown.due(self.shared.now_ms(), unix_ms());
        let due = if returned.is_some() {
            returned
        } else if members.is_empty() {
            Some(Kind::AdoptMembers(AdoptMembers {
                members: self.listed().iter().map(WireMember::from).collect(),
            }))
        } else {
            let joining = |member: &&MemberRecord| member.standing == Standing::Joining;
            let ready = members.iter().filter(joining).find(|member| core.has_caught_up(member.id));
            let room = members.voters().len() < crate::state::members::VOTERS_MAX;
            ready.filter(|_| room).map(|member| Kind::PromoteMember(MemberId { id: member.id }))
        };
        let Some(kind) = due.filter(|kind| kind.level() <= self.level()) else { return };
        let origin = Some(Origin { node: self.shared.settings.id, sequence: self.sequence() });
        let command = Command { origin, ..Command::new(kind) };
        if let Some(core) = &mut self.core {
            // Refused while another change is on its way; it is due again soon.
            let _ = core.propose(command.encode(), false);
        }
    }

    /// The members as the node's file lists them.
    fn listed(&self) -> Vec<MemberRecord> {
        let record = |member: &Member| MemberRecord {
            id: member.id,
            name: member.name.clone(),
            address: member.address,
            witness: member.witness,
            standing: Standing::Voter,
            key: Vec::new(),
        };
        self.shared.settings.members.iter().map(record).collect()
    }

    /// That node holds the address. It may lead, unless we hold one too.
    pub(super) fn lead_wish(&mut self, from: u64) {
        if !self.active
            && let Some(core) = &mut self.core
        {
            core.hand_over_to(Some(from));
        }
    }

    /// The members may be others than before: connections, events, and the end of this node's part if it is gone.
    pub(super) fn follow_members(&mut self) -> Result<(), CoreError> {
        let Some(core) = &self.core else { return Ok(()) };
        let members = core.state().members().clone();
        if members.is_empty() || core.is_waiting() {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.members, members.clone());
        if before == members {
            return Ok(());
        }
        publish_state(&self.shared, core);
        self.shared.set_members(members.iter().map(Member::from).collect());
        if !before.is_empty() {
            self.tell_members(&before, &members);
        }
        if members.was_removed(self.shared.settings.id) {
            // What the directory knows of this node stays, so that it can say after a restart why it takes no part.
            return Err(CoreError::Removed);
        }
        remember_members(&self.shared);
        Ok(())
    }

    fn tell_members(&self, before: &Members, after: &Members) {
        let record = |what: String, why: &str| {
            self.shared.settings.events.record(Severity::Info, SUBJECT, what, why);
        };
        for member in after.iter() {
            let standing = before.get(member.id).map(|old| old.standing);
            match (standing, member.standing) {
                (None, _) => record(format!("{} has joined", member.name), "it votes when it has caught up"),
                (Some(Standing::Joining | Standing::Learner), Standing::Voter) => {
                    record(format!("{} is a voter now", member.name), "it has caught up");
                }
                _ => {}
            }
        }
        for gone in before.iter().filter(|old| after.get(old.id).is_none()) {
            record(format!("{} was removed from the cluster", gone.name), "");
        }
    }

    /// Makes this node the only voter.
    pub(super) fn recover(
        &mut self,
        reply: oneshot::Sender<Result<Epoch, ProposeError>>,
    ) -> Result<(), CoreError> {
        let listed = self.listed();
        let Some(core) = self.core.take() else {
            let reason = self.stopped.clone().unwrap_or_default();
            let _ = reply.send(Err(ProposeError::Stopped(reason)));
            return Ok(());
        };
        let core = core.recover(listed)?;
        let epoch = core.epoch();
        self.live_in(core);
        if let Some(core) = self.core.as_mut() {
            core.advance()?;
        }
        self.restore_applied();
        let what = format!("this node is the only voter now, in epoch {}", epoch.number);
        let why = "`cygnet cluster recover`; the other nodes follow when they come back";
        self.shared.settings.events.record(Severity::Warning, SUBJECT, what, why);
        self.follow_members()?;
        self.publish(true);
        let _ = reply.send(Ok(epoch));
        Ok(())
    }

    /// Follows the survivor of another epoch.
    pub(super) fn adopt(&mut self, from: u64, epoch: Epoch) -> Result<(), CoreError> {
        if self.core.as_ref().is_none_or(|core| core.epoch().number >= epoch.number) {
            return Ok(());
        }
        let Some(core) = self.core.take() else { return Ok(()) };
        let (core, discarded) = core.adopt(epoch)?;
        self.live_in(core);
        self.tell_discarded(from, epoch, &discarded);
        self.publish(false);
        Ok(())
    }

    fn live_in(&mut self, core: Core<crate::consensus::store::redb::RedbStore>) {
        self.shared.set_epoch(core.epoch());
        self.core = Some(core);
        self.leader = None;
        for pending in std::mem::take(&mut self.pending).into_values() {
            pending.answer(Err(ProposeError::Stopped(
                "the cluster was recovered meanwhile; try again".to_owned(),
            )));
        }
        self.land(|_| true);
    }

    fn tell_discarded(&self, from: u64, epoch: Epoch, discarded: &Discarded) {
        let Discarded { entries, configurations, changes } = discarded;
        let what = format!(
            "the cluster was recovered without this node (epoch {}); it follows {}",
            epoch.number,
            self.shared.name_of(from)
        );
        let mut why = format!(
            "discarded {entries} entries: {} configurations, {changes} other changes",
            configurations.len()
        );
        if let Some(put) = configurations.last() {
            let file = self.shared.settings.state_dir.join(DISCARDED_FILE);
            let kept = std::fs::write(&file, &put.text).is_ok();
            let place = if kept { format!(", kept in {}", file.display()) } else { String::new() };
            why.push_str(&format!("; the last configuration was by {} ({}){place}", put.author, put.comment));
        }
        self.shared.settings.events.record(Severity::Warning, SUBJECT, what, why);
    }

    /// The rest of the node takes the state as a whole.
    pub(super) fn restore_applied(&mut self) {
        if let Some(core) = &self.core {
            publish_state(&self.shared, core);
            self.applied.restored(core.state());
        }
        self.count_down(false);
        self.follow_tickets(false);
    }

    /// Inputs that concern members.
    pub(super) fn take_members(&mut self, input: Input) -> Result<(), CoreError> {
        match input {
            Input::Active(active) => self.active = active,
            Input::LeadWish { from } => self.lead_wish(from),
            Input::Adopt { from, epoch } => return self.adopt(from, epoch),
            Input::Recover { reply } => return self.recover(reply),
            Input::Removed if self.core.is_some() => return Err(CoreError::Removed),
            _ => {}
        }
        Ok(())
    }
}
