//! SQL of endpoints and of what came of the attempts at them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{
    EndpointId,
    endpoint::{Change, DisabledReason, Endpoint, SealedHeaders, Statistics},
};
use crate::{
    db::{self, Pool, Tx},
    kit::page::PageRequest,
    tenancy::{EnvironmentId, Scope},
};

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
    headers: &SealedHeaders,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- webhooks.insert_endpoint
        insert into webhook_endpoints (environment_id, id, url, description, event_types, enabled, disabled_reason,
            header_names, headers_sealed, max_concurrency, rate_limit_per_second, secret_sealed, created_at,
            updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)",
        Uuid::from(scope.environment),
        Uuid::from(endpoint.id),
        endpoint.url,
        endpoint.description,
        &endpoint.event_types,
        endpoint.enabled,
        endpoint.disabled_reason,
        &headers.names,
        headers.sealed,
        endpoint.max_concurrency,
        endpoint.rate_limit_per_second,
        secret_sealed,
        endpoint.created_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A change as its columns.
#[derive(Clone, Debug)]
pub struct ChangedRow {
    pub change: Change,
    pub event_types: Option<Vec<String>>,
    pub headers: Option<SealedHeaders>,
}

/// Writes what `row` names and returns the row as it is now; `None` when there is no such endpoint.
pub async fn update_endpoint(
    tx: &mut Tx,
    scope: Scope,
    id: EndpointId,
    row: &ChangedRow,
    now: DateTime<Utc>,
) -> Result<Option<Endpoint>, db::Error> {
    let (change, headers) = (&row.change, row.headers.as_ref());
    sqlx::query_as!(
        Endpoint,
        "-- webhooks.update_endpoint
        update webhook_endpoints
        set url = coalesce($3, url),
            description = coalesce($4, description),
            event_types = coalesce($5, event_types),
            enabled = coalesce($6, enabled),
            disabled_reason = case
                when coalesce($6, enabled) then null
                when enabled then 'requested'
                else disabled_reason
            end,
            header_names = coalesce($7, header_names),
            headers_sealed = case when $7::text[] is null then headers_sealed else $8 end,
            max_concurrency = coalesce($9, max_concurrency),
            rate_limit_per_second = case when $10::boolean then $11 else rate_limit_per_second end,
            updated_at = $12
        where environment_id = $1 and id = $2 and deleted_at is null
        returning id, url, description, event_types, enabled, disabled_reason, header_names, max_concurrency,
            rate_limit_per_second, created_at, updated_at",
        Uuid::from(scope.environment),
        Uuid::from(id),
        change.url,
        change.description,
        row.event_types.as_deref(),
        change.enabled,
        headers.map(|headers| &*headers.names),
        headers.and_then(|headers| headers.sealed.as_deref()),
        change.max_concurrency,
        change.rate_limit_per_second.is_some(),
        change.rate_limit_per_second.flatten(),
        now,
    )
    .fetch_optional(tx)
    .await
}

