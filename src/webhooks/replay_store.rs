//! SQL of replays.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{
    EndpointId, EventId,
    replay::{Lease, Replay, ReplayId},
};
use crate::{
    db::{self, Pool, Tx},
    tenancy::Scope,
};

/// False when another one of the endpoint is running.
pub async fn insert_replay(tx: &mut Tx, scope: Scope, replay: &Replay) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.insert_replay
        insert into webhook_replays (environment_id, id, endpoint_id, replay_status, since, until, undelivered_only,
            cursor_created_at, cursor_id, next_batch_at, created_at, updated_at)
        values ($1, $2, $3, 'running', $4, $5, $6, $4, $7, $8, $8, $8)
        on conflict (environment_id, endpoint_id) where replay_status = 'running' do nothing",
        Uuid::from(scope.environment),
        Uuid::from(replay.id),
        Uuid::from(replay.webhook_endpoint_id),
        replay.since,
        replay.until,
        replay.undelivered_only,
        Uuid::nil(),
        replay.created_at,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn find_replay(pool: &Pool, scope: Scope, id: ReplayId) -> Result<Option<Replay>, db::Error> {
    sqlx::query_as!(
        Replay,
        "-- webhooks.find_replay
        select id, endpoint_id as webhook_endpoint_id, replay_status as status, since, until, undelivered_only,
            replayed_count, created_at, updated_at
        from webhook_replays
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await
}

/// Of an endpoint, newest first.
pub async fn list_replays(
    pool: &Pool,
    scope: Scope,
    endpoint: EndpointId,
    limit: i64,
) -> Result<Vec<Replay>, db::Error> {
    sqlx::query_as!(
        Replay,
        "-- webhooks.list_replays
        select id, endpoint_id as webhook_endpoint_id, replay_status as status, since, until, undelivered_only,
            replayed_count, created_at, updated_at
        from webhook_replays
        where environment_id = $1 and endpoint_id = $2
        order by created_at desc, id desc
        limit $3",
        Uuid::from(scope.environment),
        Uuid::from(endpoint),
        limit,
    )
    .fetch_all(pool)
    .await
}

pub async fn claim_due_any_scope(
    pool: &Pool,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    token: Uuid,
    limit: i64,
) -> Result<Vec<Lease>, db::Error> {
    let rows = sqlx::query!(
        "-- webhooks.claim_due_replays_any_scope
        with due as (
            select environment_id, id
            from webhook_replays
            where replay_status = 'running' and next_batch_at <= $1
                and (lease_expires_at is null or lease_expires_at <= $1)
            order by next_batch_at
            limit $4
            for update skip locked
        )
        update webhook_replays r
        set lease_token = $3, lease_expires_at = $2
        from due, environments v
        where r.environment_id = due.environment_id and r.id = due.id and v.id = r.environment_id
        returning v.tenant_id, r.environment_id, r.id, r.endpoint_id, r.since, r.until, r.undelivered_only,
            r.cursor_created_at, r.cursor_id",
        now,
        expires_at,
        token,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let leases = rows.into_iter().map(|row| Lease {
        scope: Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() },
        id: row.id.into(),
        endpoint: row.endpoint_id.into(),
        token,
        since: row.since,
        until: row.until,
        undelivered_only: row.undelivered_only,
        cursor: (row.cursor_created_at, row.cursor_id.into()),
    });
    Ok(leases.collect())
}

/// Deliveries of the endpoint that are due, up to `most`.
pub async fn count_due(tx: &mut Tx, lease: &Lease, now: DateTime<Utc>, most: i64) -> Result<i64, db::Error> {
    sqlx::query_scalar!(
        r#"-- webhooks.count_due
        select count(*) as "count!"
        from (
            select 1
            from deliveries
            where environment_id = $1 and endpoint_id = $2 and delivery_status = 'pending' and next_attempt_at <= $3
            limit $4
        ) due"#,
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.endpoint),
        now,
        most,
    )
    .fetch_one(tx)
    .await
}

