//! A payment on the wire: money as strings.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Attempt, AttemptId, DestinationType, Payment, PaymentGateway, PaymentId, PaymentMethodType};
use crate::{
    db::RowStatus,
    http::{Caller, openapi::Metadata},
    invoices::{InvoiceId, PaymentStatus},
    tenancy::{EnvironmentId, TenantId},
};

/// A payment on the wire: money is a string.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PaymentResponse {
    id: PaymentId,
    amount: String,
    currency: String,
    destination_type: DestinationType,
    destination_id: InvoiceId,
    invoice_number: Option<String>,
    payment_method_type: PaymentMethodType,
    payment_status: PaymentStatus,
    payment_gateway: PaymentGateway,
    gateway_payment_id: Option<String>,
    gateway_tracking_id: Option<String>,
    #[schemars(with = "Metadata")]
    gateway_metadata: Map<String, Value>,
    payment_url: Option<String>,
    track_attempts: bool,
    attempts: Vec<AttemptResponse>,
    error_message: Option<String>,
    succeeded_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    #[schemars(with = "Metadata")]
    metadata: Value,
    status: RowStatus,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PaymentAttempt")]
struct AttemptResponse {
    id: AttemptId,
    payment_id: PaymentId,
    attempt_number: i32,
    payment_status: PaymentStatus,
    gateway_payment_id: String,
    error_message: Option<String>,
    #[schemars(with = "Metadata")]
    metadata: Map<String, Value>,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    /// Attempts never change.
    updated_at: DateTime<Utc>,
}

impl PaymentResponse {
    pub(super) fn new(caller: Caller, payment: Payment, attempts: Vec<Attempt>) -> Self {
        Self {
            id: payment.id,
            amount: payment.amount.decimal(),
            currency: payment.amount.currency.lower(),
            destination_type: DestinationType::Invoice,
            destination_id: payment.invoice,
            invoice_number: payment.invoice_number,
            payment_method_type: PaymentMethodType::PaymentLink,
            payment_status: payment.payment_status,
            payment_gateway: payment.payment_gateway,
            gateway_payment_id: payment.gateway_payment_id,
            gateway_tracking_id: payment.gateway_tracking_id,
            gateway_metadata: Map::new(),
            payment_url: payment.payment_url,
            track_attempts: true,
            attempts: attempts.into_iter().map(|attempt| AttemptResponse::new(caller, attempt)).collect(),
            error_message: payment.error_message,
            succeeded_at: payment.succeeded_at,
            failed_at: payment.failed_at,
            metadata: payment.metadata,
            status: payment.status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: payment.created_at,
            updated_at: payment.updated_at,
        }
    }
}

impl AttemptResponse {
    fn new(caller: Caller, attempt: Attempt) -> Self {
        Self {
            id: attempt.id,
            payment_id: attempt.payment,
            attempt_number: attempt.number,
            payment_status: attempt.payment_status,
            gateway_payment_id: attempt.gateway_payment_id,
            error_message: attempt.error_message,
            metadata: Map::new(),
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: attempt.created_at,
            updated_at: attempt.created_at,
        }
    }
}
