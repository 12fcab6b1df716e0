//! From a stored event to a settled fact; in the request that brought it when possible, by the worker when not.

use std::time::Duration;

use chrono::TimeDelta;
use uuid::Uuid;

use super::{
    InboxId,
    content::{Content, Meaning},
    store::{self, Lease},
};
use crate::{
    app::App,
    checkout::{self, Cause, Decision, News, SettleError, Settled, Source},
    db::{self, Tx},
    kit::backoff,
    payments,
    tenancy::{ConnectionId, Scope},
    worker::{Job, Leased, Work},
};

/// Drives events that could not be settled when they came.
pub struct DriveInbox;

const LEASE: TimeDelta = TimeDelta::seconds(60);
/// An event that names a session of ours which is not there is looked at for this long.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);

/// What an event came to.
#[derive(Debug)]
pub enum Driven {
    /// Done, with the session that it changed.
    Settled(Box<Settled>),
    /// Done, and no session changed.
    Done,
    /// Names a session of ours that is not there (yet).
    TooEarly,
}

/// Settles a stored event inside the transaction that holds it, and marks it processed.
pub async fn drive_in(
    app: &App,
    tx: &mut Tx,
    scope: Scope,
    id: InboxId,
    connections: &[ConnectionId],
    content: &Content,
    give_up: bool,
) -> Result<Driven, SettleError> {
    let now = app.clock.now();
    let (status, outcome, driven) = match content.meaning() {
        Meaning::Nothing => ("processed", "ignored", Driven::Done),
        Meaning::Unusable => ("parked", "unusable_payment", Driven::Done),
        Meaning::Refund(refund) => {
            let ours = payments::note_refund_in(app, tx, scope, &refund, now).await?;
            ("processed", if ours { "refund_noted" } else { "foreign" }, Driven::Done)
        }
        Meaning::News(news) => match settle_in(app, tx, scope, id, connections, content, news).await? {
            Match::Settled(settled) => ("processed", outcome(settled.decision), Driven::Settled(settled)),
            Match::OtherLink => ("parked", "link_does_not_match", Driven::Done),
            // Another system's link on the same account.
            Match::NoSession if content.session.is_none() || give_up => {
                ("processed", "foreign", Driven::Done)
            }
            Match::NoSession => return Ok(Driven::TooEarly),
        },
    };
    store::mark_processed(tx, scope, id, status, outcome, now).await?;
    Ok(driven)
}

enum Match {
    Settled(Box<Settled>),
    OtherLink,
    NoSession,
}

/// Bound before anything is believed: environment (by scope), session, link and account.
async fn settle_in(
    app: &App,
    tx: &mut Tx,
    scope: Scope,
    id: InboxId,
    connections: &[ConnectionId],
    content: &Content,
    news: News,
) -> Result<Match, SettleError> {
    let link_id = content.link_id.as_deref();
    let Some(session) = checkout::find_named_in(tx, scope, connections, link_id, content.session).await?
    else {
        return Ok(Match::NoSession);
    };
    if !session.matches {
        tracing::error!(session.id = %session.id, link.id = link_id, "an event names another link or account than the session's");
        return Ok(Match::OtherLink);
    }
    let source = Source { cause: Cause::Webhook, inbox: Some(Uuid::from(id)) };
    let settled = checkout::settle_in(app, tx, scope, session.id, news, source).await?;
    Ok(Match::Settled(Box::new(settled)))
}

fn outcome(decision: Decision) -> &'static str {
    match decision {
        Decision::Become(_) => "applied",
        Decision::AlreadyApplied => "already_applied",
        Decision::Record => "recorded",
        Decision::Refund(_) => "refund",
        Decision::CancelLink => "cancel_link",
        Decision::Illegal => "illegal",
    }
}

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
        let content: Content = serde_json::from_value(lease.content.clone())?;
        let give_up = app.clock.now() - lease.received_at >= PATIENCE;
        let (own, held) = (app.clone(), lease.clone());
        let driven = db::transact(&app.pool, "drive_inbox", move |tx| {
            let (app, content, lease) = (own.clone(), content.clone(), held.clone());
            Box::pin(async move {
                drive_in(&app, tx, lease.scope, lease.id, &lease.connections, &content, give_up).await
            })
        })
        .await;
        match driven {
            Ok(Driven::Settled(settled)) => checkout::announce(app, &settled),
            Ok(Driven::Done) => {}
            Ok(Driven::TooEarly) => {
                store::reschedule(&app.pool, &lease, app.clock.now() + retry_after(app, &lease)).await?;
            }
            Err(error) => {
                store::reschedule(&app.pool, &lease, app.clock.now() + retry_after(app, &lease)).await?;
                return Err(error.into());
            }
        }
        Ok(())
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

fn retry_after(app: &App, lease: &Lease) -> TimeDelta {
    let (base, cap) = (Duration::from_secs(2), Duration::from_secs(120));
    backoff::after(lease.attempt_count, base, cap, app.ids.fraction())
}
