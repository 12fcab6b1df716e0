//! SQL of deliveries and attempts, as they are read and changed from outside the queue.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{
    DeliveryId, EndpointId, EventId,
    delivery::{Attempt, Delivery, DeliveryStatus},
};
use crate::{
    db::{self, Pool, Tx},
    tenancy::Scope,
};

/// A delivery's place among others, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub created_at: DateTime<Utc>,
    pub sequence: i32,
    pub id: DeliveryId,
}

/// Which deliveries a list is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryFilter {
    pub status: Option<DeliveryStatus>,
    pub event: Option<EventId>,
}

pub async fn find_place(pool: &Pool, scope: Scope, id: DeliveryId) -> Result<Option<Place>, db::Error> {
    let found = sqlx::query!(
        "-- webhooks.find_place
        select created_at, sequence
        from deliveries
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|row| Place { created_at: row.created_at, sequence: row.sequence, id }))
}

/// Deliveries of one endpoint, newest first, from before `before` on.
pub async fn list_deliveries(
    pool: &Pool,
    scope: Scope,
    endpoint: EndpointId,
    filter: DeliveryFilter,
    before: Option<Place>,
    limit: i64,
) -> Result<Vec<Delivery>, db::Error> {
    let mut tx = db::begin_list(pool).await?;
    sqlx::query_as!(
        Delivery,
        "-- webhooks.list_deliveries
        select d.id, d.endpoint_id as webhook_endpoint_id, d.event_id, e.event_type, d.delivery_status as status,
            d.attempt_count, d.last_response_code, d.last_error, d.next_attempt_at, d.delivered_at, d.created_at,
            d.updated_at
        from deliveries d
        join events e on e.environment_id = d.environment_id and e.id = d.event_id
        where d.environment_id = $1 and d.endpoint_id = $2
            and ($3::text is null or d.delivery_status = $3)
            and ($4::uuid is null or d.event_id = $4)
            and ($5::timestamptz is null or (d.created_at, d.sequence, d.id) < ($5, $6, $7))
        order by d.created_at desc, d.sequence desc, d.id desc
        limit $8",
        Uuid::from(scope.environment),
        Uuid::from(endpoint),
        filter.status.map(DeliveryStatus::as_str),
        filter.event.map(Uuid::from),
        before.map(|place| place.created_at),
        before.map(|place| place.sequence),
        before.map(|place| Uuid::from(place.id)),
        limit,
    )
    .fetch_all(&mut *tx)
    .await
}

/// An event's deliveries, one per endpoint.
pub async fn list_deliveries_of_event(
    pool: &Pool,
    scope: Scope,
    event: EventId,
) -> Result<Vec<Delivery>, db::Error> {
    sqlx::query_as!(
        Delivery,
        "-- webhooks.list_deliveries_of_event
        select d.id, d.endpoint_id as webhook_endpoint_id, d.event_id, e.event_type, d.delivery_status as status,
            d.attempt_count, d.last_response_code, d.last_error, d.next_attempt_at, d.delivered_at, d.created_at,
            d.updated_at
        from deliveries d
        join events e on e.environment_id = d.environment_id and e.id = d.event_id
        where d.environment_id = $1 and d.event_id = $2
        order by d.endpoint_id",
        Uuid::from(scope.environment),
        Uuid::from(event),
    )
    .fetch_all(pool)
    .await
}

pub async fn find_delivery(pool: &Pool, scope: Scope, id: DeliveryId) -> Result<Option<Delivery>, db::Error> {
    sqlx::query_as!(
        Delivery,
        "-- webhooks.find_delivery
        select d.id, d.endpoint_id as webhook_endpoint_id, d.event_id, e.event_type, d.delivery_status as status,
            d.attempt_count, d.last_response_code, d.last_error, d.next_attempt_at, d.delivered_at, d.created_at,
            d.updated_at
        from deliveries d
        join events e on e.environment_id = d.environment_id and e.id = d.event_id
        where d.environment_id = $1 and d.id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await
}

/// Attempts at a delivery, the last one first, from before number `before` on.
pub async fn list_attempts(
    pool: &Pool,
    scope: Scope,
    delivery: DeliveryId,
    before: Option<i32>,
    limit: i64,
) -> Result<Vec<Attempt>, db::Error> {
    sqlx::query_as!(
        Attempt,
        "-- webhooks.list_attempts
        select id, delivery_id, attempt_number, response_code, response_body, error, duration_ms, attempted_at
        from delivery_attempts
        where environment_id = $1 and delivery_id = $2 and attempt_number < $3
        order by attempt_number desc
        limit $4",
        Uuid::from(scope.environment),
        Uuid::from(delivery),
        before.unwrap_or(i32::MAX),
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Starts the schedule anew and makes the delivery due, unless an attempt is under way; its endpoint must take
/// deliveries. False when nothing was changed.
pub async fn restart_delivery(
    tx: &mut Tx,
    scope: Scope,
    id: DeliveryId,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.restart_delivery
        update deliveries
        set delivery_status = 'pending', schedule_start = attempt_count, next_attempt_at = $3, updated_at = $3
        where environment_id = $1 and id = $2 and (lease_expires_at is null or lease_expires_at <= $3)",
        Uuid::from(scope.environment),
        Uuid::from(id),
        now,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// So many are cancelled in one statement, which must not run into its time limit.
pub const CANCELLED_AT_ONCE: u64 = 5_000;

/// Ends deliveries that wait for the endpoint, those under way included: their workers find the lease gone. How many;
/// when it is [`CANCELLED_AT_ONCE`], there may be more. The caller has changed, and so locked, the endpoint's row first:
/// everyone who touches many of its deliveries does, so that no two wait for each other.
pub async fn cancel_pending_deliveries(
    tx: &mut Tx,
    scope: Scope,
    endpoint: EndpointId,
    now: DateTime<Utc>,
) -> Result<u64, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.cancel_pending_deliveries
        with waiting as (
            select environment_id, id
            from deliveries
            where environment_id = $1 and endpoint_id = $2 and delivery_status = 'pending'
            limit $4
            for no key update
        )
        update deliveries d
        set delivery_status = 'cancelled', next_attempt_at = null, lease_token = null, lease_expires_at = null,
            updated_at = $3
        from waiting
        where d.environment_id = waiting.environment_id and d.id = waiting.id",
        Uuid::from(scope.environment),
        Uuid::from(endpoint),
        now,
        i64::try_from(CANCELLED_AT_ONCE).unwrap_or(i64::MAX),
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
