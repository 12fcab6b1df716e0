//! `/v1/environments`: the environments of the caller's tenant.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Environment, EnvironmentId, Mode, Scope, environment, environment_store as store, webhook_url};
use crate::{
    app::App,
    http::{
        ApiError, Body, Caller, Created, IdPath, Named, Query, Reserved, Violations, check_name,
        openapi::{ApiRouter, doc, get_with},
        page,
    },
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    let not_live = [(403, "a key of a development environment cannot make a production environment")];
    let not_own = [(403, "a key of a development environment renames that environment only")];
    ApiRouter::new()
        .api_route(
            "/environments",
            get_with(list, doc("list_environments", "List the tenant's environments", &[])).post_with(
                create,
                doc("create_environment", "Make an environment with its first API key", &not_live),
            ),
        )
        .api_route(
            "/environments/{id}",
            get_with(read, doc("get_environment", "Get an environment", &[]))
                .put_with(rename, doc("update_environment", "Rename an environment", &not_own)),
        )
}

/// What an environment is for; the compatible API's word for its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EnvironmentType {
    /// Mode `test`: Razorpay's test keys, no real money.
    Development,
    /// Mode `live`: real money.
    Production,
}

impl From<Mode> for EnvironmentType {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Test => Self::Development,
            Mode::Live => Self::Production,
        }
    }
}

impl EnvironmentType {
    fn mode(self) -> Mode {
        match self {
            Self::Development => Mode::Test,
            Self::Production => Mode::Live,
        }
    }
}

/// An environment to make.
#[derive(Deserialize, JsonSchema)]
struct CreateEnvironmentRequest {
    /// For people.
    #[schemars(length(min = 1, max = 255))]
    name: String,
    /// A key of a development environment can make only those.
    #[serde(rename = "type")]
    environment_type: EnvironmentType,
}

/// An environment's new name.
#[derive(Deserialize, JsonSchema)]
struct UpdateEnvironmentRequest {
    /// For people.
    #[schemars(length(min = 1, max = 255))]
    name: String,
    /// May be repeated, but not changed.
    #[serde(rename = "type")]
    environment_type: Option<EnvironmentType>,
}

/// An environment of the tenant.
#[derive(Debug, Serialize, JsonSchema)]
struct EnvironmentResponse {
    id: EnvironmentId,
    name: String,
    #[serde(rename = "type")]
    environment_type: EnvironmentType,
    /// `test` for `development`, `live` for `production`: as in API keys and Razorpay's key ids.
    mode: Mode,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Environment> for EnvironmentResponse {
    fn from(environment: Environment) -> Self {
        Self {
            id: environment.id,
            name: environment.name,
            environment_type: environment.mode.into(),
            mode: environment.mode,
            created_at: environment.created_at,
            updated_at: environment.updated_at,
        }
    }
}

/// An environment that was just made, with its first key.
#[derive(Debug, Serialize, JsonSchema)]
struct CreatedEnvironmentResponse {
    #[serde(flatten)]
    environment: EnvironmentResponse,
    /// Its first API key, which is shown here and never again. If the caller's key expires, so does this one, then.
    api_key: String,
    /// Where Razorpay's webhook for it is to point.
    webhook_url: String,
}

/// One page of the tenant's environments, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
struct EnvironmentListResponse {
    environments: Vec<EnvironmentResponse>,
    /// Environments on all pages.
    total: i64,
    /// The request's own offset.
    offset: i64,
    /// The page size that was applied.
    limit: i64,
}

/// An environment of the caller's tenant; of another's there is none.
fn scope_of(caller: Caller, environment: EnvironmentId) -> Scope {
    Scope { tenant: caller.scope.tenant, environment }
}

async fn create(
    caller: Caller,
    State(app): State<App>,
    reserved: Reserved,
    Body(request): Body<CreateEnvironmentRequest>,
) -> Result<Created<CreatedEnvironmentResponse>, ApiError> {
    let mut violations = Violations::default();
    check_name(&mut violations, "name", Some(&request.name), 255);
    violations.finish()?;
    let scope = scope_of(caller, reserved.id(&app.ids));
    let mode = request.environment_type.mode();
    let (environment, api_key) =
        environment::create(&app, caller, scope, request.name, mode, &reserved).await?;
    tracing::info!(new_environment.id = %scope.environment, actor.id = %caller.key, "an environment was made");
    let created = CreatedEnvironmentResponse {
        environment: environment.into(),
        api_key,
        webhook_url: webhook_url(&app, scope),
    };
    Ok(Created(created))
}

#[derive(Deserialize, JsonSchema)]
struct ListQuery {
    /// Items on a page; 50 if not given.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<i64>,
    /// Items to pass over.
    #[schemars(range(min = 0))]
    offset: Option<i64>,
}

async fn list(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<EnvironmentListResponse>, ApiError> {
    let request = page(query.limit, query.offset)?;
    let (environments, total) = store::list_environments(&app.pool, caller.scope.tenant, request).await?;
    Ok(Json(EnvironmentListResponse {
        environments: environments.into_iter().map(Into::into).collect(),
        total,
        offset: request.offset,
        limit: request.limit,
    }))
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EnvironmentId>,
) -> Result<Json<EnvironmentResponse>, ApiError> {
    let found = store::find_environment(&app.pool, scope_of(caller, id)).await?;
    let environment = found.ok_or_else(|| ApiError::not_found(EnvironmentId::NOUN))?;
    Ok(Json(environment.into()))
}

async fn rename(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<EnvironmentId>,
    Body(request): Body<UpdateEnvironmentRequest>,
) -> Result<Json<EnvironmentResponse>, ApiError> {
    let mut violations = Violations::default();
    check_name(&mut violations, "name", Some(&request.name), 255);
    violations.finish()?;
    let scope = scope_of(caller, id);
    if let Some(wanted) = request.environment_type {
        let found = store::find_environment(&app.pool, scope).await?;
        let own = found.ok_or_else(|| ApiError::not_found(EnvironmentId::NOUN))?.mode;
        if own != wanted.mode() {
            return Err(ApiError::validation("type", "cannot be changed; make another environment"));
        }
    }
    Ok(Json(environment::rename(&app, caller, scope, &request.name).await?.into()))
}
