//! The worker of the inbox: events that could not be settled in the request that brought them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    content::Content,
    settle::{Driven, Stored, Word, alert_parked, announce, settle_event_in},
    store::{self, Lease},
};
use crate::{
    app::App,
    checkout::{self, ReconcileError, SessionId, SettleError},
    db::{self, TransactError},
    kit::{backoff, checkpoint, text::bounded},
    worker::{Job, Leased, Work},
};

/// Drives events that could not be settled when they came.
pub struct DriveInbox;

const LEASE: TimeDelta = TimeDelta::seconds(60);
/// An event that names a session of ours which is not there is looked at for this long.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);
/// Tries that fail, or claims that do not end, before an event is parked: about ten minutes of them.
const MOST_FAILURES: i32 = 10;

impl Job for DriveInbox {
    type Lease = Lease;
    const WORK: Work = Work::Inbox;
    const SLOTS: usize = 8;
    const POLL: Duration = Duration::from_secs(1);

    async fn claim(&self, app: &App, free: usize) -> anyhow::Result<Vec<Lease>> {
        let now = app.clock.now();
        let limit = i64::try_from(free)?;
        Ok(store::claim_due_any_scope(&app.pool, now, now + LEASE, app.ids.uuid(), limit).await?)
    }

    async fn step(&self, app: &App, lease: Lease) -> anyhow::Result<()> {
        checkpoint::reach("inbox.claimed");
        if lease.failure_count > MOST_FAILURES {
            // Nobody was left to write the last one down: the event may be what ended them.
            return Ok(park(app, &lease, "never_finished", None).await?);
        }
        let content: Content = match serde_json::from_value(lease.content.clone()) {
            Ok(content) => content,
            Err(error) => return Ok(park(app, &lease, "unreadable", Some(error.to_string())).await?),
        };
        let is_late = app.clock.now() - lease.received_at >= PATIENCE;
        let mut event = Stored {
            scope: lease.scope,
            id: lease.id,
            connections: lease.connections.clone(),
            content,
            is_late,
            word: Word::Unasked,
        };
        let mut driven = settle_leased(app, &lease, &event).await;
        if let Ok(Driven::Unconfirmed(session)) = driven {
            let word = if event.content.is_hearsay() {
                ask_about_payment(app, &event, session).await
            } else {
                ask_about_link(app, &event, session).await
            };
            driven = match word {
                Ok(Word::Unasked) => driven,
                Ok(word) => {
                    event.word = word;
                    settle_leased(app, &lease, &event).await
                }
                Err(error) => Err(error),
            };
        }
        Ok(finish(app, &lease, driven).await?)
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

/// Whether the link ended, as the event says. Until patience ends, what the provider does not confirm is asked
/// again. Then silence leaves the signed event to be believed, and money that comes all the same goes back.
async fn ask_about_link(app: &App, event: &Stored, session: SessionId) -> Result<Word, SettleError> {
    let answer = checkout::confirm_link_end(app, event.scope, session).await;
    if let Ok(true) = answer {
        return Ok(Word::Believed);
    }
    tracing::info!(inbox.id = %event.id, session.id = %session, ?answer, "a link's end is not confirmed");
    match answer {
        Err(ReconcileError::Settle(error)) => Err(error),
        _ if !event.is_late => Ok(Word::Unasked),
        Err(ReconcileError::Provider(_) | ReconcileError::Account(_)) => Ok(Word::Believed),
        _ => Ok(Word::Contradicted),
    }
}

/// Whether the session's link lists the payment: nothing else says whose money it is. A provider that stays silent
/// is asked for as long as it takes.
async fn ask_about_payment(app: &App, event: &Stored, session: SessionId) -> Result<Word, SettleError> {
    let payment = event.content.payment.as_ref().map(|payment| payment.id.as_str()).unwrap_or_default();
    let answer = checkout::confirm_payment(app, event.scope, session, payment).await;
    tracing::info!(inbox.id = %event.id, session.id = %session, provider_payment.id = payment, ?answer, "a payment's link was asked");
    match answer {
        Ok(true) => Ok(Word::Believed),
        // Lists lag behind by a moment.
        Ok(false) if event.is_late => Ok(Word::Contradicted),
        Ok(false)
        | Err(ReconcileError::Provider(_) | ReconcileError::PaidUnsettled | ReconcileError::NoBudget) => {
            Ok(Word::Unasked)
        }
        Err(ReconcileError::Account(error)) => {
            tracing::warn!(inbox.id = %event.id, %error, "the account cannot be asked");
            Ok(Word::Unasked)
        }
        Err(ReconcileError::Settle(error)) => Err(error),
    }
}

async fn finish(app: &App, lease: &Lease, driven: Result<Driven, SettleError>) -> Result<(), db::Error> {
    match driven {
        Ok(Driven::TooEarly | Driven::Unconfirmed(_)) => put_back(app, lease, None).await,
        Ok(driven) => {
            announce(app, lease.id, &lease.event_type, &driven);
            Ok(())
        }
        Err(error) => {
            tracing::warn!(inbox.id = %lease.id, %error, "a stored event could not be settled");
            let away = error.database_error().is_some_and(db::is_unavailable);
            if away || lease.failure_count < MOST_FAILURES {
                put_back(app, lease, (!away).then(|| error.to_string())).await
            } else {
                park(app, lease, "failed", Some(error.to_string())).await
            }
        }
    }
}

/// One transaction, under the lease.
async fn settle_leased(app: &App, lease: &Lease, event: &Stored) -> Result<Driven, SettleError> {
    let (own, held, stored) = (app.clone(), lease.clone(), event.clone());
    db::transact(&app.pool, "drive_inbox", move |tx| {
        let (app, lease, event) = (own.clone(), held.clone(), stored.clone());
        Box::pin(async move {
            if !store::lock_leased(tx, &lease).await? {
                return Ok(Driven::LeaseLost);
            }
            settle_event_in(&app, tx, &event).await
        })
    })
    .await
}

/// For later. Nothing but a failure counts against the event, so a database that is away right now is waited for:
/// were the claim never taken back, enough such moments would look like an event that kills its workers.
async fn put_back(app: &App, lease: &Lease, failure: Option<String>) -> Result<(), db::Error> {
    let failure = failure.map(|error| bounded(&error, 500));
    let mut pause = Duration::from_secs(1);
    loop {
        let next = next_look(app, lease);
        match store::put_back(&app.pool, lease, next, failure.as_deref()).await {
            Err(error) if db::is_unavailable(&error) && pause < Duration::from_secs(8) => {
                app.clock.sleep(pause).await;
                pause *= 2;
            }
            done => return done,
        }
    }
}

async fn park(
    app: &App,
    lease: &Lease,
    reason: &'static str,
    error: Option<String>,
) -> Result<(), db::Error> {
    let error = error.map(|error| bounded(&error, 500));
    if store::park(&app.pool, lease, reason, error.as_deref(), app.clock.now()).await? {
        alert_parked(lease.id, &lease.event_type, reason, error.as_deref());
    }
    Ok(())
}

/// Ever rarer; and once more exactly when patience ends, so that what came late is joined in time.
fn next_look(app: &App, lease: &Lease) -> DateTime<Utc> {
    let (base, cap) = (Duration::from_secs(2), Duration::from_secs(120));
    let now = app.clock.now();
    let next = now + backoff::after(lease.attempt_count - 1, base, cap, app.ids.fraction());
    let last = lease.received_at + PATIENCE;
    if now < last { next.min(last) } else { next }
}
