//! Looks at a session after its end: money that came although nobody told us, and webhooks that never came.

use chrono::{DateTime, Utc};

use super::{
    model::Session,
    reconcile::{self, ReconcileError, Urgency, Verdict},
    schedule,
    session::{Cause, Status},
};
use crate::{
    app::App,
    payments,
    razorpay::{Credentials, LinkStatus},
    tenancy,
};

/// Settles what has come since the end, and says when to look again: once more when nobody tried to pay so far.
pub async fn look(app: &App, session: &Session) -> Result<Option<DateTime<Utc>>, ReconcileError> {
    let now = app.clock.now();
    let answer = reconcile::ask(app, &app.razorpay, session, Cause::Reconcile, Urgency::CanWait).await?;
    let account = tenancy::connection_account(app, session.scope, session.connection).await?;
    if let (Verdict::Unpaid, Some(link_id)) = (answer.verdict, &answer.session.state.link_id) {
        // Paid in another way than on its link: that must not be paid on top.
        app.razorpay.cancel_link(&account.credentials, link_id).await?;
    }
    close_other_links(app, &account.credentials, answer.session).await?;
    let is_first = schedule::is_first_aftercare(session, now);
    if is_first {
        note_missing_webhook(app, session).await?;
    }
    Ok(if answer.attempted || is_first { schedule::aftercare(session, now) } else { None })
}

/// Razorpay promises one link per reference. Should there be another all the same, nobody may pay on it, and who
/// did gets the money back.
async fn close_other_links(
    app: &App,
    credentials: &Credentials,
    mut session: Session,
) -> Result<(), ReconcileError> {
    let links = app.razorpay.find_links(credentials, &session.id.to_string()).await?;
    for link in links {
        if session.state.link_id.as_ref() == Some(&link.id) {
            continue;
        }
        tracing::error!(alert = "second_link", session.id = %session.id, link.id = link.id, "a second link under one reference");
        if link.status == LinkStatus::Created {
            app.razorpay.cancel_link(credentials, &link.id).await?;
        }
        // A list leaves out payments.
        let link = app.razorpay.fetch_link(credentials, &link.id).await?;
        session =
            reconcile::settle_payments(app, &app.razorpay, credentials, session, &link, Cause::Reconcile)
                .await?;
    }
    Ok(())
}

/// A session that was paid, and minutes later no webhook has told so: Razorpay's webhook is off, or fails.
async fn note_missing_webhook(app: &App, session: &Session) -> Result<(), ReconcileError> {
    let paid = session.state.status == Status::Completed;
    if paid && !payments::was_told_by_webhook(app, session.scope, session.id.into()).await? {
        tracing::error!(
            alert = "webhooks_missing",
            environment.id = %session.scope.environment,
            session.id = %session.id,
            "paid, but no webhook came: is payment_link.paid enabled at Razorpay?"
        );
    }
    Ok(())
}
