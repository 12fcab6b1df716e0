//! A webhook says that a link ended: true or not, and since when, only the link itself can tell. Events come in any
//! order, and one that is older than a payment must not end the session of a customer who paid.

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
