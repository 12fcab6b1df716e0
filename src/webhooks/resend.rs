//! Sending one delivery again, by hand.

use super::{DeliveryId, DeliveryStatus, delivery_store as store, endpoint, endpoint_store, queue_store};
use crate::{
    app::App,
    db,
    http::{ApiError, Named, Reserved},
    tenancy::Scope,
    worker::Work,
};

/// Makes a delivery due, whatever became of it, and starts its schedule anew: the same event with the same
/// `webhook-id`. One that is under way is left alone, and so is one that was delivered since an earlier run of the request.
///
/// # Errors
/// 404; 400 while its endpoint is disabled, or when it was deleted.
pub async fn resend(app: &App, scope: Scope, id: DeliveryId, reserved: Reserved) -> Result<(), ApiError> {
    let now = app.clock.now();
    let delivery = store::find_delivery(&app.pool, scope, id).await?;
    let delivery = delivery.ok_or_else(|| ApiError::not_found(DeliveryId::NOUN))?;
    // Only then: whether an earlier run or a worker has changed it does not show, and to make it due again is harmless.
    let is_delivered = delivery.status == DeliveryStatus::Delivered.as_str();
    if is_delivered && reserved.may_have_made(delivery.updated_at) {
        return Ok(());
    }
    let endpoint = delivery.webhook_endpoint_id;
    let changed = db::transact(&app.pool, "resend_delivery", move |tx| {
        let reserved = reserved.clone();
        Box::pin(async move {
            reserved.fence_in(tx).await?;
            // The endpoint first: it must not be disabled between the look and the change.
            let enabled = queue_store::lock_endpoint(tx, scope, endpoint).await?;
            if endpoint_store::find_endpoint(&mut *tx, scope, endpoint).await?.is_none() {
                return Err(ApiError::invalid_operation("the webhook endpoint was deleted")
                    .detail("reason", "endpoint_deleted"));
            }
            if !enabled {
                return Err(endpoint::disabled());
            }
            Ok(store::restart_delivery(tx, scope, id, now).await?)
        })
    })
    .await?;
    tracing::info!(delivery.id = %id, changed, "a delivery is to be sent again");
    app.wake.notify(Work::Deliveries);
    Ok(())
}
