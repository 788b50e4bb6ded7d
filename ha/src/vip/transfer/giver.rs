//! The old holder's part.

use cygnet_netlink::steer::Flow;

use super::{
    AtDeadline, FLOWS_IN_WORD, Hand, LOOK_EVERY, PREPARE_AGAIN, PREPARE_MAX, Patience, SETTLE, STRAGGLERS,
    Said, WORDS_ON_THE_WAY, Wanted,
};
use crate::time::Time;

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// List the connections of the address, and call [`Giver::listed`].
    List,
    /// Tell the new holder.
    Say(Said),
    /// Ask the new holder to take the address, as in a move that keeps nothing.
    Ask,
    /// The address stays here, and why.
    Stays(String),
    /// Close these, then list what is left, and call [`Giver::listed`].
    Close(Vec<Flow>),
    /// Something to be told of the connections that went on here.
    Tell(Told),
}

/// What there is to tell of connections that go on here after the move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// So many are left at their deadline, and what happens to them.
    Overdue(usize, AtDeadline),
    /// All have ended: so many had gone on, for so long after the move; so many were closed at the deadline.
    Ended {
        /// At the move.
        of: usize,
        /// After it.
        after: std::time::Duration,
        /// At the deadline.
        closed: usize,
    },
    /// So many were lost, and why.
    Lost(usize, String),
}

/// Connections that go on here although the address has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left<'g> {
    /// When it moved.
    pub since: Time,
    /// So many there were then.
    pub of: usize,
    /// Those that are left, by the last list; in order.
    pub flows: &'g [Flow],
    /// How long they may go on.
    pub patience: Patience,
    /// So many were closed at the deadline.
    pub closed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The list is made; the new holder prepares.
    Preparing,
    /// New connections go to the new holder; until then.
    Settling(Time),
    /// The second list is made, and sent.
    Differing,
    /// The new holder takes the address.
    Asking,
    /// It has it; our connections go on.
    Kept {
        since: Time,
    },
    /// The address is here again, and those connections with it.
    Back,
    /// It did not take it. What was handed over to it meanwhile is served there until it ends.
    Failed,
    Ended,
}

/// The old holder's part of one transfer.
#[derive(Clone, Debug)]
pub struct Giver {
    step: Step,
    begun: Time,
    /// What the new holder forwards, or will; in order.
    flows: Vec<Flow>,
    /// A list is being made.
    listing: bool,
    next_look: Time,
    /// When the first word is said again.
    prepare_again: Time,
    /// What is still to be said, in this order.
    waiting: std::collections::VecDeque<Said>,
    /// The number of the last message said, and confirmed.
    said: u64,
    confirmed: Option<u64>,
    numbered: u64,
    /// New connections may be handed over; not if the new holder is about to give the address back.
    hands: bool,
    patience: Patience,
    /// So many connections there were at the move.
    moved: usize,
    /// The deadline was told.
    overdue: bool,
    /// So many were closed at the deadline.
    closed: usize,
    /// Some are being closed; the next list comes after it.
    closing: bool,
}

impl Giver {
    /// Begins.
    #[must_use]
    pub fn begin(now: Time) -> (Self, Vec<Given>) {
        let giver = Self {
            step: Step::Preparing,
            begun: now,
            flows: Vec::new(),
            listing: true,
            next_look: now,
            prepare_again: now + PREPARE_AGAIN,
            waiting: std::collections::VecDeque::new(),
            said: 0,
            confirmed: None,
            numbered: 0,
            hands: true,
            patience: Patience::default(),
            moved: 0,
            overdue: false,
            closed: 0,
            closing: false,
        };
        (giver, vec![Given::Say(Said::Prepare), Given::List])
    }

