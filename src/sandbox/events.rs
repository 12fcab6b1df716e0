//! Bodies of webhook events. Payment and order events list their keys in one order, link and refund events
//! alphabetically; a receiver must not care, and here it can find out whether it does.

use serde::Serialize;
use serde_json::{Value, json};

use super::ledger::{Link, Order, Payment, Refund};
use super::wire::{self, LinkView, OrderEntity, PaymentEntity, PaymentView};

#[derive(Serialize)]
struct Event<'a> {
    entity: &'static str,
    account_id: &'a str,
    #[serde(rename = "event")]
    name: &'a str,
    contains: &'static [&'static str],
    payload: Payload,
    /// Unix seconds of the event.
    created_at: i64,
}

#[derive(Serialize)]
struct Payload {
    payment: Wrapped<PaymentEntity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Wrapped<OrderEntity>>,
}

#[derive(Serialize)]
struct Wrapped<T> {
    entity: T,
}

/// `payment.authorized`, `payment.captured`, `payment.failed`.
pub(super) fn payment_event(event: &str, payment: &Payment, now: i64) -> String {
    let view = if event == "payment.captured" { PaymentView::Captured } else { PaymentView::Plain };
    wire::compact(&Event {
        entity: "event",
        account_id: &payment.account_id,
        name: event,
        contains: &["payment"],
        payload: Payload { payment: Wrapped { entity: wire::payment(payment, view) }, order: None },
        created_at: now,
    })
}

/// `order.paid`.
pub(super) fn order_paid(order: &Order, payment: &Payment, now: i64) -> String {
    wire::compact(&Event {
        entity: "event",
        account_id: &payment.account_id,
        name: "order.paid",
        contains: &["payment", "order"],
        payload: Payload {
            payment: Wrapped { entity: wire::payment(payment, PaymentView::Captured) },
            order: Some(Wrapped { entity: wire::order(order) }),
        },
        created_at: now,
    })
}

/// `payment_link.*`. Its `created_at` is that of the link, not of the event.
pub(super) fn link_event(event: &str, link: &Link, paid_by: Option<(&Order, &Payment)>) -> String {
    let mut contains = vec!["payment_link"];
    let mut payload = json!({"payment_link": {"entity": wire::link(link, LinkView::Event)}});
    if let Some((order, payment)) = paid_by {
        contains.extend(["order", "payment"]);
        payload["order"] = json!({"entity": wire::alphabetical(&wire::order(order))});
        payload["payment"] =
            json!({"entity": wire::alphabetical(&wire::payment(payment, PaymentView::Link))});
    }
    alphabetical_event(event, &link.account_id, &contains, &payload, link.created_at())
}

/// `refund.*`.
pub(super) fn refund_event(event: &str, refund: &Refund, payment: &Payment, now: i64) -> String {
    let payload = json!({
        "payment": {"entity": wire::alphabetical(&wire::payment(payment, PaymentView::Captured))},
        "refund": {"entity": wire::alphabetical(&wire::refund(refund))},
    });
    alphabetical_event(event, &refund.account_id, &["refund", "payment"], &payload, now)
}

fn alphabetical_event(
    event: &str,
    account_id: &str,
    contains: &[&str],
    payload: &Value,
    created_at: i64,
) -> String {
    json!({"account_id": account_id, "contains": contains, "created_at": created_at, "entity": "event",
           "event": event, "payload": payload})
    .to_string()
}
