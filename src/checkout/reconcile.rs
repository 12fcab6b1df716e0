//! Asking the provider: one read of a session's link, and what it says as facts.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    link,
    model::Session,
    session::{Cause, LinkState},
    settle::{News, SettleError, settle},
    store,
};
use crate::{
    app::App,
    customers, db,
    kit::checkpoint,
    payments::ProviderPayment,
    razorpay::{self, Credentials, Link, LinkStatus, Payment, PaymentStatus, ProviderError},
    tenancy::{self, AccountError},
};

/// Why the provider's view could not be had or used.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The provider.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The provider says that money was paid, and not all of it could be read yet. The session must not end.
    #[error("paid at the provider, but the payment cannot be read yet")]
    PaidUnsettled,
    /// The account's budget of reads is used up; what can wait, waits.
    #[error("the account's budget of provider reads is used up")]
    NoBudget,
    /// The connection's credentials.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// Our own tables.
    #[error(transparent)]
    Settle(#[from] SettleError),
}

impl From<db::Error> for ReconcileError {
    fn from(error: db::Error) -> Self {
        Self::Settle(error.into())
    }
}

/// What the provider says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Money was captured; it has been settled.
    Paid,
    /// Still payable.
    Unpaid,
    /// Nobody can pay on it any more, and nobody did: it was cancelled.
    Cancelled,
    /// The same: its time was up.
    Expired,
    /// There is no link under our reference, as far as the provider's lists tell.
    Absent,
}

/// What a look at the provider brought.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the provider says of the link.
    pub verdict: Verdict,
    /// The session, after what was found has been settled.
    pub session: Session,
    /// Whether anybody ever tried to pay on the link.
    pub attempted: bool,
}

/// Whether a look may be put off when the account's budget of reads is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A deadline, a wish or a payer waits for it.
    Now,
    /// It only makes things faster than the next look would.
    CanWait,
    /// The same, for readers: they leave a part of the budget to the worker, or many of them would starve it.
    Poll,
}

/// Reads the link of `session` once and settles what it says about money and about the link's existence.
/// Does not end the session: that is for the caller, who knows about deadlines and wishes, and whose `client`
/// is as patient as whoever waits for the answer.
pub async fn ask(
    app: &App,
    client: &razorpay::Client,
    session: &Session,
    cause: Cause,
    urgency: Urgency,
) -> Result<Answer, ReconcileError> {
    let account = tenancy::connection_account(app, session.scope, session.connection).await?;
    let credentials = &account.credentials;
    let may_ask = match urgency {
        Urgency::Now => true,
        Urgency::CanWait => client.has_spare_read(credentials, 0.0),
        Urgency::Poll => client.has_spare_read(credentials, 0.25),
    };
    if !may_ask {
        return Err(ReconcileError::NoBudget);
    }
    let Some((link, session)) = known_link(app, client, credentials, session, cause).await? else {
        return Ok(Answer { verdict: Verdict::Absent, session: session.clone(), attempted: false });
    };
    let is_paid = matches!(link.status, LinkStatus::Paid | LinkStatus::PartiallyPaid) || link.amount_paid > 0;
    // Money that was on its way when the link died need not show on the link: its order lists it.
    let may_be_late = session.state.status.is_terminal() && link.order_id.is_some();
    let session = if is_paid || may_be_late {
        settle_payments(app, client, credentials, session, &link, cause).await?
    } else {
        session
    };
    let verdict = match link.status {
        LinkStatus::Paid | LinkStatus::PartiallyPaid => Verdict::Paid,
        LinkStatus::Created => Verdict::Unpaid,
        LinkStatus::Cancelled => Verdict::Cancelled,
        LinkStatus::Expired => Verdict::Expired,
        // Nothing is concluded from a word that is not known.
        LinkStatus::Other => {
            return Err(ProviderError::Unavailable("the link's status is unknown".into()).into());
        }
    };
    Ok(Answer { verdict, session, attempted: link.order_id.is_some() || is_paid })
}

/// The session's link with all its details: a list of links leaves out payments, so that one which is found in a
/// list is fetched by id as well.
async fn known_link(
    app: &App,
    client: &razorpay::Client,
    credentials: &Credentials,
    session: &Session,
    cause: Cause,
) -> Result<Option<(Link, Session)>, ReconcileError> {
    if let Some(link_id) = &session.state.link_id {
        let link = client.fetch_link(credentials, link_id).await?;
        return Ok(Some((link, session.clone())));
    }
    let Some(found) = client.find_link(credentials, &session.id.to_string()).await? else {
        return Ok(None);
    };
    let link_id = found.id.clone();
    let news = match client.vetted(found, &session.id.to_string(), session.state.amount) {
        Ok(link) => News::LinkCreated { link_id: link.id, url: link.short_url },
        Err(_) => News::LinkMismatched { link_id: link_id.clone() },
    };
    let settled = settle(app, session.scope, session.id, news, cause).await?;
    let link = client.fetch_link(credentials, &link_id).await?;
    Ok(Some((link, settled.session)))
}

