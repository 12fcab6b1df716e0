//! The driver loop: claim as much as there are free slots, step each in its own task, wait for more.

use std::{
    collections::HashMap, future::Future, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration,
};

use futures::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Work;
use crate::{app::App, kit::backoff::jittered};

#[cfg(test)]
mod tests;

/// How long things may take before the driver goes on without them.
///
/// The time limits of statements lie in the server, and sqlx lets nobody set TCP's keepalive: a query whose peer
/// vanished without a word (power, a firewall that forgot) waits for an answer for ever. Its future must not be
/// dropped (docs/adr/0003), so it is left behind in its task, with its connection. Leases protect the rows.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Claiming; then the next claim is made.
    claim: Duration,
    /// A step; then another row gets its slot.
    step: Duration,
    /// Steps under way at shutdown; then they are dropped and their leases given back.
    drain: Duration,
}

const LIMITS: Limits =
    Limits { claim: Duration::from_secs(30), step: Duration::from_secs(120), drain: Duration::from_secs(10) };

/// A claimed row.
pub trait Leased: Send + 'static {
    /// What the claim wrote into the row; rows of one claim share it.
    fn token(&self) -> Uuid;
}

/// A kind of work that rows ask for. A claimed row carries a lease (token and expiry) that every finishing
/// UPDATE names, so that a worker that lost its lease writes nothing and any number of replicas can run.
pub trait Job: Send + Sync + 'static {
    /// A claimed row.
    type Lease: Leased;
    /// Which hints wake it.
    const WORK: Work;
    /// Rows that one process works on at a time.
    const SLOTS: usize;
    /// How long to wait when nothing is due.
    const POLL: Duration;

    /// Leases up to `free` rows of all that are due.
    fn claim(&self, app: &App, free: usize) -> impl Future<Output = anyhow::Result<Vec<Self::Lease>>> + Send;

    /// What the driver leases: as [`Job::claim`], but what can wait may be left for after the [`Job::pause`].
    fn claim_next(
        &self,
        app: &App,
        free: usize,
    ) -> impl Future<Output = anyhow::Result<Vec<Self::Lease>>> + Send {
        self.claim(app, free)
    }

    /// How long to wait when nothing was claimed; a hint cuts it short.
    fn pause(&self, _app: &App) -> Duration {
        Self::POLL
    }

    /// Does one row's work and finishes or reschedules it. An error leaves the row to its lease's expiry.
    fn step(&self, app: &App, lease: Self::Lease) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Gives back leases of steps that will not come to their end, so that another process need not wait. Nothing to
    /// do for work whose rows are not leased.
    fn release(&self, _app: &App, _tokens: &[Uuid]) -> impl Future<Output = anyhow::Result<()>> + Send {
        async { Ok(()) }
    }
}

/// Runs `job` until `shutdown`, then waits for the steps under way.
pub async fn drive<J: Job>(app: App, job: J, shutdown: CancellationToken) {
    drive_within(LIMITS, app, job, shutdown).await;
}

