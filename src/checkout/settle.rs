//! Facts become states here and nowhere else: whoever learns something about a session, by webhook, redirect,
//! read or request, calls [`settle`]. Order does not matter and repeats do nothing.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    model::{Session, SessionResponse},
    schedule,
    session::{Cause, Decision, Fact, LinkState, RefundReason, SessionId, Status, decide},
    store::{self, Applied, Evidence, Transition},
};
use crate::{
    app::App,
    db::{self, TransactError, Tx},
    invoices,
    kit::checkpoint,
    payments::{self, Fate, ProviderPayment},
    tenancy::Scope,
    webhooks::{self, EventType},
    worker::Work,
};

/// A fact with what comes along.
#[derive(Clone, Debug)]
pub enum News {
    /// The provider made the link.
    LinkCreated {
        /// `plink_…`
        link_id: String,
        /// The payment page.
        url: String,
    },
    /// The provider refused to make the link, with its reason.
    LinkRejected {
        /// In the provider's words.
        reason: String,
    },
    /// A link under our reference that is not what was asked for.
    LinkMismatched {
        /// It must be cancelled.
        link_id: String,
    },
    /// A captured payment.
    Paid {
        /// The provider's payment.
        payment: ProviderPayment,
        /// The link it was made on, where the source says so.
        link_id: Option<String>,
    },
    /// A failed try.
    AttemptFailed {
        /// `pay_…`
        provider_payment_id: String,
        /// In the provider's words.
        reason: Option<String>,
    },
    /// The merchant cancelled; whether the provider has confirmed that the link is dead.
    CancelledByMerchant {
        /// Else it goes on being cancelled in the background.
        link_closed: bool,
    },
    /// The link was cancelled at the provider.
    LinkCancelled,
    /// The link expired at the provider.
    LinkExpired,
    /// The deadline passed unpaid; whether the provider has confirmed that the link is dead.
    DeadlineUnpaid {
        /// Else it goes on being cancelled in the background.
        link_closed: bool,
    },
}

impl News {
    fn fact(&self) -> Fact {
        match self {
            Self::LinkCreated { link_id, .. } => Fact::LinkCreated { link_id: link_id.clone() },
            Self::LinkRejected { .. } => Fact::LinkRejected,
            Self::LinkMismatched { link_id } => Fact::LinkMismatched { link_id: link_id.clone() },
            Self::Paid { payment, .. } => Fact::Paid { amount: payment.amount, refunded: payment.refunded },
            Self::AttemptFailed { .. } => Fact::AttemptFailed,
            Self::CancelledByMerchant { .. } => Fact::CancelledByMerchant,
            Self::LinkCancelled => Fact::LinkCancelled,
            Self::LinkExpired => Fact::LinkExpired,
            Self::DeadlineUnpaid { .. } => Fact::DeadlineUnpaid,
        }
    }
}

/// How a fact was learnt.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// By what.
    pub cause: Cause,
    /// The verified inbox row, where it was a webhook.
    pub inbox: Option<Uuid>,
}

impl From<Cause> for Source {
    fn from(cause: Cause) -> Self {
        Self { cause, inbox: None }
    }
}

/// What settling came to.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The session as it is now, but for its version, which may be the one before.
    pub session: Session,
    /// What was decided.
    pub decision: Decision,
    /// How the fact was learnt.
    pub cause: Cause,
    /// Whether deliveries may be due: false when it is known that no endpoint wants the event.
    pub delivers: bool,
}

/// Why a fact could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// No such session in that scope.
    #[error("no such checkout session")]
    NotFound,
    /// A row was not as the lock promised: a bug. Nothing was changed.
    #[error("session {0} and its rows disagree")]
    Inconsistent(SessionId),
    /// Postgres.
    #[error(transparent)]
    Store(#[from] db::Error),
}

