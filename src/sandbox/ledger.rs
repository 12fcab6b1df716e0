//! What the sandbox knows: links, orders, payments, refunds and webhooks. Plain data; the rules are in `books`.

use serde::Serialize;
use serde_json::{Map, Value};

use super::instruments::{Failure, Instrument};

/// A copy of everything the sandbox recorded, oldest first: the other side's truth, for audits and tests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ledger {
    /// Payment links.
    pub links: Vec<Link>,
    /// Orders; a link gets one with the first attempt to pay it.
    pub orders: Vec<Order>,
    /// Attempts to pay, failed ones included.
    pub payments: Vec<Payment>,
    /// Refunds.
    pub refunds: Vec<Refund>,
    /// Webhooks, each with its attempts.
    pub deliveries: Vec<Delivery>,
}

impl Ledger {
    /// The link with this id or `reference_id`.
    pub fn link(&self, id_or_reference: &str) -> Option<&Link> {
        self.links
            .iter()
            .find(|link| link.id == id_or_reference || link.terms.reference_id == id_or_reference)
    }

    /// Payments of one link that took money: captured, or captured and refunded since.
    pub fn captured_for(&self, link_id: &str) -> Vec<&Payment> {
        self.payments.iter().filter(|payment| payment.link_id == link_id && payment.was_captured()).collect()
    }
}

/// A payment link.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// `plink_…`
    pub id: String,
    /// The business that owns it.
    pub account_id: String,
    /// Last part of `short_url`.
    pub slug: String,
    /// Address of the payment page.
    pub short_url: String,
    /// What the merchant asked for.
    #[serde(flatten)]
    pub terms: LinkTerms,
    /// Where it stands.
    pub status: LinkStatus,
    /// Captured so far, minor units.
    pub amount_paid: i64,
    /// The order, once somebody tried to pay.
    pub order_id: Option<String>,
    /// Captured payments, oldest first.
    pub payment_ids: Vec<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix seconds.
    pub updated_at: i64,
    /// Unix seconds, 0 = never.
    pub cancelled_at: i64,
    /// Unix seconds, 0 = never.
    pub expired_at: i64,
}

impl Link {
    /// Unix seconds.
    pub fn created_at(&self) -> i64 {
        self.created_at_ms.div_euclid(1000)
    }

    /// Whether a payer can pay it now.
    pub fn is_open(&self) -> bool {
        matches!(self.status, LinkStatus::Created | LinkStatus::PartiallyPaid)
    }
}

/// The validated body of a create request.
#[derive(Clone, Debug, Serialize)]
pub struct LinkTerms {
    /// Minor units.
    pub amount: i64,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Instalments allowed.
    pub accept_partial: bool,
    /// Minor units, 0 without `accept_partial`.
    pub first_min_partial_amount: i64,
    /// Shown to the payer.
    pub description: String,
    /// The merchant's unique reference; empty when not set.
    pub reference_id: String,
    /// Name, email, contact: whatever subset was sent.
    pub customer: Option<Map<String, Value>>,
    /// Unix seconds, 0 = no deadline.
    pub expire_by: i64,
    /// Notify the customer by email.
    pub notify_email: bool,
    /// Notify the customer by text message.
    pub notify_sms: bool,
    /// Send reminders.
    pub reminder_enable: bool,
    /// The merchant's own pairs, copied to order and payment.
    pub notes: Option<Map<String, Value>>,
    /// Where the browser goes after a successful payment.
    pub callback_url: Option<String>,
    /// `get` when there is a callback.
    pub callback_method: Option<String>,
    /// Checkout customisation was sent (it is not echoed).
    pub has_options: bool,
}

/// States of a link; nothing leaves paid, cancelled or expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkStatus {
    /// Waiting for a payment.
    Created,
    /// An instalment was paid.
    PartiallyPaid,
    /// Paid.
    Paid,
    /// Cancelled by the merchant.
    Cancelled,
    /// Past `expire_by`.
    Expired,
}

