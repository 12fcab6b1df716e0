//! The driver loop: claim as much as there are free slots, step each in its own task, wait for more.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Work;
use crate::{app::App, kit::backoff::jittered};

/// A kind of work that rows ask for. A claimed row carries a lease (token and expiry) that every finishing
/// UPDATE names, so that a worker that lost its lease writes nothing and any number of replicas can run.
pub trait Job: Send + Sync + 'static {
    /// A claimed row.
    type Lease: Send + 'static;
    /// Which hints wake it.
    const WORK: Work;
    /// Rows that one process works on at a time.
    const SLOTS: usize;
    /// How long to wait when nothing is due; a hint cuts it short.
    const POLL: Duration;

    /// Leases up to `free` due rows.
    fn claim(&self, app: &App, free: usize) -> impl Future<Output = anyhow::Result<Vec<Self::Lease>>> + Send;

    /// Does one row's work and finishes or reschedules it. An error leaves the row to its lease's expiry.
    fn step(&self, app: &App, lease: Self::Lease) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Runs `job` until `shutdown`, then waits for the steps under way.
pub async fn drive<J: Job>(app: App, job: J, shutdown: CancellationToken) {
    let job = Arc::new(job);
    let slots = Arc::new(Semaphore::new(J::SLOTS));
    let steps = TaskTracker::new();
    while !shutdown.is_cancelled() {
        let claimed = match job.claim(&app, slots.available_permits()).await {
            Ok(leases) => leases,
            Err(error) => {
                tracing::warn!(worker.work = ?J::WORK, error = format!("{error:#}"), "claim failed");
                Vec::new()
            }
        };
        let idle = claimed.is_empty();
        for lease in claimed {
            let (app, job) = (app.clone(), Arc::clone(&job));
            // Never waits: no more was claimed than there were permits. The semaphore is never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            steps.spawn(async move {
                step_caught(app, job, lease).await;
                drop(slot);
            });
        }
        if idle || slots.available_permits() == 0 {
            let pause = jittered(J::POLL, 0.2, app.ids.fraction());
            tokio::select! {
                () = app.wake.notified(J::WORK) => {}
                () = tokio::time::sleep(pause) => {}
                // A slot that comes free while all were taken may let the next row in.
                _ = slots.acquire(), if slots.available_permits() == 0 => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
    steps.close();
    steps.wait().await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "a panic in one step must not end the worker; the handle is awaited"
)]
async fn step_caught<J: Job>(app: App, job: Arc<J>, lease: J::Lease) {
    let done = tokio::spawn(async move { job.step(&app, lease).await }).await;
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(worker.work = ?J::WORK, error = format!("{error:#}"), "step failed"),
        Err(panic) => tracing::error!(worker.work = ?J::WORK, error = %panic, "step panicked"),
    }
}

/// Claims and steps until nothing is due; how many rows were stepped. Errors come back to the caller.
pub async fn drain<J: Job>(app: &App, job: &J) -> anyhow::Result<usize> {
    let mut total = 0;
    loop {
        let leases = job.claim(app, J::SLOTS).await?;
        if leases.is_empty() {
            return Ok(total);
        }
        total += leases.len();
        futures::future::try_join_all(leases.into_iter().map(|lease| job.step(app, lease))).await?;
    }
}
