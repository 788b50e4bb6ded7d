//! What follows from the operator's wish for this node. Pure.

use cygnet_ha::vip::{Mode, Role, VipView};

use super::status::{DRAINED, Facts, has_standby};
use super::types::{Admin, ApiError, ErrorCode, NodeSet, SetNode};

/// What would happen.
///
/// # Errors
/// [`ErrorCode::Refused`]: an address would be on no node. [`ErrorCode::NotFound`]: a witness holds nothing.
pub(super) fn consequences(facts: &Facts, change: &SetNode) -> Result<NodeSet, ApiError> {
    if facts.members.iter().any(|member| member.here && member.witness) {
        let error = format!("{} is a witness and holds no address", facts.node);
        return Err(ApiError::new(ErrorCode::NotFound, error, "ask one of the balancers"));
    }
    let drained = facts.ready_reason.starts_with(DRAINED);
    let drains = change.admin == Admin::Drain;
    let names = |wanted: &dyn Fn(&&VipView) -> bool| {
        facts.vips.iter().filter(wanted).map(|vip| vip.name.clone()).collect::<Vec<_>>()
    };
    let held = |vip: &&VipView| drains && vip.mode == Mode::Hold && vip.role == Role::Active;
    let without_standby = names(&|vip| held(vip) && !others_stand_by(facts, vip));
    if !without_standby.is_empty() && !change.force {
        let error = format!("no other node is ready to hold {}", without_standby.join(", "));
        let remedy =
            "see `cygnet status`; --force drains nevertheless, and clients are turned away meanwhile";
        return Err(ApiError::new(ErrorCode::Refused, error, remedy));
    }
    Ok(NodeSet {
        node: facts.node.clone(),
        admin: change.admin,
        changed: drained != drains,
        gives_up: names(&held),
        without_standby,
        watched: names(&|vip| drains && vip.mode == Mode::Watch && vip.role == Role::Active),
    })
}

/// In a cluster of one, nobody does.
fn others_stand_by(facts: &Facts, vip: &VipView) -> bool {
    facts.members.iter().filter(|member| !member.witness).count() > 1 && has_standby(facts, vip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::fake::facts;

    fn wish(admin: Admin, force: bool) -> SetNode {
        SetNode { admin, author: "alice".into(), comment: String::new(), force, dry_run: false }
    }

    #[test]
    fn a_drain_gives_up_what_is_held_where_somebody_stands_by() {
        let set = consequences(&facts(), &wish(Admin::Drain, false)).unwrap();
        assert_eq!((set.changed, set.gives_up, set.without_standby.len()), (true, vec!["www".to_owned()], 0));
        let set = consequences(&facts(), &wish(Admin::Ready, false)).unwrap();
        assert_eq!((set.changed, set.gives_up.len()), (false, 0));
    }

    #[test]
    fn a_drain_without_a_standby_is_refused_and_can_be_forced() {
        let mut alone = facts();
        alone.members[1].connected = false;
        let refusal = consequences(&alone, &wish(Admin::Drain, false)).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Refused);
        let forced = consequences(&alone, &wish(Admin::Drain, true)).unwrap();
        assert_eq!(forced.without_standby, ["www"]);
        alone.members.truncate(1);
        assert!(consequences(&alone, &wish(Admin::Drain, false)).is_err(), "a cluster of one");
    }

    #[test]
    fn what_another_daemon_moves_is_named_and_left_alone() {
        let mut watched = facts();
        watched.vips[0].mode = Mode::Watch;
        let set = consequences(&watched, &wish(Admin::Drain, false)).unwrap();
        assert_eq!((set.gives_up.len(), set.watched), (0, vec!["www".to_owned()]));
    }
}
