//! Payments as they are read.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{AttemptId, PaymentId};
use crate::{
    db::RowStatus,
    invoices::{InvoiceId, PaymentStatus},
    kit::money::Money,
};

crate::define_terms! {
    /// What a payment pays for.
    DestinationType {
        /// An invoice.
        Invoice = "INVOICE",
        /// Nothing in particular.
        Customer = "CUSTOMER",
    }

    /// How a payment is made.
    PaymentMethodType {
        /// A card.
        Card = "CARD",
        /// A bank transfer in the United States.
        Ach = "ACH",
        /// Outside of any provider.
        Offline = "OFFLINE",
        /// Credits of a wallet.
        Credits = "CREDITS",
        /// By whatever the provider's page offers.
        PaymentLink = "PAYMENT_LINK",
        /// India's instant payments.
        Upi = "UPI",
    }

    /// Providers that the API has words for; Razorpay is the one that is used.
    PaymentGateway {
        /// Stripe.
        Stripe = "stripe",
        /// Razorpay.
        Razorpay = "razorpay",
        /// Nomod.
        Nomod = "nomod",
        /// Moyasar.
        Moyasar = "moyasar",
        /// Paddle.
        Paddle = "paddle",
        /// Whop.
        Whop = "whop",
        /// Chargebee.
        Chargebee = "chargebee",
    }
}

/// A payment: what an invoice expects, and what came of it.
#[derive(Clone, Debug)]
pub struct Payment {
    /// Its id.
    pub id: PaymentId,
    /// What it pays.
    pub invoice: InvoiceId,
    /// That invoice's number, once it has one.
    pub invoice_number: Option<String>,
    /// To be paid.
    pub amount: Money,
    /// Where it stands.
    pub payment_status: PaymentStatus,
    /// At which provider.
    pub payment_gateway: PaymentGateway,
    /// Razorpay's `pay_…`, once one succeeded.
    pub gateway_payment_id: Option<String>,
    /// Razorpay's `plink_…`.
    pub gateway_tracking_id: Option<String>,
    /// The payment page.
    pub payment_url: Option<String>,
    /// Why the last try did not succeed, while none has.
    pub error_message: Option<String>,
    /// The merchant's own pairs.
    pub metadata: Value,
    /// When it was captured.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// When it failed for good.
    pub failed_at: Option<DateTime<Utc>>,
    /// The row's own life; archived when its checkout ended unpaid.
    pub status: RowStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A try to pay.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// What it was to pay.
    pub payment: PaymentId,
    /// From 1.
    pub number: i32,
    /// Razorpay's `pay_…`.
    pub gateway_payment_id: String,
    /// `SUCCEEDED` or `FAILED`.
    pub payment_status: PaymentStatus,
    /// The provider's reason, where it failed.
    pub error_message: Option<String>,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
}
