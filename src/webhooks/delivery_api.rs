//! Deliveries and attempts: what was sent where, what came back, and sending it again.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{
    Attempt, Delivery, DeliveryId, DeliveryStatus, EndpointId, EventId, Replay,
    delivery_store::{self as store, DeliveryFilter, Place},
    endpoint, endpoint_store, replay, resend,
};
use crate::{
    app::App,
    http::{ApiError, Body, Caller, IdPath, Named, Query, Reserved, optional_time, page_limit},
    kit::page::LogPage,
    tenancy::Scope,
};

pub fn router() -> Router<App> {
    Router::new()
        .route("/webhook_endpoints/{id}/deliveries", get(list))
        .route("/webhook_endpoints/{id}/test", post(test))
        .route("/webhook_endpoints/{id}/replay", post(start_replay))
        .route("/webhook_endpoints/{id}/replays", get(list_replays))
        .route("/deliveries/{id}", get(read))
        .route("/deliveries/{id}/attempts", get(list_attempts))
        .route("/deliveries/{id}/resend", post(send_again))
}

#[derive(Deserialize)]
struct DeliveryQuery {
    status: Option<String>,
    event_id: Option<String>,
    before: Option<String>,
    limit: Option<i64>,
}

async fn list(
    caller: Caller,
    State(app): State<App>,
    IdPath(endpoint): IdPath<EndpointId>,
    Query(query): Query<DeliveryQuery>,
) -> Result<Json<LogPage<Delivery>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let status = query.status.map(|status| status.parse::<DeliveryStatus>()).transpose();
    let event = query.event_id.map(|id| id.parse::<EventId>()).transpose();
    let filter = DeliveryFilter {
        status: status.map_err(|unknown| ApiError::validation("status", &unknown.to_string()))?,
        event: event.map_err(|_| ApiError::validation("event_id", "must be the id of an event"))?,
    };
    endpoint_store::find_endpoint(&app.pool, caller.scope, endpoint).await?.ok_or_else(endpoint::missing)?;
    let before = place(&app, caller.scope, query.before).await?;
    let deliveries =
        store::list_deliveries(&app.pool, caller.scope, endpoint, filter, before, limit + 1).await?;
    Ok(Json(LogPage::new(deliveries, limit)))
}

async fn place(app: &App, scope: Scope, id: Option<String>) -> Result<Option<Place>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let known = match id.parse() {
        Ok(id) => store::find_place(&app.pool, scope, id).await?,
        Err(_) => None,
    };
    known.map(Some).ok_or_else(|| ApiError::validation("before", "must be the id of a delivery that is kept"))
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<DeliveryId>,
) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(get_delivery(&app, caller.scope, id).await?))
}

async fn get_delivery(app: &App, scope: Scope, id: DeliveryId) -> Result<Delivery, ApiError> {
    let found = store::find_delivery(&app.pool, scope, id).await?;
    found.ok_or_else(|| ApiError::not_found(DeliveryId::NOUN))
}

#[derive(Deserialize)]
struct AttemptQuery {
    /// A number of an attempt.
    before: Option<i32>,
    limit: Option<i64>,
}

async fn list_attempts(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<DeliveryId>,
    Query(query): Query<AttemptQuery>,
) -> Result<Json<LogPage<Attempt>>, ApiError> {
    let limit = page_limit(query.limit)?;
    get_delivery(&app, caller.scope, id).await?;
    let attempts = store::list_attempts(&app.pool, caller.scope, id, query.before, limit + 1).await?;
    Ok(Json(LogPage::new(attempts, limit)))
}

async fn send_again(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    IdPath(id): IdPath<DeliveryId>,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    resend::resend(&app, caller.scope, id, reserved).await?;
    Ok((StatusCode::ACCEPTED, Json(get_delivery(&app, caller.scope, id).await?)))
}

async fn test(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    IdPath(id): IdPath<EndpointId>,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    let (app, scope) = (&app, caller.scope);
    let find = async |delivery| Ok(store::find_delivery(&app.pool, scope, delivery).await?);
    let make = async |delivery| {
        endpoint::send_test(app, scope, id, delivery).await?;
        get_delivery(app, scope, delivery).await
    };
    Ok((StatusCode::ACCEPTED, Json(reserved.once(&app.ids, find, make).await?)))
}

#[derive(Deserialize)]
struct ReplayRequest {
    #[serde(default, deserialize_with = "optional_time")]
    since: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    until: Option<DateTime<Utc>>,
    undelivered_only: Option<bool>,
}

async fn start_replay(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    IdPath(id): IdPath<EndpointId>,
    Body(request): Body<ReplayRequest>,
) -> Result<(StatusCode, Json<Replay>), ApiError> {
    let since = request.since.ok_or_else(|| ApiError::validation("since", "is required"))?;
    let only = request.undelivered_only.unwrap_or(false);
    let find = async |replay| Ok(replay::find(&app, caller.scope, replay).await?);
    let make = async |replay| {
        let window = replay::Window::parse(since, request.until, app.clock.now())?;
        replay::start(&app, caller.scope, id, replay, window, only).await
    };
    Ok((StatusCode::ACCEPTED, Json(reserved.once(&app.ids, find, make).await?)))
}

#[derive(Deserialize)]
struct ReplayQuery {
    limit: Option<i64>,
}

/// The last ones.
async fn list_replays(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
    Query(query): Query<ReplayQuery>,
) -> Result<Json<LogPage<Replay>>, ApiError> {
    let limit = page_limit(query.limit)?;
    endpoint_store::find_endpoint(&app.pool, caller.scope, id).await?.ok_or_else(endpoint::missing)?;
    Ok(Json(LogPage::new(replay::list(&app, caller.scope, id, limit + 1).await?, limit)))
}
