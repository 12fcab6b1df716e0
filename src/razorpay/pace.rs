//! How hard one account is asked: a budget for reads that could wait, and a pause for calls that keep failing.
//!
//! Kept per process: it spares Razorpay and our callers' time, and decides nothing about money.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::outcome::Effect;
use crate::kit::{backoff::exponential, clock::Clock};

/// A kind of call; Razorpay limits each apart, so that each pauses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Making a link.
    Create,
    /// Cancelling one.
    Cancel,
    /// Giving money back.
    Refund,
    /// Asking.
    Read,
}

impl Call {
    /// Whether it changes something at Razorpay.
    pub fn effect(self) -> Effect {
        if self == Self::Read { Effect::Read } else { Effect::Write }
    }

    /// A label for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Cancel => "cancel",
            Self::Refund => "refund",
            Self::Read => "read",
        }
    }
}

/// So many tries in a row without an answer open the breaker.
const FAILURES: u32 = 10;
/// The first pause; doubled while the tries after it fail too.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So much time's budget can be saved up.
const BURST: TimeDelta = TimeDelta::seconds(5);
/// No read that was put off has its turn later: others may be done before theirs.
const LONGEST_QUEUE: TimeDelta = TimeDelta::minutes(5);

/// The paces of all accounts; cheap to clone, shared.
#[derive(Clone)]
pub struct Pace {
    clock: Clock,
    reads_per_second: f64,
    accounts: Arc<Mutex<HashMap<String, Account>>>,
    /// By connection, the turn of the last read that was put off.
    queues: Arc<Mutex<HashMap<Uuid, DateTime<Utc>>>>,
}

struct Account {
    breakers: HashMap<Call, Breaker>,
    reads: f64,
    refilled_at: DateTime<Utc>,
}

#[derive(Default)]
struct Breaker {
    failures: u32,
    paused_until: Option<DateTime<Utc>>,
}

impl Pace {
    /// Nothing asked yet.
    pub fn new(clock: Clock, reads_per_second: u32) -> Self {
        Self {
            clock,
            reads_per_second: reads_per_second.into(),
            accounts: Arc::default(),
            queues: Arc::default(),
        }
    }

