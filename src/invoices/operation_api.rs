//! `/v1/invoices/{id}/…`: what can be done with an invoice. Checkouts finalize them, and Razorpay says what is paid.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Invoice, InvoiceId, PaymentStatus, api,
    operation::{self, Change, Refusal},
    view::InvoiceResponse,
};
use crate::{
    app::App,
    http::{
        ApiError, Body, Caller, IdPath, Message, Violations, metadata_violations,
        openapi::{ApiRouter, Metadata, doc, post_with, put_with},
        optional_time,
    },
    kit::money::Money,
    subscriptions,
};

/// Routes under `/v1`.
pub fn router() -> ApiRouter<App> {
    let refused = |when| [(400, when)];
    let (decided, paid) = (
        refused("its checkout decides about it, or it is final"),
        refused("its checkout decides about it, or it is paid"),
    );
    let other = refused("a field breaks a rule, or is not as the provider reported it");
    ApiRouter::new()
        .api_route("/invoices/{id}", put_with(update, doc("update_invoice", "Update an invoice", &[])))
        .api_route(
            "/invoices/{id}/finalize",
            post_with(finalize, doc("finalize_invoice", "Finalize an invoice", &decided)),
        )
        .api_route("/invoices/{id}/void", post_with(void, doc("void_invoice", "Void an invoice", &paid)))
        .api_route(
            "/invoices/{id}/payment",
            put_with(
                update_payment_status,
                doc("update_invoice_payment_status", "Confirm how an invoice's payment stands", &other),
            ),
        )
}

/// What is new about an invoice; absent fields stay.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "UpdateInvoiceRequest")]
struct UpdateRequest {
    /// Replaces all pairs.
    #[schemars(with = "Option<Metadata>")]
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

async fn finalize(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<InvoiceId>,
) -> Result<Json<Message>, ApiError> {
    let invoice = operation::get_published(&app, caller.scope, id).await?;
    match operation::may_finalize(invoice.invoice_status) {
        Ok(()) => Ok(Json(Message { message: "nothing to finalize: the invoice was skipped" })),
        Err(refusal) => Err(refused(&app, caller, &invoice, refusal).await?),
    }
}

/// Refuses always: an invoice is final because it is paid, and what is paid is not given back here.
async fn void(
    caller: Caller,
    State(app): State<App>,
    IdPath(id): IdPath<InvoiceId>,
) -> Result<Json<Message>, ApiError> {
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
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "UpdatePaymentStatusRequest")]
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
