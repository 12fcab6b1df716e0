//! `/v1/integrations/config`: which providers are connected, and what goes over such a connection.

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use super::{ConnectionId, connection::Connection, store};
use crate::{
    app::App,
    http::{
        ApiError, Caller,
        openapi::{ApiRouter, doc, get_with},
    },
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new().api_route(
        "/integrations/config",
        get_with(read, doc("get_integration_config", "List the connected providers", &[])),
    )
}

/// The connected providers of the caller's environment.
#[derive(Debug, Serialize, JsonSchema)]
struct IntegrationsResponse {
    /// Empty until there is a connection.
    integrations: Vec<IntegrationResponse>,
}

/// A connected provider.
#[derive(Debug, Serialize, JsonSchema)]
struct IntegrationResponse {
    /// Always `razorpay`.
    provider: &'static str,
    connection_id: ConnectionId,
    connection_name: String,
    /// What this service can exchange with the provider.
    base_config: SyncConfig,
    /// What it does exchange: all of it, nothing of it can be switched off.
    current_config: SyncConfig,
}

/// What is exchanged with a provider, by kind of object.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
struct SyncConfig {
    /// Payments come in; no invoices, customers or plans are kept at the provider.
    payment: SyncDirections,
}

/// Which ways one kind of object goes.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
struct SyncDirections {
    /// From the provider to this service.
    inbound: bool,
    /// From this service to the provider.
    outbound: bool,
}

const RAZORPAY: SyncConfig = SyncConfig { payment: SyncDirections { inbound: true, outbound: false } };

impl From<Connection> for IntegrationResponse {
    fn from(connection: Connection) -> Self {
        Self {
            provider: "razorpay",
            connection_id: connection.id,
            connection_name: connection.name,
            base_config: RAZORPAY,
            current_config: RAZORPAY,
        }
    }
}

async fn read(caller: Caller, State(app): State<App>) -> Result<Json<IntegrationsResponse>, ApiError> {
    let connections = store::list_connections(&app.pool, caller.scope).await?;
    Ok(Json(IntegrationsResponse { integrations: connections.into_iter().map(Into::into).collect() }))
}
