//! SQL of the inbox.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Uuid;

use super::{InboxId, replay::StoredEvent};
use crate::{
    db::{self, Pool, Tx},
    tenancy::{ConnectionId, Scope},
};

/// Stores an event as `waiting`; false when its content is stored already.
pub async fn insert(
    tx: &mut Tx,
    scope: Scope,
    id: InboxId,
    connections: &[ConnectionId],
    (event_type, hash, content): (&str, &[u8], &Value),
    now: DateTime<Utc>,
    due: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- inbox.insert
        insert into inbox (environment_id, id, connection_ids, event_type, content_hash, content, inbox_status,
            attempt_count, next_attempt_at, received_at)
        values ($1, $2, $3, $4, $5, $6, 'waiting', 0, $8, $7)
        on conflict (environment_id, content_hash) do nothing",
        Uuid::from(scope.environment),
        Uuid::from(id),
        &connections.iter().copied().map(Uuid::from).collect::<Vec<_>>(),
        event_type,
        hash,
        content,
        now,
        due,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes the event out of the queue with what it came to.
pub async fn mark_processed(
    tx: &mut Tx,
    scope: Scope,
    id: InboxId,
    status: &str,
    outcome: &str,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- inbox.mark_processed
        update inbox
        set inbox_status = $3, outcome = $4, processed_at = $5, next_attempt_at = null, last_error = null,
            lease_token = null, lease_expires_at = null
        where environment_id = $1 and id = $2 and inbox_status = 'waiting'",
        Uuid::from(scope.environment),
        Uuid::from(id),
        status,
        outcome,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A waiting event that is due, held until the lease expires.
#[derive(Clone, Debug)]
pub struct Lease {
    pub scope: Scope,
    pub id: InboxId,
    pub connections: Vec<ConnectionId>,
    pub event_type: String,
    pub content: Value,
    /// Claims, this one included.
    pub attempt_count: i32,
    /// Of these, those that failed or had no end; this one counts until it ends.
    pub failure_count: i32,
    pub received_at: DateTime<Utc>,
    pub token: Uuid,
}

/// The claim itself counts as a failure until it ends otherwise: a worker that dies writes nothing.
pub async fn claim_due_any_scope(
    pool: &Pool,
    now: DateTime<Utc>,
    lease_expires_at: DateTime<Utc>,
    token: Uuid,
    limit: i64,
) -> Result<Vec<Lease>, db::Error> {
    let claim = sqlx::query!(
        "-- inbox.claim_due_any_scope
        with due as (
            select environment_id, id
            from inbox
            where inbox_status = 'waiting' and next_attempt_at <= $1
                and (lease_expires_at is null or lease_expires_at <= $1)
            order by next_attempt_at
            limit $4
            for update skip locked
        )
        update inbox i
        set lease_token = $3, lease_expires_at = $2, attempt_count = attempt_count + 1, failure_count = failure_count + 1
        from due d, environments e
        where i.environment_id = d.environment_id and i.id = d.id and e.id = d.environment_id
        returning e.tenant_id, i.environment_id, i.id, i.connection_ids, i.event_type, i.content, i.attempt_count,
            i.failure_count, i.received_at",
        now,
        lease_expires_at,
        token,
        limit,
    );
    let rows = db::fetch_claim(pool, claim).await?;
    let leases = rows.into_iter().map(|row| Lease {
        scope: Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() },
        id: row.id.into(),
        connections: row.connection_ids.into_iter().map(Into::into).collect(),
        event_type: row.event_type,
        content: row.content,
        attempt_count: row.attempt_count,
        failure_count: row.failure_count,
        received_at: row.received_at,
        token,
    });
    Ok(leases.collect())
}

/// Holds the event's row until the transaction ends; false when the lease went to somebody else.
pub async fn lock_leased(tx: &mut Tx, lease: &Lease) -> Result<bool, db::Error> {
    let row = sqlx::query_scalar!(
        "-- inbox.lock_leased
        select id
        from inbox
        where environment_id = $1 and id = $2 and lease_token = $3 and inbox_status = 'waiting'
        for update",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.id),
        lease.token,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.is_some())
}

/// Puts a waiting event back for later, if the lease still holds; `failure` is what counts against it.
pub async fn put_back(
    pool: &Pool,
    lease: &Lease,
    next_attempt_at: DateTime<Utc>,
    failure: Option<&str>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- inbox.put_back
        update inbox
        set failure_count = failure_count - case when $5::text is null then 1 else 0 end,
            last_error = coalesce($5, last_error), next_attempt_at = $4, lease_token = null, lease_expires_at = null
        where environment_id = $1 and id = $2 and lease_token = $3 and inbox_status = 'waiting'",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.id),
        lease.token,
        next_attempt_at,
        failure,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends leases whose steps were dropped; that was none of the events' failures.
pub async fn release_any_scope(pool: &Pool, tokens: &[Uuid]) -> Result<(), db::Error> {
    sqlx::query!(
        "-- inbox.release_any_scope
        update inbox
        set failure_count = failure_count - 1, lease_token = null, lease_expires_at = null
        where inbox_status = 'waiting' and lease_token = any($1)",
        tokens,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives an event up, if the lease still holds; whether it did.
pub async fn park(
    pool: &Pool,
    lease: &Lease,
    reason: &str,
    error: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- inbox.park
        update inbox
        set inbox_status = 'parked', outcome = $4, last_error = coalesce($5, last_error), processed_at = $6,
            next_attempt_at = null, lease_token = null, lease_expires_at = null
        where environment_id = $1 and id = $2 and lease_token = $3 and inbox_status = 'waiting'",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.id),
        lease.token,
        reason,
        error,
        now,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Events with this status (`waiting` or `parked`; both when absent), the oldest first.
pub async fn list_any_scope(
    pool: &Pool,
    status: Option<&str>,
    limit: i64,
) -> Result<Vec<StoredEvent>, db::Error> {
    let rows = sqlx::query!(
        "-- inbox.list_any_scope
        select environment_id, id, event_type, inbox_status, outcome, attempt_count, last_error, next_attempt_at,
            received_at
        from inbox
        -- Each has an index of its own, which `in` would not use.
        where (inbox_status = 'waiting' or inbox_status = 'parked') and inbox_status = coalesce($1, inbox_status)
        order by received_at, id
        limit $2",
        status,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let events = rows.into_iter().map(|row| StoredEvent {
        id: row.id.into(),
        environment_id: row.environment_id.into(),
        event_type: row.event_type,
        status: row.inbox_status,
        reason: row.outcome,
        attempt_count: row.attempt_count,
        last_error: row.last_error,
        next_attempt_at: row.next_attempt_at,
        received_at: row.received_at,
    });
    Ok(events.collect())
}

/// Every event that is parked now, the oldest first.
pub async fn list_parked_any_scope(pool: &Pool) -> Result<Vec<InboxId>, db::Error> {
    let ids = sqlx::query_scalar!(
        "-- inbox.list_parked_any_scope
        select id from inbox where inbox_status = 'parked' order by received_at, id",
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(Into::into).collect())
}

/// Puts those of the events that are parked back into the queue, due at once; which they were.
pub async fn replay_any_scope(
    pool: &Pool,
    ids: &[InboxId],
    now: DateTime<Utc>,
) -> Result<Vec<InboxId>, db::Error> {
    let ids: Vec<Uuid> = ids.iter().copied().map(Uuid::from).collect();
    let replayed = sqlx::query_scalar!(
        "-- inbox.replay_any_scope
        update inbox
        set inbox_status = 'waiting', outcome = null, processed_at = null, next_attempt_at = $2, attempt_count = 0,
            failure_count = 0, last_error = null, lease_token = null, lease_expires_at = null
        where id = any($1) and inbox_status = 'parked'
        returning id",
        &ids,
        now,
    )
    .fetch_all(pool)
    .await?;
    Ok(replayed.into_iter().map(Into::into).collect())
}

/// What has become of an event.
pub async fn find_status_any_scope(pool: &Pool, id: InboxId) -> Result<Option<String>, db::Error> {
    sqlx::query_scalar!(
        "-- inbox.find_status_any_scope
        select inbox_status from inbox where id = $1",
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await
}

/// Events that concern nothing of ours, received before `before`.
pub async fn list_removable_any_scope(
    pool: &Pool,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(Uuid, Uuid)>, db::Error> {
    let rows = sqlx::query!(
        "-- inbox.list_removable_any_scope
        select environment_id, id
        from inbox
        where inbox_status = 'processed' and outcome in ('foreign', 'ignored') and received_at < $1
        order by received_at
        limit $2",
        before,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.environment_id, row.id)).collect())
}

/// Removes events that still concern nothing of ours; how many.
pub async fn delete_removable_any_scope(pool: &Pool, keys: &[(Uuid, Uuid)]) -> Result<u64, db::Error> {
    let (environments, ids): (Vec<Uuid>, Vec<Uuid>) = keys.iter().copied().unzip();
    let done = sqlx::query!(
        "-- inbox.delete_removable_any_scope
        delete from inbox i
        using unnest($1::uuid[], $2::uuid[]) as k (environment_id, id)
        where i.environment_id = k.environment_id and i.id = k.id
            and i.inbox_status = 'processed' and i.outcome in ('foreign', 'ignored')",
        &environments,
        &ids,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
