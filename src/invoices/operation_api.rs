//! `/v1/invoices/{id}/…`: what can be done with an invoice. Checkouts finalize them, and Razorpay says what is paid.

use axum::{
    Json, Router,
    extract::State,
    routing::{post, put},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Invoice, InvoiceId, PaymentStatus, api,
    operation::{self, Change, Refusal},
    view::InvoiceResponse,
};
use crate::{
    app::App,
    http::{ApiError, Body, Caller, IdPath, Violations, metadata_violations, optional_time},
    kit::money::Money,
    subscriptions,
};

/// Routes under `/v1`.
pub fn router() -> Router<App> {
    Router::new()
        .route("/invoices/{id}", put(update))
        .route("/invoices/{id}/finalize", post(finalize))
        .route("/invoices/{id}/void", post(void))
        .route("/invoices/{id}/payment", put(update_payment_status))
}

/// What is new about an invoice; absent fields stay.
#[derive(Debug, Deserialize)]
struct UpdateRequest {
    /// Replaces all pairs.
    metadata: Option<Map<String, Value>>,
    /// By when it is to be paid. Informs only.
    #[serde(default, deserialize_with = "optional_time")]
    due_date: Option<DateTime<Utc>>,
    /// Not supported: must be absent.
    invoice_pdf_url: Option<String>,
    /// Not supported: must be absent or false.
    apply_discount: Option<bool>,
}

impl UpdateRequest {
    fn parse(self) -> Result<Change, ApiError> {
        let mut violations = Violations::default();
        if let Some(metadata) = &self.metadata {
            metadata_violations(&mut violations, "metadata", metadata);
        }
        violations.require(
            self.invoice_pdf_url.is_none(),
            "invoice_pdf_url",
            "must be absent: documents are not supported",
        );
        violations.require(
            self.apply_discount != Some(true),
            "apply_discount",
            "must be false or absent: discounts are not supported",
        );
        violations.finish()?;
        Ok(Change { metadata: self.metadata.map(Value::Object), due_date: self.due_date })
    }
}

async fn update(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<InvoiceId>,
    Body(request): Body<UpdateRequest>,
) -> Result<Json<InvoiceResponse>, ApiError> {
    let invoice = operation::update(&app, caller.scope, id, request.parse()?).await?;
    Ok(Json(api::show(&app, caller, invoice).await?))
}

/// What was done.
#[derive(Debug, Serialize)]
struct DoneResponse {
    message: &'static str,
}

async fn finalize(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<InvoiceId>,
) -> Result<Json<DoneResponse>, ApiError> {
    let invoice = operation::get_published(&app, caller.scope, id).await?;
    match operation::may_finalize(invoice.invoice_status) {
        Ok(()) => Ok(Json(DoneResponse { message: "nothing to finalize: the invoice was skipped" })),
        Err(refusal) => Err(refused(&app, caller, &invoice, refusal).await?),
    }
}

/// Refuses always: an invoice is final because it is paid, and what is paid is not given back here.
async fn void(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<InvoiceId>,
) -> Result<Json<DoneResponse>, ApiError> {
    let invoice = operation::get_published(&app, caller.scope, id).await?;
    let refusal = operation::why_not_void(invoice.invoice_status);
    Err(refused(&app, caller, &invoice, refusal).await?)
}

async fn refused(
    app: &App,
    caller: Caller,
    invoice: &Invoice,
    refusal: Refusal,
) -> Result<ApiError, ApiError> {
    Ok(match refusal {
        Refusal::Checkout => {
            let message = "the invoice is a draft that waits to be paid";
            subscriptions::decided_by_checkout(app, caller.scope, invoice.subscription, message).await?
        }
        Refusal::Status(rule) => {
            let status = invoice.invoice_status.as_str();
            ApiError::validation("invoice_status", &format!("is {status}: {rule}"))
        }
        Refusal::Paid => ApiError::invalid_operation(
            "the invoice is paid: the money would have to go back first, and refunds of paid invoices are not \
             supported",
        )
        .detail("reason", "invoice_paid"),
    })
}

/// Where the merchant thinks that an invoice's payment stands.
#[derive(Debug, Deserialize)]
struct PaymentStatusRequest {
    /// Must be what it is: Razorpay decides.
    payment_status: PaymentStatus,
    /// What was paid, as a decimal string of major units; must be what it is.
    amount: Option<String>,
}

/// Changes nothing: answers 200 when the caller is right.
async fn update_payment_status(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<InvoiceId>,
    Body(request): Body<PaymentStatusRequest>,
) -> Result<Json<InvoiceResponse>, ApiError> {
    let invoice = operation::get_published(&app, caller.scope, id).await?;
    let amount = request.amount.as_deref().map(|text| Money::parse(text, invoice.currency())).transpose();
    let amount = amount.map_err(|rule| ApiError::validation("amount", &rule.to_string()))?;
    if request.payment_status != invoice.payment_status || amount.is_some_and(|amount| amount != invoice.paid)
    {
        return Err(ApiError::invalid_operation(format!(
            "payment_status is {} and amount_paid {}: only what Razorpay reports changes them",
            invoice.payment_status.as_str(),
            invoice.paid.decimal(),
        ))
        .detail("reason", "provider_decides")
        .detail("payment_status", invoice.payment_status.as_str())
        .detail("amount_paid", invoice.paid.decimal()));
    }
    Ok(Json(api::show(&app, caller, invoice).await?))
}
