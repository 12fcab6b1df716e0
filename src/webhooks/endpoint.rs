//! Endpoints: where a merchant wants events, and the secrets that sign them.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use uuid::Uuid;

use super::{EventType, MAX_ENDPOINTS, sign, store};
use crate::{
    app::App,
    db,
    http::{ApiError, Named},
    kit::secret::Place,
    tenancy::{EnvironmentId, Scope},
};

crate::define_ids! {
    /// A webhook endpoint.
    EndpointId = "we";
}

impl Named for EndpointId {
    const NOUN: &'static str = "webhook endpoint";
}

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
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// An endpoint to be made. The URL is vetted already.
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
        let mut secrets = endpoint.previous_secret.iter().chain([&endpoint.secret]);
        !secrets.all(|secret| app.sealer.open(place, secret).is_ok())
    });
    Ok(shut.map(|endpoint| endpoint.id.to_string()).collect())
}

/// Stores an endpoint; also returns its secret, which is never shown again. The 51st of an environment
/// answers 400 `invalid_operation`.
pub async fn create(app: &App, scope: Scope, new: NewEndpoint) -> Result<(Endpoint, SecretString), ApiError> {
    let now = app.clock.now();
    let endpoint = Endpoint {
        id: app.ids.next(),
        url: new.url,
        description: new.description,
        event_types: names(&new.event_types),
        enabled: new.enabled,
        created_at: now,
        updated_at: now,
    };
    let secret = sign::generate_secret(&app.ids);
    let sealed = app.sealer.seal(secret_place(scope.environment, endpoint.id), &secret);
    let row = endpoint.clone();
    db::transact(&app.pool, "create_webhook_endpoint", move |tx| {
        let (row, sealed) = (row.clone(), sealed.clone());
        Box::pin(async move {
            // Two requests at once must not both be the 50th.
            store::lock_environment(tx, scope).await?;
            if store::count_endpoints(tx, scope).await? >= MAX_ENDPOINTS {
                return Err(ApiError::invalid_operation(format!(
                    "an environment has at most {MAX_ENDPOINTS} webhook endpoints; delete one first"
                )));
            }
            store::insert_endpoint(tx, scope, &row, &sealed).await?;
            Ok(())
        })
    })
    .await?;
    Ok((endpoint, secret))
}

/// Changes an endpoint. Disabling it cancels what waits for it, in the same transaction.
pub async fn update(app: &App, scope: Scope, id: EndpointId, change: Change) -> Result<Endpoint, ApiError> {
    let now = app.clock.now();
    let event_types = change.event_types.as_deref().map(names);
    db::transact(&app.pool, "update_webhook_endpoint", move |tx| {
        let (change, event_types) = (change.clone(), event_types.clone());
        Box::pin(async move {
            let updated = store::update_endpoint(tx, scope, id, &change, event_types.as_deref(), now).await?;
            let endpoint = updated.ok_or_else(missing)?;
            if !endpoint.enabled {
                store::cancel_pending_deliveries(tx, scope, id, now).await?;
            }
            Ok(endpoint)
        })
    })
    .await
}

/// Deletes an endpoint; its deliveries stay readable to operators, and those that wait are cancelled.
pub async fn delete(app: &App, scope: Scope, id: EndpointId) -> Result<(), ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "delete_webhook_endpoint", move |tx| {
        Box::pin(async move {
            if !store::mark_endpoint_deleted(tx, scope, id, now).await? {
                return Err(missing());
            }
            store::cancel_pending_deliveries(tx, scope, id, now).await?;
            Ok(())
        })
    })
    .await
}

/// Gives an endpoint a new secret. The replaced one signs for 24 hours more; one replaced before that stops
/// at once.
pub async fn rotate_secret(
    app: &App,
    scope: Scope,
    id: EndpointId,
) -> Result<(Endpoint, SecretString), ApiError> {
    let now = app.clock.now();
    let secret = sign::generate_secret(&app.ids);
    let sealed = app.sealer.seal(secret_place(scope.environment, id), &secret);
    let rotated =
        store::rotate_secret(&app.pool, scope, id, &sealed, now + PREVIOUS_SECRET_SIGNS, now).await?;
    Ok((rotated.ok_or_else(missing)?, secret))
}

/// The 404 of an endpoint.
pub fn missing() -> ApiError {
    ApiError::not_found(EndpointId::NOUN)
}

fn names(event_types: &[EventType]) -> Vec<String> {
    event_types.iter().map(|event_type| event_type.as_str().to_owned()).collect()
}
