//! The row comes first; and every change of it is written together with the event that tells of it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{RefundId, RefundReason, RefundStatus, refund::Refund, store, view::RefundResponse};
use crate::{
    app::App,
    db::{self, Tx},
    invoices::InvoiceId,
    payments::{PaymentId, ProviderPayment},
    tenancy::{ConnectionId, Scope},
    webhooks::{self, EventType},
};

/// Money that goes back, in full.
#[derive(Clone, Debug)]
pub struct NewRefund {
    /// Its id.
    pub id: RefundId,
    /// The session it was captured for.
    pub session: Uuid,
    /// That session's payment.
    pub payment: PaymentId,
    /// That session's invoice.
    pub invoice: InvoiceId,
    /// The account that holds it.
    pub connection: ConnectionId,
    /// What was captured; already on record with the fate `refund`.
    pub captured: ProviderPayment,
    /// Why. What was refunded already ends here: nothing is left to send.
    pub reason: RefundReason,
}

/// Records a refund, due at once, with its first events. After the commit, wake
/// [`crate::worker::Work::Refunds`] and [`crate::worker::Work::Deliveries`].
pub async fn record_refund_in(
    app: &App,
    tx: &mut Tx,
    scope: Scope,
    new: NewRefund,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    let events: &[EventType] = match new.reason {
        RefundReason::LatePayment => &[EventType::PaymentLate, EventType::RefundCreated],
        RefundReason::RefundedAlready => &[EventType::RefundCreated, EventType::RefundSucceeded],
        RefundReason::DuplicatePayment | RefundReason::AmountMismatch => &[EventType::RefundCreated],
    };
    let mut refund = first_state(scope, new, now);
    store::insert_refund(tx, &refund, events.len()).await?;
    for event in events {
        refund.event_count += 1;
        emit_in(app, tx, &refund, *event, now).await?;
    }
    Ok(())
}

fn first_state(scope: Scope, new: NewRefund, now: DateTime<Utc>) -> Refund {
    let done = new.reason == RefundReason::RefundedAlready;
    Refund {
        scope,
        id: new.id,
        session: new.session,
        payment: new.payment,
        invoice: new.invoice,
        connection: new.connection,
        provider_payment_id: new.captured.provider_payment_id,
        amount: new.captured.amount,
        status: if done { RefundStatus::Succeeded } else { RefundStatus::Pending },
        reason: new.reason,
        gateway_refund_id: None,
        idempotency_key: new.id,
        send_minor: None,
        attempt_count: 0,
        failure_count: 0,
        last_error: None,
        next_attempt_at: now,
        lease_token: None,
        event_count: 0,
        initiated_at: None,
        succeeded_at: done.then_some(now),
        failed_at: None,
        alerted_at: None,
        created_at: now,
        updated_at: now,
    }
}

/// Writes `refund`, which was `from` when its row was locked, and tells of it. False when the row changed since:
/// then nothing is written.
pub async fn update_in(
    app: &App,
    tx: &mut Tx,
    refund: &mut Refund,
    from: RefundStatus,
    event: Option<EventType>,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    refund.updated_at = now;
    if !store::update_refund(tx, refund, from).await? {
        return Ok(false);
    }
    if let Some(event) = event {
        emit_in(app, tx, refund, event, now).await?;
    }
    // Before the commit: told twice rather than never.
    if event == Some(EventType::RefundFailed) {
        tracing::error!(
            alert = "refund_failed",
            refund.id = %refund.id,
            provider_payment.id = refund.provider_payment_id,
            refund.gateway_id = refund.gateway_refund_id,
            "a refund failed at Razorpay"
        );
    }
    Ok(true)
}

async fn emit_in(
    app: &App,
    tx: &mut Tx,
    refund: &Refund,
    event_type: EventType,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    // Before the commit, as the alert: counted twice, in rare cases, rather than never.
    metrics::counter!("checkoutd_refunds_total", "outcome" => event_type.as_str()).increment(1);
    let (id, subject) = (app.ids.next(), Uuid::from(refund.id));
    let object = RefundResponse::new(refund);
    let event = webhooks::freeze(id, event_type, subject, refund.event_count, now, "refund", &object)
        .map_err(|error| db::Error::Encode(error.into()))?;
    webhooks::emit_in(tx, refund.scope, &event, &webhooks::delivery_ids(&app.ids)).await?;
    Ok(())
}
