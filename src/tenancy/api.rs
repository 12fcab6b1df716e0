//! `/v1/connections`: the dashboard API for a merchant's Razorpay account. Secrets go in and never out.

use axum::{Json, extract::State, response::NoContent};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    EnvironmentId, Mode, TenantId,
    connection::{self, Change, Connection, ConnectionId, NewAccount, key_id_fits},
    key::is_printable,
    store,
};
use crate::{
    app::App,
    db::search::Column,
    http::{
        ApiError, Body, Caller, Created, IdPath, Named, Query, Reserved, Search, Violations,
        metadata_violations,
        openapi::{ApiRouter, Metadata, doc, get_with, post_with},
    },
    kit::page::Page,
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    let taken = [(409, "the environment has a connection already")];
    ApiRouter::new()
        .api_route(
            "/connections",
            get_with(list, doc("list_connections", "List connections", &[]))
                .post_with(create, doc("create_connection", "Connect a Razorpay account", &taken)),
        )
        .api_route(
            "/connections/search",
            post_with(search, doc("query_connection", "Search connections", &[])),
        )
        .api_route(
            "/connections/{id}",
            get_with(read, doc("get_connection", "Get a connection", &[]))
                .put_with(update, doc("update_connection", "Update a connection", &[]))
                .delete_with(
                    delete,
                    doc("delete_connection", "Archive a connection; open sessions keep it", &[]),
                ),
        )
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CreateConnectionRequest")]
struct CreateRequest {
    name: String,
    provider_type: String,
    encrypted_secret_data: SecretData,
    #[schemars(with = "Option<Metadata>")]
    metadata: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "UpdateConnectionRequest")]
struct UpdateRequest {
    name: Option<String>,
    encrypted_secret_data: Option<SecretData>,
    #[schemars(with = "Option<Metadata>")]
    metadata: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "ConnectionSecretData")]
struct SecretData {
    key_id: Option<String>,
    #[schemars(with = "Option<String>")]
    secret_key: Option<SecretString>,
    #[schemars(with = "Option<String>")]
    webhook_secret: Option<SecretString>,
}

/// A connection on the wire.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConnectionResponse {
    id: ConnectionId,
    name: String,
    provider_type: &'static str,
    /// Public half of the credentials.
    key_id: String,
    #[schemars(with = "Metadata")]
    metadata: Value,
    status: String,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl ConnectionResponse {
    fn new(caller: Caller, connection: Connection) -> Self {
        Self {
            id: connection.id,
            name: connection.name,
            provider_type: "razorpay",
            key_id: connection.key_id,
            metadata: connection.metadata,
            status: connection.status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: connection.created_at,
            updated_at: connection.updated_at,
        }
    }
}

async fn create(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    Body(request): Body<CreateRequest>,
) -> Result<Created<ConnectionResponse>, ApiError> {
    let mut violations = Violations::default();
    let secrets = request.encrypted_secret_data;
    check_name(&mut violations, &request.name);
    violations.require(request.provider_type == "razorpay", "provider_type", "must be razorpay");
    violations.require(secrets.key_id.is_some(), "encrypted_secret_data.key_id", "is required");
    violations.require(secrets.secret_key.is_some(), "encrypted_secret_data.secret_key", "is required");
    check_secrets(&mut violations, caller.mode, &secrets);
    let metadata = request.metadata.unwrap_or_default();
    metadata_violations(&mut violations, "metadata", &metadata);
    violations.finish()?;
    let credentials = NewAccount {
        key_id: secrets.key_id.unwrap_or_default(),
        secret_key: secrets.secret_key.unwrap_or_default(),
        webhook_secret: secrets.webhook_secret,
    };
    let metadata = Value::Object(metadata);
    let (app, scope) = (&app, caller.scope);
    let find = async |id| Ok(store::find_connection(&app.pool, scope, id).await?);
    let make = async |id| connection::create(app, scope, id, request.name, &credentials, metadata).await;
    let connection = reserved.once(&app.ids, find, make).await?;
    Ok(Created(ConnectionResponse::new(caller, connection)))
}

async fn update(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<ConnectionId>,
    Body(request): Body<UpdateRequest>,
) -> Result<Json<ConnectionResponse>, ApiError> {
    let mut violations = Violations::default();
    let secrets = request.encrypted_secret_data.unwrap_or_default();
    if let Some(name) = &request.name {
        check_name(&mut violations, name);
    }
    if let Some(metadata) = &request.metadata {
        metadata_violations(&mut violations, "metadata", metadata);
    }
    check_secrets(&mut violations, caller.mode, &secrets);
    // A key id and its secret belong together: one without the other would lock the account out.
    violations.require(
        secrets.key_id.is_none() || secrets.secret_key.is_some(),
        "encrypted_secret_data.secret_key",
        "is required when key_id changes",
    );
    violations.finish()?;
    let change = Change {
        name: request.name,
        metadata: request.metadata.map(Value::Object),
        key_id: secrets.key_id,
        secret_key: secrets.secret_key,
        webhook_secret: secrets.webhook_secret,
    };
    let connection = connection::update(&app, caller.scope, id, change).await?;
    Ok(Json(ConnectionResponse::new(caller, connection)))
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<ConnectionId>,
) -> Result<Json<ConnectionResponse>, ApiError> {
    let found = store::find_connection(&app.pool, caller.scope, id).await?;
    let connection = found.ok_or_else(|| ApiError::not_found(ConnectionId::NOUN))?;
    Ok(Json(ConnectionResponse::new(caller, connection)))
}

const COLUMNS: &[Column] = &[
    Column::id("id", "conn"),
    Column::text("name"),
    Column::text("provider_type"),
    Column::time("created_at"),
    Column::time("updated_at"),
];

async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(search): Query<Search>,
) -> Result<Json<Page<ConnectionResponse>>, ApiError> {
    find(&app, caller, &search).await
}

async fn search(
    caller: Caller,
    State(app): State<App>,
    Body(search): Body<Search>,
) -> Result<Json<Page<ConnectionResponse>>, ApiError> {
    find(&app, caller, &search).await
}

async fn find(
    app: &App,
    caller: Caller,
    search: &Search,
) -> Result<Json<Page<ConnectionResponse>>, ApiError> {
    let page = store::search_connections(&app.pool, caller.scope, search.parse(COLUMNS)?).await?;
    Ok(Json(page.map(|connection| ConnectionResponse::new(caller, connection))))
}

async fn delete(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<ConnectionId>,
) -> Result<NoContent, ApiError> {
    if store::archive_connection(&app.pool, caller.scope, id, app.clock.now()).await? {
        Ok(NoContent)
    } else {
        Err(ApiError::not_found(ConnectionId::NOUN))
    }
}

fn check_name(violations: &mut Violations, name: &str) {
    violations.require((1..=255).contains(&name.chars().count()), "name", "must have 1 to 255 characters");
}

fn check_secrets(violations: &mut Violations, mode: Mode, secrets: &SecretData) {
    if let Some(key_id) = &secrets.key_id
        && !key_id_fits(mode, key_id)
    {
        let rule = format!(
            "must be a Razorpay key that starts with rzp_{0}_, because this is a {0} environment",
            mode.as_str()
        );
        violations.add("encrypted_secret_data.key_id", rule);
    }
    for (field, secret) in [("secret_key", &secrets.secret_key), ("webhook_secret", &secrets.webhook_secret)]
    {
        if let Some(secret) = secret
            && !is_printable(secret)
        {
            violations.add(
                format!("encrypted_secret_data.{field}"),
                "must have 1 to 256 printable ASCII characters",
            );
        }
    }
}
