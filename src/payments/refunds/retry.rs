//! A person's wish to try a refund again.

use super::{
    RefundId, RefundStatus,
    record::update_in,
    refund::Refund,
    store::{self, Key},
};
use crate::{
    app::App,
    db::{self, Tx},
    http::{ApiError, Named, Reserved},
    tenancy::Scope,
    worker::Work,
};

/// Makes a failed refund, or one that waits, due at once. Of several at once, one has an effect; so has one of several
/// runs of the same request, unless it failed in between.
///
/// # Errors
/// 404; 400 while the provider has it, and once it succeeded.
pub async fn retry(app: &App, scope: Scope, id: RefundId, reserved: Reserved) -> Result<Refund, ApiError> {
    let own = app.clone();
    let refund = db::transact(&app.pool, "retry_refund", move |tx| {
        let (app, reserved) = (own.clone(), reserved.clone());
        Box::pin(async move { retry_in(&app, tx, scope, id, &reserved).await })
    })
    .await?;
    app.wake.notify(Work::Refunds);
    Ok(refund)
}

async fn retry_in(
    app: &App,
    tx: &mut Tx,
    scope: Scope,
    id: RefundId,
    reserved: &Reserved,
) -> Result<Refund, ApiError> {
    reserved.fence_in(tx).await?;
    let found = store::lock_refund(tx, scope, Key::Refund(id)).await?;
    let mut refund = found.ok_or_else(|| ApiError::not_found(RefundId::NOUN))?;
    let (from, now) = (refund.status, app.clock.now());
    match refund.try_again(app.ids.next(), now) {
        // It is on its way: that was wanted. One that failed meanwhile, or still waits, is tried again: who changed it,
        // an earlier run or a worker, does not show.
        Err(_) if reserved.may_have_made(refund.updated_at) => return Ok(refund),
        tried => tried.map_err(refusal)?,
    }
    update_in(app, tx, &mut refund, from, None, now).await?;
    tracing::info!(refund.id = %id, refund.status = from.as_str(), "a refund is to be tried again");
    Ok(refund)
}

fn refusal(status: RefundStatus) -> ApiError {
    let (message, reason) = match status {
        RefundStatus::Succeeded => ("the money went back already", "refund_succeeded"),
        _ => ("Razorpay has the refund: it is followed until it ends", "refund_in_progress"),
    };
    ApiError::invalid_operation(message).detail("reason", reason).detail("refund_status", status.as_str())
}
