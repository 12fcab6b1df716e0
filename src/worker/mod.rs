//! Background work: one driver for every kind of leased job, and what wakes it.

mod drive;
mod wake;

pub use drive::{Job, Leased, drain, drive};
pub use wake::{Wake, Work};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::app::App;

/// Starts every worker; each stops claiming when `shutdown` is cancelled and then finishes what it holds.
pub fn start_all(app: &App, tasks: &TaskTracker, shutdown: &CancellationToken) {
    // What must go on when the API takes all of its connections.
    let (sessions, payments) = (app.on(&app.pools.sessions), app.on(&app.pools.payments));
    tasks.spawn(drive(sessions, crate::checkout::CheckSessions, shutdown.clone()));
    tasks.spawn(drive(payments.clone(), crate::inbox::DriveInbox, shutdown.clone()));
    tasks.spawn(drive(payments, crate::payments::SendRefunds, shutdown.clone()));
    tasks.spawn(drive(app.clone(), crate::subscriptions::CancelDue, shutdown.clone()));
    tasks.spawn(drive(app.clone(), crate::inbox::Sweep, shutdown.clone()));
    tasks.spawn(drive(app.clone(), crate::webhooks::Prune, shutdown.clone()));
    tasks.spawn(drive(app.clone(), crate::http::SweepIdempotencyKeys, shutdown.clone()));
    tasks.spawn(drive(app.clone(), crate::webhooks::SendReplays, shutdown.clone()));
    tasks.spawn(drive(app.clone(), crate::webhooks::Deliver, shutdown.clone()));
}

/// Runs every worker by hand until none has anything due at the clock's present time. For tests.
pub async fn drain_all(app: &App) -> anyhow::Result<usize> {
    let mut total = 0;
    loop {
        let mut done = drain(app, &crate::checkout::CheckSessions).await?;
        done += drain(app, &crate::inbox::DriveInbox).await?;
        done += drain(app, &crate::subscriptions::CancelDue).await?;
        done += drain(app, &crate::inbox::Sweep).await?;
        done += drain(app, &crate::payments::SendRefunds).await?;
        done += drain(app, &crate::webhooks::Prune).await?;
        done += drain(app, &crate::http::SweepIdempotencyKeys).await?;
        done += drain(app, &crate::webhooks::SendReplays).await?;
        done += drain(app, &crate::webhooks::Deliver).await?;
        if done == 0 {
            return Ok(total);
        }
        total += done;
    }
}
