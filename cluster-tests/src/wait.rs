//! Waiting for a condition with a deadline, instead of sleeping for luck.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at again. Short against the 50 ms of the fastest advertisements in the tests.
const POLL: Duration = Duration::from_millis(10);

/// Calls `condition` until it gives a value, at most for `limit`.
///
/// # Errors
/// If the time is over (the error says `what` was missing and for how long we waited), or the condition's own error.
pub fn until<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            bail!("waited {} ms in vain for {what}", start.elapsed().as_millis());
        }
        std::thread::sleep(POLL);
    }
}

/// Calls `condition` for all of `period` and fails as soon as it is not true.
///
/// # Errors
/// If it became false, or its own error.
pub fn holds_for(period: Duration, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < period {
        if !condition()? {
            bail!("after {} ms it was no longer true that {what}", start.elapsed().as_millis());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_ends_with_its_name() {
        let error = until::<()>(Duration::from_millis(30), "rain", || Ok(None)).unwrap_err().to_string();
        assert!(error.contains("rain"), "{error}");
    }

    #[test]
    fn a_condition_that_breaks_is_reported_at_once() {
        let mut left = 3;
        let outcome = holds_for(Duration::from_secs(60), "there is one left", || {
            left -= 1;
            Ok(left > 0)
        });
        assert!(outcome.is_err());
    }
}
