//! Rows that were read a moment ago: most requests need one of few.
//!
//! A change by this process empties it at once; what other processes change is noticed when [`LIFETIME`] has passed.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};

/// How long another replica's change may go unnoticed: less than the five seconds that are promised for a revoked key,
/// also by a clock that goes at half its speed because it is ahead of the database's.
const LIFETIME: TimeDelta = TimeDelta::seconds(2);
/// An API key has about 300 bytes, an environment's accounts a kilobyte and more.
const MOST: usize = 10_000;

/// What one process has read lately.
#[derive(Debug)]
pub struct Recent<K, V>(Mutex<Known<K, V>>);

#[derive(Debug)]
struct Known<K, V> {
    /// Counts changes: what was read before one must not be kept after it.
    changes: u64,
    rows: HashMap<K, (Arc<V>, DateTime<Utc>)>,
}

/// The state before something is read; see [`Recent::keep`].
#[derive(Debug)]
pub struct Reading(u64);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Known { changes: 0, rows: HashMap::new() }))
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// What was read at most [`LIFETIME`] ago.
    pub fn find<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: DateTime<Utc>) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let known = self.lock();
        let (row, read_at) = known.rows.get(key)?;
        // A clock that was set back makes nothing live longer.
        (TimeDelta::zero()..LIFETIME).contains(&(now - *read_at)).then(|| Arc::clone(row))
    }

    /// To be called before something is read that is to be kept.
    pub fn reading(&self) -> Reading {
        Reading(self.lock().changes)
    }

    /// Keeps what was read since, unless something has changed meanwhile.
    pub fn keep(&self, since: &Reading, key: K, row: &Arc<V>, now: DateTime<Utc>) {
        let mut known = self.lock();
        if known.changes != since.0 {
            return;
        }
        if known.rows.len() >= MOST {
            known.rows.clear();
        }
        known.rows.insert(key, (Arc::clone(row), now));
    }

    /// To be called after every commit that changes such a row.
    pub fn forget(&self) {
        let mut known = self.lock();
        known.changes += 1;
        known.rows.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Known<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let (recent, now) = (Recent::<u8, &str>::default(), DateTime::UNIX_EPOCH);
        let before = recent.reading();
        recent.forget();
        recent.keep(&before, 1, &Arc::new("old"), now);
        assert!(recent.find(&1, now).is_none());
        recent.keep(&recent.reading(), 1, &Arc::new("new"), now);
        assert_eq!(recent.find(&1, now).as_deref(), Some(&"new"));
    }

    #[test]
    fn what_was_read_two_seconds_ago_or_in_the_future_is_unknown() {
        let (recent, now) = (Recent::<u8, &str>::default(), DateTime::UNIX_EPOCH);
        recent.keep(&recent.reading(), 1, &Arc::new("row"), now);
        let at = |milliseconds| recent.find(&1, now + TimeDelta::milliseconds(milliseconds)).is_some();
        assert_eq!([at(-1), at(0), at(1999), at(2000)], [false, true, true, false]);
    }
}
