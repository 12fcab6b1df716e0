//! What a webhook says is not always enough, and the link itself is asked: whether it ended (events come in any order,
//! and one that is older than a payment must not end the session of a customer who paid), and whether a payment was
//! made on it (the notes of a payment can be set by the payer, with any purchase at the same account).

use super::{
    reconcile::{self, ReconcileError, Urgency, Verdict},
    session::{Cause, SessionId},
    store,
};
use crate::{app::App, tenancy::Scope};

/// Asks the provider about the link of an open session and settles what was paid on it; false when the link can
/// still be paid, against what the webhook says.
///
/// # Errors
/// The provider does not answer, or says paid and does not show the payment yet: nothing may be concluded.
pub async fn confirm_link_end(app: &App, scope: Scope, id: SessionId) -> Result<bool, ReconcileError> {
    let Some(session) = store::find(&app.pool, scope, id).await? else { return Ok(true) };
    if session.state.status.is_terminal() {
        return Ok(true);
    }
    let answer = reconcile::ask(app, &app.razorpay, &session, Cause::Reconcile, Urgency::Now).await?;
    Ok(answer.verdict != Verdict::Unpaid)
}

/// Whether the session's link lists the captured payment.
///
/// # Errors
/// The provider does not answer, or has no link under the session's reference (yet).
pub async fn confirm_payment(
    app: &App,
    scope: Scope,
    id: SessionId,
    provider_payment_id: &str,
) -> Result<bool, ReconcileError> {
    let Some(session) = store::find(&app.pool, scope, id).await? else { return Ok(false) };
    let listed = reconcile::captured_on_link(app, &session).await?;
    Ok(listed.iter().any(|payment| payment.id == provider_payment_id))
}
