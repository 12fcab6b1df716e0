//! SQL of events and their fan-out.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{EndpointId, EventId, EventType, FrozenEvent};
use crate::{
    db::{self, Pool, Tx},
    tenancy::Scope,
};

/// A statement that ends with an event and its fan-out: a pending delivery for each endpoint that wants it.
///
/// `$changes` are common table expressions; the one named `changed` has a row exactly when the event happens. `$result`
/// is what the statement answers. Bound for them are $1 the environment, $2 the subject, $3 the event's id, $4 its type,
/// $5 its sequence, $6 its body, $7 the time, $8 ids of deliveries and $9 the only endpoint that gets it, or null; what
/// `$bind`s follows from $10 on.
///
/// Endpoints take their delivery's id from $8 by their place: Postgres draws none, so that runs are reproducible.
macro_rules! query_with_event {
    ($name:literal, [$($changes:literal)+], $result:literal, $scope:expr, $event:expr, $delivery_ids:expr, $only:expr $(, $bind:expr)* $(,)?) => {
        sqlx::query_scalar!(
            // `$name` is -- webhooks.emit, -- checkout.mark_pending …
            $name + "
            with " $(+ $changes)+ + ",
            event as (
                insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
                select $1, $3, $4, $2, $5, $6, $7
                from changed
            ),
            matching as (
                select id, row_number() over (order by id) as place
                from webhook_endpoints
                where environment_id = $1 and enabled and deleted_at is null
                    and case
                        when $9::uuid is null then event_types = '{}' or $4 = any (event_types)
                        else id = $9
                    end
            ),
            delivery as (
                insert into deliveries (environment_id, id, event_id, subject_id, sequence, endpoint_id,
                    delivery_status, attempt_count, next_attempt_at, created_at, updated_at)
                select $1, drawn.id, $3, $2, $5, matching.id, 'pending', 0, $7, $7, $7
                from changed
                cross join matching
                join unnest($8::uuid[]) with ordinality as drawn (id, place) on drawn.place = matching.place
                returning 1
            )
            " + $result,
            uuid::Uuid::from($scope.environment),
            $event.subject,
            uuid::Uuid::from($event.id),
            $event.event_type.as_str(),
            $event.sequence,
            $event.body,
            $event.created_at,
            $delivery_ids,
            $only as Option<uuid::Uuid>,
            $($bind),*
        )
    };
}
pub(crate) use query_with_event;

/// The event and its fan-out. `only` gets it whatever it asked for, and nobody else does.
pub async fn insert_event_with_deliveries(
    tx: &mut Tx,
    scope: Scope,
    event: &FrozenEvent,
    delivery_ids: &[Uuid],
    only: Option<EndpointId>,
) -> Result<(), db::Error> {
    query_with_event!(
        "-- webhooks.insert_event_with_deliveries",
        ["changed as (select)"],
        r#"select count(*) as "events!" from changed"#,
        scope,
        event,
        delivery_ids,
        only.map(Uuid::from),
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

/// An event's place in the order of commits.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub xact_id: i64,
    pub sequence: i32,
    pub id: EventId,
}

/// Which events a list is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter {
    pub event_type: Option<EventType>,
    pub subject: Option<Uuid>,
}

pub async fn find_position(pool: &Pool, scope: Scope, id: EventId) -> Result<Option<Position>, db::Error> {
    let found = sqlx::query!(
        "-- webhooks.find_position
        select xact_id, sequence
        from events
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|row| Position { xact_id: row.xact_id, sequence: row.sequence, id }))
}

/// Before every event that happened at `since` or later. An event's time is taken a moment before its transaction
/// gets its number, so that the orders differ by seconds at most.
pub async fn find_position_at(
    pool: &Pool,
    scope: Scope,
    since: DateTime<Utc>,
) -> Result<Option<Position>, db::Error> {
    let first = sqlx::query_scalar!(
        "-- webhooks.find_position_at
        select min(xact_id)
        from (
            select xact_id
            from events
            where environment_id = $1 and created_at >= $2::timestamptz - interval '30 seconds'
            order by created_at
            limit 1000
        ) earliest",
        Uuid::from(scope.environment),
        since,
    )
    .fetch_one(pool)
    .await?;
    Ok(first.map(|xact_id| Position { xact_id, sequence: 0, id: Uuid::nil().into() }))
}

/// Bodies of events, the last committed first, from before `before` on.
pub async fn list_bodies_before(
    pool: &Pool,
    scope: Scope,
    filter: EventFilter,
    before: Option<Position>,
    limit: i64,
) -> Result<Vec<Vec<u8>>, db::Error> {
    let before = before.unwrap_or(Position { xact_id: i64::MAX, sequence: i32::MAX, id: Uuid::max().into() });
    let mut tx = db::begin_list(pool).await?;
    sqlx::query_scalar!(
        "-- webhooks.list_bodies_before
        select body
        from events
        where environment_id = $1 and ($2::text is null or event_type = $2)
            and ($3::uuid is null or subject_id = $3)
            and (xact_id, sequence, id) < ($4, $5, $6)
        order by xact_id desc, sequence desc, id desc
        limit $7",
        Uuid::from(scope.environment),
        filter.event_type.map(EventType::as_str),
        filter.subject,
        before.xact_id,
        before.sequence,
        Uuid::from(before.id),
        limit,
    )
    .fetch_all(&mut *tx)
    .await
}

/// Bodies of events, the first committed first, from after `after` on; of finished transactions only, as a running
/// one may still commit events that come before.
pub async fn list_bodies_after(
    pool: &Pool,
    scope: Scope,
    filter: EventFilter,
    after: Position,
    since: Option<DateTime<Utc>>,
    limit: i64,
) -> Result<Vec<Vec<u8>>, db::Error> {
    let mut tx = db::begin_list(pool).await?;
    sqlx::query_scalar!(
        "-- webhooks.list_bodies_after
        select body
        from events
        where environment_id = $1 and ($2::text is null or event_type = $2)
            and ($3::uuid is null or subject_id = $3)
            and (xact_id, sequence, id) > ($4, $5, $6)
            and ($7::timestamptz is null or created_at >= $7)
            and xact_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
        order by xact_id, sequence, id
        limit $8",
        Uuid::from(scope.environment),
        filter.event_type.map(EventType::as_str),
        filter.subject,
        after.xact_id,
        after.sequence,
        Uuid::from(after.id),
        since,
        limit,
    )
    .fetch_all(&mut *tx)
    .await
}

pub async fn find_event_body(pool: &Pool, scope: Scope, id: EventId) -> Result<Option<Vec<u8>>, db::Error> {
    sqlx::query_scalar!(
        "-- webhooks.find_event_body
        select body
        from events
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await
}
