//! Endpoints: where a merchant wants events, and the secrets that sign them.

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use uuid::Uuid;

use super::{
    DeliveryId, EventId, EventType, FrozenEvent, MAX_ENDPOINTS, delivery_store::cancel_pending_deliveries,
    disable, emit_to_in, endpoint_store as store, endpoint_view::EndpointResponse, event::freeze,
    headers::Headers, sign,
};
use crate::{
    app::App,
    db::{self, Tx},
    http::{ApiError, Named, Reserved},
    kit::secret::Place,
    tenancy::{self, EnvironmentId, Scope},
    worker::Work,
};

crate::define_ids! {
    /// A webhook endpoint.
    EndpointId = "we";
}

impl Named for EndpointId {
    const NOUN: &'static str = "webhook endpoint";
}

crate::define_terms! {
    /// Why an endpoint gets nothing any more.
    DisabledReason {
        /// The merchant disabled it.
        Requested = "requested",
        /// It answered 410.
        Gone = "gone",
        /// It did nothing but fail for five days.
        Failing = "failing",
    }
}

/// Deliveries under way at a time, unless the merchant says otherwise.
pub const DEFAULT_CONCURRENCY: i32 = 8;
/// How long a replaced secret goes on signing next to the new one.
pub const PREVIOUS_SECRET_SIGNS: TimeDelta = TimeDelta::hours(24);

/// What is shown of an endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Where events are posted.
    pub url: String,
    /// The merchant's own note.
    pub description: String,
    /// Names of the event types it wants; empty = all, those of the future too.
    pub event_types: Vec<String>,
    /// A disabled endpoint gets nothing, and what waited for it is cancelled.
    pub enabled: bool,
    /// `requested` by the merchant, `gone` (it answered 410) or `failing` (nothing else for five days).
    pub disabled_reason: Option<String>,
    /// Names of the merchant's own headers.
    pub header_names: Vec<String>,
    /// Deliveries under way at a time.
    pub max_concurrency: i32,
    /// Requests a second; none: as fast as it answers.
    pub rate_limit_per_second: Option<i32>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// What came of the attempts at an endpoint.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "WebhookEndpointStatistics")]
pub struct Statistics {
    /// Deliveries that it took.
    pub delivered_count: i64,
    /// Attempts that failed.
    pub failed_attempt_count: i64,
    /// Attempts that failed since one succeeded.
    pub consecutive_failures: i32,
    /// The first of these.
    pub failing_since: Option<DateTime<Utc>>,
    /// The last success.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// The last failure …
    pub last_failed_at: Option<DateTime<Utc>>,
    /// … and its reason.
    pub last_error: Option<String>,
}

/// An endpoint to be made. What it is made of is vetted already.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// Where to post.
    pub url: String,
    /// The merchant's own note.
    pub description: String,
    /// Empty = all.
    pub event_types: Vec<EventType>,
    /// Whether it gets events from the start.
    pub enabled: bool,
    /// The merchant's own headers.
    pub headers: Headers,
    /// Deliveries under way at a time.
    pub max_concurrency: i32,
    /// Requests a second.
    pub rate_limit_per_second: Option<i32>,
}

/// What a change of an endpoint names; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Also where deliveries that wait already will go.
    pub url: Option<String>,
    /// The merchant's own note.
    pub description: Option<String>,
    /// Applies to events from now on.
    pub event_types: Option<Vec<EventType>>,
    /// `false` cancels what waits.
    pub enabled: Option<bool>,
    /// All of them: those that are not named go.
    pub headers: Option<Headers>,
    /// Deliveries under way at a time.
    pub max_concurrency: Option<i32>,
    /// Requests a second; `Some(None)` lifts the limit.
    #[expect(clippy::option_option, reason = "absent, null and a number are three things")]
    pub rate_limit_per_second: Option<Option<i32>>,
}

/// Headers as they are stored: names to show, values sealed. Both or neither.
#[derive(Clone, Debug, Default)]
pub struct SealedHeaders {
    /// In the order of the alphabet.
    pub names: Vec<String>,
    /// The JSON object of all.
    pub sealed: Option<Vec<u8>>,
}

fn seal_headers(app: &App, scope: Scope, id: EndpointId, headers: &Headers) -> SealedHeaders {
    if headers.is_empty() {
        return SealedHeaders::default();
    }
    let json = serde_json::to_string(headers).expect("a map of texts is JSON");
    let sealed = app.sealer.seal(headers_place(scope.environment, id), &json.into());
    SealedHeaders { names: headers.keys().cloned().collect(), sealed: Some(sealed) }
}

/// The merchant's own headers; none when there are none.
///
/// # Errors
/// They do not open.
pub fn open_headers(
    app: &App,
    scope: Scope,
    id: EndpointId,
    sealed: Option<&[u8]>,
) -> anyhow::Result<Headers> {
    let Some(sealed) = sealed else { return Ok(Headers::new()) };
    let json = app.sealer.open(headers_place(scope.environment, id), sealed)?;
    Ok(serde_json::from_str(json.expose_secret())?)
}

