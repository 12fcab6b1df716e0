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
pub struct CatchUp(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    turn: Option<Turn>,
    /// The last claim did not look at what is behind.
    passed_over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    at: Instant,
    /// However many new ones come.
    at_latest: Instant,
}

impl Turn {
    fn left(self, now: Instant) -> Duration {
        self.at.min(self.at_latest).saturating_duration_since(now)
    }
}

impl CatchUp {
    /// How much longer what is behind has to wait; `None` when it may be claimed.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.lock().turn?.left(now);
        (!left.is_zero()).then_some(left)
    }

    /// How long to wait when nothing was claimed: none, when the turn of what is behind has come while that was looked
    /// for. `None` when there was nothing at all.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        let state = self.lock();
        state.turn.filter(|_| state.passed_over).map(|turn| turn.left(now))
    }

    /// Notes a claim: whether it was of all that is due, and whether it took new ones or others.
    pub fn claimed(&self, now: Instant, of_all: bool, took_new: bool, took_others: bool) {
        let mut state = self.lock();
        state.passed_over = !of_all;
        let at_latest = match state.turn {
            Some(turn) if !of_all => turn.at_latest,
            _ => now + PATIENCE,
        };
        if took_new {
            state.turn = Some(Turn { at: now + AFTER_NEW, at_latest });
        } else if took_others {
            state.turn = Some(Turn { at: now + BETWEEN, at_latest });
        }
    }

    /// Notes a claim that failed: the next one waits like one that found nothing.
    pub fn failed(&self) {
        self.lock().passed_over = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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

    #[test]
    fn a_turn_that_comes_during_a_claim_is_taken_at_once() {
        let (turns, now) = (CatchUp::default(), Instant::now());
        turns.claimed(now, true, false, true);
        assert_eq!(turns.pause(now), None, "what is behind was claimed");
        turns.claimed(now, false, false, false);
        assert_eq!(turns.pause(now), Some(BETWEEN));
        assert_eq!(turns.pause(now + BETWEEN), Some(Duration::ZERO), "not a poll's interval later");
        turns.claimed(now + BETWEEN, true, false, false);
        assert_eq!(turns.pause(now + BETWEEN), None, "nothing is due");
        turns.claimed(now + BETWEEN, false, true, false);
        turns.failed();
        assert_eq!(turns.pause(now + PATIENCE), None, "Postgres is not asked without a pause");
    }
}
