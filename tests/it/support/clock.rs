//! A clock that stands still until a test moves it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use checkoutd::kit::clock::TimeSource;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use tokio::sync::watch;

#[derive(Clone)]
pub struct MockClock {
    now: Arc<Mutex<DateTime<Utc>>>,
    moved: Arc<watch::Sender<()>>,
}

impl MockClock {
    /// Stands at 23 November 2026, 09:30 UTC.
    pub fn new() -> Self {
        Self::at("2026-11-23T09:30:00Z".parse().unwrap())
    }

    /// Stands so much behind the system's clock.
    #[expect(clippy::disallowed_methods, reason = "another process runs on that time")]
    pub fn behind(by: TimeDelta) -> Self {
        Self::at(Utc::now() - by)
    }

    fn at(start: DateTime<Utc>) -> Self {
        Self { now: Arc::new(Mutex::new(start)), moved: Arc::new(watch::Sender::new(())) }
    }

    pub fn advance(&self, by: TimeDelta) {
        *self.now.lock().unwrap() += by;
        self.moved.send_replace(());
    }

    /// At least as late as the operating system's, which other processes have.
    pub fn catch_up(&self) {
        #[expect(clippy::disallowed_methods, reason = "what a second process sees")]
        let system = Utc::now();
        let behind = system - *self.now.lock().unwrap();
        self.advance(behind.max(TimeDelta::zero()));
    }

    /// How many sleeps wait for the clock to move.
    pub fn sleepers(&self) -> usize {
        self.moved.receiver_count()
    }
}

impl TimeSource for MockClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (clock, mut moved) = (self.clone(), self.moved.subscribe());
        let until = self.now() + duration;
        Box::pin(async move {
            while clock.now() < until {
                if moved.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}
