//! The new holder's part.

use std::net::IpAddr;

use super::{LOOK_EVERY, Said, Wanted};
use crate::time::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Flows come in; the address is on the loopback.
    Prepared,
    /// It has the address, or had it: flows of the old holder are forwarded.
    Taken,
    /// The old holder keeps the address. What it had handed over is served here until it ends.
    Straggling,
    Ended,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taking {
    /// Answer.
    Say(Said),
    /// Change the forwarded flows; then [`Taker::done`].
    Change(Said),
    /// List the connections of the address on this node, and call [`Taker::listed`].
    List,
}

/// The new holder's part of one transfer.
#[derive(Clone, Debug)]
pub struct Taker {
    step: Step,
    /// The last number that was taken in.
    number: u64,
    next_look: Option<Time>,
    /// What the old holder has named, less what it has said to have ended.
    flows: usize,
}

impl Taker {
    /// The old holder prepares a move. To be answered with [`Taker::done`] when the kernel has what is wanted.
    #[must_use]
    pub fn begin() -> Self {
        Self { step: Step::Prepared, number: 0, next_look: None, flows: 0 }
    }

    /// What the kernel is to have.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        Wanted {
            loopback: matches!(self.step, Step::Prepared | Step::Straggling),
            forward: matches!(self.step, Step::Prepared | Step::Taken),
            ..Wanted::default()
        }
    }

    /// This node has the address, and sends the packets of so many connections on to the old holder.
    #[must_use]
    pub fn sends_on(&self) -> Option<usize> {
        (self.step == Step::Taken).then_some(self.flows)
    }

    /// Nothing is left to be done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.step == Step::Ended
    }

    /// When [`Taker::timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.next_look.filter(|_| self.step == Step::Straggling)
    }

    /// That time has come.
    pub fn timeout(&mut self, now: Time) -> Vec<Taking> {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.next_look = None;
        vec![Taking::List]
    }

    /// How many connections of the address are here.
    pub fn listed(&mut self, now: Time, count: Option<usize>) {
        if self.step != Step::Straggling {
            return;
        }
        self.next_look = Some(now + LOOK_EVERY);
        if count == Some(0) {
            self.step = Step::Ended;
        }
    }

    /// The old holder has said something. `addresses`: of the virtual router; flows of another are refused.
    pub fn hear(&mut self, now: Time, said: Said, addresses: &[IpAddr]) -> Vec<Taking> {
        match (said, self.step) {
            (Said::Flows { number, .. }, Step::Prepared) if number != self.number + 1 => {
                self.fail(now, "a message was lost")
            }
            (Said::Flows { add, remove, .. }, Step::Prepared)
                if add.iter().chain(&remove).any(|flow| !addresses.contains(&flow.service.ip())) =>
            {
                self.fail(now, "it names a connection of another address")
            }
            (Said::Flows { number, last, add, remove }, Step::Prepared) => {
                self.number = number;
                self.flows = (self.flows + add.len()).saturating_sub(remove.len());
                vec![Taking::Change(Said::Flows { number, last, add, remove })]
            }
            (Said::Ended(flows), Step::Taken | Step::Prepared) => {
                self.flows = self.flows.saturating_sub(flows.len());
                vec![Taking::Change(Said::Ended(flows))]
            }
            (Said::Abort, Step::Prepared) => {
                self.straggle(now);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The kernel has what is wanted, and the flows under this number; or not, and why.
    pub fn done(&mut self, now: Time, number: u64, done: Result<(), String>) -> Vec<Taking> {
        match (done, self.step) {
            (Ok(()), Step::Prepared) => vec![Taking::Say(Said::Confirm(number))],
            (Err(why), Step::Prepared) => self.fail(now, &why),
            _ => Vec::new(),
        }
    }

    fn fail(&mut self, now: Time, why: &str) -> Vec<Taking> {
        self.straggle(now);
        vec![Taking::Say(Said::Refuse(why.to_owned()))]
    }

    fn straggle(&mut self, now: Time) {
        self.step = Step::Straggling;
        self.next_look = Some(now);
    }

    /// Whether this node has the address now.
    pub fn active(&mut self, active: bool) {
        match (self.step, active) {
            (Step::Prepared, true) => self.step = Step::Taken,
            // The handed ones are served on the link's address now.
            (Step::Straggling, true) => self.step = Step::Ended,
            _ => {}
        }
    }

    /// The old holder does not name this transfer any more, or is gone.
    pub fn forgotten(&mut self, now: Time) {
        match self.step {
            Step::Prepared => self.straggle(now),
            Step::Taken => self.step = Step::Ended,
            Step::Straggling | Step::Ended => {}
        }
    }
}
