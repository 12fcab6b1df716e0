//! What is behind lets what is new go first: endpoints that catch up would otherwise take the processor, and the
//! time of claims, from the others.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use tokio::time::Instant;

/// A delivery that is due for longer than this is behind.
pub(super) const BEHIND: TimeDelta = TimeDelta::seconds(2);
/// After new ones were claimed, endpoints that are behind are passed over for this long …
const AFTER_NEW: Duration = Duration::from_millis(30);
/// … and after such were claimed for this long, so that they come in batches …
const BETWEEN: Duration = Duration::from_millis(10);
/// … but never for longer than this, however many new ones come.
const PATIENCE: Duration = Duration::from_millis(100);

/// Of one process: when what is behind may be claimed.
#[derive(Debug, Default)]
pub struct CatchUp(Mutex<Option<Turn>>);

#[derive(Clone, Copy, Debug)]
struct Turn {
    at: Instant,
    /// However many new ones come.
    at_latest: Instant,
}

impl CatchUp {
    /// How much longer what is behind has to wait; `None` when it may be claimed.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let turn = (*self.lock())?;
        let left = turn.at.min(turn.at_latest).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Notes a claim: whether it was of all that is due, and whether it took new ones or others.
    pub fn claimed(&self, now: Instant, of_all: bool, took_new: bool, took_others: bool) {
        let mut turn = self.lock();
        let at_latest = match *turn {
            Some(turn) if !of_all => turn.at_latest,
            _ => now + PATIENCE,
        };
        if took_new {
            *turn = Some(Turn { at: now + AFTER_NEW, at_latest });
        } else if took_others {
            *turn = Some(Turn { at: now + BETWEEN, at_latest });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Turn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_waits_for_what_is_new_but_not_for_ever() {
        let (turns, mut now) = (CatchUp::default(), Instant::now());
        assert_eq!(turns.wait(now), None, "nothing was claimed yet");
        turns.claimed(now, true, true, false);
        assert_eq!(turns.wait(now), Some(AFTER_NEW));
        let from = now;
        while turns.wait(now).is_some() {
            now += Duration::from_millis(20);
            turns.claimed(now, false, true, false);
        }
        assert_eq!(now - from, PATIENCE, "new ones came all the time");
        turns.claimed(now, true, true, true);
        assert_eq!(turns.wait(now + AFTER_NEW), None, "no new ones came");
    }

    #[test]
    fn what_is_behind_comes_in_batches() {
        let (turns, now) = (CatchUp::default(), Instant::now());
        turns.claimed(now, true, false, true);
        assert_eq!(turns.wait(now), Some(BETWEEN));
        let now = now + BETWEEN;
        assert_eq!(turns.wait(now), None);
        turns.claimed(now, true, false, false);
        assert_eq!(turns.wait(now), None, "there was nothing to claim");
    }
}
