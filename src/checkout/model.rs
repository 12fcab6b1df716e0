//! A session as it is read from the tables, and as it goes over the wire.

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::session::{SessionId, State, Status};
use crate::{
    customers::CustomerId,
    http::openapi::Metadata,
    invoices::InvoiceId,
    payments::PaymentId,
    subscriptions::SubscriptionId,
    tenancy::{ConnectionId, Scope},
};

/// A session with everything that answers, events and decisions need.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose it is.
    pub scope: Scope,
    /// Its id, and its link's `reference_id`.
    pub id: SessionId,
    /// Who pays.
    pub customer: CustomerId,
    /// The drafted subscription.
    pub subscription: SubscriptionId,
    /// The drafted invoice.
    pub invoice: InvoiceId,
    /// The drafted payment.
    pub payment: PaymentId,
    /// The Razorpay account its link is at.
    pub connection: ConnectionId,
    /// What decisions depend on.
    pub state: State,
    /// `create_subscription`
    pub action: String,
    /// `razorpay`
    pub payment_provider: String,
    /// The merchant's key against duplicates.
    pub idempotency_key: Option<String>,
    /// Where the browser goes after paying.
    pub success_url: Option<String>,
    /// Where it goes when the session ended unpaid.
    pub failure_url: Option<String>,
    /// Where it goes when the merchant cancelled.
    pub cancel_url: Option<String>,
    /// The merchant's own pairs.
    pub metadata: Value,
    /// The payment page.
    pub link_url: Option<String>,
    /// Events so far.
    pub event_count: i32,
    /// Why it ended unpaid.
    pub failure_reason: Option<String>,
    /// When the customer's time is up.
    pub expires_at: DateTime<Utc>,
    /// When it was paid.
    pub completed_at: Option<DateTime<Utc>>,
    /// When the merchant cancelled it; set as soon as the wish is recorded.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Checks by the worker since the last change.
    pub check_count: i32,
    /// When readers last had the provider asked.
    pub checked_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Its row's version: another one after every change, of whatever (Postgres's `xmin`).
    pub version: i64,
    /// Its payment's status.
    pub payment_status: String,
}

impl Session {
    /// Whether its account is one of those that signed and its link, as far as both are known, the one named.
    pub fn is_of(&self, connections: &[ConnectionId], link_id: Option<&str>) -> bool {
        let is_other = link_id.zip(self.state.link_id.as_deref()).is_some_and(|(named, own)| named != own);
        connections.contains(&self.connection) && !is_other
    }

    /// How long a reader should wait before asking again, and how long one provider read serves all readers.
    pub fn poll_interval(&self, now: DateTime<Utc>) -> TimeDelta {
        let age = now - self.created_at;
        if age < TimeDelta::seconds(30) {
            TimeDelta::seconds(2)
        } else if age < TimeDelta::minutes(2) {
            TimeDelta::seconds(5)
        } else {
            TimeDelta::seconds(10)
        }
    }
}

/// A session on the wire, in answers and in events.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "CheckoutSessionResponse")]
pub struct SessionResponse {
    id: SessionId,
    customer_id: CustomerId,
    #[schemars(extend("enum" = ["create_subscription"]))]
    action: String,
    checkout_status: Status,
    #[schemars(extend("enum" = ["razorpay"]))]
    payment_provider: String,
    checkout_invoice_id: InvoiceId,
    checkout_payment_id: PaymentId,
    checkout_subscription_id: SubscriptionId,
    /// Decimal string of major units.
    amount: String,
    currency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_action: Option<PaymentAction>,
    payment: PaymentView,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_url: Option<String>,
    #[serde(skip_serializing_if = "is_empty")]
    #[schemars(with = "Option<Metadata>")]
    metadata: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<String>,
    expires_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    terminal: bool,
    next_poll_after_ms: i64,
    stale: bool,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
struct PaymentAction {
    #[schemars(extend("enum" = ["payment_link"]))]
    r#type: &'static str,
    url: String,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "CheckoutPayment")]
struct PaymentView {
    id: PaymentId,
    #[schemars(with = "crate::invoices::PaymentStatus")]
    status: String,
    #[schemars(extend("enum" = ["razorpay"]))]
    gateway: String,
}

fn is_empty(metadata: &Value) -> bool {
    metadata.as_object().is_none_or(serde_json::Map::is_empty)
}

impl SessionResponse {
    /// `session` as seen at `now`; `stale` when this answer was not checked with the provider.
    pub fn new(session: Session, now: DateTime<Utc>, stale: bool) -> Self {
        let terminal = session.state.status.is_terminal();
        let next_poll_after_ms = if terminal { 0 } else { session.poll_interval(now).num_milliseconds() };
        Self {
            id: session.id,
            customer_id: session.customer,
            action: session.action,
            checkout_status: session.state.status,
            checkout_invoice_id: session.invoice,
            checkout_payment_id: session.payment,
            checkout_subscription_id: session.subscription,
            amount: session.state.amount.decimal(),
            currency: session.state.amount.currency.lower(),
            payment_action: session.link_url.map(|url| PaymentAction { r#type: "payment_link", url }),
            payment: PaymentView {
                id: session.payment,
                status: session.payment_status,
                gateway: session.payment_provider.clone(),
            },
            payment_provider: session.payment_provider,
            idempotency_key: session.idempotency_key,
            success_url: session.success_url,
            failure_url: session.failure_url,
            // The wish is recorded before it takes effect; shown once it has.
            cancelled_at: session.cancelled_at.filter(|_| terminal),
            cancel_url: session.cancel_url,
            metadata: session.metadata,
            failure_reason: session.failure_reason,
            expires_at: session.expires_at,
            completed_at: session.completed_at,
            created_at: session.created_at,
            updated_at: session.updated_at,
            terminal,
            next_poll_after_ms,
            stale: stale && !terminal,
        }
    }
}
