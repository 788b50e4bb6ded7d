//! Listening sockets that go from one process of this node to another. Their queues go with them: nobody in one is lost, for no
//! socket is closed on the way.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::model::Endpoint;
use crate::plan::ListenAt;

/// By address; of each as many as there are workers, but of a Unix socket one.
#[derive(Clone, Debug, Default)]
pub struct Legacy(Arc<Mutex<BTreeMap<ListenAt, Vec<OwnedFd>>>>);

impl Legacy {
    fn sockets(&self) -> MutexGuard<'_, BTreeMap<ListenAt, Vec<OwnedFd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more.
    pub fn add(&self, at: ListenAt, socket: OwnedFd) {
        let mut all = self.sockets();
        let of_address = all.entry(at.clone()).or_default();
        // All workers listen on the same one.
        if of_address.is_empty() || matches!(at.endpoint, Endpoint::Inet(_)) {
            of_address.push(socket);
        }
    }

    /// Those of an address. They are not here any more then.
    #[must_use]
    pub fn take(&self, at: &ListenAt) -> Vec<OwnedFd> {
        self.sockets().remove(at).unwrap_or_default()
    }

    /// All that are left, one by one, and none any more.
    #[must_use]
    pub fn take_all(&self) -> Vec<(ListenAt, OwnedFd)> {
        let all = std::mem::take(&mut *self.sockets());
        all.into_iter().flat_map(|(at, of_it)| of_it.into_iter().map(move |one| (at.clone(), one))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_there_are_as_many_as_workers_and_of_a_unix_socket_one() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let legacy = Legacy::default();
        let tcp = ListenAt::tcp("192.0.2.1:80".parse().unwrap());
        let unix = ListenAt { endpoint: Endpoint::Unix("/run/web".into()), ..tcp.clone() };
        for at in [&tcp, &tcp, &unix, &unix] {
            legacy.add(at.clone(), null());
        }
        assert_eq!((legacy.take(&tcp).len(), legacy.take(&tcp).len()), (2, 0));
        assert_eq!(legacy.take_all().len(), 1);
        assert!(legacy.take(&unix).is_empty());
    }
}
