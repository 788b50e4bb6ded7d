//! The regular advert alone, for a driver that waits for the kernel: one address that is slow to change must not silence the
//! others. And the last one, for a guard that outlives this process.

use cygnet_netlink::wire::Message;

use super::Holder;
use crate::time::Time;
use crate::vip::Role;

impl Holder {
    /// When [`Holder::beat`] has something to send.
    #[must_use]
    pub fn beat_due(&self) -> Option<Time> {
        // What waits for its address has claimed nothing yet.
        let speaks = self.role == Role::Active && self.adding.is_none() && !self.lacks_address();
        self.speaker.beat_due().filter(|_| speaks)
    }

    /// The regular advert, if it is due; everything else waits for [`Holder::timeout`].
    pub fn beat(&mut self, now: Time) -> Option<Message> {
        self.beat_due()?;
        self.speaker.beat(now)
    }

    /// What may be said for this node when its process is gone and its addresses with it. Only while every address of the router
    /// is here through us, and claimed: what is the node's own stays, and whoever was frozen does not know who holds it.
    #[must_use]
    pub fn resignation(&self) -> Option<Message> {
        let all_ours = self.places.iter().all(|place| place.ours && place.presence.any());
        let claims = self.role == Role::Active && self.adding.is_none() && self.speaker.listens().is_none();
        self.speaker.resignation().filter(|_| claims && all_ours)
    }
}
