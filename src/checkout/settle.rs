//! Facts become states here and nowhere else: whoever learns something about a session, by webhook, redirect,
//! read or request, calls [`settle`]. Order does not matter and repeats do nothing.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    model::{Session, SessionResponse},
    schedule,
    session::{Cause, Decision, Fact, LinkState, RefundReason, SessionId, Status, decide},
    store::{self, Applied, Transition},
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
    /// The session as it is now.
    pub session: Session,
    /// What was decided.
    pub decision: Decision,
    /// How the fact was learnt.
    pub cause: Cause,
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

/// Wakes whoever waits for the outcome; call it after the commit.
pub fn announce(app: &App, settled: &Settled) {
    count(settled);
    match settled.decision {
        Decision::Become(status) => {
            app.wake.notify(Work::Deliveries);
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
    tracing::info!(
        session.id = %id,
        session.status = %step.session.state.status,
        cause = source.cause.as_str(),
        ?decision,
        "settled"
    );
    Ok(Settled { session: step.session, decision, cause: source.cause })
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
                self.session.state.link_id = Some(link_id);
                self.session.link_url = Some(url);
                self.session.state.link_state = LinkState::Open;
                self.become_pending().await?;
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
                store::mark_link(self.tx, &self.session, look, false, self.now).await?;
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

    async fn become_pending(&mut self) -> Result<(), SettleError> {
        let from = self.session.state.status;
        self.advance(Status::Pending);
        let change = transition(self.app, &self.session, from, self.source, false);
        if !store::mark_pending(self.tx, &change).await? {
            return Err(SettleError::Inconsistent(self.session.id));
        }
        self.emit(EventType::CheckoutSessionInitiated).await
    }

    async fn complete(
        &mut self,
        payment: &ProviderPayment,
        link_id: Option<String>,
    ) -> Result<(), SettleError> {
        let from = self.session.state.status;
        self.session.state.link_id = self.session.state.link_id.take().or(link_id);
        // A paid link cannot be paid again.
        self.session.state.link_state = LinkState::Closed;
        self.session.completed_at = Some(self.now);
        self.session.cancelled_at = None;
        self.session.payment_status = "SUCCEEDED".into();
        self.advance(Status::Completed);
        let prefix = invoices::number_prefix(self.now);
        let applied = Applied {
            provider_payment_id: &payment.provider_payment_id,
            invoice_prefix: &prefix,
            attempt: self.app.ids.uuid(),
        };
        let change = transition(self.app, &self.session, from, self.source, false);
        if !store::mark_completed(self.tx, &change, &applied).await? {
            return Err(SettleError::Inconsistent(self.session.id));
        }
        self.emit(EventType::CheckoutSessionCompleted).await
    }

    async fn end(&mut self, status: Status, news: News) -> Result<(), SettleError> {
        let from = self.session.state.status;
        let never_made = matches!(news, News::LinkRejected { .. });
        let (reason, link_state, mismatched) = ending(news, self.session.state.link_state);
        self.session.failure_reason = Some(reason);
        self.session.state.link_state = link_state;
        self.session.state.link_id = mismatched.or(self.session.state.link_id.take());
        self.advance(status);
        let change = transition(self.app, &self.session, from, self.source, never_made);
        if !store::mark_ended(self.tx, &change).await? {
            return Err(SettleError::Inconsistent(self.session.id));
        }
        self.emit(if status == Status::Failed {
            EventType::CheckoutSessionFailed
        } else {
            EventType::CheckoutSessionExpired
        })
        .await
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
        Ok(store::mark_link(self.tx, &self.session, Some(self.now), false, self.now).await?)
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
        Ok(())
    }

    fn advance(&mut self, status: Status) {
        self.session.state.status = status;
        self.session.event_count += 1;
        self.session.updated_at = self.now;
    }

    async fn emit(&mut self, event_type: EventType) -> Result<(), SettleError> {
        let object = SessionResponse::new(self.session.clone(), self.now, false);
        let subject = Uuid::from(self.session.id);
        let id = self.app.ids.next();
        let event = webhooks::freeze(
            id,
            event_type,
            subject,
            self.session.event_count,
            self.now,
            "checkout_session",
            &object,
        )
        .map_err(|_| SettleError::Inconsistent(self.session.id))?;
        webhooks::emit_in(self.tx, self.session.scope, &event, &webhooks::delivery_ids(&self.app.ids))
            .await?;
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

fn transition<'s>(
    app: &App,
    session: &'s Session,
    from: Status,
    source: Source,
    never_made: bool,
) -> Transition<'s> {
    let check_at = schedule::after_change(app, session, never_made);
    Transition { session, from, cause: source.cause, inbox: source.inbox, check_at, now: session.updated_at }
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
