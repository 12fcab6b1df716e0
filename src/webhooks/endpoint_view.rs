//! An endpoint on the wire: in answers, and in the events about it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::{
    EndpointId,
    endpoint::{Endpoint, Statistics},
};
use crate::tenancy::{EnvironmentId, Scope, TenantId};

/// An endpoint on the wire.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookEndpointResponse")]
pub struct EndpointResponse {
    id: EndpointId,
    /// Not in events.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[schemars(with = "Vec<super::EventType>")]
    event_types: Vec<String>,
    description: String,
    enabled: bool,
    /// `requested`, `gone` or `failing`; null while it is enabled.
    #[schemars(extend("enum" = ["requested", "gone", "failing", null]))]
    disabled_reason: Option<String>,
    /// Names of the merchant's own headers; the values are not shown again.
    header_names: Vec<String>,
    max_concurrency: i32,
    rate_limit_per_second: Option<i32>,
    /// In the answers to creation and rotation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    statistics: Statistics,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl EndpointResponse {
    /// As it is read.
    pub fn new(scope: Scope, endpoint: Endpoint, statistics: Statistics) -> Self {
        Self {
            id: endpoint.id,
            url: Some(endpoint.url),
            event_types: endpoint.event_types,
            description: endpoint.description,
            enabled: endpoint.enabled,
            disabled_reason: endpoint.disabled_reason,
            header_names: endpoint.header_names,
            max_concurrency: endpoint.max_concurrency,
            rate_limit_per_second: endpoint.rate_limit_per_second,
            secret: None,
            statistics,
            tenant_id: scope.tenant,
            environment_id: scope.environment,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }

    /// Without the URL: one endpoint's may hold a token that another one's receiver must not see.
    pub fn for_event(self) -> Self {
        Self { url: None, ..self }
    }

    /// With the secret, which is shown once.
    pub fn with_secret(mut self, secret: &SecretString) -> Self {
        self.secret = Some(secret.expose_secret().to_owned());
        self
    }
}
