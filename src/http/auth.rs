//! Who is calling: `x-api-key: KEY` or `Authorization: Bearer KEY`, and `X-Environment-ID` when sent.

use aide::{
    OperationInput,
    generate::GenContext,
    openapi::{Operation, Response},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    ApiError,
    openapi::{add_header, refusal, require_key},
};
use crate::{
    app::App,
    tenancy::{self, KeyId, Mode, Scope},
};

/// An authenticated caller. A handler that takes one cannot be reached without a valid key.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Whose data the request may see.
    pub scope: Scope,
    /// Whether the environment is for tests or for money.
    pub mode: Mode,
    /// The key that was used.
    pub key: KeyId,
    /// When that key stops being valid; none for never.
    pub expires_at: Option<DateTime<Utc>>,
    session_ttl_seconds: Option<i32>,
}

impl Caller {
    /// How long a customer has to pay in the caller's environment.
    pub fn session_ttl(&self, app: &App) -> TimeDelta {
        let configured = TimeDelta::from_std(app.config.session_ttl).unwrap_or(TimeDelta::minutes(15));
        self.session_ttl_seconds.map_or(configured, |seconds| TimeDelta::seconds(seconds.into()))
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        // Authenticated already, by a layer in front.
        if let Some(caller) = parts.extensions.get() {
            return Ok(*caller);
        }
        let key = key_of(&parts.headers)?;
        let caller = tenancy::authenticate(app, key)
            .await?
            .ok_or_else(|| ApiError::unauthorized("the API key is not valid"))?;
        if let Some(environment) = parts.headers.get("x-environment-id")
            && environment.as_bytes() != caller.scope.environment.to_string().as_bytes()
        {
            return Err(ApiError::permission_denied(
                "the API key does not belong to the environment in X-Environment-ID",
            ));
        }
        tracing::Span::current().record("environment.id", tracing::field::display(caller.scope.environment));
        let caller = Self {
            scope: caller.scope,
            mode: caller.mode,
            key: caller.key,
            expires_at: caller.expires_at,
            session_ttl_seconds: caller.session_ttl_seconds,
        };
        parts.extensions.insert(caller);
        Ok(caller)
    }
}

impl OperationInput for Caller {
    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        require_key(operation);
        add_header(
            operation,
            "X-Environment-ID",
            "The environment of the API key, to be sure; 403 if it is another.",
        );
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<u16>, Response)> {
        vec![
            refusal(ctx, 401, "no API key, or one that is not valid"),
            refusal(ctx, 403, "the API key belongs to another environment than `X-Environment-ID` names"),
            refusal(ctx, 429, "too many requests with this API key"),
        ]
    }
}

fn key_of(headers: &HeaderMap) -> Result<&str, ApiError> {
    let missing = || ApiError::unauthorized("send an API key as x-api-key or as Authorization: Bearer");
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().map_err(|_| missing());
    }
    let value =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    // RFC 9110: the scheme's case does not matter.
    let (scheme, key) = value.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(key.trim()) } else { Err(missing()) }
}