    /// Lets a call through, or says how long its kind is paused. After a pause one call is let through to try.
    pub fn admit(&self, key_id: &str, call: Call) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut accounts = self.lock();
        let account = self.account(&mut accounts, key_id, now);
        if call == Call::Read {
            // Into debt for what cannot wait: what can wait does so until it is paid off.
            account.reads = (account.reads - 1.0).max(-self.burst());
        }
        let breaker = account.breakers.entry(call).or_default();
        match breaker.paused_until {
            Some(until) if until > now => Err((until - now).to_std().unwrap_or(PAUSE)),
            Some(_) => {
                breaker.paused_until = Some(now + PAUSE);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How long calls of this kind are paused; none when they are not, or one may try.
    pub fn paused(&self, key_id: &str, call: Call) -> Option<Duration> {
        let now = self.clock.now();
        let until = self.lock().get(key_id)?.breakers.get(&call)?.paused_until?;
        (until - now).to_std().ok().filter(|left| !left.is_zero())
    }

    /// Razorpay answered, whatever it said.
    pub fn answered(&self, key_id: &str, call: Call) {
        if let Some(account) = self.lock().get_mut(key_id)
            && let Some(breaker) = account.breakers.remove(&call)
            && breaker.paused_until.is_some()
        {
            tracing::info!(call = call.as_str(), "Razorpay answers again");
        }
    }

    /// Razorpay did not answer, or answered that it cannot.
    pub fn failed(&self, key_id: &str, call: Call, retry_after: Option<Duration>) {
        let now = self.clock.now();
        let mut accounts = self.lock();
        let breaker = self.account(&mut accounts, key_id, now).breakers.entry(call).or_default();
        breaker.failures += 1;
        let Some(beyond) = breaker.failures.checked_sub(FAILURES) else { return };
        let pause = exponential(PAUSE, beyond, LONGEST_PAUSE).max(retry_after.unwrap_or_default());
        let pause = pause.min(LONGEST_PAUSE);
        breaker.paused_until = Some(now + TimeDelta::from_std(pause).unwrap_or(TimeDelta::MAX));
        tracing::warn!(
            call = call.as_str(),
            pause_ms = pause.as_millis(),
            "Razorpay does not answer: pausing"
        );
    }

    /// Whether there is budget for a read that could as well be done later, and that leaves this part of it to others.
    pub fn has_spare_read(&self, key_id: &str, leaving: f64) -> bool {
        let now = self.clock.now();
        self.account(&mut self.lock(), key_id, now).reads >= 1.0 + leaving * self.burst()
    }

    /// When a read that could wait, and is due at `at`, has its turn: then, unless more have theirs by then than the
    /// budget allows, twice over: about half of what is planned is over before its turn.
    pub fn turn(&self, connection: Uuid, at: DateTime<Utc>) -> DateTime<Utc> {
        let latest = self.clock.now() + LONGEST_QUEUE;
        let mut queues = self.lock_queues();
        let end = queues.entry(connection).or_insert(at);
        let turn = (*end).max(at);
        *end = (turn + self.apart() / 2).min(latest);
        if turn - at > BURST { turn } else { at }
    }

    /// The turn of a read for which there was no budget: behind those that were put off before it, as far apart as the
    /// budget has them, within five minutes. Thousands that would come again and again would find nothing each time.
    pub fn put_off(&self, connection: Uuid) -> DateTime<Utc> {
        let now = self.clock.now();
        let mut queues = self.lock_queues();
        let end = queues.entry(connection).or_insert(now);
        *end = ((*end).max(now) + self.apart()).min(now + LONGEST_QUEUE);
        *end
    }

    fn apart(&self) -> TimeDelta {
        let apart = Duration::from_secs_f64(1.0 / self.reads_per_second.max(1.0));
        TimeDelta::from_std(apart).unwrap_or(LONGEST_QUEUE)
    }

    fn lock_queues(&self) -> MutexGuard<'_, HashMap<Uuid, DateTime<Utc>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn burst(&self) -> f64 {
        self.reads_per_second * BURST.as_seconds_f64()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account<'a>(
        &self,
        accounts: &'a mut HashMap<String, Account>,
        key_id: &str,
        now: DateTime<Utc>,
    ) -> &'a mut Account {
        if !accounts.contains_key(key_id) {
            let fresh = Account { breakers: HashMap::new(), reads: self.burst(), refilled_at: now };
            accounts.insert(key_id.to_owned(), fresh);
        }
        let account = accounts.get_mut(key_id).expect("inserted when it was missing");
        let elapsed = (now - account.refilled_at).as_seconds_f64().max(0.0);
        account.reads = (account.reads + elapsed * self.reads_per_second).min(self.burst());
        account.refilled_at = now;
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::tests::Hand;

    fn pace() -> (Pace, Hand) {
        let hand = Hand::default();
        (Pace::new(Clock::from_source(Arc::new(hand.clone())), 2), hand)
    }

    #[test]
    fn pauses_after_ten_failures_and_lets_one_try_at_a_time() {
        let (pace, hand) = pace();
        for _ in 0..FAILURES {
            assert!(pace.admit("key", Call::Create).is_ok());
            pace.failed("key", Call::Create, None);
        }
        assert_eq!(pace.admit("key", Call::Create), Err(PAUSE));
        assert!(pace.admit("key", Call::Read).is_ok(), "each kind pauses apart");
        assert!(pace.admit("other", Call::Create).is_ok(), "each account pauses apart");
        hand.advance(TimeDelta::seconds(5));
        assert!(pace.paused("key", Call::Create).is_none());
        assert!(pace.admit("key", Call::Create).is_ok());
        assert!(pace.admit("key", Call::Create).is_err(), "one may try");
        pace.failed("key", Call::Create, None);
        assert_eq!(pace.paused("key", Call::Create), Some(PAUSE * 2));
        hand.advance(TimeDelta::seconds(10));
        assert!(pace.admit("key", Call::Create).is_ok());
        pace.answered("key", Call::Create);
        assert!(pace.admit("key", Call::Create).is_ok());
        assert!(pace.admit("key", Call::Create).is_ok());
    }

    #[test]
    fn reads_that_can_wait_do_so_when_the_budget_is_used_up() {
        let (pace, hand) = pace();
        for _ in 0..10 {
            assert!(pace.has_spare_read("key", 0.0));
            assert!(pace.admit("key", Call::Read).is_ok());
        }
        assert!(!pace.has_spare_read("key", 0.0));
        assert!(pace.has_spare_read("other", 0.9) && !pace.has_spare_read("other", 1.0));
        assert!(pace.admit("key", Call::Read).is_ok(), "what cannot wait is asked all the same");
        assert!(pace.has_spare_read("other", 0.0));
        hand.advance(TimeDelta::milliseconds(500));
        assert!(!pace.has_spare_read("key", 0.0), "the debt is paid off first");
        hand.advance(TimeDelta::milliseconds(500));
        assert!(pace.has_spare_read("key", 0.0));
    }

    #[test]
    fn reads_that_are_put_off_have_a_turn_each() {
        let (pace, hand) = pace();
        let (one, other, start) = (Uuid::from_u128(1), Uuid::from_u128(2), pace.clock.now());
        let turns: Vec<_> = (0..3).map(|_| pace.put_off(one) - start).collect();
        assert_eq!(turns, [500, 1000, 1500].map(TimeDelta::milliseconds));
        assert_eq!(pace.put_off(other) - start, TimeDelta::milliseconds(500), "each account apart");
        hand.advance(TimeDelta::minutes(1));
        let later = pace.clock.now();
        assert_eq!(pace.put_off(one) - later, TimeDelta::milliseconds(500), "those before had theirs");
        for _ in 0..10_000 {
            pace.put_off(one);
        }
        assert_eq!(pace.put_off(one), later + LONGEST_QUEUE);
    }

    #[test]
    fn reads_are_planned_for_when_the_budget_allows_them() {
        let (pace, _) = pace();
        let (one, due) = (Uuid::from_u128(1), pace.clock.now() + TimeDelta::seconds(10));
        let mut turns = Vec::new();
        for _ in 0..100 {
            turns.push(pace.turn(one, due) - due);
        }
        // Four a second, as half of them come to nothing; what five seconds have saved up comes at once.
        assert!(turns[..=20].iter().all(TimeDelta::is_zero), "{turns:?}");
        assert_eq!(turns[21..24], [5250, 5500, 5750].map(TimeDelta::milliseconds));
        assert_eq!(pace.turn(Uuid::from_u128(2), due), due, "each account apart");
    }
}
