//! From a stored event to a settled fact; in the request that brought it when possible, by the worker when not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    InboxId,
    content::{Content, Meaning},
    store::{self, Lease},
};
use crate::{
    app::App,
    checkout::{self, Cause, Decision, News, SettleError, Settled, Source},
    db::{self, TransactError, Tx},
    kit::{backoff, checkpoint},
    payments,
    tenancy::{ConnectionId, Scope},
    worker::{Job, Work},
};

/// Drives events that could not be settled when they came.
pub struct DriveInbox;

const LEASE: TimeDelta = TimeDelta::seconds(60);
/// An event that names a session of ours which is not there is looked at for this long.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);
/// Tries that fail, or claims that do not end, before an event is parked: about ten minutes of them.
const MOST_FAILURES: i32 = 10;

/// What an event came to.
#[derive(Debug)]
pub enum Driven {
    /// Done, with the session that it changed.
    Settled(Box<Settled>),
    /// Done, and no session changed.
    Done,
    /// Given up for people to look at, with the reason.
    Parked(&'static str),
    /// Names a session of ours that is not there (yet).
    TooEarly,
    /// Somebody else holds the event by now; nothing was changed.
    LeaseLost,
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
    let (outcome, driven) = match content.meaning() {
        Meaning::Nothing => ("ignored", Driven::Done),
        Meaning::Unusable => parked("unusable_payment"),
        Meaning::Refund(refund) => {
            let ours = payments::note_refund_in(tx, scope, &refund, now).await?;
            (if ours { "refund_noted" } else { "foreign" }, Driven::Done)
        }
        Meaning::News(news) => match settle_in(app, tx, scope, id, connections, content, news).await? {
            Match::Settled(settled) => (outcome(settled.decision), Driven::Settled(settled)),
            Match::OtherLink => parked("link_does_not_match"),
            // Another system's link on the same account.
            Match::NoSession if give_up || !content.may_be_ours() => ("foreign", Driven::Done),
            Match::NoSession => return Ok(Driven::TooEarly),
        },
    };
    let status = if matches!(driven, Driven::Parked(_)) { "parked" } else { "processed" };
    store::mark_processed(tx, scope, id, status, outcome, now).await?;
    Ok(driven)
}

fn parked(reason: &'static str) -> (&'static str, Driven) {
    (reason, Driven::Parked(reason))
}

/// Tells whom it concerns what an event came to; call it after the commit.
pub fn announce(app: &App, id: InboxId, event_type: &str, driven: &Driven) {
    match driven {
        Driven::Settled(settled) => checkout::announce(app, settled),
        Driven::Parked(reason) => alert_parked(id, event_type, reason, None),
        Driven::TooEarly | Driven::Done | Driven::LeaseLost => {}
    }
}

fn alert_parked(id: InboxId, event_type: &str, reason: &str, error: Option<&str>) {
    tracing::error!(
        alert = "inbox_parked",
        inbox.id = %id,
        inbox.event = event_type,
        reason,
        error,
        "an event was given up: look at it, then checkoutd inbox replay"
    );
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
        checkpoint::reach("inbox.claimed");
        if lease.failure_count > MOST_FAILURES {
            // Nobody was left to write the last one down: the event may be what ended them.
            return Ok(park(app, &lease, "never_finished", None).await?);
        }
        let content: Content = match serde_json::from_value(lease.content.clone()) {
            Ok(content) => content,
            Err(error) => return Ok(park(app, &lease, "unreadable", Some(error.to_string())).await?),
        };
        match drive(app, &lease, content).await {
            Ok(Driven::TooEarly) => put_back(app, &lease, None).await?,
            Ok(driven) => announce(app, lease.id, &lease.event_type, &driven),
            Err(error) => {
                let ours = error.database_error().is_none_or(|error| !db::is_unavailable(error));
                tracing::warn!(inbox.id = %lease.id, %error, "a stored event could not be settled");
                let failure = ours.then(|| error.to_string());
                match failure {
                    Some(text) if lease.failure_count >= MOST_FAILURES => {
                        park(app, &lease, "failed", Some(text)).await?;
                    }
                    failure => put_back(app, &lease, failure).await?,
                }
            }
        }
        Ok(())
    }
}

/// One transaction, under the lease.
async fn drive(app: &App, lease: &Lease, content: Content) -> Result<Driven, SettleError> {
    let give_up = app.clock.now() - lease.received_at >= PATIENCE;
    let (own, held) = (app.clone(), lease.clone());
    db::transact(&app.pool, "drive_inbox", move |tx| {
        let (app, content, lease) = (own.clone(), content.clone(), held.clone());
        Box::pin(async move {
            if !store::lock_leased(tx, &lease).await? {
                return Ok(Driven::LeaseLost);
            }
            drive_in(&app, tx, lease.scope, lease.id, &lease.connections, &content, give_up).await
        })
    })
    .await
}

/// For later. Nothing but a failure counts against the event, so a database that is away right now is waited for:
/// were the claim never taken back, enough such moments would look like an event that kills its workers.
async fn put_back(app: &App, lease: &Lease, failure: Option<String>) -> Result<(), db::Error> {
    let failure = failure.map(bounded);
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
    let error = error.map(bounded);
    if store::park(&app.pool, lease, reason, error.as_deref(), app.clock.now()).await? {
        alert_parked(lease.id, &lease.event_type, reason, error.as_deref());
    }
    Ok(())
}

/// An error as it is kept: short, and without what Postgres cannot store.
fn bounded(error: String) -> String {
    error.chars().filter(|c| *c != '\0').take(500).collect()
}

/// Ever rarer; and once more exactly when patience ends, so that what came late is joined in time.
fn next_look(app: &App, lease: &Lease) -> DateTime<Utc> {
    let (base, cap) = (Duration::from_secs(2), Duration::from_secs(120));
    let now = app.clock.now();
    let next = now + backoff::after(lease.attempt_count - 1, base, cap, app.ids.fraction());
    let last = lease.received_at + PATIENCE;
    if now < last { next.min(last) } else { next }
}