    /// What the kernel is to have.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let (loopback, hand) = match self.step {
            Step::Preparing | Step::Back | Step::Ended => (false, Hand::None),
            Step::Settling(_) => (false, Hand::New),
            Step::Differing | Step::Asking => (false, Hand::Silent),
            Step::Kept { .. } => (true, Hand::Silent),
            Step::Failed => (false, Hand::Known),
        };
        let hand = if self.hands { hand } else { Hand::None };
        Wanted { loopback, hand, forward: false }
    }

    /// The address is about to come back: what comes from there must not be sent there again.
    pub fn stop_handing(&mut self) {
        self.hands = false;
    }

    /// Nothing is left to be done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.step == Step::Ended
    }

    /// The address has moved, and connections go on here.
    #[must_use]
    pub fn keeps(&self) -> bool {
        matches!(self.step, Step::Kept { .. })
    }

    /// The move is under way: neither done nor given up.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(self.step, Step::Preparing | Step::Settling(_) | Step::Differing | Step::Asking)
    }

    /// How long connections may go on here after the move. Another deadline counts from the same moment.
    pub fn set_patience(&mut self, patience: Patience) {
        if self.patience != patience {
            (self.patience, self.overdue) = (patience, false);
        }
    }

    /// The connections that go on here although the address has moved.
    #[must_use]
    pub fn left(&self) -> Option<Left<'_>> {
        let Step::Kept { since } = self.step else { return None };
        let Self { moved: of, patience, closed, .. } = *self;
        Some(Left { since, of, flows: &self.flows, patience, closed })
    }

    /// How many connections are here, by the last list.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// When [`Giver::timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.step {
            Step::Settling(until) => Some(until),
            Step::Preparing if self.confirmed.is_none() => Some(self.prepare_again),
            Step::Preparing | Step::Differing => Some(self.begun + PREPARE_MAX),
            Step::Kept { .. } | Step::Back if !self.listing => Some(self.next_look),
            Step::Failed => Some(self.next_look),
            _ => None,
        }
    }

    /// That time has come.
    pub fn timeout(&mut self, now: Time) -> Vec<Given> {
        match self.step {
            Step::Settling(until) if until <= now => {
                self.step = Step::Differing;
                self.listing = true;
                vec![Given::List]
            }
            Step::Preparing | Step::Differing if now >= self.begun + PREPARE_MAX => {
                let ms = PREPARE_MAX.as_millis();
                self.give_up(&format!("the other node was not prepared within {ms} ms"))
            }
            Step::Preparing if self.confirmed.is_none() && self.prepare_again <= now => {
                self.prepare_again = now + PREPARE_AGAIN;
                vec![Given::Say(Said::Prepare)]
            }
            Step::Kept { .. } | Step::Back if !self.listing && self.next_look <= now => {
                self.listing = true;
                vec![Given::List]
            }
            // A node that has not heard it would stay prepared for ever, and this one with it.
            Step::Failed if self.next_look <= now => {
                self.next_look = now + LOOK_EVERY;
                vec![Given::Say(Said::Abort)]
            }
            _ => Vec::new(),
        }
    }

    /// The connections of the address, in order.
    pub fn listed(&mut self, now: Time, list: Result<Vec<Flow>, String>) -> Vec<Given> {
        if !std::mem::take(&mut self.listing) {
            return Vec::new();
        }
        self.next_look = now + LOOK_EVERY;
        let list = match (list, self.is_under_way()) {
            (Ok(list), _) => list,
            (Err(why), true) => return self.give_up(&format!("connections cannot be listed: {why}")),
            // Looked at again; nothing has ended meanwhile, as far as is known.
            (Err(_), false) => return Vec::new(),
        };
        let (add, remove) = (missing(&list, &self.flows), missing(&self.flows, &list));
        let closes = std::mem::take(&mut self.closing);
        match self.step {
            Step::Preparing | Step::Differing => {
                self.flows = list;
                self.queue(add, remove);
                self.send()
            }
            Step::Kept { .. } | Step::Back => {
                // What was not there at the move is another's.
                self.flows.retain(|flow| list.binary_search(flow).is_ok());
                let said = remove.chunks(FLOWS_IN_WORD).map(|some| Given::Say(Said::Ended(some.to_vec())));
                let mut given: Vec<Given> = said.collect();
                given.extend(self.end_when_empty(now));
                // What could not be closed is tried again at the next look.
                if !closes {
                    given.extend(self.close_when_overdue(now));
                }
                given
            }
            _ => Vec::new(),
        }
    }

    fn queue(&mut self, add: Vec<Flow>, remove: Vec<Flow>) {
        let adds = add.chunks(FLOWS_IN_WORD).map(|some| (some.to_vec(), Vec::new()));
        let removes = remove.chunks(FLOWS_IN_WORD).map(|some| (Vec::new(), some.to_vec()));
        let parts: Vec<_> = removes.chain(adds).chain([(Vec::new(), Vec::new())]).collect();
        let count = parts.len();
        for (at, (add, remove)) in parts.into_iter().enumerate() {
            self.numbered += 1;
            let last = at + 1 == count;
            self.waiting.push_back(Said::Flows { number: self.numbered, last, add, remove });
        }
    }

    /// What may go out now.
    fn send(&mut self) -> Vec<Given> {
        let mut out = Vec::new();
        let Some(confirmed) = self.confirmed else { return out };
        while self.said < confirmed + WORDS_ON_THE_WAY as u64
            && let Some(next) = self.waiting.pop_front()
        {
            self.said += 1;
            out.push(Given::Say(next));
        }
        out
    }

    /// The new holder has done what was said up to this number.
    pub fn confirmed(&mut self, now: Time, number: u64) -> Vec<Given> {
        if number > self.said || self.confirmed.is_some_and(|before| number < before) {
            return Vec::new();
        }
        self.confirmed = Some(number);
        let out = self.send();
        let all = !self.listing && self.waiting.is_empty() && number == self.numbered && number > 0;
        match self.step {
            Step::Preparing if all => {
                self.step = Step::Settling(now + SETTLE);
                out
            }
            Step::Differing if all => {
                self.step = Step::Asking;
                vec![Given::Ask]
            }
            _ => out,
        }
    }

    /// The new holder will not, or the kernel has refused what is wanted, or the new holder is not heard any more, or did
    /// not take the address.
    pub fn failed(&mut self, why: &str) -> Vec<Given> {
        if self.is_under_way() { self.give_up(why) } else { Vec::new() }
    }

    fn give_up(&mut self, why: &str) -> Vec<Given> {
        self.step = match self.step {
            Step::Preparing => Step::Ended,
            _ => Step::Failed,
        };
        self.waiting.clear();
        vec![Given::Say(Said::Abort), Given::Stays(why.to_owned())]
    }

    /// Whether this node has the address now.
    pub fn active(&mut self, now: Time, active: bool) -> Vec<Given> {
        match (self.step, active) {
            (Step::Asking, false) => {
                (self.step, self.moved) = (Step::Kept { since: now }, self.flows.len());
                self.next_look = now + LOOK_EVERY;
                Vec::new()
            }
            // It was lost in another way before the other one was prepared.
            (Step::Preparing | Step::Settling(_) | Step::Differing, false) => {
                self.give_up("this node does not hold it any more")
            }
            (Step::Kept { .. }, true) => {
                self.step = Step::Back;
                Vec::new()
            }
            // Given away without a word of ours: another transfer, or a failure; what is here is lost.
            (Step::Back | Step::Failed, false) => {
                self.step = Step::Ended;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The new holder does not name this transfer any more, or is gone.
    pub fn forgotten(&mut self, why: &str) -> Vec<Given> {
        match self.step {
            Step::Preparing | Step::Settling(_) | Step::Differing | Step::Asking => {
                let out = self.give_up(why);
                self.step = Step::Ended;
                out
            }
            Step::Kept { .. } if !self.flows.is_empty() => {
                self.step = Step::Ended;
                vec![Given::Tell(Told::Lost(self.flows.len(), why.to_owned()))]
            }
            Step::Kept { .. } | Step::Back | Step::Failed | Step::Ended => {
                self.step = Step::Ended;
                Vec::new()
            }
        }
    }

    fn end_when_empty(&mut self, now: Time) -> Option<Given> {
        if !self.flows.is_empty() {
            return None;
        }
        match self.step {
            Step::Kept { since } if now >= since + STRAGGLERS => {
                self.step = Step::Ended;
                let told = Told::Ended { of: self.moved, after: now.since(since), closed: self.closed };
                (self.moved > 0).then_some(Given::Tell(told))
            }
            Step::Back => {
                self.step = Step::Ended;
                None
            }
            _ => None,
        }
    }

    /// At the deadline, and at each look after it until none is left: the kernel may have refused.
    fn close_when_overdue(&mut self, now: Time) -> Vec<Given> {
        let (Step::Kept { since }, Some(deadline)) = (self.step, self.patience.deadline) else {
            return Vec::new();
        };
        if now < since + deadline || self.flows.is_empty() {
            return Vec::new();
        }
        let mut given = Vec::new();
        if !std::mem::replace(&mut self.overdue, true) {
            given.push(Given::Tell(Told::Overdue(self.flows.len(), self.patience.at_deadline)));
        }
        if self.patience.at_deadline == AtDeadline::Close {
            (self.listing, self.closing) = (true, true);
            given.push(Given::Close(self.flows.clone()));
        }
        given
    }

    /// So many were closed, as [`Given::Close`] asked.
    pub fn has_closed(&mut self, count: usize) {
        self.closed += count;
    }
}

/// What is in `of` and not in `from`; both are in order.
fn missing(of: &[Flow], from: &[Flow]) -> Vec<Flow> {
    of.iter().filter(|flow| from.binary_search(flow).is_err()).copied().collect()
}
