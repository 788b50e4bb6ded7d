//! The access lists of a plan.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::balance::Permits;
use crate::balance::acl::AccessList;
use crate::balance::geo::Countries;
use crate::config::model::Acl;

/// The lists of a configuration, compiled once each, by name.
#[derive(Debug)]
pub(super) struct Lists<'a>(HashMap<&'a str, Arc<dyn Permits>>);

impl<'a> Lists<'a> {
    pub(super) fn new(acls: &'a [Acl], countries: Option<&Arc<Countries>>) -> Self {
        let compiled = |acl: &'a Acl| -> (&'a str, Arc<dyn Permits>) {
            (acl.name.as_str(), Arc::new(AccessList::new(acl, countries)))
        };
        Self(acls.iter().map(compiled).collect())
    }

    /// The list with this name. One that is not there permits nobody, for it was meant to keep somebody out; the
    /// configuration sees to it that only Pen's front end can name such a one.
    pub(super) fn named(&self, name: Option<&String>) -> Option<Arc<dyn Permits>> {
        let name = name?;
        Some(self.0.get(name.as_str()).map_or_else(|| Arc::new(Nobody) as Arc<dyn Permits>, Arc::clone))
    }
}

/// A list that is not there.
#[derive(Debug)]
struct Nobody;

impl Permits for Nobody {
    fn permits(&self, _: IpAddr) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_is_no_limit_and_a_missing_one_permits_nobody() {
        let acls = [Acl { name: "all".to_owned(), entries: Vec::new() }];
        let lists = Lists::new(&acls, None);
        assert!(lists.named(None).is_none());
        let says =
            |name: &str| lists.named(Some(&name.to_owned())).map(|list| list.permits([192, 0, 2, 1].into()));
        assert_eq!((says("all"), says("other")), (Some(true), Some(false)));
    }
}