impl LinkStatus {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::PartiallyPaid => "partially_paid",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// The order behind a link.
#[derive(Clone, Debug, Serialize)]
pub struct Order {
    /// `order_…`
    pub id: String,
    /// The business that owns it.
    pub account_id: String,
    /// The link it belongs to.
    pub link_id: String,
    /// Minor units.
    pub amount: i64,
    /// Minor units.
    pub amount_paid: i64,
    /// ISO 4217.
    pub currency: String,
    /// The link's `reference_id`.
    pub receipt: String,
    /// Attempts to pay.
    pub attempts: u32,
    /// Fully paid.
    pub paid: bool,
    /// Copied from the link.
    pub notes: Option<Map<String, Value>>,
    /// Unix seconds.
    pub created_at: i64,
}

/// One attempt to pay.
#[derive(Clone, Debug, Serialize)]
pub struct Payment {
    /// `pay_…`
    pub id: String,
    /// The business that gets the money.
    pub account_id: String,
    /// The link it pays.
    pub link_id: String,
    /// The order it pays.
    pub order_id: String,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Minor units.
    pub amount_refunded: i64,
    /// What it was paid with.
    pub instrument: Instrument,
    /// `card_…` for cards.
    pub card_id: Option<String>,
    /// Bank's reference number.
    pub rrn: String,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// The payer's email, `void@razorpay.com` when none was given.
    pub email: String,
    /// The payer's phone number.
    pub contact: String,
    /// Copied from the link.
    pub notes: Option<Map<String, Value>>,
    /// Razorpay's fee with tax, minor units.
    pub fee: i64,
    /// Tax in the fee, minor units.
    pub tax: i64,
    /// Unix seconds.
    pub created_at: i64,
}

impl Payment {
    /// Whether it ever took money.
    pub fn was_captured(&self) -> bool {
        matches!(self.status, PaymentStatus::Captured | PaymentStatus::Refunded)
    }
}

/// States of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// The bank agreed; links capture at once, so this is only seen in `payment.authorized`.
    Authorized,
    /// The money is taken.
    Captured,
    /// Given back in full.
    Refunded,
    /// The attempt failed.
    Failed,
}

impl PaymentStatus {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorized => "authorized",
            Self::Captured => "captured",
            Self::Refunded => "refunded",
            Self::Failed => "failed",
        }
    }
}

/// A refund.
#[derive(Clone, Debug, Serialize)]
pub struct Refund {
    /// `rfnd_…`
    pub id: String,
    /// The business that pays it.
    pub account_id: String,
    /// The payment it gives back.
    pub payment_id: String,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// The merchant's unique receipt.
    pub receipt: Option<String>,
    /// The merchant's own pairs.
    pub notes: Option<Map<String, Value>>,
    /// `normal` or `optimum`.
    pub speed: String,
    /// Where it stands.
    pub status: RefundStatus,
    /// Value of the `X-Refund-Idempotency` header it was made with.
    pub idempotency_key: Option<String>,
    /// Unix seconds.
    pub created_at: i64,
}

/// States of a refund.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// Being worked on.
    Pending,
    /// Final success.
    #[default]
    Processed,
    /// Final failure: the payment can be refunded again.
    Failed,
}

impl RefundStatus {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processed => "processed",
            Self::Failed => "failed",
        }
    }
}

/// One event on its way to one URL. A duplicated event has two of these with one `event_id`.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// `X-Razorpay-Event-Id`, the same for every attempt.
    pub event_id: String,
    /// Event name, such as `payment_link.paid`.
    pub event: String,
    /// The business it belongs to.
    pub account_id: String,
    /// Where it is posted.
    pub url: String,
    /// The exact bytes, the same for every attempt.
    pub body: String,
    /// `X-Razorpay-Signature`, made when the event was; none without a webhook secret.
    pub signature: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds of the next attempt.
    pub due_at_ms: i64,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Every attempt, oldest first.
    pub attempts: Vec<Attempt>,
}

/// States of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Waiting for its time.
    Pending,
    /// Being posted.
    InFlight,
    /// Answered with a 2xx in time.
    Delivered,
    /// The retry ladder is used up; it is never sent again.
    Exhausted,
    /// Lost: webhooks were disabled by a fault when the event happened.
    Suppressed,
}

impl DeliveryStatus {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InFlight => "in flight",
            Self::Delivered => "delivered",
            Self::Exhausted => "given up",
            Self::Suppressed => "suppressed",
        }
    }
}

/// One attempt to deliver.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The receiver's answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong on the way, if there was no answer.
    pub error: Option<String>,
}
