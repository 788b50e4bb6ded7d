//! Names of services and servers as small numbers, so that an entry of the table fits into a few words.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many names a process may meet in its life, over all its configurations and those of its peers. Beyond it a new
/// service or server is served as any other, but its clients are not remembered until the node is restarted.
const NAMES_MAX: usize = 1 << 16;

/// A name of a service or a server in the client table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameId(u32);

impl NameId {
    /// Stands for all names beyond the limit.
    const NONE: Self = Self(0);

    /// Whether this is a name beyond the limit: it stands for nobody.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    pub(super) fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// Never used while a connection is served: plans hold the numbers.
#[derive(Default)]
pub(super) struct Names {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    ids: HashMap<Arc<str>, NameId>,
    /// The name of number n is at n - 1.
    names: Vec<Arc<str>>,
}

impl Names {
    pub(super) fn id(&self, name: &str) -> NameId {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known.ids.get(name) {
            return *id;
        }
        if known.names.len() >= NAMES_MAX {
            return NameId::NONE;
        }
        let name: Arc<str> = Arc::from(name);
        known.names.push(Arc::clone(&name));
        let id = NameId(u32::try_from(known.names.len()).unwrap_or(0));
        known.ids.insert(name, id);
        id
    }

    pub(super) fn name(&self, id: NameId) -> Option<Arc<str>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let position = usize::try_from(id.0).ok()?.checked_sub(1)?;
        known.names.get(position).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers_and_end_at_the_limit() {
        let names = Names::default();
        let first = names.id("n0");
        for n in 1..NAMES_MAX {
            assert!(!names.id(&format!("n{n}")).is_none());
        }
        assert!(names.id("one too many").is_none());
        assert_eq!(names.id("n0"), first);
        assert_eq!(names.name(first).as_deref(), Some("n0"));
        assert_eq!(names.name(NameId::NONE), None);
    }
}
