//! Whether an address may be moved on purpose. Pure.

use super::status::{Facts, MemberFacts};
use super::types::{ApiError, ErrorCode, SwitchOver};

/// Refuses a move to a node that is worse than this one. Whether it stands by at all is the elections' to say.
///
/// # Errors
/// [`ErrorCode::NotFound`]: no such node, or virtual address. [`ErrorCode::Refused`]: it is this one, or worse.
pub(super) fn allow(facts: &Facts, wish: &SwitchOver) -> Result<(), ApiError> {
    let known = |name: &&String| facts.vips.iter().any(|vip| vip.name == **name);
    if let Some(unknown) = wish.vips.iter().find(|name| !known(name)) {
        let names: Vec<&str> = facts.vips.iter().map(|vip| vip.name.as_str()).collect();
        let error = format!("no virtual address {unknown}");
        return Err(ApiError::new(ErrorCode::NotFound, error, format!("there are: {}", names.join(", "))));
    }
    let others = || facts.members.iter().filter(|member| !member.here && !member.witness);
    let Some(to) = &wish.to else {
        let all_worse = others().all(|member| worse(facts, member).is_some());
        let why = others().find_map(|member| worse(facts, member)).filter(|_| all_worse && !wish.force);
        return why.map_or(Ok(()), |why| Err(refusal(why)));
    };
    if *to == facts.node {
        let error = format!("{to} is the node that is asked");
        return Err(ApiError::new(ErrorCode::Refused, error, "ask the node that holds the address"));
    }
    let Some(member) = others().find(|member| member.name == *to) else {
        let names: Vec<&str> = others().map(|member| member.name.as_str()).collect();
        let error = format!("no node {to} that could hold an address");
        return Err(ApiError::new(ErrorCode::NotFound, error, format!("there are: {}", names.join(", "))));
    };
    worse(facts, member).filter(|_| !wish.force).map_or(Ok(()), |why| Err(refusal(why)))
}

fn refusal(why: String) -> ApiError {
    ApiError::new(ErrorCode::Refused, why, "--force moves nevertheless")
}

/// Why a node would serve worse than this one.
fn worse(facts: &Facts, member: &MemberFacts) -> Option<String> {
    let here: u64 = facts.services.iter().map(|service| service.servers_usable as u64).sum();
    let report = member.report.as_ref().filter(|_| member.connected)?;
    let there = report.servers_usable;
    let name = &member.name;
    (there < here).then(|| format!("{name} would serve worse: {there} servers usable, {here} here"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::fake::facts;

    fn wish(to: Option<&str>, force: bool) -> SwitchOver {
        let to = to.map(str::to_owned);
        SwitchOver { to, vips: Vec::new(), force, dry_run: false, author: "alice".into() }
    }

    fn with_servers(there: u64) -> Facts {
        let mut facts = facts();
        facts.members[1].report.as_mut().unwrap().servers_usable = there;
        facts
    }

    #[test]
    fn a_move_to_a_node_with_fewer_servers_needs_force() {
        for to in [None, Some("lb2")] {
            assert!(allow(&with_servers(2), &wish(to, false)).is_ok());
            let refusal = allow(&with_servers(1), &wish(to, false)).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::Refused);
            assert!(refusal.error.contains("1 servers usable, 2 here"), "{}", refusal.error);
            assert!(allow(&with_servers(1), &wish(to, true)).is_ok());
        }
        // A server that is down for both moves nothing, and hinders nothing.
        let mut both = with_servers(1);
        both.services[0].servers_usable = 1;
        assert!(allow(&both, &wish(None, false)).is_ok());
    }

    #[test]
    fn what_does_not_exist_is_named() {
        assert_eq!(allow(&facts(), &wish(Some("lb1"), false)).unwrap_err().code, ErrorCode::Refused);
        assert_eq!(allow(&facts(), &wish(Some("lb9"), false)).unwrap_err().code, ErrorCode::NotFound);
        let vip = SwitchOver { vips: vec!["mail".into()], ..wish(None, false) };
        assert_eq!(allow(&facts(), &vip).unwrap_err().code, ErrorCode::NotFound);
    }
}