impl TransactError for SettleError {
    fn database_error(&self) -> Option<&db::Error> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

/// Settles one fact in a transaction of its own.
pub async fn settle(
    app: &App,
    scope: Scope,
    id: SessionId,
    news: News,
    source: impl Into<Source>,
) -> Result<Settled, SettleError> {
    let source = source.into();
    let own = app.clone();
    let settled = db::transact(&app.pool, "settle", move |tx| {
        let (app, news) = (own.clone(), news.clone());
        Box::pin(async move { settle_in(&app, tx, scope, id, news, source).await })
    })
    .await?;
    checkpoint::reach("settle.committed");
    announce(app, &settled);
    Ok(settled)
}

/// Settles one fact about a session as it was read a moment ago, or drafted. Nobody has changed it since, as a rule: then
/// it is one statement, without a lock that would be held between two. Else it is settled like any other fact.
pub async fn settle_as_read(
    app: &App,
    read: Session,
    news: News,
    cause: Cause,
) -> Result<Settled, SettleError> {
    let (scope, id) = (read.scope, read.id);
    if let Some(settled) = change_at_once(app, read, &news, cause).await? {
        log(&settled);
        checkpoint::reach("settle.committed");
        announce(app, &settled);
        return Ok(settled);
    }
    settle(app, scope, id, news, cause).await
}

/// `None`, and nothing has changed, when it is not one statement, or the session is of another version by now.
async fn change_at_once(
    app: &App,
    mut session: Session,
    news: &News,
    cause: Cause,
) -> Result<Option<Settled>, SettleError> {
    let decision = decide(&session.state, &news.fact());
    let done = match (decision, news) {
        (Decision::Become(Status::Pending), News::LinkCreated { link_id, url }) => {
            app.overload.yield_to_payments().await;
            let link = (link_id.clone(), url.clone());
            let change = open(app, &mut session, link, cause.into(), app.clock.now())?;
            store::mark_pending(&app.pool, &change).await
        }
        (Decision::Become(status @ (Status::Failed | Status::Expired)), news) => {
            let change = end(app, &mut session, status, news.clone(), cause.into(), app.clock.now())?;
            store::mark_ended(&app.pool, &change).await
        }
        _ => return Ok(None),
    };
    Ok(at_once(done)?.map(|deliveries| Settled { session, decision, cause, delivers: deliveries > 0 }))
}

/// Changes what is known of the link of a session that was read a moment ago; in one statement, too, unless somebody
/// has changed it since. `change` says whether there is something to change. Unless the caller is the worker that holds
/// the lease, the lease ends.
pub async fn mark_link_as_read(
    app: &App,
    read: &Session,
    change: impl Fn(&mut Session) -> bool + Copy + Send + Sync + 'static,
    check_at: Option<DateTime<Utc>>,
    keep_lease: bool,
) -> Result<Session, SettleError> {
    let (scope, id, now) = (read.scope, read.id, app.clock.now());
    let mut session = read.clone();
    if change(&mut session) {
        let marked = store::mark_link(&app.pool, &session, check_at, keep_lease, now).await;
        if let Some(version) = at_once(marked)? {
            return Ok(Session { version, ..session });
        }
    }
    db::transact(&app.pool, "mark_link", move |tx| {
        Box::pin(async move {
            let mut session = store::lock(tx, scope, id).await?.ok_or(SettleError::NotFound)?;
            if change(&mut session) {
                let marked = store::mark_link(&mut *tx, &session, check_at, keep_lease, now).await?;
                all_or_none(&session, marked.is_some())?;
            }
            Ok(session)
        })
    })
    .await
}

/// Whether a statement of its own did it. The victim of a deadlock did not: what goes under the lock is run again.
fn at_once<T: Default>(done: Result<T, db::Error>) -> Result<T, db::Error> {
    match done {
        Err(error) if db::is_conflict(&error) => Ok(T::default()),
        done => done,
    }
}

/// What a signed event says of a payment, for [`complete_at_once`].
#[derive(Debug)]
pub struct SignedPayment<'a> {
    /// Captured on the link.
    pub payment: ProviderPayment,
    /// The link that it names.
    pub link_id: Option<&'a str>,
    /// The session that it names.
    pub reference: Option<SessionId>,
    /// The event.
    pub evidence: Evidence<'a>,
}

