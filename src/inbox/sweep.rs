//! Removing what concerns nothing of ours: events of other systems on the same account, and unknown types.

use std::time::Duration;

use chrono::TimeDelta;
use uuid::Uuid;

use super::store;
use crate::{
    app::App,
    worker::{Job, Leased, Work},
};

/// Removes, in batches, foreign and ignored events that are old enough. What settled something stays for ever:
/// transitions and provider payments point at it.
pub struct Sweep;

/// Razorpay repeats an event for a day, and a payment may be captured three days late: nobody asks after longer.
const KEPT: TimeDelta = TimeDelta::days(15);
const BATCH: i64 = 500;

/// Rows to remove, by key. Not leased: two workers that take the same ones remove them once.
pub struct Batch(Vec<(Uuid, Uuid)>);

impl Leased for Batch {
    fn token(&self) -> Uuid {
        Uuid::nil()
    }
}

impl Job for Sweep {
    type Lease = Batch;
    const WORK: Work = Work::Sweep;
    const SLOTS: usize = 1;
    const POLL: Duration = Duration::from_secs(3600);

    async fn claim(&self, app: &App, _: usize) -> anyhow::Result<Vec<Self::Lease>> {
        let keys = store::list_removable_any_scope(&app.pool, app.clock.now() - KEPT, BATCH).await?;
        Ok(if keys.is_empty() { Vec::new() } else { vec![Batch(keys)] })
    }

    async fn step(&self, app: &App, batch: Batch) -> anyhow::Result<()> {
        let removed = store::delete_removable_any_scope(&app.pool, &batch.0).await?;
        tracing::info!(removed, "old events that concerned nothing of ours were removed");
        Ok(())
    }
}
