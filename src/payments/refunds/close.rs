//! A person's word that the customer has the money by another way.

use super::{
    RefundId, RefundStatus,
    record::update_in,
    store::{self, Key},
};
use crate::{
    app::App,
    db::{self, Tx},
    tenancy::Scope,
    worker::Work,
};

/// What became of a wish to close a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is `SUCCEEDED` now, and the merchant is told.
    Now {
        /// What it was.
        from: RefundStatus,
        /// Razorpay's refund, where it had one: nobody knows whether that one still goes through.
        gateway_refund_id: Option<String>,
        /// The payment that it gives back.
        provider_payment_id: String,
    },
    /// It had succeeded before. Nothing was changed.
    Already,
    /// There is no such refund.
    Unknown,
}

/// Ends a refund that Razorpay cannot make, as succeeded; `note` says how the customer got the money. Nothing is sent
/// from then on: a worker that holds it loses its lease.
pub async fn close(app: &App, id: RefundId, note: &str) -> Result<Closed, db::Error> {
    let Some(scope) = store::find_scope_any_scope(&app.pool, id).await? else { return Ok(Closed::Unknown) };
    let (own, note) = (app.clone(), note.to_owned());
    let closed = db::transact(&app.pool, "close_refund", move |tx| {
        let (app, note) = (own.clone(), note.clone());
        Box::pin(async move { close_in(&app, tx, scope, id, &note).await })
    })
    .await?;
    app.wake.notify(Work::Deliveries);
    Ok(closed)
}

async fn close_in(
    app: &App,
    tx: &mut Tx,
    scope: Scope,
    id: RefundId,
    note: &str,
) -> Result<Closed, db::Error> {
    let Some(mut refund) = store::lock_refund(tx, scope, Key::Refund(id)).await? else {
        return Ok(Closed::Unknown);
    };
    let (from, now) = (refund.status, app.clock.now());
    let Some(event) = refund.close(note, now) else { return Ok(Closed::Already) };
    // The row is locked: it is what was read.
    update_in(app, tx, &mut refund, from, Some(event), now).await?;
    Ok(Closed::Now {
        from,
        gateway_refund_id: refund.gateway_refund_id,
        provider_payment_id: refund.provider_payment_id,
    })
}
