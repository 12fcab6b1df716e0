//! `/v1/settings/{key}`: settings of the caller's environment.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::setting::{self, CheckoutConfig, Setting, SettingKey, SettingValue};
use crate::{
    app::App,
    http::{
        ApiError, Body, Caller, IdPath,
        openapi::{ApiRouter, doc, get_with},
    },
    tenancy::{EnvironmentId, TenantId},
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    let not_here = [(501, "a setting of the compatible API that this service does not have")];
    let read_only = [(501, "a setting that can only be read here, or that this service does not have")];
    ApiRouter::new().api_route(
        "/settings/{key}",
        get_with(read, doc("get_setting", "Get a setting of the environment", &not_here))
            .put_with(update, doc("update_setting", "Change a setting of the environment", &read_only))
            .delete_with(reset, doc("delete_setting", "Go back to a setting's default", &read_only)),
    )
}

/// A setting's new value.
#[derive(Deserialize, JsonSchema)]
struct UpdateSettingRequest {
    /// Of `checkout_config`, the only one that can be changed.
    #[schemars(with = "CheckoutConfig")]
    value: Option<Map<String, Value>>,
}

/// A setting as it applies now.
#[derive(Debug, Serialize, JsonSchema)]
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
