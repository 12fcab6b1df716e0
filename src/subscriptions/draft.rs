//! Drafts: only a checkout makes them, and only its payment starts them. Nobody else decides about one.

use super::{Subscription, SubscriptionId, SubscriptionStatus, store};
use crate::{
    app::App,
    db::{self, RowStatus},
    http::{ApiError, Named},
    kit::ids,
    tenancy::Scope,
};

/// A published subscription that is no draft; `why` it may not be one is told with the session that decides.
///
/// # Errors
/// 404 unknown, or archived with its checkout; 400 `invalid_operation` for a draft.
pub async fn refuse_draft(
    app: &App,
    scope: Scope,
    id: SubscriptionId,
    why: &str,
) -> Result<Subscription, ApiError> {
    let found = store::find(&app.pool, scope, id).await?;
    let subscription = found
        .filter(|subscription| subscription.status == RowStatus::Published)
        .ok_or_else(|| ApiError::not_found(SubscriptionId::NOUN))?;
    if subscription.subscription_status == SubscriptionStatus::Draft {
        return Err(
            decided_by_checkout(app, scope, id, &format!("the subscription is a draft: {why}")).await?
        );
    }
    Ok(subscription)
}

/// 400 for whoever wants to decide about what an open checkout of `subscription` drafted; names the session, which can
/// be cancelled instead.
pub async fn decided_by_checkout(
    app: &App,
    scope: Scope,
    subscription: SubscriptionId,
    message: &str,
) -> Result<ApiError, db::Error> {
    let session = store::find_session(&app.pool, scope, subscription).await?;
    // Checkout's ids are not known down here.
    let session = session.map(|session| ids::encode("chk", session)).unwrap_or_default();
    let message =
        format!("{message}; its checkout decides, POST /v1/checkout/sessions/{session}/cancel gives it up");
    Ok(ApiError::invalid_operation(message)
        .detail("reason", "checkout_pending")
        .detail("checkout_session_id", session))
}