fn headers_place(environment: EnvironmentId, id: EndpointId) -> Place {
    Place { column: "webhook_endpoints.headers", environment: environment.into(), row: Uuid::from(id) }
}

/// Where an endpoint's secrets belong. One name for the current and the previous column: a rotation moves
/// the ciphertext between them.
pub fn secret_place(environment: EnvironmentId, id: EndpointId) -> Place {
    Place { column: "webhook_endpoints.secret", environment: environment.into(), row: Uuid::from(id) }
}

/// Endpoints of any environment whose secrets do not open, for `doctor`: which, never what.
pub async fn sealed_shut(app: &App) -> Result<Vec<String>, db::Error> {
    let all = store::list_sealed_any_scope(&app.pool).await?;
    let shut = all.into_iter().filter(|endpoint| {
        let place = secret_place(endpoint.environment, endpoint.id);
        let headers_place = headers_place(endpoint.environment, endpoint.id);
        let mut secrets = endpoint.previous_secret.iter().chain([&endpoint.secret]);
        let mut headers = endpoint.headers.iter();
        !secrets.all(|secret| app.sealer.open(place, secret).is_ok())
            || headers.any(|headers| app.sealer.open(headers_place, headers).is_err())
    });
    Ok(shut.map(|endpoint| endpoint.id.to_string()).collect())
}

/// Stores an endpoint; also returns its secret, which is never shown again. The 51st of an environment
/// answers 400 `invalid_operation`.
pub async fn create(
    app: &App,
    scope: Scope,
    id: EndpointId,
    new: NewEndpoint,
) -> Result<(Endpoint, SecretString), ApiError> {
    let now = app.clock.now();
    let endpoint = Endpoint {
        id,
        url: new.url,
        description: new.description,
        event_types: names(&new.event_types),
        enabled: new.enabled,
        disabled_reason: (!new.enabled).then(|| DisabledReason::Requested.as_str().into()),
        header_names: new.headers.keys().cloned().collect(),
        max_concurrency: new.max_concurrency,
        rate_limit_per_second: new.rate_limit_per_second,
        created_at: now,
        updated_at: now,
    };
    let headers = seal_headers(app, scope, endpoint.id, &new.headers);
    let secret = sign::generate_secret(&app.ids);
    let sealed = app.sealer.seal(secret_place(scope.environment, endpoint.id), &secret);
    let row = endpoint.clone();
    db::transact(&app.pool, "create_webhook_endpoint", move |tx| {
        let (row, sealed, headers) = (row.clone(), sealed.clone(), headers.clone());
        Box::pin(async move {
            // Two requests at once must not both be the 50th.
            tenancy::lock_environment_in(tx, scope).await?;
            if store::count_endpoints(tx, scope).await? >= MAX_ENDPOINTS {
                return Err(ApiError::invalid_operation(format!(
                    "an environment has at most {MAX_ENDPOINTS} webhook endpoints; delete one first"
                )));
            }
            store::insert_endpoint(tx, scope, &row, &sealed, &headers).await?;
            Ok(())
        })
    })
    .await?;
    Ok((endpoint, secret))
}

/// An endpoint with its secret, for whoever made it and has not seen it yet; none when it was deleted.
pub async fn find_with_secret(
    app: &App,
    scope: Scope,
    id: EndpointId,
) -> Result<Option<(Endpoint, SecretString)>, ApiError> {
    let endpoint = store::find_endpoint(&app.pool, scope, id).await?;
    let (Some(endpoint), Some(secret)) = (endpoint, store::find_secret(&app.pool, scope, id).await?) else {
        return Ok(None);
    };
    let secret = app.sealer.open(secret_place(scope.environment, id), &secret.sealed);
    Ok(Some((endpoint, secret.map_err(ApiError::internal)?)))
}

/// Changes an endpoint. Disabling it cancels what waits for it, in the same transaction; enabling it and pointing it
/// elsewhere forget that it was failing.
pub async fn update(app: &App, scope: Scope, id: EndpointId, change: Change) -> Result<Endpoint, ApiError> {
    let now = app.clock.now();
    let row = store::ChangedRow {
        event_types: change.event_types.as_deref().map(names),
        headers: change.headers.as_ref().map(|headers| seal_headers(app, scope, id, headers)),
        change,
    };
    let endpoint = db::transact(&app.pool, "update_webhook_endpoint", move |tx| {
        let row = row.clone();
        Box::pin(async move {
            let endpoint = store::update_endpoint(tx, scope, id, &row, now).await?.ok_or_else(missing)?;
            if !endpoint.enabled {
                cancel_pending_deliveries(tx, scope, id, now).await?;
            }
            if row.change.url.is_some() || row.change.enabled == Some(true) {
                store::forget_failures(tx, scope, id).await?;
            }
            Ok::<_, ApiError>(endpoint)
        })
    })
    .await?;
    if !endpoint.enabled {
        disable::cancel_rest(app, scope, id).await?;
    }
    Ok(endpoint)
}

