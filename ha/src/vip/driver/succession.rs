//! The elections go over from one process of this node to another ([`crate::vip::holder::Holder::succeed`]).
//!
//! Until the process before has let go, this one has no part in what the nodes say to each other: its guard knows no last word that
//! could be said by mistake, and the port for last words is not free yet.

use super::run::Driver;

impl Driver {
    /// The process before this one has let go, or has died.
    pub(super) fn settle(&mut self) {
        if self.succeeds.take().is_none() {
            return;
        }
        for vip in &mut self.vips {
            vip.holder.settle_down();
        }
        self.meet();
        // What is on an interface without our doing is a leftover from now on.
        self.order.again.notify_one();
        self.changed = true;
    }
}
