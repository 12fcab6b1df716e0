//! Subscriptions as they are read.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{SubscriptionId, SubscriptionLineId};
use crate::{
    catalog::{BillingPeriod, InvoiceCadence, PlanId, PriceId},
    customers::CustomerId,
    db::RowStatus,
    kit::money::Currency,
};

crate::define_terms! {
    /// Where a subscription is in its life.
    SubscriptionStatus {
        /// Runs and is billed.
        Active = "active",
        /// Is not billed for a while.
        Paused = "paused",
        /// Ended.
        Cancelled = "cancelled",
        /// Its first payment is missing.
        Incomplete = "incomplete",
        /// Runs and is not billed yet.
        Trialing = "trialing",
        /// Waits for its checkout to be paid.
        Draft = "draft",
    }

    /// When a cancelled subscription ends.
    CancellationType {
        /// Now, or on a day that has passed.
        Immediate = "immediate",
        /// With the period that is paid for.
        EndOfPeriod = "end_of_period",
        /// On a day that the merchant names.
        ScheduledDate = "scheduled_date",
    }
}

/// A subscription.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Who subscribes.
    pub customer: CustomerId,
    /// To what.
    pub plan: PlanId,
    /// Where it is in its life.
    pub subscription_status: SubscriptionStatus,
    /// Of all its bills.
    pub currency: Currency,
    /// How often it is billed.
    pub billing_period: BillingPeriod,
    /// Periods between two bills, at least 1.
    pub billing_period_count: i32,
    /// Every period boundary is computed from it.
    pub billing_anchor: DateTime<Utc>,
    /// IANA name; boundaries lie on this zone's calendar.
    pub timezone: String,
    /// When it starts.
    pub start_date: DateTime<Utc>,
    /// When it ends, if it does.
    pub end_date: Option<DateTime<Utc>>,
    /// Of the period that is paid for, or to be paid.
    pub current_period_start: DateTime<Utc>,
    /// Exclusive.
    pub current_period_end: DateTime<Utc>,
    /// `send_invoice`
    pub collection_method: String,
    /// The merchant's own name.
    pub lookup_key: Option<String>,
    /// The merchant's own pairs.
    pub metadata: Value,
    /// Counts changes.
    pub version: i32,
    /// When its checkout was paid.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it is to end, or ended as planned.
    pub cancel_at: Option<DateTime<Utc>>,
    /// Whether that is the end of the period rather than a date that the merchant named.
    pub cancel_at_period_end: bool,
    /// From when on it counts as ended.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Why, in the merchant's words.
    pub cancellation_reason: Option<String>,
    /// The row's own life; archived when its checkout ended unpaid.
    pub status: RowStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A price within a subscription, with what its price says about billing.
#[derive(Clone, Debug)]
pub struct SubscriptionLine {
    /// Its id.
    pub id: SubscriptionLineId,
    /// Which it is part of.
    pub subscription: SubscriptionId,
    /// What is subscribed to.
    pub price: PriceId,
    /// Units of it.
    pub quantity: i64,
    /// As invoices name it.
    pub display_name: String,
    /// The plan's name when it was subscribed to.
    pub plan_display_name: String,
    /// How often it is billed.
    pub billing_period: BillingPeriod,
    /// Periods between two bills, at least 1.
    pub billing_period_count: i32,
    /// At which end of a period.
    pub invoice_cadence: InvoiceCadence,
    /// Billed from then on.
    pub start_date: DateTime<Utc>,
    /// Billed until then, if it ends.
    pub end_date: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}
