//! How many changes are told one by one: a network that comes and goes must not push everything else out of the memory
//! of events.

use std::time::Duration;

use cygnet_ha::time::Time;

/// So many changes are told one by one within [`WINDOW`]; of more, only the number is.
pub const EVENTS_AT_ONCE: u32 = 32;
/// How long a window lasts.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Counts what was told.
#[derive(Debug, Default)]
pub struct News {
    began: Option<Time>,
    told: u32,
    ups: u64,
    downs: u64,
}

impl News {
    /// Whether this change is told by itself.
    pub fn pass(&mut self, now: Time, up: bool) -> bool {
        self.began.get_or_insert(now);
        self.told += 1;
        if self.told <= EVENTS_AT_ONCE {
            return true;
        }
        self.told = EVENTS_AT_ONCE;
        *(if up { &mut self.ups } else { &mut self.downs }) += 1;
        false
    }

    /// When [`News::close`] has something to do.
    #[must_use]
    pub fn ends(&self) -> Option<Time> {
        self.began.map(|began| began + WINDOW)
    }

    /// Ends a window that is over: how many more servers went down, and came up, than were told of.
    pub fn close(&mut self, now: Time) -> Option<(u64, u64)> {
        self.ends().filter(|ends| *ends <= now)?;
        let Self { ups, downs, .. } = std::mem::take(self);
        (ups + downs > 0).then_some((downs, ups))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_changes_of_a_window_are_told_and_the_others_counted() {
        let mut news = News::default();
        let told = (0..100).filter(|n| news.pass(Time(5), n % 4 == 0)).count();
        assert_eq!(told, EVENTS_AT_ONCE as usize);
        assert_eq!(news.close(Time(5)), None);
        assert_eq!(news.close(Time(5) + WINDOW), Some((51, 17)));
        assert_eq!(news.ends(), None);
        assert!(news.pass(Time(6) + WINDOW, true));
        assert_eq!(news.close(Time(7) + 2 * WINDOW), None, "nothing was held back");
    }
}
