//! The virtual addresses that were ever heard, remembered for the choice of sources; pure.
//!
//! An address that another node advertises may be on one of our interfaces a moment later, put there by a daemon that is not
//! ours. The watcher cannot call it virtual any more then, for our own addresses in a stranger's list prove nothing: whoever
//! wanted could forbid us any source. What was heard before it came to us stays virtual as long as it is here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;

/// So long an address that is not here is remembered after it was heard last: daemons may be stopped for a night's work.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Addresses at most, at some 50 bytes each; beyond that the one that was not heard for longest is forgotten.
const KEPT_MAX: usize = 4096;

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// When it was heard, or was last here after it had been heard.
    last: BTreeMap<IpAddr, Time>,
}

impl Heard {
    /// These are heard now.
    pub(super) fn hear(&mut self, now: Time, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            self.last.insert(address, now);
        }
    }

    /// Forgets what is old, unless it is on an interface of this node.
    pub(super) fn forget(&mut self, now: Time, is_here: impl Fn(IpAddr) -> bool) {
        for (address, last) in &mut self.last {
            if is_here(*address) {
                *last = now;
            }
        }
        self.last.retain(|_, last| now.since(*last) < KEPT);
        while self.last.len() > KEPT_MAX {
            let oldest = self.last.iter().min_by_key(|(_, last)| **last).map(|(address, _)| *address);
            oldest.map(|address| self.last.remove(&address));
        }
    }

    /// All that are remembered.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.last.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 2, 0, last])
    }

    #[test]
    fn an_address_that_was_heard_stays_virtual_while_it_is_here_and_a_day_after() {
        let mut heard = Heard::default();
        heard.hear(Time::ZERO, [address(1), address(2)].into_iter());
        for hour in 0..100 {
            heard.forget(Time::ZERO + HOUR * hour, |here| here == address(1));
        }
        assert_eq!(heard.addresses().collect::<Vec<_>>(), [address(1)]);
        heard.forget(Time::ZERO + HOUR * 122, |_| false);
        assert_eq!(heard.addresses().count(), 1);
        heard.forget(Time::ZERO + HOUR * 124, |_| false);
        assert_eq!(heard.addresses().count(), 0);
    }

    #[test]
    fn a_flood_of_addresses_does_not_grow_the_memory_and_takes_the_oldest() {
        let mut heard = Heard::default();
        for number in 0..u32::try_from(KEPT_MAX).unwrap() + 5 {
            let now = Time::ZERO + Duration::from_millis(u64::from(number));
            heard.hear(now, std::iter::once(IpAddr::from(number.to_be_bytes())));
            heard.forget(now, |_| false);
        }
        assert_eq!(heard.addresses().count(), KEPT_MAX);
        assert!(!heard.addresses().any(|kept| kept == IpAddr::from([0, 0, 0, 4])));
        assert!(heard.addresses().any(|kept| kept == IpAddr::from([0, 0, 0, 5])));
    }
}