/// All captured payments on the link of `session`, those included that came after its end.
pub async fn captured_on_link(app: &App, session: &Session) -> Result<Vec<Payment>, ReconcileError> {
    let account = tenancy::connection_account(app, session.scope, session.connection).await?;
    let (client, credentials) = (&app.razorpay, &account.credentials);
    let Some((link, _)) = known_link(app, client, credentials, session, Cause::Reconcile).await? else {
        return Err(
            ProviderError::Unavailable("there is no link under the session's reference".into()).into()
        );
    };
    Ok(client.captured_payments(credentials, &link, true).await?)
}

/// Settles all captured payments on `link`, be it the session's own or another under its reference.
pub async fn settle_payments(
    app: &App,
    client: &razorpay::Client,
    credentials: &Credentials,
    mut session: Session,
    link: &Link,
    cause: Cause,
) -> Result<Session, ReconcileError> {
    let session_id = session.id;
    let unsettled = |error: ProviderError| {
        tracing::warn!(session.id = %session_id, %error, "paid, but the payment could not be read");
        ReconcileError::PaidUnsettled
    };
    let ended = session.state.status.is_terminal();
    let payments = client.captured_payments(credentials, link, ended).await.map_err(unsettled)?;
    let mut settled_minor: i64 = 0;
    for payment in payments {
        let refunded = payment.status == PaymentStatus::Refunded;
        let captured = ProviderPayment::captured(&payment.id, payment.amount, &payment.currency, refunded);
        let Some(payment) = captured else {
            tracing::error!(alert = "payment_unusable", session.id = %session_id, provider_payment.id = payment.id, "captured in an unknown currency");
            continue;
        };
        settled_minor = settled_minor.saturating_add(payment.amount.minor);
        let is_other = session.state.link_id.as_ref().is_some_and(|own| *own != link.id);
        let news = News::Paid { payment, link_id: (!is_other).then(|| link.id.clone()) };
        session = settle(app, session.scope, session.id, news, cause).await?.session;
    }
    // A link that is paid lists its payment a moment later: until then nothing may be concluded.
    let is_paid = matches!(link.status, LinkStatus::Paid | LinkStatus::PartiallyPaid);
    if (is_paid && settled_minor == 0) || settled_minor < link.amount_paid {
        return Err(ReconcileError::PaidUnsettled);
    }
    Ok(session)
}

/// All readers of a session together cause one look at the provider in this time.
const POLL_WINDOW: TimeDelta = TimeDelta::seconds(2);

/// A reader's look at the provider: debounced over all readers of the session, and never an error.
/// Returns the session as it is afterwards, and whether this answer was *not* checked.
pub async fn refresh(app: &App, session: Session, cause: Cause) -> Result<(Session, bool), db::Error> {
    // While a link is being closed too: it may have been paid.
    let may_be_paid = matches!(session.state.link_state, LinkState::Open | LinkState::Closing);
    if session.state.status.is_terminal() || !may_be_paid {
        return Ok((session, true));
    }
    let now = app.clock.now();
    // A signed return follows a payment: what was read a moment ago is too old for it.
    let (window, urgency) = match cause {
        Cause::Return => (TimeDelta::zero(), Urgency::CanWait),
        _ => (POLL_WINDOW, Urgency::Poll),
    };
    if session.checked_at.is_some_and(|at| at > now - window) {
        return Ok((session, true));
    }
    if !store::claim_poll(&app.pool, session.scope, session.id, now, now - window).await? {
        return Ok((session, true));
    }
    let checked = match ask(app, &app.razorpay.hurried(), &session, cause, urgency).await {
        Ok(answer) => end_dead_link(app, answer, cause, now).await,
        Err(error) => Err(error),
    };
    match checked {
        Ok(session) => Ok((session, false)),
        Err(error) => {
            tracing::info!(session.id = %session.id, %error, "the provider could not be asked");
            Ok((session, true))
        }
    }
}

/// Ends an open session whose link died at the provider: it expired there, or somebody cancelled it. The session as it
/// is then.
pub async fn end_dead_link(
    app: &App,
    answer: Answer,
    cause: Cause,
    now: DateTime<Utc>,
) -> Result<Session, ReconcileError> {
    let Answer { verdict, session, .. } = answer;
    if session.state.status.is_terminal() || session.state.link_state == LinkState::Closing {
        return Ok(session);
    }
    let news = match verdict {
        Verdict::Expired => News::LinkExpired,
        Verdict::Cancelled if now >= session.expires_at => News::LinkExpired,
        Verdict::Cancelled => News::LinkCancelled,
        Verdict::Paid | Verdict::Unpaid | Verdict::Absent => return Ok(session),
    };
    Ok(settle(app, session.scope, session.id, news, cause).await?.session)
}

/// Finishes a create whose outcome is not known: the same request again, under the same reference.
pub async fn resume_create(app: &App, session: &Session) -> Result<Session, ReconcileError> {
    let account = tenancy::connection_account(app, session.scope, session.connection).await?;
    let customer = customers::find(app, session.scope, session.customer)
        .await?
        .ok_or(ReconcileError::Settle(SettleError::Inconsistent(session.id)))?;
    let wanted = link::wanted(app, session, &customer.into());
    let news = link::news(app.razorpay.ensure_link(&account.credentials, &wanted, true).await)?;
    checkpoint::reach("resume.linked");
    Ok(settle(app, session.scope, session.id, news, Cause::Reconcile).await?.session)
}
