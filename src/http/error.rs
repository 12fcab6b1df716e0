//! The one error type of the edge and its JSON envelope:
//! `{"code","message","http_status_code","details"}` (reference: Flexprice API, errors).

use aide::{
    OperationOutput,
    generate::GenContext,
    openapi::{Operation, Response as DescribedResponse},
};
use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::openapi::refusal;
use crate::db;

/// The envelope's `code`: a closed list that clients switch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its wire name")]
pub enum ErrorCode {
    NotFound,
    AlreadyExists,
    ValidationError,
    InvalidOperation,
    PermissionDenied,
    Unauthorized,
    TooManyRequests,
    NotImplemented,
    ServiceUnavailable,
    DatabaseError,
    InternalError,
    HttpClientError,
}

/// The envelope of every error.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorResponse {
    /// What to switch on.
    code: ErrorCode,
    /// For people.
    message: String,
    /// The HTTP status again.
    http_status_code: u16,
    /// What is known beyond the message: each wrong field with its rule, a machine-readable `reason`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Map<String, Value>>,
}

/// What a request is answered with when it fails. The message is for the caller; the cause is for the log only.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    details: Map<String, Value>,
    retry_after_seconds: Option<u32>,
    nothing_done: bool,
    cause: Option<anyhow::Error>,
}

/// Marks an answer whose request changed nothing, though its status leaves that open.
#[derive(Clone, Copy, Debug)]
pub(super) struct NothingDone;

impl ApiError {
    fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            details: Map::new(),
            retry_after_seconds: None,
            nothing_done: false,
            cause: None,
        }
    }

    /// Says that nothing was written, so that the same `Idempotency-Key` may come with another request.
    #[must_use]
    pub fn nothing_done(mut self) -> Self {
        self.nothing_done = true;
        self
    }

    /// The HTTP status that it is answered with.
    pub fn status_code(&self) -> u16 {
        self.status.as_u16()
    }

    /// 404: nothing of that name in the caller's environment. `what` is a noun: `customer`.
    /// An object of another tenant answers exactly the same.
    pub fn not_found(what: &str) -> Self {
        let reason = format!("{}_not_found", what.replace(' ', "_"));
        Self::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, format!("no such {what}"))
            .detail("reason", reason)
    }

    /// 409: the name is taken.
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, ErrorCode::AlreadyExists, message)
    }

    /// 400: one field breaks one rule.
    pub fn validation(field: &str, rule: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::ValidationError, format!("{field} {rule}"))
            .detail(field, rule)
    }

    /// 400 with a message of its own and a machine-readable reason.
    pub fn invalid_request(reason: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::ValidationError, message).detail("reason", reason)
    }

    /// 400: right request, wrong state of the object.
    pub fn invalid_operation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::InvalidOperation, message)
    }

    /// 401: no key, or one that is not valid. Says no more than that.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message)
    }

    /// 403: a valid key for something else.
    pub fn permission_denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorCode::PermissionDenied, message)
    }

    /// 501: part of the compatible API, but not of this service. `what` is its name.
    pub fn not_implemented(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, ErrorCode::NotImplemented, format!("{what} is not supported"))
    }

    /// 413 with the limit in bytes.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::ValidationError,
            format!("the body is larger than {limit_bytes} bytes"),
        )
    }

    /// 422: each part of the request is right, and they do not go together.
    pub fn unprocessable(reason: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::ValidationError, message)
            .detail("reason", reason)
    }

    /// 429 with Retry-After: too much, too fast.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message)
            .retry_after(retry_after_seconds)
    }

    /// 415: a content type that is not JSON.
    pub fn unsupported_media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorCode::ValidationError,
            "Content-Type must be application/json",
        )
    }

    /// 408: the body did not arrive in time.
    pub fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::ValidationError, "the body did not arrive in time")
    }

    /// 501: an operation of the compatible API that is not served, by the SDK's name: `plans.clone_plan`.
    pub fn operation_not_supported(operation: &str) -> Self {
        Self::not_implemented(operation)
            .detail("reason", "operation_not_supported")
            .detail("operation", operation)
    }

    /// 502: the payment provider refused; its own words are in the message.
    pub fn provider_rejected(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, ErrorCode::HttpClientError, message)
    }

    /// 503 with Retry-After: try again, nothing is lost.
    pub fn unavailable(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::ServiceUnavailable, message)
            .retry_after(retry_after_seconds)
            .detail("retryable", true)
    }

    /// 500: a bug or a broken installation. The caller learns nothing but the request id.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        let mut error = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::InternalError,
            "an internal error; quote the X-Request-ID header to the operator",
        );
        error.cause = Some(cause.into());
        error
    }

    /// Adds a member to `details`.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Tells the caller when to come again, with the header Retry-After.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The HTTP status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl OperationOutput for ApiError {
    type Inner = ErrorResponse;

    /// Of every operation; other refusals come from its extractors and its own description.
    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> Vec<(Option<u16>, DescribedResponse)> {
        vec![
            refusal(ctx, 500, "an internal error; quote `X-Request-ID` to the operator"),
            refusal(ctx, 503, "the database is away or an outcome is unknown: nothing is lost, try again"),
        ]
    }
}

impl From<db::Error> for ApiError {
    fn from(error: db::Error) -> Self {
        let mut api = if db::is_unavailable(&error) {
            Self::unavailable("the database is not available at the moment", 1)
        } else {
            Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorCode::DatabaseError,
                "a database error; quote the X-Request-ID header to the operator",
            )
        };
        api.cause = Some(error.into());
        api
    }
}

impl db::TransactError for ApiError {
    fn database_error(&self) -> Option<&db::Error> {
        self.cause.as_ref()?.downcast_ref()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        // Logged here and nowhere else: once, with its causes, inside the span that carries the request id.
        if let Some(cause) = &self.cause {
            let (status, error) = (self.status.as_u16(), format!("{cause:#}"));
            if self.status == StatusCode::SERVICE_UNAVAILABLE {
                // Somebody else is away, and the caller comes again.
                tracing::warn!(http.status = status, error, "request failed");
            } else {
                tracing::error!(http.status = status, error, "request failed");
            }
        }
        let body = ErrorResponse {
            code: self.code,
            message: self.message,
            http_status_code: self.status.as_u16(),
            details: Some(self.details).filter(|details| !details.is_empty()),
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.nothing_done {
            response.extensions_mut().insert(NothingDone);
        }
        response
    }
}

/// Collects what is wrong with a request, so that one answer names every field.
#[derive(Debug, Default)]
pub struct Violations(Vec<(String, String)>);

impl Violations {
    /// Notes that `field` breaks `rule` (`must not be empty`).
    pub fn add(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        self.0.push((field.into(), rule.into()));
    }

    /// Notes `rule` for `field` unless `holds`.
    pub fn require(&mut self, holds: bool, field: &str, rule: &str) {
        if !holds {
            self.add(field, rule);
        }
    }

    /// Ok when nothing was noted; else a 400 that lists every field and its rule.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let message =
            self.0.iter().map(|(field, rule)| format!("{field} {rule}")).collect::<Vec<_>>().join("; ");
        let mut error = ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::ValidationError, message);
        for (field, rule) in self.0 {
            error = error.detail(&field, rule);
        }
        Err(error)
    }
}

/// Any path that is not a route.
pub async fn unknown_route(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        ErrorCode::NotFound,
        format!("no such route: {method} {}", uri.path()),
    )
}

/// A route asked with another verb.
pub async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::InvalidOperation,
        format!("{} does not take {method}", uri.path()),
    )
}
