//! Sends refunds and follows them until the provider says how they ended.

use std::time::Duration;

use chrono::TimeDelta;
use uuid::Uuid;

use super::{
    RefundId,
    judge::{Answer, judge},
    record::update_in,
    refund::Refund,
    store::{self, Key},
};
use crate::{
    app::App,
    db,
    kit::checkpoint,
    razorpay::{self, ProviderError},
    tenancy::{self, Account, AccountError, Scope},
    webhooks::EventType,
    worker::{Job, Leased, Work},
};

/// Sends refunds that are due, and asks about those that the provider has.
pub struct SendRefunds;

const LEASE: TimeDelta = TimeDelta::seconds(60);

/// A refund that is due.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    pub scope: Scope,
    pub id: RefundId,
    pub token: Uuid,
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
        checkpoint::reach("refund.claimed");
        let found = store::find_refund(&app.pool, lease.scope, lease.id).await?;
        let Some(refund) = found.filter(|found| found.lease_token == Some(lease.token)) else {
            return Ok(());
        };
        let answer = ask(app, &refund).await?;
        checkpoint::reach("refund.answered");
        if let Answer::NotYet { why, .. } = &answer {
            metrics::counter!("checkoutd_refunds_total", "outcome" => "refund.not_yet").increment(1);
            tracing::warn!(refund.id = %refund.id, provider_payment.id = refund.provider_payment_id, error = why, "a refund did not go through");
        }
        record(app, lease, answer).await?;
        checkpoint::reach("refund.recorded");
        Ok(())
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

/// Sends it, or asks how it went. Unanswered, it is repeated under the same key; refused, the payment's refunds say
/// why: the money may have gone back by an earlier try, or by hand.
async fn ask(app: &App, refund: &Refund) -> Result<Answer, db::Error> {
    let account = match tenancy::connection_account(app, refund.scope, refund.connection).await {
        Ok(account) => account,
        Err(AccountError::Store(error)) => return Err(error),
        Err(error) => return Ok(Answer::NotYet { why: error.to_string(), retry_after: None }),
    };
    let asked = match &refund.gateway_refund_id {
        Some(id) => app.razorpay.fetch_refund(&account.credentials, id).await,
        None => app.razorpay.refund(&account.credentials, &request(refund)).await,
    };
    Ok(match asked {
        Ok(answer) => Answer::Ours { id: answer.id, status: answer.status },
        Err(error) => without_answer(app, &account, refund, &error).await,
    })
}

fn request(refund: &Refund) -> razorpay::NewRefund {
    razorpay::NewRefund {
        payment_id: refund.provider_payment_id.clone(),
        amount_minor: refund.asked_minor(),
        idempotency_key: refund.idempotency_key.to_string(),
    }
}

async fn without_answer(app: &App, account: &Account, refund: &Refund, error: &ProviderError) -> Answer {
    let retry_after = match error {
        ProviderError::RateLimited { retry_after } => *retry_after,
        ProviderError::Paused { retry_after } => Some(*retry_after),
        _ => None,
    };
    let why = error.to_string();
    let refused = matches!(error, ProviderError::Rejected { .. }) && !error.is_authentication();
    if !refused || refund.gateway_refund_id.is_some() {
        return Answer::NotYet { why, retry_after };
    }
    match app.razorpay.payment_refunds(&account.credentials, &refund.provider_payment_id).await {
        Ok(listed) => judge(&listed, refund, why, retry_after),
        // The next try will tell.
        Err(_) => Answer::NotYet { why, retry_after },
    }
}

/// Writes what was learnt, if the lease still holds and no webhook was faster.
async fn record(app: &App, lease: Lease, answer: Answer) -> Result<(), db::Error> {
    let own = app.clone();
    let told = db::transact(&app.pool, "record_refund", move |tx| {
        let (app, answer) = (own.clone(), answer.clone());
        Box::pin(async move { record_in(&app, tx, lease, &answer).await })
    })
    .await?;
    if told {
        app.wake.notify(Work::Deliveries);
    }
    Ok(())
}

/// Whether there is an event to deliver.
async fn record_in(app: &App, tx: &mut db::Tx, lease: Lease, answer: &Answer) -> Result<bool, db::Error> {
    let found = store::lock_refund(tx, lease.scope, Key::Refund(lease.id)).await?;
    let Some(mut refund) = found.filter(|found| found.lease_token == Some(lease.token)) else {
        return Ok(false);
    };
    let (now, from) = (app.clock.now(), refund.status);
    if !from.is_open() {
        return Ok(false);
    }
    refund.attempt_count += 1;
    refund.lease_token = None;
    let event: Option<EventType> = refund.learn(answer, now, app.ids.fraction(), app.ids.next());
    if refund.is_stuck(now) {
        tracing::error!(
            alert = "refund_stuck",
            refund.id = %refund.id,
            provider_payment.id = refund.provider_payment_id,
            error = refund.last_error,
            "a refund does not get through"
        );
    }
    Ok(update_in(app, tx, &mut refund, from, event, now).await? && event.is_some())
}
