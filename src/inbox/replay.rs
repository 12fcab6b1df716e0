//! Events that wait or were given up, for people: what there is, and trying it again.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{InboxId, store};
use crate::{app::App, db, tenancy::EnvironmentId};

/// An event that waits or is parked, without its content.
#[derive(Clone, Debug, Serialize)]
pub struct StoredEvent {
    /// Its id here; not Razorpay's.
    pub id: InboxId,
    /// Whose.
    pub environment_id: EnvironmentId,
    /// `payment_link.paid` …; text from outside.
    pub event_type: String,
    /// `waiting` or `parked`.
    pub status: String,
    /// Why it was parked.
    pub reason: Option<String>,
    /// How often a worker took it.
    pub attempt_count: i32,
    /// What the last try failed of.
    pub last_error: Option<String>,
    /// When it is tried next; none once it is parked.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When Razorpay brought it.
    pub received_at: DateTime<Utc>,
}

/// What became of a wish to try an event again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It waits now, and is due.
    Waiting,
    /// It was not parked: `waiting` or `processed`. Nothing was changed.
    NotParked(String),
    /// There is no such event.
    Unknown,
}

/// The oldest events, at most `limit`, that wait or are parked; with `status`, only those.
pub async fn list(app: &App, status: Option<&str>, limit: i64) -> Result<Vec<StoredEvent>, db::Error> {
    store::list_any_scope(&app.pool, status, limit).await
}

/// Lets the worker try a parked event again, as if it had just come.
pub async fn replay(app: &App, id: InboxId) -> Result<Replayed, db::Error> {
    if !store::replay_any_scope(&app.pool, &[id], app.clock.now()).await?.is_empty() {
        return Ok(Replayed::Waiting);
    }
    let status = store::find_status_any_scope(&app.pool, id).await?;
    Ok(status.map_or(Replayed::Unknown, Replayed::NotParked))
}

/// [`replay`] for every event that is parked now; which they were.
pub async fn replay_all(app: &App) -> Result<Vec<InboxId>, db::Error> {
    let (mut all, now) = (Vec::new(), app.clock.now());
    for some in store::list_parked_any_scope(&app.pool).await?.chunks(BATCH) {
        all.extend(store::replay_any_scope(&app.pool, some, now).await?);
    }
    Ok(all)
}

/// One statement stays far below its time limit.
const BATCH: usize = 500;