/// What a batch came to.
pub struct Batch {
    /// Deliveries that are due now and were not before.
    pub replayed: i32,
    /// The last event that was looked at; none when there was none left.
    pub cursor: Option<(DateTime<Utc>, EventId)>,
    /// Whether nothing is left.
    pub is_last: bool,
}

/// Makes due what the next events' deliveries to the endpoint are, as many events as there are `ids`: those that wait
/// anyway are left alone, and those that are missing are made with an id of `ids`.
pub async fn make_due(
    tx: &mut Tx,
    lease: &Lease,
    event_types: &[String],
    ids: &[Uuid],
    now: DateTime<Utc>,
) -> Result<Batch, db::Error> {
    let limit = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    let row = sqlx::query!(
        r#"-- webhooks.make_due
        with batch as (
            select id, subject_id, sequence, created_at, row_number() over (order by created_at, id) as place
            from events
            where environment_id = $1 and created_at >= $3 and created_at <= $4 and (created_at, id) > ($5, $6)
                and event_type <> 'webhook.endpoint.test' and (cardinality($7::text[]) = 0 or event_type = any ($7))
            order by created_at, id
            limit $8
        ),
        restarted as (
            update deliveries d
            set delivery_status = 'pending', schedule_start = d.attempt_count, next_attempt_at = $9, updated_at = $9
            from batch
            where d.environment_id = $1 and d.event_id = batch.id and d.endpoint_id = $2
                and d.delivery_status <> 'pending' and not ($10 and d.delivery_status = 'delivered')
            returning 1
        ),
        inserted as (
            insert into deliveries (environment_id, id, event_id, subject_id, sequence, endpoint_id, delivery_status,
                attempt_count, next_attempt_at, created_at, updated_at)
            select $1, drawn.id, batch.id, batch.subject_id, batch.sequence, $2, 'pending', 0, $9, batch.created_at, $9
            from batch
            join unnest($11::uuid[]) with ordinality as drawn (id, place) on drawn.place = batch.place
            on conflict (environment_id, event_id, endpoint_id) do nothing
            returning 1
        )
        select (select count(*) from batch) as "count!",
            (select count(*) from restarted) + (select count(*) from inserted) as "replayed!",
            (select created_at from batch order by place desc limit 1) as last_created_at,
            (select id from batch order by place desc limit 1) as last_id"#,
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.endpoint),
        lease.since,
        lease.until,
        lease.cursor.0,
        Uuid::from(lease.cursor.1),
        event_types,
        limit,
        now,
        lease.undelivered_only,
        ids,
    )
    .fetch_one(tx)
    .await?;
    let cursor = row.last_created_at.zip(row.last_id);
    Ok(Batch {
        replayed: i32::try_from(row.replayed).unwrap_or(i32::MAX),
        cursor: cursor.map(|(created_at, id)| (created_at, id.into())),
        is_last: row.count < limit,
    })
}

/// Writes how far the replay has come and gives the lease back. Under a lease that was lost nothing may be written:
/// the whole batch is rolled back.
pub async fn finish_batch(
    tx: &mut Tx,
    lease: &Lease,
    status: &str,
    cursor: (DateTime<Utc>, EventId),
    replayed: i32,
    next_batch_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let done = sqlx::query!(
        "-- webhooks.finish_batch
        update webhook_replays
        set replay_status = $4, cursor_created_at = $5, cursor_id = $6, replayed_count = replayed_count + $7,
            next_batch_at = $8, lease_token = null, lease_expires_at = null, updated_at = $9
        where environment_id = $1 and id = $2 and lease_token = $3 and replay_status = 'running'",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.id),
        lease.token,
        status,
        cursor.0,
        Uuid::from(cursor.1),
        replayed,
        next_batch_at,
        now,
    )
    .execute(tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(db::Error::RowNotFound) }
}

/// Ends leases whose steps were dropped.
pub async fn release_any_scope(pool: &Pool, tokens: &[Uuid]) -> Result<(), db::Error> {
    sqlx::query!(
        "-- webhooks.release_replays_any_scope
        update webhook_replays set lease_token = null, lease_expires_at = null
        where lease_token = any($1)",
        tokens,
    )
    .execute(pool)
    .await?;
    Ok(())
}
