//! Entities as Razorpay writes them, with the quirks that its services have: what is null, what is `[]`, what
//! is absent, and in which order keys come.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::instruments::Instrument;
use super::ledger::{Link, Order, Payment, PaymentStatus, Refund};

/// An answer of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub status: u16,
    pub body: String,
    /// Seconds.
    pub retry_after: Option<u32>,
}

impl Reply {
    /// Compact JSON with escaped slashes, as every service behind the API writes it.
    pub fn json(status: u16, body: &impl Serialize) -> Self {
        // Slashes occur only inside strings, where `\/` means the same.
        Self { status, body: compact(body).replace('/', "\\/"), retry_after: None }
    }

    pub fn ok(body: &impl Serialize) -> Self {
        Self::json(200, body)
    }
}

/// Compact JSON.
pub(super) fn compact(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("the sandbox's own types have string keys and no fallible Serialize")
}

/// The same value with its keys in alphabetical order, as the links and refunds services write them.
pub(super) fn alphabetical(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("the sandbox's own types have string keys and no fallible Serialize")
}

/// Where a link is shown: each place has its own shape.
#[derive(Clone, Copy)]
pub(super) enum LinkView<'a> {
    Created,
    Fetched { captured: &'a [&'a Payment] },
    Listed,
    Event,
}

pub(super) fn link(link: &Link, view: LinkView<'_>) -> Value {
    let terms = &link.terms;
    let mut entity = json!({
        "accept_partial": terms.accept_partial,
        "amount": terms.amount,
        "amount_paid": link.amount_paid,
        "cancelled_at": link.cancelled_at,
        "created_at": link.created_at(),
        "currency": terms.currency,
        "customer": terms.customer.as_ref().map_or(json!([]), |customer| json!(customer)),
        "description": terms.description,
        "expire_by": terms.expire_by,
        "expired_at": link.expired_at,
        "first_min_partial_amount": terms.first_min_partial_amount,
        "id": link.id,
        "notes": terms.notes,
        "notify": {"email": terms.notify_email, "sms": terms.notify_sms, "whatsapp": false},
        "reference_id": terms.reference_id,
        "reminder_enable": terms.reminder_enable,
        "reminders": if matches!(view, LinkView::Event) { json!({}) } else { json!([]) },
        "short_url": link.short_url,
        "status": link.status.as_str(),
        "updated_at": link.updated_at,
        "upi_link": false,
        "user_id": "",
        "whatsapp_link": false,
    });
    if let Some(fields) = entity.as_object_mut() {
        add_optional_fields(fields, link, view);
    }
    entity
}

fn add_optional_fields(fields: &mut Map<String, Value>, link: &Link, view: LinkView<'_>) {
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    if let Some(callback_url) = &link.terms.callback_url {
        put("callback_url", json!(callback_url));
        put("callback_method", json!(link.terms.callback_method));
    }
    if let Some(order_id) = &link.order_id {
        put("order_id", json!(order_id));
    }
    if matches!(view, LinkView::Event) {
        return;
    }
    put("allow_full_payment", json!(false));
    put("payment_plan", json!(false));
    let payments = match view {
        LinkView::Fetched { captured } => captured.iter().map(|payment| link_payment(payment)).collect(),
        LinkView::Created => Value::Null,
        LinkView::Listed | LinkView::Event => json!([]),
    };
    put("payments", payments);
    if link.terms.has_options {
        let created = matches!(view, LinkView::Created);
        put("options", if created { json!({"checkout": {"name": ""}}) } else { Value::Null });
    }
}

fn link_payment(payment: &Payment) -> Value {
    json!({"amount": payment.amount, "created_at": payment.created_at, "method": method(payment),
           "payment_id": payment.id, "status": payment.status.as_str()})
}

fn method(payment: &Payment) -> &'static str {
    match payment.instrument {
        Instrument::Card { .. } => "card",
        Instrument::Upi { .. } => "upi",
    }
}

/// No notes are `[]` on orders, payments and refunds, while they are null on links.
fn notes(notes: Option<&Map<String, Value>>) -> Value {
    notes.map_or_else(|| json!([]), |notes| json!(notes))
}

/// `GET /v1/…` that answers many.
pub(super) fn collection<T: Serialize>(items: Vec<T>) -> impl Serialize {
    #[derive(Serialize)]
    struct Collection<T> {
        entity: &'static str,
        count: usize,
        items: Vec<T>,
    }
    Collection { entity: "collection", count: items.len(), items }
}

#[derive(Serialize)]
pub(super) struct OrderEntity {
    id: String,
    entity: &'static str,
    amount: i64,
    amount_paid: i64,
    amount_due: i64,
    currency: String,
    receipt: String,
    offer_id: Option<String>,
    status: &'static str,
    attempts: u32,
    notes: Value,
    created_at: i64,
    description: Option<String>,
    checkout: Option<String>,
}

pub(super) fn order(order: &Order) -> OrderEntity {
    OrderEntity {
        id: order.id.clone(),
        entity: "order",
        amount: order.amount,
        amount_paid: order.amount_paid,
        amount_due: (order.amount - order.amount_paid).max(0),
        currency: order.currency.clone(),
        receipt: order.receipt.clone(),
        offer_id: None,
        status: if order.paid { "paid" } else { "attempted" },
        attempts: order.attempts,
        notes: notes(order.notes.as_ref()),
        created_at: order.created_at,
        description: None,
        checkout: None,
    }
}