/// Completes an open session by the signed event of its payment, and keeps the event, in a transaction of one statement.
/// `None`, and nothing has changed, when it is anything but the ordinary case: then the event is to be stored and
/// settled like any other, under the session's lock.
pub async fn complete_at_once(
    app: &App,
    scope: Scope,
    signed: SignedPayment<'_>,
) -> Result<Option<Settled>, SettleError> {
    let SignedPayment { payment, link_id, reference, evidence } = signed;
    // One for both statements: each time that one comes back, the pool asks Postgres whether it is all right.
    let mut lent = app.pool.acquire().await?;
    let Some(mut session) = store::find_by_link(&mut *lent, scope, link_id, reference).await? else {
        return Ok(None);
    };
    if !session.is_of(evidence.connections, link_id) {
        return Ok(None);
    }
    let link_id = link_id.map(ToOwned::to_owned);
    let news = News::Paid { payment: payment.clone(), link_id: link_id.clone() };
    let decision = decide(&session.state, &news.fact());
    if decision != Decision::Become(Status::Completed) {
        return Ok(None);
    }
    let (from, now) = (session.state.status, app.clock.now());
    pay(&mut session, link_id, now);
    let prefix = invoices::number_prefix(now);
    let applied = Applied {
        provider_payment_id: &payment.provider_payment_id,
        invoice_prefix: &prefix,
        attempt: app.ids.uuid(),
    };
    let source = Source { cause: Cause::Webhook, inbox: Some(evidence.inbox) };
    let change = transition(app, &session, from, source, COMPLETED, false)?;
    let done = store::complete_at_once(&mut *lent, &change, &applied, payment.amount, &evidence).await;
    let Some(deliveries) = at_once(done)? else { return Ok(None) };
    let settled = Settled { session, decision, cause: Cause::Webhook, delivers: deliveries > 0 };
    log(&settled);
    Ok(Some(settled))
}

/// Wakes whoever waits for the outcome; call it after the commit.
pub fn announce(app: &App, settled: &Settled) {
    count(settled);
    match settled.decision {
        Decision::Become(status) => {
            if settled.delivers {
                app.wake.notify(Work::Deliveries);
            }
            if status.is_terminal() {
                app.wake.session_ended();
            }
        }
        Decision::Refund(_) => {
            app.wake.notify(Work::Refunds);
            app.wake.notify(Work::Deliveries);
        }
        _ => {}
    }
    if settled.session.state.link_state == LinkState::Closing {
        app.wake.notify(Work::Sessions);
    }
}

fn count(settled: &Settled) {
    let cause = settled.cause.as_str();
    metrics::counter!("checkoutd_facts_total", "decision" => settled.decision.as_str(), "cause" => cause)
        .increment(1);
    if let Decision::Become(status) = settled.decision
        && status.is_terminal()
    {
        metrics::counter!("checkoutd_sessions_ended_total", "status" => status.as_str(), "cause" => cause)
            .increment(1);
    }
}

/// Settles one fact inside the caller's transaction.
pub async fn settle_in(
    app: &App,
    tx: &mut Tx,
    scope: Scope,
    id: SessionId,
    news: News,
    source: Source,
) -> Result<Settled, SettleError> {
    let session = store::lock(tx, scope, id).await?.ok_or(SettleError::NotFound)?;
    checkpoint::reach("settle.locked");
    let decision = decide(&session.state, &news.fact());
    let mut step = Step { app, tx, session, source, now: app.clock.now() };
    let decision = step.take(decision, news).await?;
    checkpoint::reach("settle.written");
    let settled = Settled { session: step.session, decision, cause: source.cause, delivers: true };
    log(&settled);
    Ok(settled)
}

