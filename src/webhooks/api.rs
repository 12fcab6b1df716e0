//! `/v1/webhook_endpoints` and `/v1/events`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    EndpointId, EventId, EventType, Rules,
    delivery::Delivery,
    endpoint::{self, Change, Endpoint, NewEndpoint},
    store::{self, EventFilter},
};
use crate::{
    app::App,
    http::{ApiError, Body, Caller, IdPath, Named, Query, Violations, page},
    kit::{ids, page::Page},
    tenancy::{EnvironmentId, TenantId},
};

const MAX_DESCRIPTION_CHARACTERS: usize = 500;

/// Routes under `/v1`.
pub fn router() -> Router<App> {
    Router::new()
        .route("/webhook_endpoints", get(list).post(create))
        .route("/webhook_endpoints/{id}", get(read).put(update).delete(delete))
        .route("/webhook_endpoints/{id}/secret/rotate", post(rotate_secret))
        .route("/webhook_endpoints/{id}/deliveries", get(list_deliveries))
        .route("/events", get(list_events))
        .route("/events/{id}", get(read_event))
}

/// Creation and change take the same members; creation needs the URL.
#[derive(Deserialize)]
struct EndpointRequest {
    url: Option<String>,
    event_types: Option<Vec<String>>,
    description: Option<String>,
    enabled: Option<bool>,
}

