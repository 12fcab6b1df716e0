//! Replays: an endpoint's events since a time, sent again at a bounded rate.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{EndpointId, EventId, endpoint, endpoint_store, queue_store, replay_store as store};
use crate::{
    app::App,
    db,
    http::{ApiError, Violations},
    tenancy::Scope,
    worker::{Job, Leased, Work},
};

crate::define_ids! {
    /// A replay.
    ReplayId = "rpl";
}

/// Events looked at in one batch, and how long until the next one.
const BATCH: usize = 100;
const GAP: TimeDelta = TimeDelta::seconds(1);
/// An endpoint that has this many deliveries due gets no more on top: new events must not wait behind a replay.
const MOST_DUE: i64 = 200;
const LEASE: TimeDelta = TimeDelta::seconds(30);

/// A replay as it is shown.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// Whose events are sent again.
    pub webhook_endpoint_id: EndpointId,
    /// `running`, `completed`, or `cancelled` (the endpoint was disabled or deleted first).
    #[schemars(extend("enum" = ["running", "completed", "cancelled"]))]
    pub status: String,
    /// Events from then on …
    pub since: DateTime<Utc>,
    /// … to then.
    pub until: DateTime<Utc>,
    /// Only those that the endpoint has not taken.
    pub undelivered_only: bool,
    /// Deliveries that were made due so far.
    pub replayed_count: i32,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it last went on.
    pub updated_at: DateTime<Utc>,
}

/// Events from `since` to `until`, both in the past.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Window {
    /// Until now when `until` is not given.
    pub fn parse(
        since: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Self, ApiError> {
        let mut violations = Violations::default();
        violations.require(since <= now, "since", "must not be in the future");
        violations.require(until.is_none_or(|until| until <= now), "until", "must not be in the future");
        violations.require(until.is_none_or(|until| until >= since), "until", "must not be before since");
        violations.finish().map(|()| Self { since, until: until.unwrap_or(now) })
    }
}

/// Starts a replay. Events that the endpoint's types leave out are left out; those from before the endpoint was made,
/// or while it was disabled, are sent for the first time.
///
/// # Errors
/// 404; 400 while the endpoint is disabled or another replay of it runs.
pub async fn start(
    app: &App,
    scope: Scope,
    endpoint: EndpointId,
    id: ReplayId,
    window: Window,
    undelivered_only: bool,
) -> Result<Replay, ApiError> {
    let now = app.clock.now();
    let replay = Replay {
        id,
        webhook_endpoint_id: endpoint,
        status: "running".into(),
        since: window.since,
        until: window.until,
        undelivered_only,
        replayed_count: 0,
        created_at: now,
        updated_at: now,
    };
    let row = replay.clone();
    db::transact(&app.pool, "start_replay", move |tx| {
        let row = row.clone();
        Box::pin(async move {
            let found = endpoint_store::find_endpoint(&mut *tx, scope, endpoint).await?;
            found.ok_or_else(endpoint::missing)?;
            // Asked under the lock: it must not be disabled between the look and the insert.
            if !queue_store::lock_endpoint(tx, scope, endpoint).await? {
                return Err(endpoint::disabled());
            }
            if !store::insert_replay(tx, scope, &row).await? {
                return Err(ApiError::invalid_operation(
                    "another replay of this webhook endpoint is running",
                )
                .detail("reason", "replay_running"));
            }
            Ok(())
        })
    })
    .await?;
    tracing::info!(endpoint.id = %endpoint, replay.id = %replay.id, "a replay begins");
    app.wake.notify(Work::Replays);
    Ok(replay)
}

/// A replay, over or not.
pub async fn find(app: &App, scope: Scope, id: ReplayId) -> Result<Option<Replay>, db::Error> {
    store::find_replay(&app.pool, scope, id).await
}

/// The last replays of an endpoint.
pub async fn list(
    app: &App,
    scope: Scope,
    endpoint: EndpointId,
    limit: i64,
) -> Result<Vec<Replay>, db::Error> {
    store::list_replays(&app.pool, scope, endpoint, limit).await
}

/// Makes the deliveries of replays due, a batch at a time.
pub struct SendReplays;

/// A claimed replay.
#[derive(Clone, Debug)]
pub struct Lease {
    pub scope: Scope,
    pub id: ReplayId,
    pub endpoint: EndpointId,
    pub token: Uuid,
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub undelivered_only: bool,
    /// The last event that was looked at.
    pub cursor: (DateTime<Utc>, EventId),
}

impl Leased for Lease {
    fn token(&self) -> Uuid {
        self.token
    }
}

impl Job for SendReplays {
    type Lease = Lease;
    const WORK: Work = Work::Replays;
    const SLOTS: usize = 4;
    const POLL: Duration = Duration::from_secs(1);

    async fn claim(&self, app: &App, free: usize) -> anyhow::Result<Vec<Lease>> {
        let now = app.clock.now();
        let limit = i64::try_from(free)?;
        Ok(store::claim_due_any_scope(&app.pool, now, now + LEASE, app.ids.uuid(), limit).await?)
    }

    async fn step(&self, app: &App, lease: Lease) -> anyhow::Result<()> {
        let now = app.clock.now();
        let ids: Vec<Uuid> = std::iter::repeat_with(|| app.ids.uuid()).take(BATCH).collect();
        db::transact(&app.pool, "replay_batch", move |tx| {
            let (lease, ids) = (lease.clone(), ids.clone());
            Box::pin(async move { step_in(tx, &lease, &ids, now).await })
        })
        .await?;
        app.wake.notify(Work::Deliveries);
        Ok(())
    }

    async fn release(&self, app: &App, tokens: &[Uuid]) -> anyhow::Result<()> {
        Ok(store::release_any_scope(&app.pool, tokens).await?)
    }
}

async fn step_in(tx: &mut db::Tx, lease: &Lease, ids: &[Uuid], now: DateTime<Utc>) -> Result<(), db::Error> {
    // The endpoint first, as everybody does who touches many of its deliveries.
    queue_store::lock_endpoint(tx, lease.scope, lease.endpoint).await?;
    let endpoint = endpoint_store::find_endpoint(&mut *tx, lease.scope, lease.endpoint).await?;
    let Some(endpoint) = endpoint.filter(|endpoint| endpoint.enabled) else {
        return store::finish_batch(tx, lease, "cancelled", lease.cursor, 0, None, now).await;
    };
    if store::count_due(tx, lease, now, MOST_DUE).await? >= MOST_DUE {
        return store::finish_batch(tx, lease, "running", lease.cursor, 0, Some(now + GAP), now).await;
    }
    let batch = store::make_due(tx, lease, &endpoint.event_types, ids, now).await?;
    let (status, next) = if batch.is_last { ("completed", None) } else { ("running", Some(now + GAP)) };
    store::finish_batch(tx, lease, status, batch.cursor.unwrap_or(lease.cursor), batch.replayed, next, now)
        .await
}
