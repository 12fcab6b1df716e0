//! SQL of events, endpoints and deliveries.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{
    EndpointId, EventId, EventType, FrozenEvent,
    deliver::{Finish, Lease},
    delivery::Delivery,
    endpoint::{Change, Endpoint},
};
use crate::{
    db::{self, Pool, Tx},
    kit::page::PageRequest,
    tenancy::{EnvironmentId, Mode, Scope},
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

/// Which events a list is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter {
    pub event_type: Option<EventType>,
    pub subject: Option<Uuid>,
}

/// Bodies of events, newest first, and how many match.
pub async fn list_event_bodies(
    pool: &Pool,
    scope: Scope,
    filter: EventFilter,
    page: PageRequest,
) -> Result<(Vec<Vec<u8>>, i64), db::Error> {
    let event_type = filter.event_type.map(EventType::as_str);
    let bodies = sqlx::query_scalar!(
        "-- webhooks.list_event_bodies
        select body
        from events
        where environment_id = $1 and ($2::text is null or event_type = $2)
            and ($3::uuid is null or subject_id = $3)
        order by created_at desc, sequence desc, id desc
        limit $4 offset $5",
        Uuid::from(scope.environment),
        event_type,
        filter.subject,
        page.limit,
        page.offset,
    )
    .fetch_all(pool)
    .await?;
    let total = sqlx::query_scalar!(
        r#"-- webhooks.count_events
        select count(*) as "count!"
        from events
        where environment_id = $1 and ($2::text is null or event_type = $2)
            and ($3::uuid is null or subject_id = $3)"#,
        Uuid::from(scope.environment),
        event_type,
        filter.subject,
    )
    .fetch_one(pool)
    .await?;
    Ok((bodies, total))
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

/// Holds off other creations of endpoints in the environment. Does not hold off inserts that refer to it.
pub async fn lock_environment(tx: &mut Tx, scope: Scope) -> Result<(), db::Error> {
    sqlx::query!(
        "-- webhooks.lock_environment
        select id
        from environments
        where id = $1 and tenant_id = $2
        for no key update",
        Uuid::from(scope.environment),
        Uuid::from(scope.tenant),
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

pub async fn count_endpoints(tx: &mut Tx, scope: Scope) -> Result<usize, db::Error> {
    let count = sqlx::query_scalar!(
        r#"-- webhooks.count_endpoints
        select count(*) as "count!"
        from webhook_endpoints
        where environment_id = $1 and deleted_at is null"#,
        Uuid::from(scope.environment),
    )
    .fetch_one(tx)
    .await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

pub async fn insert_endpoint(
    tx: &mut Tx,
    scope: Scope,
    endpoint: &Endpoint,
    secret_sealed: &[u8],
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- webhooks.insert_endpoint
        insert into webhook_endpoints (environment_id, id, url, description, event_types, enabled, secret_sealed,
            created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        Uuid::from(scope.environment),
        Uuid::from(endpoint.id),
        endpoint.url,
        endpoint.description,
        &endpoint.event_types,
        endpoint.enabled,
        secret_sealed,
        endpoint.created_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes what `change` names and returns the row as it is now; `None` when there is no such endpoint.
pub async fn update_endpoint(
    tx: &mut Tx,
    scope: Scope,
    id: EndpointId,
    change: &Change,
    event_types: Option<&[String]>,
    now: DateTime<Utc>,
) -> Result<Option<Endpoint>, db::Error> {
    sqlx::query_as!(
        Endpoint,
        "-- webhooks.update_endpoint
        update webhook_endpoints
        set url = coalesce($3, url),
            description = coalesce($4, description),
            event_types = coalesce($5, event_types),
            enabled = coalesce($6, enabled),
            updated_at = $7
        where environment_id = $1 and id = $2 and deleted_at is null
        returning id, url, description, event_types, enabled, created_at, updated_at",
        Uuid::from(scope.environment),
        Uuid::from(id),
        change.url,
        change.description,
        event_types,
        change.enabled,
        now,
    )
    .fetch_optional(tx)
    .await
}

pub async fn mark_endpoint_deleted(
    tx: &mut Tx,
    scope: Scope,
    id: EndpointId,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.mark_endpoint_deleted
        update webhook_endpoints
        set enabled = false, deleted_at = $3, updated_at = $3
        where environment_id = $1 and id = $2 and deleted_at is null",
        Uuid::from(scope.environment),
        Uuid::from(id),
        now,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Disables the endpoint if it still points at `url`.
pub async fn mark_endpoint_disabled(
    tx: &mut Tx,
    scope: Scope,
    id: EndpointId,
    url: &str,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.mark_endpoint_disabled
        update webhook_endpoints
        set enabled = false, updated_at = $4
        where environment_id = $1 and id = $2 and url = $3 and enabled",
        Uuid::from(scope.environment),
        Uuid::from(id),
        url,
        now,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Moves the current secret aside until `previous_expires_at` and puts `sealed` in its place.
pub async fn rotate_secret(
    pool: &Pool,
    scope: Scope,
    id: EndpointId,
    sealed: &[u8],
    previous_expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<Endpoint>, db::Error> {
    sqlx::query_as!(
        Endpoint,
        "-- webhooks.rotate_secret
        update webhook_endpoints
        set secret_sealed = $3,
            previous_secret_sealed = secret_sealed,
            previous_secret_expires_at = $4,
            updated_at = $5
        where environment_id = $1 and id = $2 and deleted_at is null
        returning id, url, description, event_types, enabled, created_at, updated_at",
        Uuid::from(scope.environment),
        Uuid::from(id),
        sealed,
        previous_expires_at,
        now,
    )
    .fetch_optional(pool)
    .await
}

pub async fn find_endpoint(pool: &Pool, scope: Scope, id: EndpointId) -> Result<Option<Endpoint>, db::Error> {
    sqlx::query_as!(
        Endpoint,
        "-- webhooks.find_endpoint
        select id, url, description, event_types, enabled, created_at, updated_at
        from webhook_endpoints
        where environment_id = $1 and id = $2 and deleted_at is null",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await
}

/// Newest first, and how many there are.
pub async fn list_endpoints(
    pool: &Pool,
    scope: Scope,
    page: PageRequest,
) -> Result<(Vec<Endpoint>, i64), db::Error> {
    let endpoints = sqlx::query_as!(
        Endpoint,
        "-- webhooks.list_endpoints
        select id, url, description, event_types, enabled, created_at, updated_at
        from webhook_endpoints
        where environment_id = $1 and deleted_at is null
        order by created_at desc, id desc
        limit $2 offset $3",
        Uuid::from(scope.environment),
        page.limit,
        page.offset,
    )
    .fetch_all(pool)
    .await?;
    let total = count_endpoints(&mut *pool.acquire().await?, scope).await?;
    Ok((endpoints, i64::try_from(total).unwrap_or(i64::MAX)))
}

/// Deliveries of one endpoint, newest first, and how many there are.
pub async fn list_deliveries(
    pool: &Pool,
    scope: Scope,
    endpoint: EndpointId,
    page: PageRequest,
) -> Result<(Vec<Delivery>, i64), db::Error> {
    let deliveries = sqlx::query_as!(
        Delivery,
        "-- webhooks.list_deliveries
        select d.id, d.endpoint_id as webhook_endpoint_id, d.event_id, e.event_type, d.delivery_status as status,
            d.attempt_count, d.last_response_code, d.last_error, d.next_attempt_at, d.delivered_at, d.created_at,
            d.updated_at
        from deliveries d
        join events e on e.environment_id = d.environment_id and e.id = d.event_id
        where d.environment_id = $1 and d.endpoint_id = $2
        order by d.created_at desc, e.sequence desc, d.id desc
        limit $3 offset $4",
        Uuid::from(scope.environment),
        Uuid::from(endpoint),
        page.limit,
        page.offset,
    )
    .fetch_all(pool)
    .await?;
    let total = sqlx::query_scalar!(
        r#"-- webhooks.count_deliveries
        select count(*) as "count!"
        from deliveries
        where environment_id = $1 and endpoint_id = $2"#,
        Uuid::from(scope.environment),
        Uuid::from(endpoint),
    )
    .fetch_one(pool)
    .await?;
    Ok((deliveries, total))
}

/// Ends every delivery that waits for the endpoint, those under way included: their workers find the lease
/// gone. The caller has changed, and so locked, the endpoint's row first: everyone who touches many of its
/// deliveries does, so that no two wait for each other.
pub async fn cancel_pending_deliveries(
    tx: &mut Tx,
    scope: Scope,
    endpoint: EndpointId,
    now: DateTime<Utc>,
) -> Result<u64, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.cancel_pending_deliveries
        update deliveries
        set delivery_status = 'cancelled', next_attempt_at = null, lease_token = null, lease_expires_at = null,
            updated_at = $3
        where environment_id = $1 and endpoint_id = $2 and delivery_status = 'pending'",
        Uuid::from(scope.environment),
        Uuid::from(endpoint),
        now,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Endpoints, in every environment, that have something due and fewer than `cap` deliveries under way; the
/// longest waiting first. Locks them until the transaction ends and passes over those that another worker
/// has locked.
///
/// The recursion steps from one endpoint with pending rows to the next along `deliveries_pending`: its cost
/// is the number of such endpoints, not of their rows.
pub async fn lock_due_endpoints_any_scope(
    tx: &mut Tx,
    now: DateTime<Utc>,
    cap: i64,
    limit: i64,
) -> Result<(Vec<Uuid>, Vec<Uuid>), db::Error> {
    let rows = sqlx::query!(
        "-- webhooks.lock_due_endpoints_any_scope
        with recursive waiting as (
            (
                select environment_id, endpoint_id
                from deliveries
                where delivery_status = 'pending'
                order by environment_id, endpoint_id
                limit 1
            )
            union all
            select following.environment_id, following.endpoint_id
            from waiting
            cross join lateral (
                select d.environment_id, d.endpoint_id
                from deliveries d
                where d.delivery_status = 'pending'
                    and (d.environment_id, d.endpoint_id) > (waiting.environment_id, waiting.endpoint_id)
                order by d.environment_id, d.endpoint_id
                limit 1
            ) following
        )
        select e.environment_id, e.id
        from waiting
        join webhook_endpoints e on e.environment_id = waiting.environment_id and e.id = waiting.endpoint_id
        cross join lateral (
            select d.next_attempt_at
            from deliveries d
            where d.environment_id = e.environment_id and d.endpoint_id = e.id and d.delivery_status = 'pending'
                and d.next_attempt_at <= $1 and (d.lease_expires_at is null or d.lease_expires_at <= $1)
            order by d.next_attempt_at
            limit 1
        ) head
        where (
            select count(*)
            from deliveries d
            where d.environment_id = e.environment_id and d.endpoint_id = e.id and d.lease_token is not null
                and d.lease_expires_at > $1
        ) < $2
        order by head.next_attempt_at
        limit $3
        for no key update of e skip locked",
        now,
        cap,
        limit,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.environment_id, row.id)).unzip())
}

/// What a claim asks for.
pub struct Claim {
    /// Tells this claim from every other.
    pub token: Uuid,
    pub now: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// Most deliveries under way at one endpoint.
    pub cap: i64,
    pub limit: i64,
}

/// Leases due deliveries of `endpoints`, whose rows the caller has locked in an earlier statement: only a
/// statement that starts after the lock was had sees what others claimed before. First each endpoint's
/// first, then each one's second …
pub async fn claim_deliveries_any_scope(
    tx: &mut Tx,
    endpoints: &(Vec<Uuid>, Vec<Uuid>),
    claim: &Claim,
) -> Result<Vec<Lease>, db::Error> {
    let mut rows = sqlx::query!(
        "-- webhooks.claim_deliveries_any_scope
        with ranked as (
            select due.environment_id, due.id, due.next_attempt_at,
                row_number() over (
                    partition by due.environment_id, due.endpoint_id order by due.next_attempt_at, e.sequence
                ) as place
            from unnest($1::uuid[], $2::uuid[]) as locked (environment_id, endpoint_id)
            cross join lateral (
                select d.environment_id, d.endpoint_id, d.id, d.event_id, d.next_attempt_at
                from deliveries d
                where d.environment_id = locked.environment_id and d.endpoint_id = locked.endpoint_id
                    and d.delivery_status = 'pending' and d.next_attempt_at <= $3
                    and (d.lease_expires_at is null or d.lease_expires_at <= $3)
                order by d.next_attempt_at
                limit greatest(0, $4 - (
                    select count(*)
                    from deliveries f
                    where f.environment_id = locked.environment_id and f.endpoint_id = locked.endpoint_id
                        and f.lease_token is not null and f.lease_expires_at > $3
                ))
                for no key update of d skip locked
            ) due
            join events e on e.environment_id = due.environment_id and e.id = due.event_id
        ),
        chosen as (
            select environment_id, id from ranked order by place, next_attempt_at limit $5
        )
        update deliveries d
        set lease_token = $6, lease_expires_at = $7
        from chosen, events e, webhook_endpoints w, environments v
        where d.environment_id = chosen.environment_id and d.id = chosen.id and d.delivery_status = 'pending'
            and e.environment_id = d.environment_id and e.id = d.event_id
            and w.environment_id = d.environment_id and w.id = d.endpoint_id
            and v.id = d.environment_id
        returning v.tenant_id, v.mode, d.environment_id, d.id, d.endpoint_id, d.event_id, d.attempt_count,
            d.next_attempt_at, e.sequence, e.body, w.url, w.enabled, w.secret_sealed, w.previous_secret_sealed,
            w.previous_secret_expires_at",
        &endpoints.0,
        &endpoints.1,
        claim.now,
        claim.cap,
        claim.limit,
        claim.token,
        claim.expires_at,
    )
    .fetch_all(tx)
    .await?;
    rows.sort_by_key(|row| (row.next_attempt_at, row.sequence));
    let leases = rows.into_iter().map(|row| Lease {
        scope: Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() },
        mode: Mode::from_column(&row.mode),
        id: row.id.into(),
        endpoint: row.endpoint_id.into(),
        event: row.event_id.into(),
        token: claim.token,
        attempts_before: row.attempt_count,
        body: row.body,
        url: row.url,
        enabled: row.enabled,
        secret: row.secret_sealed,
        previous_secret: row.previous_secret_sealed,
        previous_secret_expires_at: row.previous_secret_expires_at,
    });
    Ok(leases.collect())
}

/// Locks the endpoint's row until the transaction ends.
pub async fn lock_endpoint(tx: &mut Tx, scope: Scope, id: EndpointId) -> Result<(), db::Error> {
    sqlx::query!(
        "-- webhooks.lock_endpoint
        select id
        from webhook_endpoints
        where environment_id = $1 and id = $2
        for no key update",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

/// Records an attempt and what follows from it, in one statement; `false`, and nothing is written, when the
/// lease is no longer this worker's.
pub async fn finish_delivery(tx: &mut Tx, lease: &Lease, finish: &Finish) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.finish_delivery
        with finished as (
            update deliveries
            set delivery_status = $4, attempt_count = attempt_count + 1, next_attempt_at = $5, lease_token = null,
                lease_expires_at = null, last_response_code = $6, last_error = $7,
                delivered_at = case when $4 = 'delivered' then $8::timestamptz end, updated_at = $8
            where environment_id = $1 and id = $2 and lease_token = $3 and delivery_status = 'pending'
            returning environment_id, id, attempt_count
        )
        insert into delivery_attempts (environment_id, id, delivery_id, attempt_number, response_code,
            response_body, error, duration_ms, attempted_at)
        select environment_id, $9, id, attempt_count, $6, $10, $7, $11, $12
        from finished",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.id),
        lease.token,
        finish.status,
        finish.next_attempt_at,
        finish.response_code,
        finish.error,
        finish.finished_at,
        finish.attempt_id,
        finish.response_body,
        finish.duration_ms,
        finish.attempted_at,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends a claimed delivery without an attempt, because its endpoint wants nothing any more.
pub async fn cancel_claimed_delivery(
    pool: &Pool,
    lease: &Lease,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.cancel_claimed_delivery
        update deliveries
        set delivery_status = 'cancelled', next_attempt_at = null, lease_token = null, lease_expires_at = null,
            updated_at = $4
        where environment_id = $1 and id = $2 and lease_token = $3 and delivery_status = 'pending'",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.id),
        lease.token,
        now,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends leases whose steps were dropped.
pub async fn release_deliveries_any_scope(pool: &Pool, tokens: &[Uuid]) -> Result<(), db::Error> {
    sqlx::query!(
        "-- webhooks.release_deliveries_any_scope
        update deliveries set lease_token = null, lease_expires_at = null
        where lease_token = any($1)",
        tokens,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The sealed secrets of an endpoint.
pub struct SealedEndpoint {
    pub environment: EnvironmentId,
    pub id: EndpointId,
    pub secret: Vec<u8>,
    pub previous_secret: Option<Vec<u8>>,
}

/// Of every endpoint that was not deleted.
pub async fn list_sealed_any_scope(pool: &Pool) -> Result<Vec<SealedEndpoint>, db::Error> {
    let rows = sqlx::query!(
        "-- webhooks.list_sealed_any_scope
        select environment_id, id, secret_sealed, previous_secret_sealed
        from webhook_endpoints
        where deleted_at is null
        order by environment_id, id",
    )
    .fetch_all(pool)
    .await?;
    let endpoints = rows.into_iter().map(|row| SealedEndpoint {
        environment: row.environment_id.into(),
        id: row.id.into(),
        secret: row.secret_sealed,
        previous_secret: row.previous_secret_sealed,
    });
    Ok(endpoints.collect())
}