/// Starts the count of failures anew.
pub async fn forget_failures(tx: &mut Tx, scope: Scope, id: EndpointId) -> Result<(), db::Error> {
    sqlx::query!(
        "-- webhooks.forget_failures
        update endpoint_health
        set failing_since = null, consecutive_failures = 0
        where environment_id = $1 and endpoint_id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Counts an event about the endpoint itself, whose row stays locked; the event's sequence.
pub async fn count_event(tx: &mut Tx, scope: Scope, id: EndpointId) -> Result<Option<i32>, db::Error> {
    sqlx::query_scalar!(
        "-- webhooks.count_event
        update webhook_endpoints
        set event_count = event_count + 1
        where environment_id = $1 and id = $2 and deleted_at is null
        returning event_count",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(tx)
    .await
}

/// What came of the attempts at an endpoint.
pub async fn find_statistics(
    executor: impl sqlx::PgExecutor<'_>,
    scope: Scope,
    id: EndpointId,
) -> Result<Statistics, db::Error> {
    let mut found = list_statistics(executor, scope, &[id.into()]).await?;
    Ok(found.remove(&id).unwrap_or_default())
}

/// The same of several; of those that were never tried there is none.
pub async fn list_statistics(
    executor: impl sqlx::PgExecutor<'_>,
    scope: Scope,
    ids: &[Uuid],
) -> Result<HashMap<EndpointId, Statistics>, db::Error> {
    let rows = sqlx::query!(
        "-- webhooks.list_statistics
        select endpoint_id, delivered_count, failed_count, consecutive_failures, failing_since, last_delivered_at,
            last_failed_at, last_error
        from endpoint_health
        where environment_id = $1 and endpoint_id = any ($2)",
        Uuid::from(scope.environment),
        ids,
    )
    .fetch_all(executor)
    .await?;
    let statistics = rows.into_iter().map(|row| {
        let statistics = Statistics {
            delivered_count: row.delivered_count,
            failed_attempt_count: row.failed_count,
            consecutive_failures: row.consecutive_failures,
            failing_since: row.failing_since,
            last_delivered_at: row.last_delivered_at,
            last_failed_at: row.last_failed_at,
            last_error: row.last_error,
        };
        (EndpointId::from(row.endpoint_id), statistics)
    });
    Ok(statistics.collect())
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
        set enabled = false, disabled_reason = coalesce(disabled_reason, 'requested'), deleted_at = $3, updated_at = $3
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
    reason: DisabledReason,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- webhooks.mark_endpoint_disabled
        update webhook_endpoints
        set enabled = false, disabled_reason = $4, updated_at = $5
        where environment_id = $1 and id = $2 and url = $3 and enabled",
        Uuid::from(scope.environment),
        Uuid::from(id),
        url,
        reason.as_str(),
        now,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Moves the current secret aside until `previous_expires_at` and puts `sealed` in its place.
pub async fn rotate_secret(
    tx: &mut Tx,
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
        returning id, url, description, event_types, enabled, disabled_reason, header_names, max_concurrency,
            rate_limit_per_second, created_at, updated_at",
        Uuid::from(scope.environment),
        Uuid::from(id),
        sealed,
        previous_expires_at,
        now,
    )
    .fetch_optional(tx)
    .await
}

pub async fn find_endpoint(
    executor: impl sqlx::PgExecutor<'_>,
    scope: Scope,
    id: EndpointId,
) -> Result<Option<Endpoint>, db::Error> {
    sqlx::query_as!(
        Endpoint,
        "-- webhooks.find_endpoint
        select id, url, description, event_types, enabled, disabled_reason, header_names, max_concurrency,
            rate_limit_per_second, created_at, updated_at
        from webhook_endpoints
        where environment_id = $1 and id = $2 and deleted_at is null",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(executor)
    .await
}

/// An endpoint's secret as it lies in the table.
pub struct SealedSecret {
    pub sealed: Vec<u8>,
    /// Until when the one before it signs too.
    pub previous_expires_at: Option<DateTime<Utc>>,
}

pub async fn find_secret(
    pool: &Pool,
    scope: Scope,
    id: EndpointId,
) -> Result<Option<SealedSecret>, db::Error> {
    sqlx::query_as!(
        SealedSecret,
        "-- webhooks.find_secret
        select secret_sealed as sealed, previous_secret_expires_at as previous_expires_at
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
        select id, url, description, event_types, enabled, disabled_reason, header_names, max_concurrency,
            rate_limit_per_second, created_at, updated_at
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

/// The sealed secrets of an endpoint.
pub struct SealedEndpoint {
    pub environment: EnvironmentId,
    pub id: EndpointId,
    pub secret: Vec<u8>,
    pub previous_secret: Option<Vec<u8>>,
    pub headers: Option<Vec<u8>>,
}

/// Of every endpoint that was not deleted.
pub async fn list_sealed_any_scope(pool: &Pool) -> Result<Vec<SealedEndpoint>, db::Error> {
    let rows = sqlx::query!(
        "-- webhooks.list_sealed_any_scope
        select environment_id, id, secret_sealed, previous_secret_sealed, headers_sealed
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
        headers: row.headers_sealed,
    });
    Ok(endpoints.collect())
}
