//! What the holders say, done.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cygnet_netlink::kernel::Kernel;
use cygnet_netlink::wire::Message;

use super::port::Speaks;
use super::run::Driver;
use crate::events::Severity;
use crate::vip::Role;
use crate::vip::holder::Action;

/// The kernel answers within microseconds, unless its routing lock is taken; after this time the change has failed.
const KERNEL_PATIENCE: Duration = Duration::from_secs(1);

/// While the kernel is waited for, adverts that cannot be sent are looked at again after this time: a tenth of the shortest
/// interval.
const BEAT_REST: Duration = Duration::from_millis(1);

impl Driver {
    /// Does what a holder says, in order, and tells it how that went.
    pub(super) async fn act(&mut self, which: usize, actions: Vec<Action>) {
        let mut queue = VecDeque::from(actions);
        // Roles change before the actions come here, so the last one that was shown to the peers counts.
        let was = self.vips.get_mut(which).map(|vip| std::mem::replace(&mut vip.acted_as, vip.holder.role()));
        let holds = self.vips.get(which).is_some_and(|vip| vip.holder.role() == Role::Active);
        if !holds {
            self.disinherit(which);
        }
        while let Some(action) = queue.pop_front() {
            self.changed = true;
            match action {
                Action::AddAddress(address) => queue.extend(self.add(which, address).await),
                Action::RemoveAddress(address) => queue.extend(self.remove(which, address).await),
                Action::Announce => {
                    // The address is here: neighbours may learn it.
                    let _ = self.follow(which).await;
                    self.announce(which);
                }
                Action::SendAdvert(advert) => self.send(which, &advert),
                Action::Event { severity, what, why } => {
                    // Held by the process before this one: no other node has it, or had it. Not a move.
                    let succeeds = self.succeeds.is_some();
                    if let Some(vip) = self.vips.get_mut(which) {
                        let role = vip.holder.role();
                        let news = std::mem::replace(&mut vip.told_role, role) != role
                            && !(succeeds && role == Role::Active);
                        let kind = if news { role.word() } else { "" };
                        self.events.record_kind(severity, &vip.subject, kind, what, why);
                    }
                }
            }
        }
        let Some(vip) = self.vips.get(which) else { return };
        for address in &vip.holder.settings().addresses {
            // The same address may be held on another interface, or by the successor of this holder.
            if !self.vips.iter().any(|vip| vip.holder.holds(*address)) {
                self.guardian.release(*address);
            }
        }
        let _ = self.follow(which).await;
        self.bequeath(which);
        if let Some(was) = was {
            self.tell_release(which, was);
        }
    }

    async fn add(&mut self, which: usize, address: IpAddr) -> Vec<Action> {
        let Some(index) = self.place(which) else {
            return self.added(which, address, Err("the interface is gone".to_owned()));
        };
        // Before, so that there is no moment in which it would stay behind.
        self.guardian.hold(index, address);
        let kernel = self.kernel.clone();
        let answer = self.meanwhile(kernel.add_address(index, address)).await;
        let answer = self.kernel_answer(answer);
        self.added(which, address, answer)
    }

    fn added(&mut self, which: usize, address: IpAddr, answer: Result<bool, String>) -> Vec<Action> {
        let now = self.now();
        self.vips.get_mut(which).map(|vip| vip.holder.added(now, address, answer)).unwrap_or_default()
    }

    async fn remove(&mut self, which: usize, address: IpAddr) -> Vec<Action> {
        let answer = match self.place(which) {
            // It went with the interface.
            None => Ok(false),
            Some(index) => {
                let kernel = self.kernel.clone();
                let answer = self.meanwhile(kernel.remove_address(index, address)).await;
                self.kernel_answer(answer)
            }
        };
        let now = self.now();
        self.vips.get_mut(which).map(|vip| vip.holder.removed(now, address, answer)).unwrap_or_default()
    }

    /// Waits for the kernel, for a while, and lets the others advertise meanwhile: whoever holds the routing lock (a table of
    /// thousands of routes that is being loaded) must not silence them. `None`: no answer.
    pub(super) async fn meanwhile<T>(&mut self, change: impl Future<Output = T>) -> Option<T> {
        let mut change = std::pin::pin!(change);
        let end = self.now() + KERNEL_PATIENCE;
        loop {
            let beat = self.vips.iter().filter_map(|vip| vip.holder.beat_due()).min();
            let wake = beat.map_or(end, |beat| beat.min(end));
            tokio::select! {
                biased;
                answer = &mut change => return Some(answer),
                () = tokio::time::sleep_until(self.instant(wake)) => {}
            }
            let now = self.now();
            if now >= end {
                return None;
            }
            let mut sent = false;
            for which in 0..self.vips.len() {
                if let Some(advert) = self.vips.get_mut(which).and_then(|vip| vip.holder.beat(now)) {
                    self.send(which, &advert);
                    sent = true;
                }
            }
            if !sent {
                // One that is too late is left to its timer, and must not make this spin.
                tokio::time::sleep(BEAT_REST).await;
            }
        }
    }

    /// Closes an exchange with the kernel.
    pub(super) fn kernel_answer(&mut self, answer: Option<io::Result<bool>>) -> Result<bool, String> {
        self.order.epoch.fetch_add(1, Ordering::AcqRel);
        let error = match answer {
            Some(Ok(done)) => return Ok(done),
            Some(Err(error)) if error.raw_os_error().is_some() => return Err(error.to_string()),
            Some(Err(error)) => error.to_string(),
            None => "the kernel did not answer".to_owned(),
        };
        // Not the kernel's refusal but the connection: a new one for the next try.
        if let Ok(kernel) = Kernel::connect() {
            self.kernel = kernel;
        }
        Err(error)
    }

    /// The index of the interface.
    pub(super) fn place(&self, which: usize) -> Option<u32> {
        self.ports.get(&self.vips.get(which)?.holder.settings().interface)?.seen.index
    }

    fn announce(&mut self, which: usize) {
        let Some(vip) = self.vips.get_mut(which) else { return };
        let settings = vip.holder.settings();
        let Some(port) = self.ports.get(&settings.interface) else { return };
        // Each is tried; the first failure is told.
        let failures = settings.addresses.iter().filter_map(|address| port.announce(*address).err());
        let failed = failures.fold(None, |first, error| first.or(Some(error)));
        if let (Some(error), false) = (&failed, vip.announce_failed) {
            let what = "the address could not be announced to its neighbours";
            self.events.record(Severity::Warning, &vip.subject, what, error.to_string());
        }
        vip.announce_failed = failed.is_some();
    }

    fn send(&mut self, which: usize, advert: &Message) {
        let now = self.now();
        let Some(vip) = self.vips.get_mut(which) else { return };
        let settings = vip.holder.settings();
        let Some(port) = self.ports.get_mut(&settings.interface) else { return };
        match port.send(now, &Speaks::of(settings), advert) {
            Ok(true) => (vip.sent.count, vip.sent.last) = (vip.sent.count + 1, Some(now)),
            Ok(false) => {}
            Err(failed) => {
                self.reground |= failed.gives_way;
                if failed.first {
                    let what = "an advertisement could not be sent";
                    self.events.record(Severity::Warning, &vip.subject, what, failed.error.to_string());
                }
            }
        }
    }
}
