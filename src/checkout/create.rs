//! `POST /v1/checkout/sessions`: draft everything, commit, ask for the link, commit.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    link::{self, Payer},
    model::{Session, SessionResponse},
    offer_store::{self, Offered},
    quote::{QuoteError, QuoteLine, quote},
    reconcile::{self, ReconcileError},
    schedule,
    session::{Cause, LinkState, SessionId, State, Status},
    settle::{News, Refusal, SettleError, refusal, settle_as_read},
    store,
};
use crate::{
    app::App,
    catalog::{BillingPeriod, PlanId},
    customers::{self, CustomerId},
    db::{self, RowStatus},
    http::{ApiError, Ticket},
    invoices::InvoiceId,
    kit::{
        checkpoint,
        money::{Currency, Money},
    },
    payments::PaymentId,
    razorpay::ProviderError,
    subscriptions::{Recurrence, SubscriptionId},
    tenancy::{self, Account, AccountError, ConnectionId, Scope},
};

/// A valid request.
#[derive(Debug)]
pub struct NewSession {
    /// The merchant's name for the customer.
    pub customer_external_id: String,
    /// A plan's id or lookup key.
    pub plan: String,
    /// To be paid in.
    pub currency: Currency,
    /// Needed when the plan has several.
    pub billing_period: Option<BillingPeriod>,
    /// Needed when the plan has several.
    pub billing_period_count: Option<u32>,
    /// When the subscription starts; now, if not given.
    pub start_date: Option<DateTime<Utc>>,
    /// When it ends; never, if not given.
    pub end_date: Option<DateTime<Utc>>,
    /// Copied to the subscription.
    pub subscription_lookup_key: Option<String>,
    /// Copied to the subscription.
    pub subscription_metadata: Map<String, Value>,
    /// `send_invoice`
    pub collection_method: String,
    /// At most one open session holds it.
    pub idempotency_key: Option<String>,
    /// Where the browser goes.
    pub success_url: Option<String>,
    /// Where the browser goes.
    pub failure_url: Option<String>,
    /// Where the browser goes.
    pub cancel_url: Option<String>,
    /// Echoed, and copied into the provider's notes.
    pub metadata: Map<String, Value>,
}

/// The rows of a new session.
#[derive(Debug)]
pub struct Draft {
    pub session: SessionId,
    pub customer: CustomerId,
    pub plan: PlanId,
    pub plan_name: String,
    pub subscription: SubscriptionId,
    pub invoice: InvoiceId,
    pub payment: PaymentId,
    pub connection: ConnectionId,
    pub amount: Money,
    pub recurrence: Recurrence,
    pub timezone: &'static str,
    pub period_start: DateTime<Utc>,
    pub period_end: DateTime<Utc>,
    pub end_date: Option<DateTime<Utc>>,
    pub collection_method: String,
    pub lookup_key: Option<String>,
    pub subscription_metadata: Value,
    pub lines: DraftLines,
    pub idempotency_key: Option<String>,
    pub success_url: Option<String>,
    pub failure_url: Option<String>,
    pub cancel_url: Option<String>,
    pub metadata: Value,
    pub expires_at: DateTime<Utc>,
    pub check_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
}

impl Draft {
    /// The session as [`store::insert_draft`] has stored it.
    fn into_session(self, scope: Scope, version: i64) -> Session {
        Session {
            scope,
            id: self.session,
            customer: self.customer,
            subscription: self.subscription,
            invoice: self.invoice,
            payment: self.payment,
            connection: self.connection,
            state: State {
                status: Status::Initiated,
                link_state: LinkState::None,
                link_id: None,
                amount: self.amount,
            },
            action: "create_subscription".into(),
            payment_provider: "razorpay".into(),
            idempotency_key: self.idempotency_key,
            success_url: self.success_url,
            failure_url: self.failure_url,
            cancel_url: self.cancel_url,
            metadata: self.metadata,
            link_url: None,
            event_count: 0,
            failure_reason: None,
            expires_at: self.expires_at,
            completed_at: None,
            cancelled_at: None,
            check_count: 0,
            checked_at: None,
            created_at: self.now,
            updated_at: self.now,
            version,
            payment_status: "INITIATED".into(),
        }
    }
}

