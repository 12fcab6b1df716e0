//! Deliveries and attempts: what was sent where, what came back, and sending it again.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Attempt, Delivery, DeliveryId, DeliveryStatus, EndpointId, EventId, Replay,
    delivery_store::{self as store, DeliveryFilter, Place},
    endpoint, endpoint_store, replay, resend,
};
use crate::{
    app::App,
    http::{
        Accepted, ApiError, Body, Caller, IdPath, Named, Query, Reserved, log_limit,
        openapi::{ApiRouter, doc, get_with, post_with},
        optional_time,
    },
    kit::page::LogPage,
    tenancy::Scope,
};

pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route(
            "/webhook_endpoints/{id}/deliveries",
            get_with(list, doc("list_webhook_endpoint_deliveries", "List an endpoint's deliveries", &[])),
        )
        .api_route(
            "/webhook_endpoints/{id}/test",
            post_with(test, doc("test_webhook_endpoint", "Send a test event", &[(400, DISABLED)])),
        )
        .api_route(
            "/webhook_endpoints/{id}/replay",
            post_with(
                start_replay,
                doc("replay_webhook_endpoint", "Send an endpoint's events again", &[(400, CANNOT_REPLAY)]),
            ),
        )
        .api_route(
            "/webhook_endpoints/{id}/replays",
            get_with(list_replays, doc("list_webhook_endpoint_replays", "List an endpoint's replays", &[])),
        )
        .api_route("/deliveries/{id}", get_with(read, doc("get_delivery", "Get a delivery", &[])))
        .api_route(
            "/deliveries/{id}/attempts",
            get_with(list_attempts, doc("list_delivery_attempts", "List a delivery's attempts", &[])),
        )
        .api_route(
            "/deliveries/{id}/resend",
            post_with(send_again, doc("resend_delivery", "Send a delivery again", &[(400, DISABLED)])),
        )
}

const DISABLED: &str = "the endpoint is disabled";
const CANNOT_REPLAY: &str =
    "`since` or `until` breaks a rule, the endpoint is disabled, or another replay of it runs";

#[derive(Deserialize, JsonSchema)]
struct DeliveryQuery {
    #[schemars(with = "Option<DeliveryStatus>")]
    status: Option<String>,
    event_id: Option<String>,
    before: Option<String>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
    #[schemars(skip)]
    offset: Option<String>,
}

async fn list(
    caller: Caller,
    State(app): State<App>,
    IdPath(endpoint): IdPath<EndpointId>,
    Query(query): Query<DeliveryQuery>,
) -> Result<Json<LogPage<Delivery>>, ApiError> {
    let limit = log_limit(query.limit, query.offset.as_deref())?;
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

#[derive(Deserialize, JsonSchema)]
struct AttemptQuery {
    /// A number of an attempt.
    before: Option<i32>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
    #[schemars(skip)]
    offset: Option<String>,
}

async fn list_attempts(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<DeliveryId>,
    Query(query): Query<AttemptQuery>,
) -> Result<Json<LogPage<Attempt>>, ApiError> {
    let limit = log_limit(query.limit, query.offset.as_deref())?;
    get_delivery(&app, caller.scope, id).await?;
    let attempts = store::list_attempts(&app.pool, caller.scope, id, query.before, limit + 1).await?;
    Ok(Json(LogPage::new(attempts, limit)))
}

async fn send_again(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    IdPath(id): IdPath<DeliveryId>,
) -> Result<Accepted<Delivery>, ApiError> {
    resend::resend(&app, caller.scope, id, reserved).await?;
    Ok(Accepted(get_delivery(&app, caller.scope, id).await?))
}

async fn test(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    IdPath(id): IdPath<EndpointId>,
) -> Result<Accepted<Delivery>, ApiError> {
    let (app, scope) = (&app, caller.scope);
    let find = async |delivery| Ok(store::find_delivery(&app.pool, scope, delivery).await?);
    let make = async |delivery| {
        endpoint::send_test(app, scope, id, delivery).await?;
        get_delivery(app, scope, delivery).await
    };
    Ok(Accepted(reserved.once(&app.ids, find, make).await?))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ReplayWebhookEndpointRequest", extend("required" = ["since"]))]
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
) -> Result<Accepted<Replay>, ApiError> {
    let since = request.since.ok_or_else(|| ApiError::validation("since", "is required"))?;
    let only = request.undelivered_only.unwrap_or(false);
    let find = async |replay| Ok(replay::find(&app, caller.scope, replay).await?);
    let make = async |replay| {
        let window = replay::Window::parse(since, request.until, app.clock.now())?;
        replay::start(&app, caller.scope, id, replay, window, only).await
    };
    Ok(Accepted(reserved.once(&app.ids, find, make).await?))
}

#[derive(Deserialize, JsonSchema)]
struct ReplayQuery {
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
    #[schemars(skip)]
    offset: Option<String>,
}

/// The last ones.
async fn list_replays(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
    Query(query): Query<ReplayQuery>,
) -> Result<Json<LogPage<Replay>>, ApiError> {
    let limit = log_limit(query.limit, query.offset.as_deref())?;
    endpoint_store::find_endpoint(&app.pool, caller.scope, id).await?.ok_or_else(endpoint::missing)?;
    Ok(Json(LogPage::new(replay::list(&app, caller.scope, id, limit + 1).await?, limit)))
}
