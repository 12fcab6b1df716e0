//! What the pages show: plain strings, ready for the templates.

use askama::Template;
use chrono::{DateTime, Datelike, Utc};
use iso_currency::Currency;

use super::instruments::{Instrument, TEST_CARDS};
use super::ledger::{Delivery, Ledger, Link, LinkStatus, Payment};

/// How many rows of each table the dashboard shows, newest first.
const ROWS: usize = 50;

#[derive(Template)]
#[template(path = "sandbox/message.html")]
pub(super) struct Message {
    pub title: &'static str,
    pub text: &'static str,
}

#[derive(Template)]
#[template(path = "sandbox/pay.html")]
pub(super) struct PayPage {
    link_id: String,
    slug: String,
    description: String,
    reference: String,
    /// What is still due, for people.
    amount: String,
    status: LinkStatus,
    open: bool,
    pay_before: Option<String>,
    problem: Option<Problem>,
    /// Where a payer who has paid continues.
    back_url: Option<String>,
    /// A card expiry that is in the future.
    expiry: String,
    cards: Vec<CardRow>,
}

/// What went wrong with the last attempt.
pub(super) struct Problem {
    pub text: &'static str,
    /// Razorpay's name for it.
    pub reason: &'static str,
    /// The form that was used stays open.
    pub with_upi: bool,
}

impl Problem {
    /// Nothing, when the payment did not fail.
    pub fn of(payment: &Payment) -> Option<Self> {
        let failure = payment.failure.as_ref()?;
        let with_upi = matches!(payment.instrument, Instrument::Upi { .. });
        Some(Self { text: failure.description, reason: failure.reason, with_upi })
    }
}

struct CardRow {
    number: &'static str,
    network: &'static str,
    outcome: &'static str,
    fails: bool,
}

impl PayPage {
    fn upi_open(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.with_upi)
    }

    pub fn new(link: &Link, now: DateTime<Utc>, problem: Option<Problem>, back_url: Option<String>) -> Self {
        let due = if link.is_open() { link.terms.amount - link.amount_paid } else { link.terms.amount };
        let cards = TEST_CARDS.iter().map(|card| CardRow {
            number: card.number,
            network: card.network,
            outcome: match card.failure {
                Some(failure) => failure.reason,
                None if card.international => "pays, international",
                None => "pays",
            },
            fails: card.failure.is_some(),
        });
        Self {
            link_id: link.id.clone(),
            slug: link.slug.clone(),
            description: link.terms.description.clone(),
            reference: link.terms.reference_id.clone(),
            amount: money(due, &link.terms.currency),
            status: link.status,
            open: link.is_open(),
            pay_before: (link.terms.expire_by != 0).then(|| time(link.terms.expire_by)),
            problem,
            back_url,
            expiry: format!("12/{:02}", (now.year() + 3) % 100),
            cards: cards.collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "sandbox/dashboard.html")]
pub(super) struct Dashboard {
    now: String,
    links: Vec<LinkRow>,
    payments: Vec<PaymentRow>,
    refunds: Vec<RefundRow>,
    deliveries: Vec<DeliveryRow>,
    counts: [usize; 4],
}

struct LinkRow {
    id: String,
    slug: String,
    reference: String,
    description: String,
    amount: String,
    status: &'static str,
    created: String,
}

struct PaymentRow {
    id: String,
    link_id: String,
    amount: String,
    method: String,
    status: &'static str,
    reason: &'static str,
    created: String,
}

struct RefundRow {
    id: String,
    payment_id: String,
    amount: String,
    status: &'static str,
    created: String,
}

struct DeliveryRow {
    event: String,
    event_id: String,
    status: &'static str,
    /// One word per attempt: the receiver's status, or what went wrong.
    attempts: String,
    created: String,
    body: String,
}

impl Dashboard {
    pub fn new(ledger: &Ledger, now: DateTime<Utc>) -> Self {
        let links = ledger.links.iter().rev().take(ROWS).map(|link| LinkRow {
            id: link.id.clone(),
            slug: link.slug.clone(),
            reference: link.terms.reference_id.clone(),
            description: link.terms.description.clone(),
            amount: money(link.terms.amount, &link.terms.currency),
            status: link.status.as_str(),
            created: time(link.created_at()),
        });
        let payments = ledger.payments.iter().rev().take(ROWS).map(|payment| PaymentRow {
            id: payment.id.clone(),
            link_id: payment.link_id.clone(),
            amount: money(payment.amount, &payment.currency),
            method: match &payment.instrument {
                Instrument::Card { network, last4, .. } => format!("{network} …{last4}"),
                Instrument::Upi { vpa } => vpa.clone(),
            },
            status: payment.status.as_str(),
            reason: payment.failure.as_ref().map_or("", |failure| failure.reason),
            created: time(payment.created_at),
        });
        let refunds = ledger.refunds.iter().rev().take(ROWS).map(|refund| RefundRow {
            id: refund.id.clone(),
            payment_id: refund.payment_id.clone(),
            amount: money(refund.amount, &refund.currency),
            status: refund.status.as_str(),
            created: time(refund.created_at),
        });
        Self {
            now: time(now.timestamp()),
            links: links.collect(),
            payments: payments.collect(),
            refunds: refunds.collect(),
            deliveries: ledger.deliveries.iter().rev().take(ROWS).map(delivery_row).collect(),
            counts: [
                ledger.links.len(),
                ledger.payments.len(),
                ledger.refunds.len(),
                ledger.deliveries.len(),
            ],
        }
    }
}

fn delivery_row(delivery: &Delivery) -> DeliveryRow {
    let attempts = delivery.attempts.iter().map(|attempt| match (attempt.status, &attempt.error) {
        (Some(status), _) => status.to_string(),
        (None, error) => error.clone().unwrap_or_default(),
    });
    DeliveryRow {
        event: delivery.event.clone(),
        event_id: delivery.event_id.clone(),
        status: delivery.status.as_str(),
        attempts: attempts.collect::<Vec<_>>().join(", "),
        created: time(delivery.created_at_ms.div_euclid(1000)),
        body: delivery.body.clone(),
    }
}

/// `₹499.00`, `JPY 500`: by the currency's exponent, never by habit.
pub(super) fn money(amount_minor: i64, code: &str) -> String {
    let exponent = Currency::from_code(code).and_then(Currency::exponent).unwrap_or(2);
    let scale = 10_u64.pow(u32::from(exponent));
    let (whole, rest) = (amount_minor.unsigned_abs() / scale, amount_minor.unsigned_abs() % scale);
    let sign = if amount_minor < 0 { "-" } else { "" };
    let symbol = if code == "INR" { "₹".to_owned() } else { format!("{code} ") };
    match exponent {
        0 => format!("{sign}{symbol}{whole}"),
        _ => format!("{sign}{symbol}{whole}.{rest:0width$}", width = usize::from(exponent)),
    }
}

fn time(unix_seconds: i64) -> String {
    DateTime::from_timestamp(unix_seconds, 0)
        .map_or_else(|| unix_seconds.to_string(), |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}