/// An endpoint on the wire.
#[derive(Debug, Serialize)]
pub struct EndpointResponse {
    id: EndpointId,
    url: String,
    event_types: Vec<String>,
    description: String,
    enabled: bool,
    /// In the answers to creation and rotation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl EndpointResponse {
    fn new(caller: Caller, endpoint: Endpoint) -> Self {
        Self {
            id: endpoint.id,
            url: endpoint.url,
            event_types: endpoint.event_types,
            description: endpoint.description,
            enabled: endpoint.enabled,
            secret: None,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }

    fn with_secret(caller: Caller, (endpoint, secret): (Endpoint, SecretString)) -> Self {
        Self { secret: Some(secret.expose_secret().to_owned()), ..Self::new(caller, endpoint) }
    }
}

async fn create(
    caller: Caller,
    State(app): State<App>,
    Body(request): Body<EndpointRequest>,
) -> Result<(StatusCode, Json<EndpointResponse>), ApiError> {
    let mut violations = Violations::default();
    violations.require(request.url.is_some(), "url", "is required");
    let change = check(violations, app.egress.rules(caller.mode), request)?;
    let new = NewEndpoint {
        url: change.url.unwrap_or_default(),
        description: change.description.unwrap_or_default(),
        event_types: change.event_types.unwrap_or_default(),
        enabled: change.enabled.unwrap_or(true),
    };
    let created = endpoint::create(&app, caller.scope, new).await?;
    Ok((StatusCode::CREATED, Json(EndpointResponse::with_secret(caller, created))))
}

async fn update(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
    Body(request): Body<EndpointRequest>,
) -> Result<Json<EndpointResponse>, ApiError> {
    let change = check(Violations::default(), app.egress.rules(caller.mode), request)?;
    let endpoint = endpoint::update(&app, caller.scope, id, change).await?;
    Ok(Json(EndpointResponse::new(caller, endpoint)))
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
) -> Result<Json<EndpointResponse>, ApiError> {
    let found = store::find_endpoint(&app.pool, caller.scope, id).await?;
    Ok(Json(EndpointResponse::new(caller, found.ok_or_else(endpoint::missing)?)))
}

async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<EndpointResponse>>, ApiError> {
    let request = page(query.limit, query.offset)?;
    let (endpoints, total) = store::list_endpoints(&app.pool, caller.scope, request).await?;
    let endpoints = Page::new(endpoints, total, request);
    Ok(Json(endpoints.map(|endpoint| EndpointResponse::new(caller, endpoint))))
}

async fn delete(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
) -> Result<StatusCode, ApiError> {
    endpoint::delete(&app, caller.scope, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate_secret(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
) -> Result<Json<EndpointResponse>, ApiError> {
    let rotated = endpoint::rotate_secret(&app, caller.scope, id).await?;
    Ok(Json(EndpointResponse::with_secret(caller, rotated)))
}

async fn list_deliveries(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    let request = page(query.limit, query.offset)?;
    store::find_endpoint(&app.pool, caller.scope, id).await?.ok_or_else(endpoint::missing)?;
    let (deliveries, total) = store::list_deliveries(&app.pool, caller.scope, id, request).await?;
    Ok(Json(Page::new(deliveries, total, request)))
}

#[derive(Deserialize)]
struct EventQuery {
    event_type: Option<String>,
    checkout_session_id: Option<String>,
    refund_id: Option<String>,
    limit: Option<i64>,
    offset: Option<i64>,
}

async fn list_events(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<EventQuery>,
) -> Result<Json<Page<Box<RawValue>>>, ApiError> {
    let request = page(query.limit, query.offset)?;
    let event_type = query.event_type.map(|name| name.parse::<EventType>()).transpose();
    let event_type =
        event_type.map_err(|error| ApiError::validation("event_type", &format!("must be known: {error}")))?;
    let subject = match (query.checkout_session_id, query.refund_id) {
        (Some(_), Some(_)) => {
            return Err(ApiError::validation(
                "refund_id",
                "must be absent when checkout_session_id is given",
            ));
        }
        (Some(id), None) => Some(ids::decode("chk", &id).ok_or_else(|| {
            ApiError::validation("checkout_session_id", "must be the id of a checkout session")
        })?),
        (None, Some(id)) => Some(
            ids::decode("refund", &id)
                .ok_or_else(|| ApiError::validation("refund_id", "must be the id of a refund"))?,
        ),
        (None, None) => None,
    };
    let filter = EventFilter { event_type, subject };
    let (bodies, total) = store::list_event_bodies(&app.pool, caller.scope, filter, request).await?;
    let items = bodies.into_iter().map(|body| parse_body(&body)).collect::<Result<_, _>>()?;
    Ok(Json(Page::new(items, total, request)))
}

async fn read_event(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EventId>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    let found = store::find_event_body(&app.pool, caller.scope, id).await?;
    let body = found.ok_or_else(|| ApiError::not_found(EventId::NOUN))?;
    Ok(Json(parse_body(&body)?))
}

/// The very bytes that endpoints get.
fn parse_body(body: &[u8]) -> Result<Box<RawValue>, ApiError> {
    serde_json::from_slice(body).map_err(ApiError::internal)
}

#[derive(Deserialize)]
struct PageQuery {
    limit: Option<i64>,
    offset: Option<i64>,
}

fn check(mut violations: Violations, rules: Rules, request: EndpointRequest) -> Result<Change, ApiError> {
    if let Some(url) = &request.url
        && let Err(rejection) = rules.vet_url(url)
    {
        violations.add("url", rejection.to_string());
    }
    let event_types = request.event_types.map(|names| check_event_types(&mut violations, names));
    violations.require(
        request.description.as_deref().unwrap_or_default().chars().count() <= MAX_DESCRIPTION_CHARACTERS,
        "description",
        "must have at most 500 characters",
    );
    violations.finish()?;
    Ok(Change { url: request.url, event_types, description: request.description, enabled: request.enabled })
}

/// Each type once, in the caller's order.
fn check_event_types(violations: &mut Violations, names: Vec<String>) -> Vec<EventType> {
    let mut event_types = Vec::new();
    for name in names {
        match name.parse() {
            Ok(event_type) if event_types.contains(&event_type) => {}
            Ok(event_type) => event_types.push(event_type),
            Err(unknown) => {
                violations.add("event_types", format!("must be known event types: {unknown}"));
                break;
            }
        }
    }
    event_types
}