fn log(Settled { session, decision, cause, .. }: &Settled) {
    tracing::info!(
        session.id = %session.id,
        session.status = %session.state.status,
        cause = cause.as_str(),
        ?decision,
        "settled"
    );
}

/// One decision being carried out under the session's lock.
struct Step<'a> {
    app: &'a App,
    tx: &'a mut Tx,
    session: Session,
    source: Source,
    now: DateTime<Utc>,
}

impl Step<'_> {
    async fn take(&mut self, decision: Decision, news: News) -> Result<Decision, SettleError> {
        match (decision, news) {
            (Decision::Become(Status::Pending), News::LinkCreated { link_id, url }) => {
                self.become_pending(link_id, url).await?;
            }
            (Decision::Become(_), News::Paid { payment, link_id }) => {
                if !self.record_payment(&payment, Fate::Applied).await? {
                    return Ok(Decision::AlreadyApplied);
                }
                self.complete(&payment, link_id).await?;
            }
            (Decision::Become(status), news) => self.end(status, news).await?,
            (Decision::Refund(reason), News::Paid { payment, .. }) => {
                if !self.record_payment(&payment, Fate::Refund).await? {
                    return Ok(Decision::AlreadyApplied);
                }
                self.refund(&payment, reason).await?;
            }
            (Decision::Record, News::AttemptFailed { provider_payment_id, reason }) => {
                self.record_failed_attempt(&provider_payment_id, reason.as_deref()).await?;
            }
            (Decision::Record, News::LinkCreated { link_id, url }) => {
                self.session.state.link_id = Some(link_id);
                self.session.link_url = Some(url);
                let look = schedule::aftercare(&self.session, self.now);
                self.mark_link(look).await?;
            }
            (Decision::CancelLink, News::LinkCreated { link_id, url }) => {
                self.close_link(link_id, Some(url)).await?;
            }
            (Decision::CancelLink, News::LinkMismatched { link_id }) => {
                self.close_link(link_id, None).await?;
            }
            _ => {}
        }
        Ok(decision)
    }

    async fn become_pending(&mut self, link_id: String, url: String) -> Result<(), SettleError> {
        let change = open(self.app, &mut self.session, (link_id, url), self.source, self.now)?;
        all_or_none(change.session, store::mark_pending(&mut *self.tx, &change).await?.is_some())
    }

    async fn complete(
        &mut self,
        payment: &ProviderPayment,
        link_id: Option<String>,
    ) -> Result<(), SettleError> {
        let from = self.session.state.status;
        pay(&mut self.session, link_id, self.now);
        let prefix = invoices::number_prefix(self.now);
        let applied = Applied {
            provider_payment_id: &payment.provider_payment_id,
            invoice_prefix: &prefix,
            attempt: self.app.ids.uuid(),
        };
        let change = transition(self.app, &self.session, from, self.source, COMPLETED, false)?;
        all_or_none(change.session, store::mark_completed(self.tx, &change, &applied).await?)
    }

    async fn end(&mut self, status: Status, news: News) -> Result<(), SettleError> {
        let change = end(self.app, &mut self.session, status, news, self.source, self.now)?;
        all_or_none(change.session, store::mark_ended(&mut *self.tx, &change).await?.is_some())
    }

    /// The link that must not stay payable: ours, of an ended session, or a second one.
    async fn close_link(&mut self, link_id: String, url: Option<String>) -> Result<(), SettleError> {
        if self.session.state.link_id.as_ref().is_some_and(|known| *known != link_id) {
            // Razorpay refuses a second link under one reference, so this cannot happen; if it does, `aftercare`
            // finds and cancels it.
            tracing::error!(alert = "second_link", session.id = %self.session.id, link.id = link_id, "a second link under one reference");
            return Ok(());
        }
        self.session.state.link_id = Some(link_id);
        self.session.link_url = url;
        self.session.state.link_state = LinkState::Closing;
        // A worker that looks at the session right now must not put this off.
        self.mark_link(Some(self.now)).await
    }

    async fn mark_link(&mut self, check_at: Option<DateTime<Utc>>) -> Result<(), SettleError> {
        let marked = store::mark_link(&mut *self.tx, &self.session, check_at, false, self.now).await?;
        all_or_none(&self.session, marked.is_some())
    }

    /// False when this payment is on record already, in this session or another.
    async fn record_payment(&mut self, payment: &ProviderPayment, fate: Fate) -> Result<bool, SettleError> {
        let scope = self.session.scope;
        let session = Uuid::from(self.session.id);
        let (cause, inbox) = (self.source.cause.as_str(), self.source.inbox);
        Ok(payments::insert_provider_payment_in(
            self.tx, scope, session, payment, fate, cause, inbox, self.now,
        )
        .await?)
    }

    async fn refund(&mut self, payment: &ProviderPayment, reason: RefundReason) -> Result<(), SettleError> {
        tracing::warn!(session.id = %self.session.id, provider_payment.id = payment.provider_payment_id, reason = reason.as_str(), "captured money goes back");
        let refund = payments::NewRefund {
            id: self.app.ids.next(),
            session: self.session.id.into(),
            payment: self.session.payment,
            invoice: self.session.invoice,
            connection: self.session.connection,
            captured: payment.clone(),
            reason: reason.into(),
        };
        Ok(payments::record_refund_in(self.app, self.tx, self.session.scope, refund, self.now).await?)
    }

    async fn record_failed_attempt(
        &mut self,
        provider_payment_id: &str,
        reason: Option<&str>,
    ) -> Result<(), SettleError> {
        let attempt = self.app.ids.uuid();
        let (scope, payment) = (self.session.scope, self.session.payment);
        payments::insert_failed_attempt_in(
            self.tx,
            scope,
            attempt,
            payment,
            provider_payment_id,
            reason,
            self.now,
        )
        .await?;
        if !self.session.state.status.is_terminal() {
            // A payment that is settled at once meanwhile would give its attempt the same number.
            store::touch(self.tx, &self.session, self.now).await?;
        }
        Ok(())
    }
}

