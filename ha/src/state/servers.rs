//! What the operator wants of single servers, beside the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How many servers can be drained at the same time over all services.
pub const DRAINED_MAX: usize = 4096;

/// The operator's wish for a server.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, prost::Enumeration,
)]
#[repr(i32)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// Takes part, as far as it is healthy. What every server starts as.
    Ready = 0,
    /// Gets no new clients; running connections and known clients stay.
    Drain = 1,
}

/// Servers whose state differs from [`Admin::Ready`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers {
    drained: BTreeMap<(Arc<str>, Arc<str>), Admin>,
}

impl Servers {
    /// The state of a server; one that nobody spoke of is ready.
    #[must_use]
    pub fn get(&self, service: &str, server: &str) -> Admin {
        self.drained.get(&(Arc::from(service), Arc::from(server))).copied().unwrap_or(Admin::Ready)
    }

    /// All that differ from ready, by service and server.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Admin)> {
        self.drained.iter().map(|((service, server), admin)| (&**service, &**server, *admin))
    }

    /// False if there is no room for another one.
    pub(super) fn set(&mut self, service: &str, server: &str, admin: Admin) -> bool {
        let key = (Arc::from(service), Arc::from(server));
        if admin == Admin::Ready {
            self.drained.remove(&key);
            return true;
        }
        if self.drained.len() >= DRAINED_MAX && !self.drained.contains_key(&key) {
            return false;
        }
        self.drained.insert(key, admin);
        true
    }
}
