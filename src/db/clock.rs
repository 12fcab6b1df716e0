//! The database's time, kept by a process between two looks at it (docs/adr/0008).
//!
//! Replicas must agree on deadlines and leases, and their own clocks need not agree with each other. So the process
//! asks Postgres every ten seconds and counts on from there with its monotonic clock, which nobody sets.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Error, Pool};
use crate::kit::clock::{Clock, TimeSource};

/// A process whose own clock differs by more from the database's is not ready: something is wrong with the machine.
pub const MOST_SKEW: TimeDelta = TimeDelta::seconds(2);

const EVERY: Duration = Duration::from_secs(10);
/// Half of a round trip is how wrong a look can be: a slow one is not taken …
const SLOW: Duration = Duration::from_secs(1);
/// … unless there has been none for this long.
const TOO_OLD: Duration = Duration::from_secs(60);

/// Time as the database has it. Until it has been asked once: the operating system's.
pub struct DatabaseTime {
    os: Arc<dyn TimeSource>,
    last: Mutex<Option<Look>>,
}

/// A look at the database's clock.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    /// What it showed then.
    database: DateTime<Utc>,
    /// What this process had shown by then, if that was later.
    shown: DateTime<Utc>,
}

impl Look {
    /// Never backwards: whoever is ahead of the database goes at half its speed until they meet.
    fn at(&self, instant: Instant) -> DateTime<Utc> {
        let since = instant.saturating_duration_since(self.at);
        let (all, half) = (delta(since), delta(since / 2));
        (self.database + all).max(self.shown + half)
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

impl DatabaseTime {
    /// Nothing asked yet; `os` is this machine's clock.
    pub fn new(os: Arc<dyn TimeSource>) -> Self {
        Self { os, last: Mutex::default() }
    }

    fn last(&self) -> MutexGuard<'_, Option<Look>> {
        // A look is copied in as a whole: a panic elsewhere cannot leave half of one.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimeSource for DatabaseTime {
    fn now(&self) -> DateTime<Utc> {
        let last = *self.last();
        last.map_or_else(|| self.os.now(), |look| look.at(Instant::now()))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.os.sleep(duration)
    }

    fn machine_now(&self) -> Option<DateTime<Utc>> {
        Some(self.os.now())
    }

    fn learn(&self, database: DateTime<Utc>, asked: Instant, answered: Instant) {
        let trip = answered.saturating_duration_since(asked);
        let mut last = self.last();
        let has_recent = last.is_some_and(|look| answered.saturating_duration_since(look.at) < TOO_OLD);
        if trip > SLOW && has_recent {
            return;
        }
        let database = database + delta(trip / 2);
        let shown = last.map_or(database, |look| look.at(answered));
        *last = Some(Look { at: answered, database, shown });
    }
}

/// How far this machine's clock is ahead of the database's; none for a clock that has no machine behind it.
/// Tells `clock` what the database said.
pub async fn measure_skew(pool: &Pool, clock: &Clock) -> Result<Option<TimeDelta>, Error> {
    let mut connection = pool.acquire().await?;
    let (asked, before) = (Instant::now(), clock.machine_now());
    // One round trip, which a prepared statement's first run is not.
    let text: String = sqlx::raw_sql(
        "-- db.measure_skew\nselect (extract(epoch from clock_timestamp()) * 1000000)::bigint::text",
    )
    .fetch_one(&mut *connection)
    .await
    .and_then(|row| sqlx::Row::try_get(&row, 0))?;
    let (answered, after) = (Instant::now(), clock.machine_now());
    let micros = text.parse().ok().and_then(DateTime::from_timestamp_micros);
    let database: DateTime<Utc> = micros.ok_or_else(|| Error::Decode("not a time".into()))?;
    clock.learn(database, asked, answered);
    Ok(before.zip(after).map(|(before, after)| before + (after - before) / 2 - database))
}

/// Asks the database every ten seconds until `shutdown`, and tells people when this machine's clock is wrong.
pub async fn keep(pool: Pool, clock: Clock, shutdown: CancellationToken) {
    let mut was_wrong = false;
    loop {
        match measure_skew(&pool, &clock).await {
            Ok(skew) => {
                let is_wrong = skew.is_some_and(|skew| skew.abs() > MOST_SKEW);
                if is_wrong && !was_wrong {
                    tracing::error!(
                        alert = "clock_skewed",
                        skew_ms = skew.map(|skew| skew.num_milliseconds()),
                        "this machine's clock differs from the database's: is NTP running?"
                    );
                }
                was_wrong = is_wrong;
            }
            Err(error) => tracing::warn!(%error, "the database's clock could not be read"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::clock::tests::Hand;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    #[test]
    fn goes_by_the_database_and_the_monotonic_clock_and_by_nothing_else() {
        let os = Hand::default();
        let time = DatabaseTime::new(Arc::new(os.clone()));
        os.advance(TimeDelta::hours(1));
        assert_eq!(time.now(), at(3600), "not asked yet");
        let asked = Instant::now();
        time.learn(at(50_000), asked, asked + Duration::from_millis(200));
        let look = time.last().expect("a look");
        assert_eq!(look.at(asked + Duration::from_millis(200)), at(50_000) + TimeDelta::milliseconds(100));
        assert_eq!(look.at(asked + Duration::from_millis(1200)), at(50_001) + TimeDelta::milliseconds(100));
        os.advance(TimeDelta::hours(-3));
        assert!(time.now() >= at(50_000), "whatever the machine's clock does");
    }

    #[test]
    fn never_goes_back_and_meets_a_database_that_is_behind() {
        let time = DatabaseTime::new(Arc::new(Hand::default()));
        let start = Instant::now();
        time.learn(at(1000), start, start);
        // A standby took over whose clock is a minute behind.
        time.learn(at(940), start, start);
        let look = time.last().expect("a look");
        let mut before = at(1000);
        for second in 0..200 {
            let now = look.at(start + Duration::from_secs(second));
            assert!(now >= before && now >= at(940) + delta(Duration::from_secs(second)));
            before = now;
        }
        assert_eq!(look.at(start + Duration::from_secs(60)), at(1030));
        assert_eq!(look.at(start + Duration::from_secs(120)), at(1060), "met");
        assert_eq!(look.at(start + Duration::from_secs(121)), at(1061));
        // One that is ahead is followed at once.
        time.learn(at(2000), start, start);
        assert_eq!(time.last().expect("a look").at(start), at(2000));
    }

    #[test]
    fn a_slow_look_counts_only_when_there_is_no_other() {
        let time = DatabaseTime::new(Arc::new(Hand::default()));
        let start = Instant::now();
        let slow = start + Duration::from_secs(4);
        time.learn(at(1000), start, slow);
        assert_eq!(time.last().expect("a look").at(slow), at(1002));
        time.learn(at(5000), start, slow);
        assert_eq!(time.last().expect("a look").at(slow), at(1002), "ignored");
        let later = start + TOO_OLD;
        let late = later + Duration::from_secs(4);
        time.learn(at(5000), later, late);
        assert_eq!(time.last().expect("a look").at(late), at(5002));
    }
}