impl From<RefundReason> for payments::RefundReason {
    fn from(reason: RefundReason) -> Self {
        match reason {
            RefundReason::LatePayment => Self::LatePayment,
            RefundReason::DuplicatePayment => Self::DuplicatePayment,
            RefundReason::AmountMismatch => Self::AmountMismatch,
            RefundReason::RefundedAlready => Self::RefundedAlready,
        }
    }
}

/// All rows of a step changed, or the transaction must not commit.
fn all_or_none(session: &Session, all_changed: bool) -> Result<(), SettleError> {
    if all_changed { Ok(()) } else { Err(SettleError::Inconsistent(session.id)) }
}

const COMPLETED: EventType = EventType::CheckoutSessionCompleted;

/// Opens it with its link: id and URL.
fn open<'s>(
    app: &App,
    session: &'s mut Session,
    (link_id, url): (String, String),
    source: Source,
    now: DateTime<Utc>,
) -> Result<Transition<'s>, SettleError> {
    let from = session.state.status;
    session.state.link_id = Some(link_id);
    session.link_url = Some(url);
    session.state.link_state = LinkState::Open;
    advance(session, Status::Pending, now);
    transition(app, session, from, source, EventType::CheckoutSessionInitiated, false)
}

fn pay(session: &mut Session, link_id: Option<String>, now: DateTime<Utc>) {
    session.state.link_id = session.state.link_id.take().or(link_id);
    // A paid link cannot be paid again.
    session.state.link_state = LinkState::Closed;
    session.completed_at = Some(now);
    session.cancelled_at = None;
    session.payment_status = "SUCCEEDED".into();
    advance(session, Status::Completed, now);
}

