//! An invoice on the wire: money and quantities as strings.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    BillingReason, Invoice, InvoiceId, InvoiceLine, InvoiceLineId, InvoiceStatus, InvoiceType, PaymentStatus,
};
use crate::{
    catalog::{BillingPeriod, PriceId},
    customers::{CustomerId, CustomerResponse},
    db::RowStatus,
    http::{Caller, openapi::Metadata},
    kit::money::Money,
    subscriptions::{SubscriptionId, SubscriptionLineId},
    tenancy::{EnvironmentId, TenantId},
};

/// Credits, discounts, taxes and their like do not exist here yet; clients add them up all the same.
const NOTHING: &str = "0";

/// An invoice on the wire: money and quantities are strings.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InvoiceResponse {
    id: InvoiceId,
    customer_id: CustomerId,
    subscription_id: SubscriptionId,
    /// Who subscribes: the customer itself.
    subscription_customer_id: CustomerId,
    invoice_type: InvoiceType,
    invoice_status: InvoiceStatus,
    payment_status: PaymentStatus,
    currency: String,
    subtotal: String,
    total_discount: &'static str,
    total_tax: &'static str,
    total_prepaid_credits_applied: &'static str,
    total: String,
    amount_due: String,
    amount_paid: String,
    amount_remaining: String,
    overpaid_amount: &'static str,
    refunded_amount: &'static str,
    adjustment_amount: &'static str,
    invoice_number: Option<String>,
    billing_reason: BillingReason,
    billing_period: BillingPeriod,
    period_start: DateTime<Utc>,
    period_end: DateTime<Utc>,
    due_date: Option<DateTime<Utc>>,
    /// When it became final; until then, when it was drafted.
    issue_date: DateTime<Utc>,
    finalized_at: Option<DateTime<Utc>>,
    paid_at: Option<DateTime<Utc>>,
    source_type: &'static str,
    version: i32,
    #[schemars(with = "Metadata")]
    metadata: Value,
    /// Always empty: taxes are not computed.
    taxes: [(); 0],
    /// Always empty: there are no coupons.
    coupon_applications: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    line_items: Option<Vec<LineResponse>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<CustomerResponse>,
    status: RowStatus,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InvoiceLineItem")]
struct LineResponse {
    id: InvoiceLineId,
    invoice_id: InvoiceId,
    customer_id: CustomerId,
    subscription_id: SubscriptionId,
    subscription_line_item_id: SubscriptionLineId,
    price_id: PriceId,
    price_type: &'static str,
    display_name: String,
    plan_display_name: String,
    quantity: String,
    amount: String,
    currency: String,
    line_item_discount: &'static str,
    invoice_level_discount: &'static str,
    prepaid_credits_applied: &'static str,
    period_start: DateTime<Utc>,
    period_end: DateTime<Utc>,
    status: RowStatus,
    tenant_id: TenantId,
    environment_id: EnvironmentId,
    created_at: DateTime<Utc>,
}

impl InvoiceResponse {
    /// What it charges.
    pub fn subscription_id(&self) -> SubscriptionId {
        self.subscription_id
    }

    pub(super) fn new(
        caller: Caller,
        invoice: Invoice,
        lines: Option<Vec<InvoiceLine>>,
        customer: Option<CustomerResponse>,
    ) -> Self {
        let line_items = lines
            .map(|lines| lines.into_iter().map(|line| LineResponse::new(caller, &invoice, line)).collect());
        Self {
            id: invoice.id,
            customer_id: invoice.customer,
            subscription_id: invoice.subscription,
            subscription_customer_id: invoice.customer,
            invoice_type: InvoiceType::Subscription,
            invoice_status: invoice.invoice_status,
            payment_status: invoice.payment_status,
            currency: invoice.currency().lower(),
            subtotal: invoice.total.decimal(),
            total_discount: NOTHING,
            total_tax: NOTHING,
            total_prepaid_credits_applied: NOTHING,
            total: invoice.total.decimal(),
            amount_due: invoice.total.decimal(),
            amount_paid: invoice.paid.decimal(),
            amount_remaining: invoice.remaining().decimal(),
            overpaid_amount: NOTHING,
            refunded_amount: NOTHING,
            adjustment_amount: NOTHING,
            invoice_number: invoice.invoice_number,
            billing_reason: invoice.billing_reason,
            billing_period: invoice.billing_period,
            period_start: invoice.period_start,
            period_end: invoice.period_end,
            due_date: invoice.due_date,
            issue_date: invoice.finalized_at.unwrap_or(invoice.created_at),
            finalized_at: invoice.finalized_at,
            paid_at: invoice.paid_at,
            source_type: "checkout",
            version: invoice.version,
            metadata: invoice.metadata,
            taxes: [],
            coupon_applications: [],
            line_items,
            customer,
            status: invoice.status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: invoice.created_at,
            updated_at: invoice.updated_at,
        }
    }
}

impl LineResponse {
    fn new(caller: Caller, invoice: &Invoice, line: InvoiceLine) -> Self {
        let currency = invoice.currency();
        Self {
            id: line.id,
            invoice_id: line.invoice,
            customer_id: invoice.customer,
            subscription_id: invoice.subscription,
            subscription_line_item_id: line.subscription_line,
            price_id: line.price,
            price_type: "FIXED",
            display_name: line.display_name,
            plan_display_name: line.plan_display_name,
            quantity: line.quantity.to_string(),
            amount: Money::new(line.amount_minor, currency).decimal(),
            currency: currency.lower(),
            line_item_discount: NOTHING,
            invoice_level_discount: NOTHING,
            prepaid_credits_applied: NOTHING,
            period_start: line.period_start,
            period_end: line.period_end,
            // Lines live and are archived with their invoice.
            status: invoice.status,
            tenant_id: caller.scope.tenant,
            environment_id: caller.scope.environment,
            created_at: line.created_at,
        }
    }
}