/// Lines as columns, for one `unnest`.
#[derive(Debug, Default)]
pub struct DraftLines {
    pub ids: Vec<Uuid>,
    pub price_ids: Vec<Uuid>,
    pub quantities: Vec<i64>,
    pub display_names: Vec<String>,
    /// Invoice lines: an id for each, used where something is charged.
    pub charge_ids: Vec<Uuid>,
    pub charged_minor: Vec<Option<i64>>,
}

impl DraftLines {
    fn new(app: &App, quoted: Vec<QuoteLine>) -> Self {
        let mut lines = Self::default();
        for line in quoted {
            lines.ids.push(app.ids.uuid());
            lines.price_ids.push(line.price.id.into());
            lines.quantities.push(line.quantity);
            lines.display_names.push(line.price.display_name);
            lines.charge_ids.push(app.ids.uuid());
            lines.charged_minor.push(line.charged.map(|charged| charged.minor));
        }
        lines
    }
}

/// Drafts a session and returns it `pending` with its link.
///
/// # Errors
/// 404 for an unknown customer or plan; 400 when nothing is to be paid; 409 when an open session holds the
/// idempotency key, with that session; 502 when Razorpay refuses; 503 when its answer is not known, with the
/// session's id: the same key finds the session until then.
pub async fn create(
    app: &App,
    scope: Scope,
    id: SessionId,
    ttl: TimeDelta,
    ticket: Ticket,
    request: NewSession,
) -> Result<SessionResponse, ApiError> {
    let turn = ticket.turn().await?;
    let now = app.clock.now();
    // One for both statements: each time that one comes back, the pool asks Postgres whether it is all right.
    let mut lent = app.pool.acquire().await?;
    let find = offer_store::find_offer(&mut *lent, scope, &request.customer_external_id, &request.plan, now);
    let offer = find.await?;
    let Some((customer, payer)) = offer.payer else {
        drop(lent);
        return Err(no_payer(app, scope, &request.customer_external_id).await);
    };
    let Offered { plan, plan_name, prices } = offer.plan.ok_or_else(|| ApiError::not_found("plan"))?;
    let quote = quote(prices, request.currency, request.billing_period, request.billing_period_count)?;
    let account = tenancy::open_account(app, scope, offer.account.ok_or(AccountError::Missing)?)?;
    if let Some(pause) = app.razorpay.creates_paused(&account.credentials) {
        // Nothing is drafted: a link could not be made for it.
        return Err(ApiError::unavailable("the payment provider does not answer", retry_after(pause))
            .detail("reason", "provider_unavailable")
            .nothing_done());
    }
    let period_start = request.start_date.unwrap_or(now);
    let period_end = quote.recurrence.boundary(period_start, payer.timezone, 1).ok_or_else(|| {
        let field = "configuration.create_subscription_params.start_date";
        ApiError::validation(field, "is too far in the future")
    })?;
    let expires_at = now + ttl;
    let draft = Draft {
        session: id,
        customer,
        plan,
        plan_name,
        subscription: app.ids.next(),
        invoice: app.ids.next(),
        payment: app.ids.next(),
        connection: account.connection,
        amount: quote.total,
        recurrence: quote.recurrence,
        timezone: payer.timezone.name(),
        period_start,
        period_end,
        end_date: request.end_date,
        collection_method: request.collection_method,
        lookup_key: request.subscription_lookup_key,
        subscription_metadata: Value::Object(request.subscription_metadata),
        lines: DraftLines::new(app, quote.lines),
        idempotency_key: request.idempotency_key,
        success_url: request.success_url,
        failure_url: request.failure_url,
        cancel_url: request.cancel_url,
        metadata: Value::Object(request.metadata),
        expires_at,
        check_at: expires_at.min(now + schedule::CREATE_PATIENCE),
        now,
    };
    let inserted = insert(app, &mut lent, scope, &draft).await?;
    // Razorpay may take its time.
    drop(lent);
    drop(turn);
    let version = match inserted {
        Inserted::Now { version } => version,
        Inserted::Before(session) => return resume(app, *session).await,
    };
    checkpoint::reach("create.drafted");
    ask_for_link(app, draft.into_session(scope, version), &payer, &account).await
}

