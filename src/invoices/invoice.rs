//! Invoices as they are read.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{InvoiceId, InvoiceLineId};
use crate::{
    catalog::{BillingPeriod, PriceId},
    customers::CustomerId,
    db::RowStatus,
    kit::money::{Currency, Money},
    subscriptions::{SubscriptionId, SubscriptionLineId},
};

crate::define_terms! {
    /// Where an invoice is in its life.
    InvoiceStatus {
        /// May still change.
        Draft = "DRAFT",
        /// Numbered; its figures never change.
        Finalized = "FINALIZED",
        /// Taken back.
        Voided = "VOIDED",
        /// Had nothing to charge.
        Skipped = "SKIPPED",
    }

    /// Where the payment of an invoice stands, and each of its payments.
    PaymentStatus {
        /// Expected: nobody has paid yet.
        Initiated = "INITIATED",
        /// Under way at the provider.
        Pending = "PENDING",
        /// Being captured.
        Processing = "PROCESSING",
        /// Captured.
        Succeeded = "SUCCEEDED",
        /// More was captured than was owed.
        Overpaid = "OVERPAID",
        /// Refused for good.
        Failed = "FAILED",
        /// Given back in full.
        Refunded = "REFUNDED",
        /// Given back in part.
        PartiallyRefunded = "PARTIALLY_REFUNDED",
        /// Taken back before it was captured.
        Voided = "VOIDED",
    }

    /// What an invoice is for.
    InvoiceType {
        /// A period of a subscription.
        Subscription = "SUBSCRIPTION",
        /// Something sold once.
        OneOff = "ONE_OFF",
        /// Money given back.
        Credit = "CREDIT",
    }

    /// What made an invoice necessary.
    BillingReason {
        /// A subscription began.
        SubscriptionCreate = "SUBSCRIPTION_CREATE",
        /// Its next period began.
        SubscriptionCycle = "SUBSCRIPTION_CYCLE",
        /// It was changed.
        SubscriptionUpdate = "SUBSCRIPTION_UPDATE",
        /// A trial began.
        SubscriptionTrialStart = "SUBSCRIPTION_TRIAL_START",
        /// A trial ended.
        SubscriptionTrialEnd = "SUBSCRIPTION_TRIAL_END",
        /// Part of a period was sold or given back.
        Proration = "PRORATION",
        /// The merchant made it.
        Manual = "MANUAL",
        /// Usage reached a threshold.
        AutoInvoiceThreshold = "AUTO_INVOICE_THRESHOLD",
        /// A wallet ran low.
        WalletAutoTopup = "WALLET_AUTO_TOPUP",
        /// A subscription was paused.
        SubscriptionPaused = "SUBSCRIPTION_PAUSED",
        /// It went on.
        SubscriptionResume = "SUBSCRIPTION_RESUME",
    }
}

/// An invoice.
#[derive(Clone, Debug)]
pub struct Invoice {
    /// Its id.
    pub id: InvoiceId,
    /// Who pays.
    pub customer: CustomerId,
    /// For what.
    pub subscription: SubscriptionId,
    /// Where it is in its life.
    pub invoice_status: InvoiceStatus,
    /// Whether it is paid.
    pub payment_status: PaymentStatus,
    /// The sum of its lines.
    pub total: Money,
    /// Of the total.
    pub paid: Money,
    /// Once finalized.
    pub invoice_number: Option<String>,
    /// What made it necessary.
    pub billing_reason: BillingReason,
    /// How often the subscription is billed.
    pub billing_period: BillingPeriod,
    /// The period it charges.
    pub period_start: DateTime<Utc>,
    /// Exclusive.
    pub period_end: DateTime<Utc>,
    /// By when the merchant wants it paid.
    pub due_date: Option<DateTime<Utc>>,
    /// The merchant's own pairs.
    pub metadata: Value,
    /// Counts changes.
    pub version: i32,
    /// When it got its number.
    pub finalized_at: Option<DateTime<Utc>>,
    /// When it was paid in full.
    pub paid_at: Option<DateTime<Utc>>,
    /// The row's own life; archived when its checkout ended unpaid.
    pub status: RowStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl Invoice {
    /// Of all its amounts.
    pub fn currency(&self) -> Currency {
        self.total.currency
    }

    /// What is still to be paid.
    pub fn remaining(&self) -> Money {
        Money::new(self.total.minor.saturating_sub(self.paid.minor), self.currency())
    }
}

/// A charge on an invoice.
#[derive(Clone, Debug)]
pub struct InvoiceLine {
    /// Its id.
    pub id: InvoiceLineId,
    /// Which it is part of.
    pub invoice: InvoiceId,
    /// What the subscriber subscribed to.
    pub subscription_line: SubscriptionLineId,
    /// What was charged.
    pub price: PriceId,
    /// As the customer reads it.
    pub display_name: String,
    /// The plan's name when it was subscribed to.
    pub plan_display_name: String,
    /// Units charged.
    pub quantity: i64,
    /// Minor units of the invoice's currency.
    pub amount_minor: i64,
    /// The period it charges.
    pub period_start: DateTime<Utc>,
    /// Exclusive.
    pub period_end: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}
