//! `/v1/events`: every event, for those who look something up and for those who catch up.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;

use super::{
    Delivery, EventId, EventType, delivery_store,
    event_store::{self as store, EventFilter, Position},
};
use crate::{
    app::App,
    http::{
        ApiError, Caller, IdPath, Named, Query, log_limit,
        openapi::{ApiRouter, doc, get_with},
        optional_time,
    },
    kit::{ids, page::LogPage},
    tenancy::Scope,
};

pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route("/events", get_with(list, doc("list_events", "List events", &[])))
        .api_route("/events/{id}", get_with(read, doc("get_event", "Get an event", &[])))
        .api_route(
            "/events/{id}/deliveries",
            get_with(list_deliveries, doc("list_event_deliveries", "List an event's deliveries", &[])),
        )
}

#[derive(Deserialize, JsonSchema)]
struct EventQuery {
    #[schemars(with = "Option<EventType>")]
    event_type: Option<String>,
    checkout_session_id: Option<String>,
    refund_id: Option<String>,
    webhook_endpoint_id: Option<String>,
    before: Option<String>,
    after: Option<String>,
    #[serde(default, deserialize_with = "optional_time")]
    since: Option<DateTime<Utc>>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
    #[schemars(skip)]
    offset: Option<String>,
}

/// Newest first, and from `before` on into the past; or, with `after` or `since`, oldest first and complete.
async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<EventQuery>,
) -> Result<Json<LogPage<EventResponse>>, ApiError> {
    let limit = log_limit(query.limit, query.offset.as_deref())?;
    let event_type = query.event_type.as_ref().map(|name| name.parse::<EventType>()).transpose();
    let event_type =
        event_type.map_err(|error| ApiError::validation("event_type", &format!("must be known: {error}")))?;
    let filter = EventFilter { event_type, subject: subject(&query)? };
    if query.before.is_some() && (query.after.is_some() || query.since.is_some()) {
        return Err(ApiError::validation("before", "must be absent when after or since is given"));
    }
    let before = position(&app, caller.scope, "before", query.before).await?;
    let after = position(&app, caller.scope, "after", query.after).await?;
    let bodies = match (after, query.since) {
        (None, None) => store::list_bodies_before(&app.pool, caller.scope, filter, before, limit + 1).await?,
        (after, since) => catch_up(&app, caller.scope, filter, after, since, limit + 1).await?,
    };
    Ok(Json(LogPage::new(bodies, limit).try_map(|body| parse_body(&body))?))
}

async fn catch_up(
    app: &App,
    scope: Scope,
    filter: EventFilter,
    after: Option<Position>,
    since: Option<DateTime<Utc>>,
    limit: i64,
) -> Result<Vec<Vec<u8>>, ApiError> {
    let start = match (after, since) {
        (Some(after), _) => Some(after),
        (None, Some(since)) => store::find_position_at(&app.pool, scope, since).await?,
        (None, None) => None,
    };
    let Some(start) = start else { return Ok(Vec::new()) };
    Ok(store::list_bodies_after(&app.pool, scope, filter, start, since, limit).await?)
}

/// The one thing that the events are to be about.
fn subject(query: &EventQuery) -> Result<Option<Uuid>, ApiError> {
    let wanted = [
        ("checkout_session_id", "chk", "must be the id of a checkout session", &query.checkout_session_id),
        ("refund_id", "refund", "must be the id of a refund", &query.refund_id),
        ("webhook_endpoint_id", "we", "must be the id of a webhook endpoint", &query.webhook_endpoint_id),
    ];
    let mut found = None;
    for (field, prefix, rule, id) in wanted {
        let Some(id) = id else { continue };
        let id = ids::decode(prefix, id).ok_or_else(|| ApiError::validation(field, rule))?;
        if found.replace(id).is_some() {
            return Err(ApiError::validation(field, "must be absent when another subject is given"));
        }
    }
    Ok(found)
}

async fn position(
    app: &App,
    scope: Scope,
    field: &str,
    id: Option<String>,
) -> Result<Option<Position>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let known = match id.parse() {
        Ok(id) => store::find_position(&app.pool, scope, id).await?,
        Err(_) => None,
    };
    known.map(Some).ok_or_else(|| ApiError::validation(field, "must be the id of an event that is kept"))
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EventId>,
) -> Result<Json<EventResponse>, ApiError> {
    let found = store::find_event_body(&app.pool, caller.scope, id).await?;
    let body = found.ok_or_else(|| ApiError::not_found(EventId::NOUN))?;
    Ok(Json(parse_body(&body)?))
}

/// One per endpoint, and so never more than a page.
async fn list_deliveries(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EventId>,
) -> Result<Json<LogPage<Delivery>>, ApiError> {
    let known = store::find_position(&app.pool, caller.scope, id).await?;
    known.ok_or_else(|| ApiError::not_found(EventId::NOUN))?;
    let deliveries = delivery_store::list_deliveries_of_event(&app.pool, caller.scope, id).await?;
    let limit = i64::try_from(deliveries.len()).unwrap_or(i64::MAX);
    Ok(Json(LogPage::new(deliveries, limit)))
}

/// An event: the very bytes that endpoints get.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(rename = "Event")]
struct EventResponse(#[schemars(with = "Event")] Box<RawValue>);

/// What is in the bytes.
#[expect(dead_code, reason = "describes bytes that were frozen before")]
#[derive(JsonSchema)]
struct Event {
    id: EventId,
    event_type: EventType,
    /// When it became true.
    created_at: DateTime<Utc>,
    /// Its place among the events about the same object: 1, 2, 3 … without gaps.
    sequence: i32,
    /// What it is about: a checkout session, a payment, a refund or an endpoint. It stands again under its own name,
    /// such as `checkout_session`.
    data: Map<String, Value>,
}

/// The very bytes that endpoints get.
fn parse_body(body: &[u8]) -> Result<EventResponse, ApiError> {
    serde_json::from_slice(body).map(EventResponse).map_err(ApiError::internal)
}
