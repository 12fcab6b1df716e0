//! Removing old events with their deliveries and attempts. What is still to be delivered stays.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::prune_store as store;
use crate::{
    app::App,
    db,
    tenancy::EnvironmentId,
    worker::{Job, Leased, Work},
};

/// Removes events that are older than `CHECKOUTD_EVENT_RETENTION_DAYS`, a batch at a time.
pub struct Prune;

/// Events in one transaction.
const BATCH: i64 = 500;

/// Old events of an environment. Not leased: two workers that take the same ones remove them once.
pub struct Batch {
    environment: EnvironmentId,
    events: Vec<Uuid>,
    before: DateTime<Utc>,
}

impl Leased for Batch {
    fn token(&self) -> Uuid {
        Uuid::nil()
    }
}

impl Job for Prune {
    type Lease = Batch;
    const WORK: Work = Work::Sweep;
    const SLOTS: usize = 1;
    const POLL: Duration = Duration::from_secs(600);

    async fn claim(&self, app: &App, _: usize) -> anyhow::Result<Vec<Self::Lease>> {
        let before = app.clock.now() - app.config.event_retention;
        let found = store::list_removable_any_scope(&app.pool, before, BATCH).await?;
        Ok(found.map(|(environment, events)| Batch { environment, events, before }).into_iter().collect())
    }

    async fn step(&self, app: &App, batch: Batch) -> anyhow::Result<()> {
        let Batch { environment, events, before } = batch;
        let removed = db::transact(&app.pool, "prune_events", move |tx| {
            let events = events.clone();
            Box::pin(async move { store::delete_events(tx, environment, &events, before).await })
        })
        .await?;
        tracing::info!(environment.id = %environment, removed, "old events were removed");
        Ok(())
    }
}
