//! `/v1/webhook_endpoints`.

use std::collections::BTreeMap;

use axum::{Json, extract::State, response::NoContent};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    EndpointId, EventType, Rules,
    endpoint::{self, Change, DEFAULT_CONCURRENCY, Endpoint, NewEndpoint},
    endpoint_store as store,
    endpoint_view::EndpointResponse,
    headers,
};
use crate::{
    app::App,
    http::{
        ApiError, Body, Caller, Created, IdPath, Query, Reserved, Violations, given,
        openapi::{ApiRouter, doc, get_with, post_with},
        page,
    },
    kit::page::Page,
};

const MAX_DESCRIPTION_CHARACTERS: usize = 500;
const MAX_CONCURRENCY: i64 = 64;
const MAX_RATE_PER_SECOND: i64 = 1000;

pub fn router() -> ApiRouter<App> {
    ApiRouter::new()
        .api_route(
            "/webhook_endpoints",
            get_with(list, doc("list_webhook_endpoints", "List endpoints", &[]))
                .post_with(create, doc("create_webhook_endpoint", "Register an endpoint", &[])),
        )
        .api_route(
            "/webhook_endpoints/{id}",
            get_with(read, doc("get_webhook_endpoint", "Get an endpoint", &[]))
                .put_with(update, doc("update_webhook_endpoint", "Update an endpoint", &[]))
                .delete_with(delete, doc("delete_webhook_endpoint", "Delete an endpoint", &[])),
        )
        .api_route(
            "/webhook_endpoints/{id}/secret/rotate",
            post_with(
                rotate_secret,
                doc(
                    "rotate_webhook_endpoint_secret",
                    "Make a new secret; the old one signs for 24 hours more",
                    &[],
                ),
            ),
        )
}

/// The members of an endpoint that are a merchant's to choose.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "UpdateWebhookEndpointRequest")]
struct EndpointRequest {
    /// https, but in a test environment http too; to a public address.
    url: Option<String>,
    /// All, if none is given.
    #[schemars(with = "Option<Vec<EventType>>")]
    event_types: Option<Vec<String>>,
    #[schemars(length(max = 500))]
    description: Option<String>,
    enabled: Option<bool>,
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    /// Sent with every delivery.
    headers: Option<Map<String, Value>>,
    /// Deliveries under way at a time; 8 if not given.
    #[schemars(range(min = 1, max = 64))]
    max_concurrency: Option<i64>,
    #[serde(default, deserialize_with = "given")]
    #[expect(clippy::option_option, reason = "absent, null and a number are three things")]
    rate_limit_per_second: Option<Option<i64>>,
}

crate::define_create_request!(CreateRequest(EndpointRequest), "CreateWebhookEndpointRequest", ["url"]);

async fn create(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    Body(CreateRequest(request)): Body<CreateRequest>,
) -> Result<Created<EndpointResponse>, ApiError> {
    let mut violations = Violations::default();
    violations.require(request.url.is_some(), "url", "is required");
    let change = check(violations, app.egress.rules(caller.mode), request)?;
    let new = NewEndpoint {
        url: change.url.unwrap_or_default(),
        description: change.description.unwrap_or_default(),
        event_types: change.event_types.unwrap_or_default(),
        enabled: change.enabled.unwrap_or(true),
        headers: change.headers.unwrap_or_default(),
        max_concurrency: change.max_concurrency.unwrap_or(DEFAULT_CONCURRENCY),
        rate_limit_per_second: change.rate_limit_per_second.flatten(),
    };
    let find = |id| endpoint::find_with_secret(&app, caller.scope, id);
    let make = |id| endpoint::create(&app, caller.scope, id, new);
    let (endpoint, secret) = reserved.once(&app.ids, find, make).await?;
    let created = respond(&app, caller, endpoint).await?.with_secret(&secret);
    Ok(Created(created))
}

async fn update(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
    Body(request): Body<EndpointRequest>,
) -> Result<Json<EndpointResponse>, ApiError> {
    let change = check(Violations::default(), app.egress.rules(caller.mode), request)?;
    let endpoint = endpoint::update(&app, caller.scope, id, change).await?;
    Ok(Json(respond(&app, caller, endpoint).await?))
}

async fn respond(app: &App, caller: Caller, endpoint: Endpoint) -> Result<EndpointResponse, ApiError> {
    let statistics = store::find_statistics(&app.pool, caller.scope, endpoint.id).await?;
    Ok(EndpointResponse::new(caller.scope, endpoint, statistics))
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
) -> Result<Json<EndpointResponse>, ApiError> {
    let found = store::find_endpoint(&app.pool, caller.scope, id).await?;
    Ok(Json(respond(&app, caller, found.ok_or_else(endpoint::missing)?).await?))
}

async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<EndpointResponse>>, ApiError> {
    let request = page(query.limit, query.offset)?;
    let (endpoints, total) = store::list_endpoints(&app.pool, caller.scope, request).await?;
    let ids: Vec<_> = endpoints.iter().map(|endpoint| Uuid::from(endpoint.id)).collect();
    let mut statistics = store::list_statistics(&app.pool, caller.scope, &ids).await?;
    let endpoints = Page::new(endpoints, total, request);
    Ok(Json(endpoints.map(|endpoint| {
        let statistics = statistics.remove(&endpoint.id).unwrap_or_default();
        EndpointResponse::new(caller.scope, endpoint, statistics)
    })))
}

async fn delete(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EndpointId>,
) -> Result<NoContent, ApiError> {
    endpoint::delete(&app, caller.scope, id).await?;
    Ok(NoContent)
}

async fn rotate_secret(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    IdPath(id): IdPath<EndpointId>,
) -> Result<Json<EndpointResponse>, ApiError> {
    let (endpoint, secret) = endpoint::rotate_secret(&app, caller.scope, id, reserved).await?;
    Ok(Json(respond(&app, caller, endpoint).await?.with_secret(&secret)))
}

#[derive(Deserialize, JsonSchema)]
struct PageQuery {
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
    #[schemars(range(min = 0))]
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
    let headers = request.headers.map(|given| headers::check(&mut violations, given));
    let mut bounded = |field, number: i64, most| {
        violations.require((1..=most).contains(&number), field, &format!("must be from 1 to {most}"));
        i32::try_from(number).unwrap_or_default()
    };
    let max_concurrency =
        request.max_concurrency.map(|number| bounded("max_concurrency", number, MAX_CONCURRENCY));
    let rate_limit_per_second = request
        .rate_limit_per_second
        .map(|limit| limit.map(|number| bounded("rate_limit_per_second", number, MAX_RATE_PER_SECOND)));
    violations.finish()?;
    Ok(Change {
        url: request.url,
        event_types,
        description: request.description,
        enabled: request.enabled,
        headers,
        max_concurrency,
        rate_limit_per_second,
    })
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
