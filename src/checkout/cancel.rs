//! Cancel and delete: the provider is asked first, paid wins, and no answer ends the session all the same.

use chrono::TimeDelta;

use super::{
    expire::{Shut, begin_closing, shut},
    model::Session,
    reconcile::ReconcileError,
    session::{Cause, Decision, SessionId, Status},
    settle::{News, SettleError, Settled, settle_as_read},
    store,
};
use crate::{app::App, http::ApiError, kit::checkpoint, razorpay, tenancy::Scope};

/// Until the worker takes up a cancel that could not be decided.
const SOON: TimeDelta = TimeDelta::seconds(2);

/// Ends an open session as `expired` with `cancelled_at`. A failed or expired one is returned as it is.
///
/// # Errors
/// 404 unknown; 400 `invalid_operation` when it is completed, or turns out to be paid.
pub async fn cancel(app: &App, scope: Scope, id: SessionId, cause: Cause) -> Result<Session, ApiError> {
    let session =
        store::find(&app.pool, scope, id).await?.ok_or_else(|| ApiError::not_found("checkout session"))?;
    let session = match session.state.status {
        Status::Initiated | Status::Pending => {
            let session = begin_closing(app, &session, Some(app.clock.now())).await?;
            checkpoint::reach("cancel.closing");
            match finish(app, &app.razorpay.hurried(), &session, cause).await {
                Err(error @ ReconcileError::PaidUnsettled) => {
                    // The worker goes on with the wish, soon: somebody waits.
                    let soon = app.clock.now() + SOON;
                    store::look_at(&app.pool, scope, id, soon).await?;
                    return Err(error.into());
                }
                done => done?,
            }
        }
        Status::Completed | Status::Failed | Status::Expired => session,
    };
    if session.state.status == Status::Completed {
        return Err(ApiError::invalid_operation("the checkout session is completed: it was paid")
            .detail("reason", "session_completed"));
    }
    Ok(session)
}

/// As [`cancel`], and hides the session from lists.
pub async fn delete(app: &App, scope: Scope, id: SessionId) -> Result<(), ApiError> {
    cancel(app, scope, id, Cause::Delete).await?;
    Ok(store::mark_deleted(&app.pool, scope, id, app.clock.now()).await?)
}

/// Carries out a recorded wish: also what the worker does when the process died after recording it.
pub async fn finish(
    app: &App,
    client: &razorpay::Client,
    session: &Session,
    cause: Cause,
) -> Result<Session, ReconcileError> {
    let link_closed = match shut(app, client, session, cause).await {
        Ok(Shut::Ended) => return Ok(reread(app, session).await?),
        Ok(Shut::Closed) => true,
        // Not silence: there is money, or our own tables did not answer. The worker goes on with the wish.
        Err(error @ (ReconcileError::PaidUnsettled | ReconcileError::Settle(_))) => return Err(error),
        // No answer: the session ends, the link goes on being cancelled, late money goes back.
        Err(error) => {
            tracing::warn!(session.id = %session.id, %error, "cancelled without the provider's word");
            false
        }
    };
    let news = News::CancelledByMerchant { link_closed };
    let Settled { session, decision, .. } = settle_as_read(app, session.clone(), news, cause).await?;
    checkpoint::reach("cancel.ended");
    debug_assert!(!matches!(decision, Decision::Refund(_)), "a cancel brings no money");
    Ok(session)
}

async fn reread(app: &App, session: &Session) -> Result<Session, SettleError> {
    store::find(&app.pool, session.scope, session.id).await?.ok_or(SettleError::NotFound)
}

impl From<ReconcileError> for ApiError {
    fn from(error: ReconcileError) -> Self {
        match error {
            ReconcileError::Settle(error) => error.into(),
            ReconcileError::Account(error) => error.into(),
            ReconcileError::PaidUnsettled => {
                Self::unavailable("the session is being paid; its payment is not confirmed yet", 5)
                    .detail("reason", "payment_in_progress")
            }
            ReconcileError::Provider(_) | ReconcileError::NoBudget => {
                Self::unavailable("the payment provider did not answer in time", 5)
            }
        }
    }
}
