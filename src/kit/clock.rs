//! Time as an argument. Domain code asks [`Clock`]; only the process's outermost layer knows which one it is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound, Utc};
use futures::future::BoxFuture;

/// Where time comes from: the operating system in production, a hand-moved value in tests.
pub trait TimeSource: Send + Sync {
    /// The present, UTC.
    fn now(&self) -> DateTime<Utc>;
    /// Resolves once `now` has advanced by `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// What this machine's clock shows, where `now` goes by another one.
    fn machine_now(&self) -> Option<DateTime<Utc>> {
        None
    }
    /// Hears that the clock that all processes go by showed `reference` at some moment between the two.
    fn learn(&self, _reference: DateTime<Utc>, _asked: Instant, _answered: Instant) {}
}

/// The clock that the whole process shares; cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn TimeSource>);

impl Clock {
    /// The operating system's clock.
    pub fn system() -> Self {
        Self::from_source(Arc::new(SystemTime))
    }

    /// A clock driven by `source`.
    pub fn from_source(source: Arc<dyn TimeSource>) -> Self {
        Self(source)
    }

    /// The present in UTC, cut to microseconds: Postgres keeps no more, and a value must read back equal.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.now().trunc_subsecs(6)
    }

    /// Resolves once this clock has advanced by `duration`.
    pub fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }

    /// What this machine's clock shows, where this one goes by another.
    pub fn machine_now(&self) -> Option<DateTime<Utc>> {
        self.0.machine_now()
    }

    /// Hears that the clock that all processes go by showed `reference` at some moment between the two.
    pub fn learn(&self, reference: DateTime<Utc>, asked: Instant, answered: Instant) {
        self.0.learn(reference, asked, answered);
    }
}

/// The operating system's clock.
pub struct SystemTime;

impl TimeSource for SystemTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the operating system")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Mutex, PoisonError};

    use chrono::TimeDelta;

    use super::*;

    /// Stands still until it is moved.
    #[derive(Clone, Default)]
    pub(crate) struct Hand(Arc<Mutex<DateTime<Utc>>>);

    impl Hand {
        pub(crate) fn advance(&self, by: TimeDelta) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
        }
    }

    impl TimeSource for Hand {
        fn now(&self) -> DateTime<Utc> {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            self.advance(TimeDelta::from_std(duration).unwrap_or_default());
            Box::pin(std::future::ready(()))
        }
    }
}
