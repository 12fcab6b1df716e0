//! SQL of events, endpoints and deliveries.

use sqlx::types::Uuid;

use super::FrozenEvent;
use crate::{
    db::{self, Tx},
    tenancy::Scope,
};

/// The event and its fan-out; how many deliveries were inserted. Endpoints take their delivery's id from
/// `delivery_ids` by their place: Postgres draws none, so that runs are reproducible.
pub async fn insert_event_with_deliveries(
    tx: &mut Tx,
    scope: Scope,
    event: &FrozenEvent,
    delivery_ids: &[Uuid],
) -> Result<u64, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.insert_event_with_deliveries
        with event as (
            insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
            values ($1, $2, $3, $4, $5, $6, $7)
        ),
        matching as (
            select id, row_number() over (order by id) as place
            from webhook_endpoints
            where environment_id = $1 and enabled and deleted_at is null
                and (event_types = '{}' or $3 = any (event_types))
        )
        insert into deliveries (environment_id, id, event_id, endpoint_id, delivery_status, attempt_count,
            next_attempt_at, created_at, updated_at)
        select $1, drawn.id, $2, matching.id, 'pending', 0, $7, $7, $7
        from matching
        join unnest($8::uuid[]) with ordinality as drawn (id, place) on drawn.place = matching.place",
        Uuid::from(scope.environment),
        Uuid::from(event.id),
        event.event_type.as_str(),
        event.subject,
        event.sequence,
        event.body,
        event.created_at,
        delivery_ids,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
