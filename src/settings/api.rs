//! `/v1/settings/{key}`: settings of the caller's environment.

use axum::{Json, Router, extract::State, routing::get};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::setting::{self, Setting, SettingKey, SettingValue};
use crate::{
    app::App,
    http::{ApiError, Body, Caller, IdPath},
    tenancy::{EnvironmentId, TenantId},
};

/// Routes under `/v1`.
pub fn router() -> Router<App> {
    Router::new().route("/settings/{key}", get(read).put(update).delete(reset))
}

/// A setting's new value.
#[derive(Deserialize)]
struct UpdateSettingRequest {
    /// Of `checkout_config`: `{"session_ttl_seconds": 1800}`.
    value: Option<Map<String, Value>>,
}

/// A setting as it applies now.
#[derive(Debug, Serialize)]
struct SettingResponse {
    /// `checkout_config` or `invoice_config`.
    key: &'static str,
    value: SettingValue,
    /// Nobody set it: the value is the service's own.
    is_default: bool,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
}

impl SettingResponse {
    fn new(caller: Caller, setting: Setting) -> Self {
        Self {
            key: setting.key.as_str(),
            value: setting.value,
            is_default: setting.is_default,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
        }
    }
}

async fn read(
    caller: Caller,
    State(app): State<App>,
    IdPath(key): IdPath<SettingKey>,
) -> Result<Json<SettingResponse>, ApiError> {
    let setting = setting::read(&app, caller.scope, key).await?;
    Ok(Json(SettingResponse::new(caller, setting)))
}

async fn update(
    caller: Caller,
    State(app): State<App>,
    IdPath(key): IdPath<SettingKey>,
    Body(request): Body<UpdateSettingRequest>,
) -> Result<Json<SettingResponse>, ApiError> {
    if key != SettingKey::Checkout {
        return Err(key.not_implemented());
    }
    let value = request.value.ok_or_else(|| ApiError::validation("value", "is required"))?;
    let setting = setting::write(&app, caller.scope, key, Some(value)).await?;
    Ok(Json(SettingResponse::new(caller, setting)))
}

async fn reset(
    caller: Caller,
    State(app): State<App>,
    IdPath(key): IdPath<SettingKey>,
) -> Result<Json<SettingResponse>, ApiError> {
    let setting = setting::write(&app, caller.scope, key, None).await?;
    Ok(Json(SettingResponse::new(caller, setting)))
}
