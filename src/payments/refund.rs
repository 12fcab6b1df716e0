//! Refunds: the row first, then the call, under an idempotency key that is the row's id.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{facts::ProviderPayment, store};
use crate::{
    app::App,
    db::{self, Tx},
    http::Named,
    kit::backoff,
    razorpay::{self, ProviderError, RefundStatus},
    tenancy::{self, ConnectionId, Scope},
    worker::{Job, Leased, Work},
};

crate::define_ids! {
    /// A refund; at the same time its idempotency key at the provider.
    RefundId = "refund";
}

impl Named for RefundId {
    const NOUN: &'static str = "refund";
}

/// Money that goes back, in full.
#[derive(Clone, Debug)]
pub struct NewRefund {
    /// Its id.
    pub id: RefundId,
    /// The session it was captured for.
    pub session: Uuid,
    /// The account that holds it.
    pub connection: ConnectionId,
    /// What was captured; already on record with the fate `refund`.
    pub payment: ProviderPayment,
    /// `late_payment`, `duplicate_payment`, `amount_mismatch` or `refunded_already`.
    pub reason: &'static str,
    /// Whether the provider has made it already, so that nothing is left to send.
    pub already_made: bool,
}

/// Records a refund to be sent; due at once.
pub async fn insert_refund_in(
    tx: &mut Tx,
    scope: Scope,
    refund: &NewRefund,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    store::insert_refund(tx, scope, refund, now).await
}

/// What a `refund.*` webhook says.
#[derive(Clone, Debug)]
pub struct RefundNews {
    /// The payment that it gives back.
    pub provider_payment_id: String,
    /// `rfnd_…`
    pub gateway_refund_id: String,
    /// Our refund's id, where it is ours.
    pub receipt: Option<RefundId>,
    /// Minor units.
    pub amount_minor: i64,
    /// Where it is in its life.
    pub status: RefundStatus,
}

/// Takes over what a `refund.*` webhook says of a refund of ours; false when it is not ours.
///
/// A merchant may give money back by hand: only what carries our id, or gives back the whole payment, counts.
pub async fn note_refund_in(
    tx: &mut Tx,
    scope: Scope,
    news: &RefundNews,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let noted = store::note_refund(tx, scope, news, column(news.status), now).await?;
    if noted && news.status == RefundStatus::Failed {
        tracing::error!(refund.gateway_id = news.gateway_refund_id, "a refund failed at the provider");
    }
    Ok(noted)
}

fn column(status: RefundStatus) -> &'static str {
    match status {
        RefundStatus::Created | RefundStatus::Pending | RefundStatus::Other => "PROCESSING",
        RefundStatus::Processed => "SUCCEEDED",
        RefundStatus::Failed => "FAILED",
    }
}

/// Sends refunds and follows them until the provider says how they ended.
pub struct SendRefunds;

const LEASE: TimeDelta = TimeDelta::seconds(60);
/// How often a refund under way is asked about, when no webhook says more.
const FOLLOW_UP: TimeDelta = TimeDelta::minutes(10);

/// A refund that is due.
#[derive(Clone, Debug)]
pub struct Lease {
    pub scope: Scope,
    pub id: RefundId,
    pub connection: ConnectionId,
    pub provider_payment_id: String,
    pub gateway_refund_id: Option<String>,
    pub amount_minor: i64,
    pub attempt_count: i32,
    pub token: Uuid,
}

/// What a try came to.
pub struct Outcome<'a> {
    pub status: &'static str,
    pub gateway_refund_id: Option<&'a str>,
    pub error: Option<String>,
    pub next_attempt_at: DateTime<Utc>,
}

impl Job for SendRefunds {
    type Lease = Lease;
    const WORK: Work = Work::Refunds;
    const SLOTS: usize = 4;
    const POLL: Duration = Duration::from_secs(5);

    async fn claim(&self, app: &App, free: usize) -> anyhow::Result<Vec<Lease>> {
        let now = app.clock.now();
        let limit = i64::try_from(free)?;
        Ok(store::claim_due_refunds_any_scope(&app.pool, now, now + LEASE, app.ids.uuid(), limit).await?)
    }

    async fn step(&self, app: &App, lease: Lease) -> anyhow::Result<()> {
        let account = tenancy::connection_account(app, lease.scope, lease.connection).await?;
        let done = match &lease.gateway_refund_id {
            // Sent before: ask how it went.
            Some(id) => app.razorpay.fetch_refund(&account.credentials, id).await,
            None => {
                let refund = razorpay::NewRefund {
                    payment_id: lease.provider_payment_id.clone(),
                    amount_minor: lease.amount_minor,
                    idempotency_key: lease.id.to_string(),
                };
                app.razorpay.refund(&account.credentials, &refund).await
            }
        };
        let now = app.clock.now();
        let outcome = match &done {
            Ok(refund) if refund.status == RefundStatus::Failed => {
                tracing::error!(refund.id = %lease.id, "a refund failed at the provider");
                Outcome {
                    status: "FAILED",
                    gateway_refund_id: Some(&refund.id),
                    error: None,
                    next_attempt_at: now,
                }
            }
            Ok(refund) => Outcome {
                status: column(refund.status),
                gateway_refund_id: Some(&refund.id),
                error: None,
                next_attempt_at: now + FOLLOW_UP,
            },
            Err(error) => failed(app, &lease, error, now),
        };
        Ok(store::finish_refund(&app.pool, &lease, &outcome, now).await?)
    }

    async fn release(&self, app: &App, tokens: &[Uuid]) -> anyhow::Result<()> {
        Ok(store::release_refunds_any_scope(&app.pool, tokens).await?)
    }
}

impl Leased for Lease {
    fn token(&self) -> Uuid {
        self.token
    }
}

/// Refused or unanswered, it stays due: money that must go back is never dropped. Refusals (a low balance,
/// a dispute) can pass too.
fn failed(app: &App, lease: &Lease, error: &ProviderError, now: DateTime<Utc>) -> Outcome<'static> {
    tracing::error!(refund.id = %lease.id, provider_payment.id = lease.provider_payment_id, %error, "a refund did not go through");
    let (base, cap) = (Duration::from_secs(5), Duration::from_secs(3600));
    let gap = backoff::after(lease.attempt_count, base, cap, app.ids.fraction());
    Outcome {
        status: "PENDING",
        gateway_refund_id: None,
        error: Some(error.to_string()),
        next_attempt_at: now + gap,
    }
}
