//! The worker's look at a session: creates that were left open, the deadline, and links that must die.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    aftercare, cancel,
    model::Session,
    reconcile::{self, ReconcileError, Urgency, Verdict},
    schedule::{self, DEADLINE_PATIENCE},
    session::{Cause, LinkState, Status},
    settle::{News, SettleError, mark_link_as_read, settle_as_read},
    store::{self, Lease},
};
use crate::{
    app::App,
    kit::checkpoint,
    razorpay::{self, ProviderError},
    tenancy,
    worker::{Job, Leased, Work},
};

/// Looks at every session whose `check_at` has come.
pub struct CheckSessions;

/// Longer than the provider's budget; a worker that dies holds a session up for this long.
const LEASE: TimeDelta = TimeDelta::seconds(60);

impl Job for CheckSessions {
    type Lease = Lease;
    const WORK: Work = Work::Sessions;
    const SLOTS: usize = 16;
    const POLL: Duration = Duration::from_secs(1);

    async fn claim(&self, app: &App, free: usize) -> anyhow::Result<Vec<Lease>> {
        let now = app.clock.now();
        let limit = i64::try_from(free)?;
        Ok(store::claim_due_any_scope(&app.pool, now, now + LEASE, app.ids.uuid(), limit).await?)
    }

    async fn step(&self, app: &App, lease: Lease) -> anyhow::Result<()> {
        checkpoint::reach("check.claimed");
        app.overload.yield_to_payments().await;
        let Some(session) = store::find(&app.pool, lease.scope, lease.session).await? else { return Ok(()) };
        let (next, failed) = match look(app, &session).await {
            Ok(next) => (next, false),
            Err(ReconcileError::NoBudget) => (Some(schedule::after_budget(app, &session)), false),
            Err(error) => {
                report(app, &session, &error);
                (Some(schedule::after_failure(app, &session)), true)
            }
        };
        checkpoint::reach("check.looked");
        Ok(store::finish_check(&app.pool, &lease, next, failed).await?)
    }

    async fn release(&self, app: &App, tokens: &[Uuid]) -> anyhow::Result<()> {
        Ok(store::release_any_scope(&app.pool, tokens).await?)
    }
}

impl Leased for Lease {
    fn token(&self) -> Uuid {
        self.token
    }
}

/// A session that cannot be checked is tried again for ever; past its time, people must know.
fn report(app: &App, session: &Session, error: &ReconcileError) {
    let overdue = app.clock.now() - session.expires_at;
    match session.state.status {
        Status::Initiated | Status::Pending if overdue > DEADLINE_PATIENCE + TimeDelta::minutes(1) => {
            tracing::error!(alert = "session_overdue", session.id = %session.id, %error, "a session cannot end");
        }
        Status::Failed | Status::Expired
            if session.state.link_state == LinkState::Closing && overdue > TimeDelta::hours(1) =>
        {
            tracing::error!(alert = "link_not_closed", session.id = %session.id, %error, "a link cannot be cancelled");
        }
        _ => tracing::warn!(session.id = %session.id, %error, "a session could not be checked"),
    }
}

/// Does what is due, and says when to look again.
async fn look(app: &App, session: &Session) -> Result<Option<DateTime<Utc>>, ReconcileError> {
    let now = app.clock.now();
    match (session.state.status, session.state.link_state) {
        (Status::Failed | Status::Expired, LinkState::Closing) => close_for_good(app, session).await,
        (Status::Failed | Status::Expired, LinkState::None) => find_late_link(app, session).await,
        (Status::Completed | Status::Failed | Status::Expired, _) => aftercare::look(app, session).await,
        (Status::Initiated | Status::Pending, _) if session.cancelled_at.is_some() => {
            cancel::finish(app, &app.razorpay, session, Cause::Cancel).await?;
            Ok(None)
        }
        (Status::Initiated | Status::Pending, _) if now >= session.expires_at => {
            at_deadline(app, session, now).await
        }
        (Status::Initiated, _) => {
            reconcile::resume_create(app, session).await?;
            // It changed, and with the change its next look was planned and this lease ended.
            Ok(Some(session.expires_at))
        }
        (Status::Pending, _) => {
            let answer =
                reconcile::ask(app, &app.razorpay, session, Cause::Reconcile, Urgency::CanWait).await?;
            reconcile::end_dead_link(app, answer, Cause::Reconcile, now).await?;
            Ok(Some(schedule::next_look(app, session)))
        }
    }
}

