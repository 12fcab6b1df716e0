//! `PUT /v1/payments/{id}`.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Payment, PaymentGateway, PaymentId, api,
    update::{self, Claim},
    view::PaymentResponse,
};
use crate::{
    app::App,
    http::{
        ApiError, Body, Caller, IdPath, Violations, metadata_violations,
        openapi::{ApiRouter, Metadata, doc, put_with},
        optional_time,
    },
    invoices::PaymentStatus,
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    let refusals = [(400, "a field breaks a rule, or is not as the provider reported it")];
    ApiRouter::new()
        .api_route("/payments/{id}", put_with(change, doc("update_payment", "Update a payment", &refusals)))
}

/// What is new about a payment. Only `metadata` can be: every other field says what Razorpay reported, and must be as it
/// is recorded, or absent. An empty text stands for none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(rename = "UpdatePaymentRequest")]
struct UpdateRequest {
    /// Replaces all pairs.
    #[schemars(with = "Option<Metadata>")]
    metadata: Option<Map<String, Value>>,
    payment_status: Option<PaymentStatus>,
    payment_gateway: Option<PaymentGateway>,
    gateway_payment_id: Option<String>,
    gateway_tracking_id: Option<String>,
    payment_method_id: Option<String>,
    error_message: Option<String>,
    #[serde(default, deserialize_with = "optional_time")]
    succeeded_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    failed_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    refunded_at: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "optional_time")]
    voided_at: Option<DateTime<Utc>>,
}

impl Claim for UpdateRequest {
    fn contradictions(&self, payment: &Payment) -> Vec<&'static str> {
        let text = |said: &Option<String>, recorded: &Option<String>| {
            said.as_ref().is_none_or(|said| said == recorded.as_deref().unwrap_or_default())
        };
        let time = |said: Option<DateTime<Utc>>, recorded| said.is_none() || said == recorded;
        [
            ("payment_status", self.payment_status.is_none_or(|said| said == payment.payment_status)),
            ("payment_gateway", self.payment_gateway.is_none_or(|said| said == payment.payment_gateway)),
            ("gateway_payment_id", text(&self.gateway_payment_id, &payment.gateway_payment_id)),
            ("gateway_tracking_id", text(&self.gateway_tracking_id, &payment.gateway_tracking_id)),
            // Nothing of these is ever recorded: links have no saved method, and what succeeded stays so.
            ("payment_method_id", text(&self.payment_method_id, &None)),
            ("error_message", text(&self.error_message, &payment.error_message)),
            ("succeeded_at", time(self.succeeded_at, payment.succeeded_at)),
            ("failed_at", time(self.failed_at, payment.failed_at)),
            ("refunded_at", time(self.refunded_at, None)),
            ("voided_at", time(self.voided_at, None)),
        ]
        .into_iter()
        .filter_map(|(field, agrees)| (!agrees).then_some(field))
        .collect()
    }
}

async fn change(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<PaymentId>,
    Body(request): Body<UpdateRequest>,
) -> Result<Json<PaymentResponse>, ApiError> {
    if let Some(metadata) = &request.metadata {
        let mut violations = Violations::default();
        metadata_violations(&mut violations, "metadata", metadata);
        violations.finish()?;
    }
    let metadata = request.metadata.clone().map(Value::Object);
    let payment = update::update(&app, caller.scope, id, metadata, request).await?;
    Ok(Json(api::show(&app, caller, payment).await?))
}
