//! Removing keys that are older than they are kept.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{KEPT, store};
use crate::{
    app::App,
    worker::{Job, Leased, Work},
};

/// Removes old idempotency keys with their answers, a batch at a time. What it has not got to counts as absent all the
/// same.
pub struct SweepIdempotencyKeys;

const BATCH: i64 = 500;

/// Keys to remove. Not leased: two workers that take the same ones remove them once.
pub struct Batch {
    keys: Vec<(Uuid, String)>,
    forgotten: DateTime<Utc>,
}

impl Leased for Batch {
    fn token(&self) -> Uuid {
        Uuid::nil()
    }
}

impl Job for SweepIdempotencyKeys {
    type Lease = Batch;
    const WORK: Work = Work::Sweep;
    const SLOTS: usize = 1;
    const POLL: Duration = Duration::from_secs(600);

    async fn claim(&self, app: &App, _: usize) -> anyhow::Result<Vec<Batch>> {
        let now = app.clock.now();
        let forgotten = now - KEPT;
        let keys = store::list_removable_any_scope(&app.pool, forgotten, now, BATCH).await?;
        Ok(if keys.is_empty() { Vec::new() } else { vec![Batch { keys, forgotten }] })
    }

    async fn step(&self, app: &App, batch: Batch) -> anyhow::Result<()> {
        let Batch { keys, forgotten } = batch;
        let removed = store::delete_removable_any_scope(&app.pool, &keys, forgotten, app.clock.now()).await?;
        tracing::info!(removed, "old idempotency keys were removed");
        Ok(())
    }
}