/// Goes on with a session whose create died on the way, and answers as the create would have.
///
/// # Errors
/// 502 when Razorpay refused; 503 while its answer is not known.
pub async fn resume(app: &App, session: Session) -> Result<SessionResponse, ApiError> {
    let id = session.id;
    let (session, stale) = match session.state.status {
        Status::Initiated if session.cancelled_at.is_some() || app.clock.now() >= session.expires_at => {
            // It ends: no link is made for it any more.
            return Err(being_settled(id, 5));
        }
        Status::Initiated => {
            let resumed = reconcile::resume_create(app, &session).await;
            (resumed.map_err(|error| not_resumed(id, error))?, false)
        }
        _ => (session, true),
    };
    match refusal(&session) {
        None => Ok(SessionResponse::new(session, app.clock.now(), stale)),
        Some(refusal) => Err(refused(id, &refusal)),
    }
}

/// Why there is nobody to pay.
async fn no_payer(app: &App, scope: Scope, external_id: &str) -> ApiError {
    match customers::find_by_external_id(app, scope, external_id).await {
        Ok(Some(customer)) if customer.status == RowStatus::Archived => {
            ApiError::invalid_request("customer_archived", "the customer is archived")
        }
        Ok(_) => ApiError::not_found("customer"),
        Err(error) => error.into(),
    }
}

/// What became of a draft.
enum Inserted {
    /// Its session is stored, as this version.
    Now { version: i64 },
    /// The session is there already: a run of the same request that was taken for dead has come so far meanwhile.
    Before(Box<Session>),
}

/// Inserts the draft; 409 with the whole open session when its idempotency key is taken.
async fn insert(
    app: &App,
    lent: &mut db::Connection,
    scope: Scope,
    draft: &Draft,
) -> Result<Inserted, ApiError> {
    // The holder of the key can end between the refusal and the look: then the key is free, so try again.
    for _ in 0..3 {
        let error = match store::insert_draft(&mut *lent, scope, draft).await {
            Ok(version) => return Ok(Inserted::Now { version }),
            Err(error) => error,
        };
        let Some(constraint) = db::violated_constraint(&error) else { return Err(error.into()) };
        if let Some(own) = store::find(&mut *lent, scope, draft.session).await? {
            return Ok(Inserted::Before(Box::new(own)));
        }
        if store::is_archived_meanwhile(&error) {
            let message = "the customer or the plan was archived meanwhile";
            return Err(ApiError::invalid_request("archived", message));
        }
        let ("checkout_sessions_open_key", Some(key)) = (constraint, &draft.idempotency_key) else {
            return Err(error.into());
        };
        if let Some(open) = store::find_open_by_key(&mut *lent, scope, key).await? {
            return Err(key_taken(key, open, app.clock.now()));
        }
    }
    Err(ApiError::unavailable("another request holds the idempotency key", 1))
}

fn key_taken(key: &str, open: Session, now: DateTime<Utc>) -> ApiError {
    let id = open.id.to_string();
    let session = serde_json::to_value(SessionResponse::new(open, now, true)).unwrap_or_default();
    ApiError::already_exists("an open checkout session already holds this idempotency_key")
        .detail("reason", "idempotency_key_in_use")
        .detail("idempotency_key", key)
        .detail("checkout_session_id", id)
        .detail("checkout_session", session)
}