async fn drive_within<J: Job>(limits: Limits, app: App, job: J, shutdown: CancellationToken) {
    let job = Arc::new(job);
    let slots = Arc::new(Semaphore::new(J::SLOTS));
    let mut steps = Steps { tasks: JoinSet::new(), tokens: HashMap::new() };
    while !shutdown.is_cancelled() {
        // Nothing to wait for after a claim that did not end: it took long enough.
        let Some(claimed) = claim(&app, &job, slots.available_permits(), limits.claim).await else {
            continue;
        };
        let idle = claimed.is_empty();
        for lease in claimed {
            // Never waits: no more was claimed than there were permits. The semaphore is never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let (app, job, token) = (app.clone(), Arc::clone(&job), lease.token());
            steps.start(token, async move {
                step_watched(&app, &*job, lease, slot, limits.step).await;
            });
        }
        steps.reap();
        if idle || slots.available_permits() == 0 {
            let pause = jittered(job.pause(&app), 0.2, app.ids.fraction());
            tokio::select! {
                () = app.wake.notified(J::WORK) => {}
                () = tokio::time::sleep(pause) => {}
                // A slot that comes free while all were taken may let the next row in.
                _ = slots.acquire(), if slots.available_permits() == 0 => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
    let left = steps.drain(limits.drain).await;
    if !left.is_empty() {
        tracing::warn!(worker.work = ?J::WORK, claims = left.len(), "steps did not end in time: giving their leases back");
        if let Err(error) = job.release(&app, &left).await {
            tracing::warn!(worker.work = ?J::WORK, error = format!("{error:#}"), "leases were not given back and will expire");
        }
    }
}

/// What was claimed; `None` when the claim did not end in time. Then it is left behind, and rows that it may still
/// lease wait for the lease's expiry.
async fn claim<J: Job>(app: &App, job: &Arc<J>, free: usize, limit: Duration) -> Option<Vec<J::Lease>> {
    let (own, job) = (app.clone(), Arc::clone(job));
    #[expect(clippy::disallowed_methods, reason = "must outlive the driver's patience: see Limits")]
    let task = tokio::spawn(async move { job.claim_next(&own, free).await });
    let done = tokio::select! {
        done = task => done,
        () = tokio::time::sleep(limit) => {
            tracing::error!(worker.work = ?J::WORK, alert = "worker_stalled", "a claim did not end: leaving it behind");
            return None;
        }
    };
    match done {
        Ok(Ok(leases)) => return Some(leases),
        Ok(Err(error)) => {
            tracing::warn!(worker.work = ?J::WORK, error = format!("{error:#}"), "claim failed");
        }
        Err(error) if error.is_panic() => {
            tracing::error!(worker.work = ?J::WORK, alert = "claim_panicked", "claim panicked");
        }
        // The runtime ends.
        Err(_) => {}
    }
    Some(Vec::new())
}

/// The steps under way, with the claim that each belongs to.
struct Steps {
    tasks: JoinSet<()>,
    tokens: HashMap<tokio::task::Id, Uuid>,
}

impl Steps {
    fn start(&mut self, token: Uuid, step: impl Future<Output = ()> + Send + 'static) {
        self.tokens.insert(self.tasks.spawn(step).id(), token);
    }

    fn reap(&mut self) {
        while let Some(done) = self.tasks.try_join_next_with_id() {
            self.forget(done);
        }
    }

    fn forget(&mut self, done: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        self.tokens.remove(&done.map_or_else(|error| error.id(), |(id, ())| id));
    }

    /// Waits for the steps, but not for ever; the claims whose steps were dropped.
    async fn drain(mut self, timeout: Duration) -> Vec<Uuid> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            tokio::select! {
                done = self.tasks.join_next_with_id() => match done {
                    Some(done) => self.forget(done),
                    None => break,
                },
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        self.tasks.shutdown().await;
        let mut tokens: Vec<_> = self.tokens.into_values().collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }
}

/// Gives `slot` back when the step has ended, or has taken too long: a step that never ends must not keep others from
/// their turn.
async fn step_watched<J: Job>(
    app: &App,
    job: &J,
    lease: J::Lease,
    slot: OwnedSemaphorePermit,
    limit: Duration,
) {
    let mut step = pin!(step_caught(app, job, lease));
    tokio::select! {
        () = &mut step => return,
        () = tokio::time::sleep(limit) => {}
    }
    tracing::error!(worker.work = ?J::WORK, alert = "step_stalled", "a step does not end: going on without it");
    drop(slot);
    step.await;
}

/// A panic in one step must not end the worker; its row is left to the lease's expiry.
async fn step_caught<J: Job>(app: &App, job: &J, lease: J::Lease) {
    match AssertUnwindSafe(job.step(app, lease)).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(worker.work = ?J::WORK, error = format!("{error:#}"), "step failed"),
        Err(_) => tracing::error!(worker.work = ?J::WORK, alert = "step_panicked", "step panicked"),
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
