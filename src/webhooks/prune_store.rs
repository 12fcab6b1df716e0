//! SQL of removing old events.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use crate::{
    db::{self, Pool, Tx},
    tenancy::EnvironmentId,
};

/// Events of some environment that happened before `before` and have nothing left to be delivered.
pub async fn list_removable_any_scope(
    pool: &Pool,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Option<(EnvironmentId, Vec<Uuid>)>, db::Error> {
    let found = sqlx::query!(
        r#"-- webhooks.list_removable_any_scope
        select v.id, old.events as "events!"
        from environments v
        cross join lateral (
            select array_agg(id) as events
            from (
                select e.id
                from events e
                where e.environment_id = v.id and e.created_at < $1
                    -- Not by `not exists (… = 'pending')`: the planner would take it for a short list of all that is pending,
                    -- and read that for every event.
                    and coalesce((
                        select bool_and(d.delivery_status <> 'pending')
                        from deliveries d
                        where d.environment_id = e.environment_id and d.event_id = e.id
                    ), true)
                order by e.created_at
                limit $2
            ) oldest
        ) old
        where old.events is not null
        limit 1"#,
        before,
        limit,
    )
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|row| (row.id.into(), row.events)))
}

/// Removes `events` with all that belongs to them, but for those that are to be delivered again by now. How many
/// are gone.
pub async fn delete_events(
    tx: &mut Tx,
    environment: EnvironmentId,
    events: &[Uuid],
    before: DateTime<Utc>,
) -> Result<u64, db::Error> {
    let environment = Uuid::from(environment);
    // Locked: a resend must not come between an attempt's removal and its delivery's.
    let deliveries = sqlx::query_scalar!(
        "-- webhooks.lock_removable_deliveries
        select id
        from deliveries
        where environment_id = $1 and event_id = any ($2) and delivery_status <> 'pending'
        order by id
        for update",
        environment,
        events,
    )
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query!(
        "-- webhooks.delete_attempts
        delete from delivery_attempts
        where environment_id = $1 and delivery_id = any ($2)",
        environment,
        &deliveries,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "-- webhooks.delete_deliveries
        delete from deliveries
        where environment_id = $1 and id = any ($2)",
        environment,
        &deliveries,
    )
    .execute(&mut *tx)
    .await?;
    let done = sqlx::query!(
        "-- webhooks.delete_events
        delete from events e
        where e.environment_id = $1 and e.id = any ($2)
            and not exists (select 1 from deliveries d where d.environment_id = $1 and d.event_id = e.id)",
        environment,
        events,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "-- webhooks.mark_events_removed
        update environments
        set events_removed_before = greatest(events_removed_before, $2)
        where id = $1",
        environment,
        before,
    )
    .execute(&mut *tx)
    .await?;
    Ok(done.rows_affected())
}
