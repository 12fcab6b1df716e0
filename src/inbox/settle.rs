//! What a stored event comes to: its fact is settled in the transaction that holds it.

use uuid::Uuid;

use super::{
    InboxId,
    content::{Content, Meaning},
    store,
};
use crate::{
    app::App,
    checkout::{self, Cause, News, SessionId, SettleError, Settled, Source},
    db::Tx,
    payments,
    tenancy::{ConnectionId, Scope},
    worker::Work,
};

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
    /// Says of this session what the link itself must be asked about first: no network in here.
    Unconfirmed(SessionId),
    /// Somebody else holds the event by now; nothing was changed.
    LeaseLost,
}

/// An event and what is known of it besides.
#[derive(Clone, Debug)]
pub struct Stored {
    pub scope: Scope,
    pub id: InboxId,
    /// The accounts under whose secret it verified.
    pub connections: Vec<ConnectionId>,
    pub content: Content,
    /// Whether a session that is not there will not come any more.
    pub is_late: bool,
    pub word: Word,
}

/// What the link itself says of what the event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing yet.
    Unasked,
    /// The provider confirmed it; or kept silent for too long, of a link's end.
    Believed,
    /// The provider kept saying otherwise.
    Contradicted,
}

/// Settles a stored event inside the transaction that holds it, and marks it processed.
pub async fn settle_event_in(app: &App, tx: &mut Tx, event: &Stored) -> Result<Driven, SettleError> {
    let (scope, content, now) = (event.scope, &event.content, app.clock.now());
    let (outcome, driven) = match content.meaning() {
        Meaning::Nothing => ("ignored", Driven::Done),
        Meaning::Unusable => parked("unusable_payment"),
        Meaning::Refund(refund) => {
            let ours = payments::note_refund_in(app, tx, scope, &refund, now).await?;
            (if ours { "refund_noted" } else { "foreign" }, Driven::Done)
        }
        Meaning::News(news) => match settle_in(app, tx, event, news).await? {
            Match::Settled(settled) => (settled.decision.as_str(), Driven::Settled(settled)),
            Match::OtherLink => parked("link_does_not_match"),
            Match::Contradicted => ("contradicted", Driven::Done),
            Match::Unconfirmed(session) => return Ok(Driven::Unconfirmed(session)),
            // Another system's link on the same account.
            Match::NoSession if event.is_late || !content.may_be_ours() => ("foreign", Driven::Done),
            Match::NoSession => return Ok(Driven::TooEarly),
        },
    };
    let status = if matches!(driven, Driven::Parked(_)) { "parked" } else { "processed" };
    store::mark_processed(tx, scope, event.id, status, outcome, now).await?;
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
        Driven::TooEarly | Driven::Unconfirmed(_) => app.wake.notify(Work::Inbox),
        Driven::Done | Driven::LeaseLost => {}
    }
}

/// For people: `checkoutd inbox list --status parked` shows the rest.
pub fn alert_parked(id: InboxId, event_type: &str, reason: &str, error: Option<&str>) {
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
    Unconfirmed(SessionId),
    Contradicted,
    NoSession,
}

async fn is_known(tx: &mut Tx, scope: Scope, news: &News) -> Result<bool, SettleError> {
    let News::Paid { payment, .. } = news else { return Ok(false) };
    Ok(payments::is_known_in(tx, scope, &payment.provider_payment_id).await?)
}

/// Bound before anything is believed: environment (by scope), session, link and account.
async fn settle_in(app: &App, tx: &mut Tx, event: &Stored, news: News) -> Result<Match, SettleError> {
    let (scope, content) = (event.scope, &event.content);
    let link_id = content.link_id.as_deref();
    let Some(session) =
        checkout::find_named_in(tx, scope, &event.connections, link_id, content.session).await?
    else {
        return Ok(Match::NoSession);
    };
    if !session.matches {
        tracing::error!(session.id = %session.id, link.id = link_id, "an event names another link or account than the session's");
        return Ok(Match::OtherLink);
    }
    let ends_link = matches!(news, News::LinkCancelled | News::LinkExpired);
    // Not when the payment is settled: its own link's event came first, as it does.
    let is_hearsay = content.is_hearsay() && !is_known(tx, scope, &news).await?;
    if (ends_link && session.is_open) || is_hearsay {
        match event.word {
            Word::Unasked => return Ok(Match::Unconfirmed(session.id)),
            Word::Contradicted => return Ok(Match::Contradicted),
            Word::Believed => {}
        }
    }
    let source = Source { cause: Cause::Webhook, inbox: Some(Uuid::from(event.id)) };
    let settled = checkout::settle_in(app, tx, scope, session.id, news, source).await?;
    Ok(Match::Settled(Box::new(settled)))
}
