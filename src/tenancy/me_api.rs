//! `/v1/users/me`: who the caller is.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{EnvironmentId, KeyId, Mode, TenantId, key_store as store};
use crate::{
    app::App,
    http::{
        ApiError, Caller,
        openapi::{ApiRouter, doc, get_with},
    },
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new().api_route("/users/me", get_with(me, doc("get_user_info", "Get the caller", &[])))
}

/// The caller: an API key, which is a service account of its own.
#[derive(Debug, Serialize, JsonSchema)]
struct UserResponse {
    /// The key's record, as in the list of keys.
    id: KeyId,
    /// The key's name.
    name: String,
    /// Always empty: a service account has none.
    email: &'static str,
    /// Always `service_account`.
    #[serde(rename = "type")]
    user_type: &'static str,
    /// Always empty: a key may do everything in its environment.
    roles: [String; 0],
    /// Always empty.
    metadata: BTreeMap<String, String>,
    /// The only environment that the key opens.
    environment_id: EnvironmentId,
    /// `test`, or `live` where real money moves.
    mode: Mode,
    tenant: TenantResponse,
}

/// The merchant that the caller acts for.
#[derive(Debug, Serialize, JsonSchema)]
struct TenantResponse {
    id: TenantId,
    name: String,
    /// Always `published`.
    status: &'static str,
    /// Always empty.
    metadata: BTreeMap<String, String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

async fn me(caller: Caller, State(app): State<App>) -> Result<Json<UserResponse>, ApiError> {
    let owner = store::find_owner(&app.pool, caller.scope, caller.key).await?;
    // Keys are not deleted; only by hand.
    let owner = owner.ok_or_else(|| ApiError::unauthorized("the API key is not valid"))?;
    Ok(Json(UserResponse {
        id: caller.key,
        name: owner.key_name,
        email: "",
        user_type: "service_account",
        roles: [],
        metadata: BTreeMap::new(),
        environment_id: caller.scope.environment,
        mode: caller.mode,
        tenant: TenantResponse {
            id: caller.scope.tenant,
            name: owner.tenant_name,
            status: "published",
            metadata: BTreeMap::new(),
            created_at: owner.tenant_created_at,
            updated_at: owner.tenant_created_at,
        },
    }))
}
