//! The roles of the node's file, as users and groups of this machine.

use cygnet_ha::events::{EventLog, Severity};
use cygnet_netlink::account;

use crate::config::model::{ApiRoles, Whom};
use crate::control::roles::{Roles, Who};

/// Looks the names up. One that nobody has lets nobody in, and is told: a balancer must start without its directory service.
pub(super) fn resolve(roles: &ApiRoles, events: &EventLog) -> Roles {
    let list = |names: &[Whom]| names.iter().filter_map(|whom| known(whom, events)).collect();
    Roles { operators: list(&roles.operators), readers: list(&roles.readers) }
}

fn known(whom: &Whom, events: &EventLog) -> Option<Who> {
    let (what, found) = match whom {
        Whom::Everybody => return Some(Who::Everybody),
        Whom::User(name) => {
            let user = account::user(name).map(|user| user.map(|user| Who::User(user.uid)));
            (format!("user {name}"), user)
        }
        Whom::Group(name) => (format!("group {name}"), account::group(name).map(|gid| gid.map(Who::Group))),
    };
    let why = match found {
        Ok(Some(who)) => return Some(who),
        Ok(None) => "there is none on this machine".to_owned(),
        Err(error) => format!("looking it up failed: {error}"),
    };
    let what = format!("{what} of [roles] is let in nowhere");
    events.record(Severity::Alert, "node", what, format!("{why}; correct the node file, and restart"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_has_let_nobody_in_and_are_told() {
        let events = EventLog::default();
        let user = |name: &str| Whom::User(name.to_owned());
        let roles = ApiRoles {
            operators: vec![user("root"), user("no-such-user")],
            readers: vec![Whom::Group("root".to_owned()), Whom::Everybody],
        };
        let resolved = resolve(&roles, &events);
        assert_eq!(resolved.operators, [Who::User(0)]);
        assert_eq!(resolved.readers, [Who::Group(0), Who::Everybody]);
        let told = events.newest(10, |_| true);
        assert_eq!(told.len(), 1);
        assert!(told[0].what.contains("user no-such-user"), "{told:?}");
    }
}
