//! Keys that were looked up a moment ago: most requests come with one of few keys.
//!
//! A change of keys or environments by this process empties it at once; what other processes change is noticed when
//! [`LIFETIME`] has passed. Only keys that were valid get in, so that guesses push none out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};

use super::key_store::FoundKey;

/// How long another replica's revocation may go unnoticed: less than the five seconds that are promised, also by a clock
/// that goes at half its speed because it is ahead of the database's.
const LIFETIME: TimeDelta = TimeDelta::seconds(2);
/// About 300 bytes each.
const MOST: usize = 10_000;

/// The keys that one process knows.
#[derive(Debug, Default)]
pub struct KeyCache(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Counts changes: what was read before one must not be kept after it.
    changes: u64,
    rows: HashMap<String, (Arc<FoundKey>, DateTime<Utc>)>,
}

/// The state of the cache when a key was not in it; see [`KeyCache::keep`].
pub struct Missing(u64);

impl KeyCache {
    /// The key's row, read at most [`LIFETIME`] ago.
    pub fn find(&self, lookup_id: &str, now: DateTime<Utc>) -> Result<Arc<FoundKey>, Missing> {
        let known = self.lock();
        match known.rows.get(lookup_id) {
            // A clock that was set back makes nothing live longer.
            Some((row, read_at)) if (TimeDelta::zero()..LIFETIME).contains(&(now - *read_at)) => {
                Ok(Arc::clone(row))
            }
            _ => Err(Missing(known.changes)),
        }
    }

    /// Keeps a row that was read after `missing` was told, unless something has changed since.
    pub fn keep(&self, missing: Missing, lookup_id: &str, row: &Arc<FoundKey>, now: DateTime<Utc>) {
        let mut known = self.lock();
        if known.changes != missing.0 {
            return;
        }
        if known.rows.len() >= MOST {
            known.rows.clear();
        }
        known.rows.insert(lookup_id.to_owned(), (Arc::clone(row), now));
    }

    /// To be called after every commit that changes a key or an environment.
    pub fn forget(&self) {
        let mut known = self.lock();
        known.changes += 1;
        known.rows.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
