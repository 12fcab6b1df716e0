//! Looks at a session after its end: money that came although nobody told us, and webhooks that never came.

use chrono::{DateTime, Utc};

use super::{
    model::Session,
    reconcile::{self, ReconcileError, Urgency, Verdict},
    schedule,
    session::{Cause, Status},
    settle::{News, settle},
};
use crate::{
    app::App,
    payments::{self, ProviderPayment},
    razorpay::{Credentials, Link, LinkStatus, PaymentStatus},
    tenancy,
};

/// Settles what has come since the end, and says when to look again: once more when nobody tried to pay so far.
pub async fn look(app: &App, session: &Session) -> Result<Option<DateTime<Utc>>, ReconcileError> {
    let now = app.clock.now();
    let answer = reconcile::ask(app, &app.razorpay, session, Cause::Reconcile, Urgency::CanWait).await?;
    if answer.verdict == Verdict::Unpaid {
        // Paid in another way than on its link: that must not be paid on top.
        cancel(app, &answer.session).await?;
    }
    close_other_links(app, &answer.session).await?;
    let is_first = schedule::is_first_aftercare(session, now);
    if is_first {
        note_missing_webhook(app, session).await?;
    }
    Ok(if answer.attempted || is_first { schedule::aftercare(session, now) } else { None })
}

async fn cancel(app: &App, session: &Session) -> Result<(), ReconcileError> {
    let Some(link_id) = &session.state.link_id else { return Ok(()) };
    let account = tenancy::connection_account(app, session.scope, session.connection).await?;
    app.razorpay.cancel_link(&account.credentials, link_id).await?;
    Ok(())
}

/// Razorpay promises one link per reference. Should there be another all the same, nobody may pay on it, and who
/// did gets the money back.
async fn close_other_links(app: &App, session: &Session) -> Result<(), ReconcileError> {
    let account = tenancy::connection_account(app, session.scope, session.connection).await?;
    let credentials = &account.credentials;
    let links = app.razorpay.find_links(credentials, &session.id.to_string()).await?;
    let others = links.into_iter().filter(|link| session.state.link_id.as_ref() != Some(&link.id));
    for link in others {
        tracing::error!(alert = "second_link", session.id = %session.id, link.id = link.id, "a second link under one reference");
        if link.status == LinkStatus::Created {
            app.razorpay.cancel_link(credentials, &link.id).await?;
        }
        settle_other(app, credentials, session, &link).await?;
    }
    Ok(())
}

async fn settle_other(
    app: &App,
    credentials: &Credentials,
    session: &Session,
    link: &Link,
) -> Result<(), ReconcileError> {
    let link = app.razorpay.fetch_link(credentials, &link.id).await?;
    for payment in app.razorpay.captured_payments(credentials, &link, true).await? {
        let refunded = payment.status == PaymentStatus::Refunded;
        let captured = ProviderPayment::captured(&payment.id, payment.amount, &payment.currency, refunded);
        if let Some(payment) = captured {
            let news = News::Paid { payment, link_id: None };
            settle(app, session.scope, session.id, news, Cause::Reconcile).await?;
        }
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
