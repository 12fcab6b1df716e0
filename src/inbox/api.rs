//! Where Razorpay posts: `/v1/webhooks/razorpay/{tenant_id}/{environment_id}`. No API key: the body is signed.

use aide::{OperationInput, generate::GenContext, openapi::Operation};
use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
};

use serde_json::{Map, Value};

use super::receive::receive;
use crate::{
    app::App,
    http::{
        ApiError, Body, Message,
        openapi::{ApiRouter, add_header, doc, post_with},
        read_body,
    },
    tenancy::Scope,
};

/// Far above any real event.
const BODY_LIMIT_BYTES: usize = 256 * 1024;

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    ApiRouter::new().api_route(
        "/webhooks/razorpay/{tenant_id}/{environment_id}",
        post_with(take, |operation| {
            let describe = doc("receive_razorpay_webhook", "Where Razorpay posts its webhooks", REFUSALS);
            describe(operation.input::<RazorpayWebhook>())
        }),
    )
}

const REFUSALS: &[(u16, &str)] = &[
    (400, "the body is not a Razorpay event"),
    (401, "no `X-Razorpay-Signature`, or one that does not verify"),
    (404, "no such environment"),
    (408, "the body did not arrive in time"),
    (413, "the body is too large"),
];

/// What Razorpay sends, read as raw bytes because they are what is signed.
struct RazorpayWebhook;

impl OperationInput for RazorpayWebhook {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        add_header(
            operation,
            "X-Razorpay-Signature",
            "The body's HMAC-SHA256 with the webhook's secret, in hexadecimal.",
        );
        Body::<Map<String, Value>>::operation_input(ctx, operation);
    }
}

async fn take(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Json<Message>, ApiError> {
    // Not on the connections that the API can take.
    let app = app.on(&app.pools.payments);
    let done = accept(&app, path, request).await;
    let outcome = match done.as_ref().map_err(ApiError::status_code) {
        Ok(outcome) => outcome,
        Err(401) => "rejected_signature",
        Err(404) => "unknown_environment",
        Err(503) => "unavailable",
        Err(500) => "error",
        Err(_) => "malformed",
    };
    metrics::counter!("checkoutd_webhooks_received_total", "outcome" => outcome).increment(1);
    done.map(|_| Json(Message { message: "Webhook received" }))
}

async fn accept(
    app: &App,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<&'static str, ApiError> {
    let missing = || ApiError::not_found("environment");
    let Path((tenant, environment)) = path.map_err(|_| missing())?;
    let scope = Scope {
        tenant: tenant.parse().map_err(|_| missing())?,
        environment: environment.parse().map_err(|_| missing())?,
    };
    let signature = request.headers().get("x-razorpay-signature").and_then(|value| value.to_str().ok());
    let signature = signature
        .ok_or_else(|| ApiError::unauthorized("the X-Razorpay-Signature header is missing"))?
        .to_owned();
    let body = read_body(request, BODY_LIMIT_BYTES).await?;
    receive(app, scope, &signature, &body).await
}