/// Time is up. Cancelling the link asks the provider at the same time: it refuses when somebody has paid.
async fn at_deadline(
    app: &App,
    session: &Session,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, ReconcileError> {
    let session = begin_closing(app, session, None).await?;
    checkpoint::reach("expire.closing");
    let closed = match shut(app, &app.razorpay, &session, Cause::Deadline).await {
        Ok(Shut::Ended) => return Ok(None),
        Ok(Shut::Closed) => true,
        // Not silence: there is money, or our own tables did not answer.
        Err(error @ (ReconcileError::PaidUnsettled | ReconcileError::Settle(_))) => return Err(error),
        // The provider does not answer. After ten minutes the customer's time is up all the same, and money
        // that comes later goes back.
        Err(error) if now >= session.expires_at + DEADLINE_PATIENCE => {
            tracing::warn!(session.id = %session.id, %error, "expired without the provider's word");
            false
        }
        Err(error) => return Err(error),
    };
    settle_as_read(app, session, News::DeadlineUnpaid { link_closed: closed }, Cause::Deadline).await?;
    Ok(None)
}

/// Records the wish before the call: when the process dies between the two, the worker goes on from here,
/// and the provider's `payment_link.cancelled` is known to be our own doing.
pub async fn begin_closing(
    app: &App,
    session: &Session,
    cancelled_at: Option<DateTime<Utc>>,
) -> Result<Session, SettleError> {
    let wish = move |session: &mut Session| {
        if session.state.status.is_terminal() {
            return false;
        }
        if session.state.link_state == LinkState::Open {
            session.state.link_state = LinkState::Closing;
        }
        session.cancelled_at = session.cancelled_at.or(cancelled_at);
        true
    };
    // The worker's own call keeps its lease; a request's ends it.
    mark_link_as_read(app, session, wish, Some(app.clock.now() + LEASE), cancelled_at.is_none()).await
}

/// What shutting a link came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Nobody can pay on it, and nobody did: the session may end.
    Closed,
    /// The session ended meanwhile: paid, most likely.
    Ended,
}

/// Cancels the link of an open session at the provider; settles a payment if there was one.
///
/// # Errors
/// [`ReconcileError::PaidUnsettled`] also when the provider refused to cancel and then could not be asked why: that is
/// not silence, it may well be paid.
pub async fn shut(
    app: &App,
    client: &razorpay::Client,
    session: &Session,
    cause: Cause,
) -> Result<Shut, ReconcileError> {
    if session.state.status.is_terminal() {
        return Ok(Shut::Ended);
    }
    let mut refused = false;
    if let Some(link_id) = &session.state.link_id {
        let account = tenancy::connection_account(app, session.scope, session.connection).await?;
        match client.cancel_link(&account.credentials, link_id).await {
            Ok(_) => {
                checkpoint::reach("shut.cancelled");
                return Ok(Shut::Closed);
            }
            // A refusal is information, unless it is the key pair's: look what the link is.
            Err(error @ ProviderError::Rejected { .. }) => refused = !error.is_authentication(),
            Err(error) => return Err(error.into()),
        }
    }
    let answer = match reconcile::ask(app, client, session, cause, Urgency::Now).await {
        Err(ReconcileError::Provider(error)) if refused => {
            tracing::warn!(session.id = %session.id, %error, "the link could not be cancelled, nor asked why");
            return Err(ReconcileError::PaidUnsettled);
        }
        answer => answer?,
    };
    match answer.verdict {
        _ if answer.session.state.status.is_terminal() => Ok(Shut::Ended),
        Verdict::Cancelled | Verdict::Expired | Verdict::Absent => Ok(Shut::Closed),
        // Paid with the wrong amount: the money goes back and the link is used up.
        Verdict::Paid => Ok(Shut::Closed),
        // It has only now become known: nobody has tried to cancel it.
        Verdict::Unpaid if session.state.link_id.is_none() => {
            let session = begin_closing(app, &answer.session, None).await?;
            Box::pin(shut(app, client, &session, cause)).await
        }
        Verdict::Unpaid => Err(still_payable()),
    }
}

/// The provider refused to cancel the link, and says that it can be paid.
fn still_payable() -> ReconcileError {
    ProviderError::Unavailable("the link can neither be cancelled nor is it closed".into()).into()
}

/// An ended session's link: cancelled until the provider confirms. Late money goes back.
async fn close_for_good(app: &App, session: &Session) -> Result<Option<DateTime<Utc>>, ReconcileError> {
    let Some(link_id) = &session.state.link_id else { return Ok(None) };
    let account = tenancy::connection_account(app, session.scope, session.connection).await?;
    match app.razorpay.cancel_link(&account.credentials, link_id).await {
        Ok(_) => {}
        Err(ProviderError::Rejected { .. }) => {
            let answer = reconcile::ask(app, &app.razorpay, session, Cause::Reconcile, Urgency::Now).await?;
            if answer.verdict == Verdict::Unpaid {
                return Err(still_payable());
            }
        }
        Err(error) => return Err(error.into()),
    }
    checkpoint::reach("close.cancelled");
    let next = schedule::aftercare(session, app.clock.now());
    let closed = |session: &mut Session| {
        session.state.link_state = LinkState::Closed;
        true
    };
    mark_link_as_read(app, session, closed, next, true).await?;
    Ok(next)
}

/// A session that ended before its link was known: if the link was made after all, it is closed.
async fn find_late_link(app: &App, session: &Session) -> Result<Option<DateTime<Utc>>, ReconcileError> {
    let answer = reconcile::ask(app, &app.razorpay, session, Cause::Reconcile, Urgency::Now).await?;
    let (now, session) = (app.clock.now(), answer.session);
    match answer.verdict {
        // Lists have been seen to lag by minutes: one more look.
        Verdict::Absent if now - schedule::end_of(&session) < schedule::LONG_LIST_LAG => {
            Ok(Some(now + schedule::LONG_LIST_LAG))
        }
        _ => Ok((session.state.link_state == LinkState::Closing).then_some(now)),
    }
}