/// Where a payment is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PaymentView {
    /// `GET /v1/payments/{id}`, `payment.authorized`, `payment.failed`.
    Plain,
    /// `payment.captured`, `order.paid`, `refund.*`.
    Captured,
    /// Inside `payment_link.*`.
    Link,
}

#[derive(Serialize)]
pub(super) struct PaymentEntity {
    id: String,
    entity: &'static str,
    amount: i64,
    currency: String,
    status: &'static str,
    order_id: String,
    invoice_id: Option<String>,
    international: bool,
    method: &'static str,
    amount_refunded: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_transferred: Option<i64>,
    refund_status: Option<&'static str>,
    captured: bool,
    description: String,
    card_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<Value>,
    bank: Option<String>,
    wallet: Option<String>,
    vpa: Option<String>,
    email: String,
    contact: String,
    notes: Value,
    fee: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fee_bearer: Option<&'static str>,
    tax: Option<i64>,
    error_code: Option<&'static str>,
    error_description: Option<&'static str>,
    error_source: Option<&'static str>,
    error_step: Option<&'static str>,
    error_reason: Option<&'static str>,
    acquirer_data: Value,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upi: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reward: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_amount: Option<i64>,
}

pub(super) fn payment(payment: &Payment, view: PaymentView) -> PaymentEntity {
    let captured = payment.was_captured();
    let failure = payment.failure.as_ref();
    let in_link = view == PaymentView::Link;
    let (card, vpa, acquirer_data) = instrument_fields(payment);
    PaymentEntity {
        id: payment.id.clone(),
        entity: "payment",
        amount: payment.amount,
        currency: payment.currency.clone(),
        status: payment.status.as_str(),
        order_id: payment.order_id.clone(),
        invoice_id: None,
        international: matches!(payment.instrument, Instrument::Card { international: true, .. }),
        method: method(payment),
        amount_refunded: payment.amount_refunded,
        amount_transferred: in_link.then_some(0),
        refund_status: match payment.amount_refunded {
            0 => None,
            _ if payment.status == PaymentStatus::Refunded => Some("full"),
            _ => Some("partial"),
        },
        captured,
        description: format!("#{}", payment.link_id.trim_start_matches("plink_")),
        card_id: payment.card_id.clone(),
        // The links service writes the key even when there is no card.
        card: card.or_else(|| in_link.then_some(Value::Null)),
        bank: None,
        wallet: None,
        upi: vpa
            .as_ref()
            .filter(|_| view != PaymentView::Plain)
            .map(|vpa| json!({"flow": "collect", "vpa": vpa})),
        vpa,
        email: payment.email.clone(),
        contact: payment.contact.clone(),
        notes: notes(payment.notes.as_ref()),
        fee: captured.then_some(payment.fee),
        fee_bearer: in_link.then_some("platform"),
        tax: captured.then_some(payment.tax),
        error_code: failure.map(|failure| failure.code),
        error_description: failure.map(|failure| failure.description),
        error_source: failure.map(|failure| failure.source),
        error_step: failure.map(|failure| failure.step),
        error_reason: failure.map(|failure| failure.reason),
        acquirer_data,
        created_at: payment.created_at,
        reward: (view == PaymentView::Captured).then_some(Value::Null),
        base_amount: (view != PaymentView::Plain).then_some(payment.amount),
    }
}

/// Card, UPI id and acquirer data.
fn instrument_fields(payment: &Payment) -> (Option<Value>, Option<String>, Value) {
    let paid = payment.failure.is_none();
    match &payment.instrument {
        Instrument::Card { network, last4, international } => {
            let card = json!({"id": payment.card_id, "entity": "card", "name": "", "last4": last4,
                "network": network, "type": "credit", "issuer": null, "international": international,
                "emi": false, "sub_type": "consumer", "token_iin": null});
            let auth_code = paid.then(|| payment.rrn[..6].to_owned());
            (Some(card), None, json!({"auth_code": auth_code}))
        }
        Instrument::Upi { vpa } => {
            let transaction = || hex::encode_upper(&Sha256::digest(payment.id.as_bytes())[..16]);
            let acquirer_data = if paid {
                json!({"rrn": payment.rrn, "upi_transaction_id": transaction()})
            } else {
                json!({"rrn": null})
            };
            (None, Some(vpa.clone()), acquirer_data)
        }
    }
}

#[derive(Serialize)]
pub(super) struct RefundEntity {
    id: String,
    entity: &'static str,
    amount: i64,
    currency: String,
    payment_id: String,
    notes: Value,
    receipt: Option<String>,
    acquirer_data: Value,
    created_at: i64,
    batch_id: Option<String>,
    status: &'static str,
    speed_processed: &'static str,
    speed_requested: String,
}

pub(super) fn refund(refund: &Refund) -> RefundEntity {
    let processed = refund.status == super::ledger::RefundStatus::Processed;
    RefundEntity {
        id: refund.id.clone(),
        entity: "refund",
        amount: refund.amount,
        currency: refund.currency.clone(),
        payment_id: refund.payment_id.clone(),
        notes: notes(refund.notes.as_ref()),
        receipt: refund.receipt.clone(),
        acquirer_data: json!({"arn": processed.then_some("10000000000000")}),
        created_at: refund.created_at,
        batch_id: None,
        status: refund.status.as_str(),
        speed_processed: "normal",
        speed_requested: refund.speed.clone(),
    }
}