/// Deletes an endpoint; its deliveries stay readable to operators, and those that wait are cancelled.
pub async fn delete(app: &App, scope: Scope, id: EndpointId) -> Result<(), ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "delete_webhook_endpoint", move |tx| {
        Box::pin(async move {
            if !store::mark_endpoint_deleted(tx, scope, id, now).await? {
                return Err(missing());
            }
            cancel_pending_deliveries(tx, scope, id, now).await?;
            Ok::<_, ApiError>(())
        })
    })
    .await?;
    Ok(disable::cancel_rest(app, scope, id).await?)
}

/// Gives an endpoint a new secret. The replaced one signs for 24 hours more; one replaced before that stops
/// at once, and so the same request must not rotate it twice.
pub async fn rotate_secret(
    app: &App,
    scope: Scope,
    id: EndpointId,
    reserved: Reserved,
) -> Result<(Endpoint, SecretString), ApiError> {
    if reserved.is_later() {
        let secret = store::find_secret(&app.pool, scope, id).await?.ok_or_else(missing)?;
        let rotated_at = secret.previous_expires_at.map(|expires_at| expires_at - PREVIOUS_SECRET_SIGNS);
        if rotated_at.is_some_and(|rotated_at| reserved.may_have_made(rotated_at)) {
            return find_with_secret(app, scope, id).await?.ok_or_else(missing);
        }
    }
    let now = app.clock.now();
    let secret = sign::generate_secret(&app.ids);
    let sealed = app.sealer.seal(secret_place(scope.environment, id), &secret);
    let rotated = db::transact(&app.pool, "rotate_endpoint_secret", move |tx| {
        let (sealed, reserved) = (sealed.clone(), reserved.clone());
        Box::pin(async move {
            reserved.fence_in(tx).await?;
            let rotated =
                store::rotate_secret(tx, scope, id, &sealed, now + PREVIOUS_SECRET_SIGNS, now).await?;
            rotated.ok_or_else(missing)
        })
    })
    .await?;
    Ok((rotated, secret))
}

/// Sends an event of the type `webhook.endpoint.test` to this endpoint alone, whatever types it asked for.
///
/// # Errors
/// 404; 400 while it is disabled.
pub async fn send_test(
    app: &App,
    scope: Scope,
    id: EndpointId,
    delivery: DeliveryId,
) -> Result<(), ApiError> {
    let (now, event_id) = (app.clock.now(), app.ids.next());
    db::transact(&app.pool, "test_webhook_endpoint", move |tx| {
        Box::pin(async move {
            let (event, enabled) =
                next_event_in(tx, scope, id, event_id, EventType::WebhookEndpointTest, now)
                    .await?
                    .ok_or_else(missing)?;
            if !enabled {
                return Err(disabled());
            }
            emit_to_in(tx, scope, &event, id, delivery).await?;
            Ok(())
        })
    })
    .await?;
    app.wake.notify(Work::Deliveries);
    Ok(())
}

/// The next event about the endpoint itself, to be emitted, and whether the endpoint is enabled; none when it was
/// deleted. Its row stays locked.
pub async fn next_event_in(
    tx: &mut Tx,
    scope: Scope,
    id: EndpointId,
    event: EventId,
    event_type: EventType,
    now: DateTime<Utc>,
) -> Result<Option<(FrozenEvent, bool)>, db::Error> {
    let Some(sequence) = store::count_event(tx, scope, id).await? else { return Ok(None) };
    let Some(endpoint) = store::find_endpoint(&mut *tx, scope, id).await? else { return Ok(None) };
    let statistics = store::find_statistics(&mut *tx, scope, id).await?;
    let enabled = endpoint.enabled;
    let object = EndpointResponse::new(scope, endpoint, statistics).for_event();
    let event = freeze(event, event_type, id.into(), sequence, now, "webhook_endpoint", &object)
        .expect("an endpoint is texts, numbers and times");
    Ok(Some((event, enabled)))
}

/// The 400 of what a disabled endpoint cannot do.
pub fn disabled() -> ApiError {
    ApiError::invalid_operation("the webhook endpoint is disabled: enable it first")
        .detail("reason", "endpoint_disabled")
}

/// The 404 of an endpoint.
pub fn missing() -> ApiError {
    ApiError::not_found(EndpointId::NOUN)
}

fn names(event_types: &[EventType]) -> Vec<String> {
    event_types.iter().map(|event_type| event_type.as_str().to_owned()).collect()
}
