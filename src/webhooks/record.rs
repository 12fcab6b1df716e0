//! Recording what came of attempts: those that end at about the same time share a transaction.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt, channel::oneshot};
use uuid::Uuid;

use super::{
    AttemptId, DeliveryId, EndpointId, delivery::DeliveryStatus, disable, endpoint::DisabledReason,
    queue_store as store,
};
use crate::{app::App, db, kit::checkpoint, tenancy::Scope};

/// An endpoint that does nothing but fail for this long …
const FAILING_FOR: TimeDelta = TimeDelta::days(5);
/// … and this often, is disabled: one failure a week ago and one today say little.
const MOST_FAILURES: i32 = 10;
/// Attempts in one transaction. The lock on an endpoint's health is held as long as that takes.
const MOST_AT_ONCE: usize = 256;

/// An attempt as it is recorded, and what becomes of the delivery.
#[derive(Clone, Debug)]
pub struct Attempted {
    pub scope: Scope,
    pub delivery: DeliveryId,
    pub endpoint: EndpointId,
    /// Where it was sent.
    pub url: String,
    /// The claim that it was made under.
    pub token: Uuid,
    pub id: AttemptId,
    pub status: DeliveryStatus,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub response_code: Option<i32>,
    pub response_body: Option<String>,
    pub error: Option<String>,
    pub duration_ms: i64,
    pub attempted_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
}

/// An endpoint that did nothing but fail for long.
#[derive(Clone, Debug)]
pub struct Failing {
    pub scope: Scope,
    pub endpoint: EndpointId,
    /// Where it pointed.
    pub url: String,
}

/// While attempts keep coming, they are collected for this long: each batch costs a commit.
const COLLECT: Duration = Duration::from_millis(5);

/// Collects attempts while others are being written, and writes them together.
#[derive(Default)]
pub struct Recorder(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    attempts: Vec<(Attempted, oneshot::Sender<bool>)>,
    /// Whether a task writes them.
    is_written: bool,
}

impl Recorder {
    /// Has an attempt recorded. What comes back waits for that: `false`, and nothing is written, when its lease was
    /// lost.
    ///
    /// # Errors
    /// It could not be written: the delivery waits for its lease's expiry and is sent again.
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever made the attempts waits for the task: so does shutdown"
    )]
    pub fn record(
        &self,
        app: &App,
        attempted: Attempted,
    ) -> impl Future<Output = anyhow::Result<bool>> + Send + 'static {
        let (done, written) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.attempts.push((attempted, done));
        if !std::mem::replace(&mut waiting.is_written, true) {
            tokio::spawn(write_all(app.clone()));
        }
        async move { written.await.map_err(|_| anyhow::anyhow!("the attempt could not be recorded")) }
    }

    /// The next batch; none, and nobody writes any more, when nothing waits.
    fn take(&self) -> Option<Vec<(Attempted, oneshot::Sender<bool>)>> {
        let mut waiting = self.lock();
        if waiting.attempts.is_empty() {
            waiting.is_written = false;
            return None;
        }
        let count = waiting.attempts.len().min(MOST_AT_ONCE);
        Some(waiting.attempts.drain(..count).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Writes until nothing waits. The first batch at once: who sends little waits for nobody.
async fn write_all(app: App) {
    while let Some(batch) = app.recorder.take() {
        let is_full = batch.len() == MOST_AT_ONCE;
        // A panic loses its batch and no other: leases expire.
        if AssertUnwindSafe(write(&app, batch)).catch_unwind().await.is_err() {
            tracing::error!(alert = "record_panicked", "recording attempts panicked");
        }
        if !is_full {
            tokio::time::sleep(COLLECT).await;
        }
    }
}

/// Writes a batch and answers each; one that cannot be written must not take the others with it.
async fn write(app: &App, batch: Vec<(Attempted, oneshot::Sender<bool>)>) {
    let (attempts, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let attempts = Arc::new(attempts);
    match write_together(app, Arc::clone(&attempts)).await {
        Ok(recorded) => {
            for (attempted, done) in attempts.iter().zip(waiting) {
                let _ = done.send(recorded.contains(&attempted.delivery));
            }
        }
        Err(error) if attempts.len() == 1 || db::is_unavailable(&error) => {
            tracing::warn!(%error, attempts = attempts.len(), "attempts could not be recorded");
        }
        Err(error) => {
            tracing::warn!(%error, attempts = attempts.len(), "attempts are recorded one by one");
            for (attempted, done) in attempts.iter().zip(waiting) {
                let delivery = attempted.delivery;
                match write_together(app, Arc::new(vec![attempted.clone()])).await {
                    Ok(recorded) => {
                        let _ = done.send(recorded.contains(&delivery));
                    }
                    Err(error) => {
                        tracing::warn!(%error, delivery.id = %delivery, "an attempt could not be recorded");
                    }
                }
            }
        }
    }
}

async fn write_together(app: &App, attempts: Arc<Vec<Attempted>>) -> Result<Vec<DeliveryId>, db::Error> {
    let before = app.clock.now() - FAILING_FOR;
    checkpoint::reach("record.batched");
    let recorded = db::transact(&app.pool, "finish_deliveries", move |tx| {
        let attempts = Arc::clone(&attempts);
        Box::pin(async move { store::finish_deliveries(tx, &attempts, before, MOST_FAILURES).await })
    })
    .await?;
    checkpoint::reach("record.committed");
    for failing in recorded.failing {
        // In a transaction of its own: should it fail, the next failure is judged again.
        if let Err(error) = disable_failing(app, &failing, before).await {
            tracing::warn!(%error, endpoint.id = %failing.endpoint, "a failing endpoint could not be disabled");
        }
    }
    Ok(recorded.deliveries)
}

async fn disable_failing(app: &App, failing: &Failing, before: DateTime<Utc>) -> Result<(), db::Error> {
    let (scope, endpoint, now) = (failing.scope, failing.endpoint, app.clock.now());
    let parts = (failing.url.clone(), disable::Ids::draw(app));
    db::transact(&app.pool, "disable_failing_endpoint", move |tx| {
        let (url, ids) = parts.clone();
        Box::pin(async move {
            // The endpoint first, as everybody does who cancels its deliveries.
            store::lock_endpoint(tx, scope, endpoint).await?;
            if store::lock_failing(tx, scope, endpoint, before, MOST_FAILURES).await? {
                disable::disable_in(tx, scope, endpoint, &url, DisabledReason::Failing, &ids, now).await?;
            }
            Ok::<_, db::Error>(())
        })
    })
    .await?;
    disable::cancel_rest(app, scope, endpoint).await?;
    app.wake.notify(crate::worker::Work::Deliveries);
    Ok(())
}
