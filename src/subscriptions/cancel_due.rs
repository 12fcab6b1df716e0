//! Ending subscriptions whose planned end has come.

use std::time::Duration;

use uuid::Uuid;

use super::store;
use crate::{
    app::App,
    worker::{Job, Leased, Work},
};

/// Ends, a batch at a time, subscriptions whose `cancel_at` has passed. One statement does it, which skips rows that
/// another process is at: nothing is half done when a process dies, and any number of them may run.
pub struct CancelDue;

const BATCH: i64 = 500;

/// Something is due. Not leased: the statement itself takes the rows.
pub struct Due;

impl Leased for Due {
    fn token(&self) -> Uuid {
        Uuid::nil()
    }
}

impl Job for CancelDue {
    type Lease = Due;
    const WORK: Work = Work::Cancellations;
    const SLOTS: usize = 1;
    const POLL: Duration = Duration::from_secs(5);

    async fn claim(&self, app: &App, _: usize) -> anyhow::Result<Vec<Due>> {
        let is_due = store::is_cancellation_due_any_scope(&app.pool, app.clock.now()).await?;
        Ok(is_due.then_some(Due).into_iter().collect())
    }

    async fn step(&self, app: &App, _: Due) -> anyhow::Result<()> {
        let ended = store::mark_due_cancelled_any_scope(&app.pool, app.clock.now(), BATCH).await?;
        if ended > 0 {
            tracing::info!(ended, "subscriptions ended as planned");
        }
        Ok(())
    }
}