/// Ends it unpaid: as failed or expired.
fn end<'s>(
    app: &App,
    session: &'s mut Session,
    status: Status,
    news: News,
    source: Source,
    now: DateTime<Utc>,
) -> Result<Transition<'s>, SettleError> {
    let from = session.state.status;
    let never_made = matches!(news, News::LinkRejected { .. });
    let (reason, link_state, mismatched) = ending(news, session.state.link_state);
    session.failure_reason = Some(reason);
    session.state.link_state = link_state;
    session.state.link_id = mismatched.or(session.state.link_id.take());
    advance(session, status, now);
    let event = if status == Status::Failed {
        EventType::CheckoutSessionFailed
    } else {
        EventType::CheckoutSessionExpired
    };
    transition(app, session, from, source, event, never_made)
}

fn advance(session: &mut Session, status: Status, now: DateTime<Utc>) {
    session.state.status = status;
    session.event_count += 1;
    session.updated_at = now;
}

/// What is to be written of a session that has changed already, with the event that tells of it.
fn transition<'s>(
    app: &App,
    session: &'s Session,
    from: Status,
    source: Source,
    event: EventType,
    never_made: bool,
) -> Result<Transition<'s>, SettleError> {
    let object = SessionResponse::new(session.clone(), session.updated_at, false);
    let (subject, sequence) = (Uuid::from(session.id), session.event_count);
    let frozen = webhooks::freeze(
        app.ids.next(),
        event,
        subject,
        sequence,
        session.updated_at,
        "checkout_session",
        &object,
    );
    Ok(Transition {
        session,
        from,
        cause: source.cause,
        inbox: source.inbox,
        check_at: schedule::after_change(app, session, never_made),
        event: frozen.map_err(|_| SettleError::Inconsistent(session.id))?,
        delivery_ids: webhooks::delivery_ids(&app.ids),
    })
}

/// How a session's record tells that the provider made no link for it.
const REJECTED: &str = "payment provider refused the link: ";
/// How it tells that the provider made another.
const MISMATCHED: &str = "payment provider answered with a link that does not match";

/// What the provider did instead of making the link that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It refused, in its own words.
    Rejected(String),
    /// It made another link.
    Mismatched,
}

/// What a failed session failed by, where that was the provider's answer to its create.
pub fn refusal(session: &Session) -> Option<Refusal> {
    let reason = session.failure_reason.as_deref().filter(|_| session.state.status == Status::Failed)?;
    match reason.strip_prefix(REJECTED) {
        Some(words) => Some(Refusal::Rejected(words.to_owned())),
        None => (reason == MISMATCHED).then_some(Refusal::Mismatched),
    }
}

/// Why a session ends unpaid, what becomes of its link, and the link that has to be remembered for it.
fn ending(news: News, link_state: LinkState) -> (String, LinkState, Option<String>) {
    // Never made, or never heard of: when it turns up after all, LinkCreated closes it.
    let unless_none = |then| if link_state == LinkState::None { LinkState::None } else { then };
    let close = |confirmed: bool| unless_none(if confirmed { LinkState::Closed } else { LinkState::Closing });
    match news {
        News::LinkRejected { reason } => (format!("{REJECTED}{reason}"), link_state, None),
        News::LinkMismatched { link_id } => (MISMATCHED.into(), LinkState::Closing, Some(link_id)),
        News::CancelledByMerchant { link_closed } => {
            ("cancelled by the merchant".into(), close(link_closed), None)
        }
        News::LinkCancelled => {
            ("payment link was cancelled at the provider (payment_link.cancelled)".into(), close(true), None)
        }
        News::LinkExpired => {
            ("payment link expired at the provider (payment_link.expired)".into(), close(true), None)
        }
        News::DeadlineUnpaid { link_closed } => ("not paid in time".into(), close(link_closed), None),
        News::LinkCreated { .. } | News::Paid { .. } | News::AttemptFailed { .. } => {
            unreachable!("the state machine ends a session on none of these")
        }
    }
}
