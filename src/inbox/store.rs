//! SQL of the inbox.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Uuid;

use super::InboxId;
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
    event_type: &str,
    content: (&[u8], &Value),
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- inbox.insert
        insert into inbox (environment_id, id, connection_ids, event_type, content_hash, content, inbox_status,
            attempt_count, next_attempt_at, received_at)
        values ($1, $2, $3, $4, $5, $6, 'waiting', 0, $7, $7)
        on conflict (environment_id, content_hash) do nothing",
        Uuid::from(scope.environment),
        Uuid::from(id),
        &connections.iter().copied().map(Uuid::from).collect::<Vec<_>>(),
        event_type,
        content.0,
        content.1,
        now,
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
        set inbox_status = $3, outcome = $4, processed_at = $5, next_attempt_at = null, attempt_count = attempt_count + 1,
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
    pub content: Value,
    pub attempt_count: i32,
    pub received_at: DateTime<Utc>,
    pub token: Uuid,
}

pub async fn claim_due_any_scope(
    pool: &Pool,
    now: DateTime<Utc>,
    lease_expires_at: DateTime<Utc>,
    token: Uuid,
    limit: i64,
) -> Result<Vec<Lease>, db::Error> {
    let rows = sqlx::query!(
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
        set lease_token = $3, lease_expires_at = $2
        from due d, environments e
        where i.environment_id = d.environment_id and i.id = d.id and e.id = d.environment_id
        returning e.tenant_id, i.environment_id, i.id, i.connection_ids, i.content, i.attempt_count, i.received_at",
        now,
        lease_expires_at,
        token,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let leases = rows.into_iter().map(|row| Lease {
        scope: Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() },
        id: row.id.into(),
        connections: row.connection_ids.into_iter().map(Into::into).collect(),
        content: row.content,
        attempt_count: row.attempt_count,
        received_at: row.received_at,
        token,
    });
    Ok(leases.collect())
}

/// Puts a waiting event back for later, if the lease still holds.
pub async fn reschedule(pool: &Pool, lease: &Lease, next_attempt_at: DateTime<Utc>) -> Result<(), db::Error> {
    sqlx::query!(
        "-- inbox.reschedule
        update inbox
        set attempt_count = attempt_count + 1, next_attempt_at = $4, lease_token = null, lease_expires_at = null
        where environment_id = $1 and id = $2 and lease_token = $3 and inbox_status = 'waiting'",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.id),
        lease.token,
        next_attempt_at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends leases whose steps were dropped.
pub async fn release_any_scope(pool: &Pool, tokens: &[Uuid]) -> Result<(), db::Error> {
    sqlx::query!(
        "-- inbox.release_any_scope
        update inbox set lease_token = null, lease_expires_at = null
        where lease_token = any($1)",
        tokens,
    )
    .execute(pool)
    .await?;
    Ok(())
}
