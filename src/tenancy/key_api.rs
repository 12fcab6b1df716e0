//! `/v1/secrets/api/keys`: API keys of the caller's environment. A key is shown once, when it is made.

use axum::{Json, extract::State, response::NoContent};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    KeyId,
    key::{self, Key},
    key_store as store,
};
use crate::{
    app::App,
    db::RowStatus,
    http::{
        ApiError, Body, Caller, Created, IdPath, Query, Reserved, Violations, check_name,
        openapi::{ApiRouter, delete_with, doc, get_with},
        optional_time, page,
    },
    kit::page::Page,
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    let own = [(400, "a key cannot revoke itself, nor one that expires the last one that does not")];
    ApiRouter::new()
        .api_route(
            "/secrets/api/keys",
            get_with(list, doc("list_api_keys", "List API keys", &[]))
                .post_with(create, doc("create_api_key", "Make an API key, which is shown once", &[])),
        )
        .api_route(
            "/secrets/api/keys/{id}",
            delete_with(revoke, doc("delete_api_key", "Revoke an API key at once", &own)),
        )
}

/// An API key to make.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CreateApiKeyRequest")]
struct CreateKeyRequest {
    /// What it is for.
    #[schemars(length(min = 1, max = 255))]
    name: String,
    /// `private_key`; the others are not supported.
    #[serde(rename = "type")]
    key_type: KeyType,
    /// When it stops being valid: a time to come, and not after the end of the caller's own key. Left out, it is valid
    /// until it is revoked; a key that expires cannot leave it out.
    #[serde(default, deserialize_with = "optional_time")]
    expires_at: Option<DateTime<Utc>>,
    /// Not supported: every key is a service account of its own.
    service_account_id: Option<String>,
}

/// What a key is for. A `publishable_key` would be for browsers, an `integration` for a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ApiKeyType")]
enum KeyType {
    PrivateKey,
    PublishableKey,
    Integration,
}

/// An API key, without its text.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyResponse")]
struct KeyResponse {
    id: KeyId,
    name: String,
    /// Tells keys apart: the prefix, five characters, `***`, and the last two.
    display_id: String,
    #[serde(rename = "type")]
    key_type: KeyType,
    /// Always `flexprice`, the compatible API's word for a key of the API itself.
    provider: &'static str,
    /// Always empty: a key may do everything in its environment.
    roles: [String; 0],
    /// The key itself: it is its own service account.
    user_id: KeyId,
    /// Always `service_account`.
    user_type: &'static str,
    /// The key's name.
    service_account_name: String,
    /// `published`, or `archived` once it is revoked. One that has expired stays `published` until then.
    status: RowStatus,
    /// When it stops being valid; null for never.
    expires_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    /// When it was revoked, else made.
    updated_at: DateTime<Utc>,
}

impl KeyResponse {
    fn new(caller: Caller, key: Key) -> Self {
        Self {
            id: key.id,
            display_id: key.display_id(caller.mode),
            service_account_name: key.name.clone(),
            name: key.name,
            key_type: KeyType::PrivateKey,
            provider: "flexprice",
            roles: [],
            user_id: key.id,
            user_type: "service_account",
            status: if key.revoked_at.is_some() { RowStatus::Archived } else { RowStatus::Published },
            expires_at: key.expires_at,
            created_at: key.created_at,
            updated_at: key.revoked_at.unwrap_or(key.created_at),
        }
    }
}

/// A key that was just made.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CreatedApiKeyResponse")]
struct CreatedKeyResponse {
    secret: KeyResponse,
    /// The key's text. It is shown here and never again: only a hash of it is kept.
    api_key: String,
}

async fn create(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    Body(request): Body<CreateKeyRequest>,
) -> Result<Created<CreatedKeyResponse>, ApiError> {
    let mut violations = Violations::default();
    check_name(&mut violations, "name", Some(&request.name), 255);
    match request.key_type {
        KeyType::PrivateKey => {}
        KeyType::PublishableKey => {
            violations.add("type", "publishable_key is not supported; use private_key");
        }
        KeyType::Integration => violations.add("type", "integration is not supported; use private_key"),
    }
    let is_ahead = request.expires_at.is_none_or(|expires_at| expires_at > app.clock.now());
    // It was, when the same request ran before.
    let is_ahead = is_ahead || reserved.is_later();
    violations.require(is_ahead, "expires_at", "must be in the future");
    if key::outlives(request.expires_at, caller.expires_at) {
        violations.add("expires_at", "must not be left out, or be later than that of the key that is used");
    }
    violations.require(request.service_account_id.is_none(), "service_account_id", "is not supported");
    violations.finish()?;
    let (id, name) = (reserved.id(&app.ids), request.name);
    let (scope, mode, expires_at) = (caller.scope, caller.mode, request.expires_at);
    let (key, api_key) = key::create(&app, scope, mode, id, &reserved, name, expires_at).await?;
    tracing::info!(key.id = %id, actor.id = %caller.key, "an API key was made");
    Ok(Created(CreatedKeyResponse { secret: KeyResponse::new(caller, key), api_key }))
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    /// Items on a page; 50 if not given.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
    /// Items to pass over.
    #[schemars(range(min = 0))]
    offset: Option<i64>,
    /// `published` if not given, or `archived`: the revoked ones.
    #[schemars(with = "Option<RowStatus>")]
    status: Option<String>,
}

async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<KeyResponse>>, ApiError> {
    let request = page(query.limit, query.offset)?;
    let status = match query.status.as_deref() {
        None | Some("published") => RowStatus::Published,
        Some("archived") => RowStatus::Archived,
        Some(_) => return Err(ApiError::validation("status", "must be published or archived")),
    };
    let (keys, total) = store::list_keys(&app.pool, caller.scope, status, request).await?;
    Ok(Json(Page::new(keys, total, request).map(|key| KeyResponse::new(caller, key))))
}

async fn revoke(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<KeyId>,
) -> Result<NoContent, ApiError> {
    key::revoke(&app, caller, id).await?;
    Ok(NoContent)
}