/// The provider call, between two commits, and its outcome as a fact.
async fn ask_for_link(
    app: &App,
    drafted: Session,
    payer: &Payer,
    account: &Account,
) -> Result<SessionResponse, ApiError> {
    let id = drafted.id;
    let wanted = link::wanted(app, &drafted, payer);
    let outcome = app.razorpay.ensure_link(&account.credentials, &wanted, false).await;
    checkpoint::reach("create.linked");
    let news = link::news(outcome).map_err(|error| outcome_unknown(id, &error))?;
    let refusal = match &news {
        News::LinkRejected { reason } => Some(Refusal::Rejected(reason.clone())),
        News::LinkMismatched { .. } => Some(Refusal::Mismatched),
        _ => None,
    };
    let settled =
        settle_as_read(app, drafted, news, Cause::Create).await.map_err(|error| not_recorded(id, error))?;
    checkpoint::reach("create.settled");
    match refusal {
        None => Ok(SessionResponse::new(settled.session, app.clock.now(), false)),
        Some(refusal) => Err(refused(id, &refusal)),
    }
}

/// The session failed: Razorpay made no link for it, or another one.
fn refused(id: SessionId, refusal: &Refusal) -> ApiError {
    let message = match refusal {
        Refusal::Rejected(reason) => format!("Razorpay refused the payment link: {reason}"),
        Refusal::Mismatched => "Razorpay answered with a payment link that does not match".to_owned(),
    };
    ApiError::provider_rejected(message)
        .detail("reason", "provider_rejected")
        .detail("checkout_session_id", id.to_string())
}

/// The session stays `initiated`; the worker settles it, and the same idempotency key finds it.
fn outcome_unknown(id: SessionId, error: &ProviderError) -> ApiError {
    tracing::warn!(session.id = %id, %error, "the payment link's fate is not known yet");
    let pause =
        if let ProviderError::Paused { retry_after: pause } = error { retry_after(*pause) } else { 5 };
    being_settled(id, pause)
}

fn being_settled(id: SessionId, retry_after_seconds: u32) -> ApiError {
    let message = "the payment provider did not answer in time; the session is being settled";
    ApiError::unavailable(message, retry_after_seconds)
        .detail("reason", "provider_outcome_unknown")
        .detail("checkout_session_id", id.to_string())
}

fn not_resumed(id: SessionId, error: ReconcileError) -> ApiError {
    match error {
        ReconcileError::Provider(error) => outcome_unknown(id, &error),
        ReconcileError::Settle(error) => not_recorded(id, error),
        error => ApiError::from(error).detail("checkout_session_id", id.to_string()),
    }
}

/// Razorpay has answered, and our own tables could not be written: as above, the worker goes on.
fn not_recorded(id: SessionId, error: SettleError) -> ApiError {
    tracing::warn!(session.id = %id, %error, "the payment link's fate could not be recorded");
    ApiError::from(error).detail("checkout_session_id", id.to_string())
}

/// Whole seconds, rounded up.
fn retry_after(pause: Duration) -> u32 {
    u32::try_from(pause.as_secs() + 1).unwrap_or(u32::MAX)
}

impl From<QuoteError> for ApiError {
    fn from(error: QuoteError) -> Self {
        let reason = match error {
            QuoteError::NoMatchingPrice => "no_matching_price",
            QuoteError::PeriodNotChosen => "billing_period_required",
            QuoteError::NotRecurring => "not_recurring",
            QuoteError::ZeroTotal => "plan_zero_amount",
            QuoteError::NotPayable => "amount_not_payable",
            QuoteError::Overflow => "amount_too_large",
        };
        Self::invalid_request(reason, error.to_string())
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Missing => Self::invalid_request(
                "connection_not_found",
                "the environment has no Razorpay connection: POST /v1/connections first",
            ),
            AccountError::Sealed(error) => Self::internal(error),
            AccountError::Store(error) => error.into(),
        }
    }
}

impl From<SettleError> for ApiError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::NotFound => Self::not_found("checkout session"),
            SettleError::Store(error) => error.into(),
            SettleError::Inconsistent(_) => Self::internal(error),
        }
    }
}
