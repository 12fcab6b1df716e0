//! A refund on the wire: money as strings.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{RefundId, RefundReason, RefundStatus, refund::Refund};
use crate::{
    invoices::InvoiceId,
    kit::{ids, money::Money},
    payments::{PaymentGateway, PaymentId},
    tenancy::{EnvironmentId, TenantId},
};

/// Where all refunds go: back by the gateway that the money came by.
pub const DESTINATION: &str = "GATEWAY";

/// A refund in answers and in events.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RefundResponse {
    id: RefundId,
    checkout_session_id: String,
    payment_id: PaymentId,
    invoice_id: InvoiceId,
    amount: String,
    /// What has gone back of it.
    settled_amount: String,
    currency: String,
    refund_status: RefundStatus,
    /// The compatible API's word for `reason`.
    #[schemars(extend("enum" = ["DUPLICATE", "OTHER"]))]
    refund_reason: &'static str,
    reason: RefundReason,
    #[schemars(extend("enum" = ["GATEWAY"]))]
    refund_destination: &'static str,
    payment_gateway: PaymentGateway,
    gateway_payment_id: String,
    gateway_refund_id: Option<String>,
    gateway_idempotency_token: RefundId,
    /// Requests to Razorpay so far.
    attempts: i32,
    /// The compatible API's word for `attempts`.
    attempt: i32,
    next_attempt_at: Option<DateTime<Utc>>,
    failure_reason: Option<String>,
    initiated_at: Option<DateTime<Utc>>,
    succeeded_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl RefundResponse {
    pub fn new(refund: &Refund) -> Self {
        let settled_minor = if refund.status == RefundStatus::Succeeded { refund.amount.minor } else { 0 };
        Self {
            id: refund.id,
            // Checkout's ids are not known down here.
            checkout_session_id: ids::encode("chk", refund.session),
            payment_id: refund.payment,
            invoice_id: refund.invoice,
            amount: refund.amount.decimal(),
            settled_amount: Money::new(settled_minor, refund.amount.currency).decimal(),
            currency: refund.amount.currency.lower(),
            refund_status: refund.status,
            refund_reason: match refund.reason {
                RefundReason::DuplicatePayment => "DUPLICATE",
                _ => "OTHER",
            },
            reason: refund.reason,
            refund_destination: DESTINATION,
            payment_gateway: PaymentGateway::Razorpay,
            gateway_payment_id: refund.provider_payment_id.clone(),
            gateway_refund_id: refund.gateway_refund_id.clone(),
            gateway_idempotency_token: refund.idempotency_key,
            attempts: refund.attempt_count,
            attempt: refund.attempt_count,
            next_attempt_at: refund.status.is_open().then_some(refund.next_attempt_at),
            failure_reason: refund.last_error.clone(),
            initiated_at: refund.initiated_at,
            succeeded_at: refund.succeeded_at,
            failed_at: refund.failed_at,
            tenant_id: refund.scope.tenant,
            environment_id: refund.scope.environment,
            created_at: refund.created_at,
            updated_at: refund.updated_at,
        }
    }
}
