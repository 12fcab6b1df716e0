//! Taking an event in: verify over the raw bytes, keep, settle, and only then acknowledge.

use std::panic::AssertUnwindSafe;

use chrono::TimeDelta;
use futures::FutureExt;
use secrecy::SecretString;
use serde_json::Value;

use super::{
    content::{Content, Envelope, Meaning},
    settle::{Driven, Stored, Word, announce, settle_event_in},
    store,
};
use crate::{
    app::App,
    checkout::{self, Evidence, News, SettleError, Settled, SignedPayment},
    db,
    http::{ApiError, find_nul},
    kit::checkpoint,
    razorpay::signature,
    tenancy::{self, ConnectionId, Scope, Verifier},
    worker::Work,
};

/// Verifies, stores and settles one event; a word for what it came to.
///
/// # Errors
/// 404 unknown environment; 503 no webhook secret is known or one cannot be read, or Postgres is away (Razorpay retries for 24 hours);
/// 401 the signature does not verify; 400 verified, but not an event.
pub async fn receive(
    app: &App,
    scope: Scope,
    signature: &str,
    body: &[u8],
) -> Result<&'static str, ApiError> {
    let remembered = remembered(app, scope, signature, body);
    let ordinary = receive_ordinary(app, scope, &remembered, body).await;
    if let Ok(Some(outcome)) = ordinary {
        return Ok(outcome);
    }
    let connections = verify(app, scope, signature, body).await?;
    checkpoint::reach("inbox.verified");
    let _precedence = app.overload.precede();
    let event = stored(app, scope, connections, parse(body)?);
    let was_tried = event.connections == remembered;
    let settled = match ordinary {
        Err(error) if was_tried => Err(error),
        _ => caught(store_and_settle(app, &event, was_tried)).await,
    };
    let error = match settled {
        Ok(outcome) => {
            checkpoint::reach("inbox.committed");
            return Ok(outcome);
        }
        Err(error) => error,
    };
    // Kept by itself, so that it can be acknowledged and the worker can go on with it.
    tracing::warn!(inbox.event = event.content.event, error, "an event could not be settled at once");
    store_alone(app, &event).await?;
    checkpoint::reach("inbox.kept");
    Ok("kept")
}

/// An ordinary payment, verified by accounts that were read a moment ago, takes one look at Postgres less. Anything else
/// is `None` and goes the whole way, from the accounts as they are now.
async fn receive_ordinary(
    app: &App,
    scope: Scope,
    connections: &[ConnectionId],
    body: &[u8],
) -> Result<Option<&'static str>, String> {
    if connections.is_empty() {
        return Ok(None);
    }
    let Ok(content) = parse(body) else { return Ok(None) };
    let event = stored(app, scope, connections.to_vec(), content);
    checkpoint::reach("inbox.remembered");
    let _precedence = app.overload.precede();
    let work = async { Ok(complete_at_once(app, &event).await?.map(|settled| tell(app, &event, settled))) };
    let outcome = caught(work).await?;
    if outcome.is_some() {
        checkpoint::reach("inbox.completed");
    }
    Ok(outcome)
}

/// What went wrong, in words; a panic too: unanswered, Razorpay would bring the same event again for a day.
async fn caught<T>(work: impl Future<Output = Result<T, SettleError>>) -> Result<T, String> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("panic".to_owned()),
    }
}

fn stored(app: &App, scope: Scope, connections: Vec<ConnectionId>, content: Content) -> Stored {
    Stored { scope, id: app.ids.next(), connections, content, is_late: false, word: Word::Unasked }
}

fn tell(app: &App, event: &Stored, settled: Settled) -> &'static str {
    announce(app, event.id, &event.content.event, &Driven::Settled(Box::new(settled)));
    "settled"
}

/// Reads a verified body. What Postgres could not store is no event either.
fn parse(body: &[u8]) -> Result<Content, ApiError> {
    let malformed = |reason: &str| {
        ApiError::invalid_request("malformed_event", format!("not a Razorpay event: {reason}"))
    };
    // serde would read an array as an envelope, member by position.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(malformed("the body is not a JSON object"));
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?;
    let content = Content::of(envelope);
    let kept = serde_json::to_value(&content).map_err(ApiError::internal)?;
    match find_nul(&kept) {
        None => Ok(content),
        Some(field) => Err(malformed(&format!("{field} contains the character U+0000"))),
    }
}

/// The environment's accounts under whose secret the signature verifies: one, or several that share a secret
/// because an account was connected anew.
async fn verify(
    app: &App,
    scope: Scope,
    signature: &str,
    body: &[u8],
) -> Result<Vec<ConnectionId>, ApiError> {
    let verifiers =
        tenancy::webhook_verifiers(app, scope).await?.ok_or_else(|| ApiError::not_found("environment"))?;
    let unreadable = verifiers.iter().any(|known| known.is_unreadable);
    if !unreadable && verifiers.iter().all(|known| known.secrets.is_empty()) {
        return Err(ApiError::unavailable("the environment has no webhook secret yet", 60));
    }
    let verified = verified(&verifiers, signature, body);
    if verified.is_empty() && unreadable {
        return Err(ApiError::unavailable("a webhook secret of the environment cannot be read", 60));
    }
    if verified.is_empty() {
        tracing::warn!(environment.id = %scope.environment, "a webhook whose signature does not verify");
        return Err(ApiError::unauthorized("the signature does not verify"));
    }
    Ok(verified)
}

/// As [`verify`], among those that were read a moment ago.
fn remembered(app: &App, scope: Scope, signature: &str, body: &[u8]) -> Vec<ConnectionId> {
    let verifiers = tenancy::remembered_webhook_verifiers(app, scope).unwrap_or_default();
    verified(&verifiers, signature, body)
}

fn verified(verifiers: &[Verifier], signature: &str, body: &[u8]) -> Vec<ConnectionId> {
    let verifies =
        |secrets: &[SecretString]| secrets.iter().any(|secret| signature::verifies(body, signature, secret));
    verifiers.iter().filter(|known| verifies(&known.secrets)).map(|known| known.connection).collect()
}

/// The event and what it changes: an ordinary payment in one statement, unless that was tried, and anything else in one
/// transaction.
async fn store_and_settle(app: &App, event: &Stored, was_tried: bool) -> Result<&'static str, SettleError> {
    if !was_tried && let Some(settled) = complete_at_once(app, event).await? {
        return Ok(tell(app, event, settled));
    }
    let (own, stored) = (app.clone(), event.clone());
    let driven = db::transact(&app.pool, "receive", move |tx| {
        let (app, event) = (own.clone(), stored.clone());
        Box::pin(async move {
            if !insert(&app, tx, &event).await? {
                return Ok(None);
            }
            checkpoint::reach("inbox.stored");
            settle_event_in(&app, tx, &event).await.map(Some)
        })
    })
    .await?;
    let Some(driven) = driven else { return Ok("repeat") };
    announce(app, event.id, &event.content.event, &driven);
    Ok(match driven {
        Driven::Settled(_) => "settled",
        Driven::Done => "nothing_to_do",
        Driven::Parked(_) => "parked",
        Driven::TooEarly | Driven::Unconfirmed(_) | Driven::LeaseLost => "waiting",
    })
}

async fn complete_at_once(app: &App, event: &Stored) -> Result<Option<Settled>, SettleError> {
    let content = &event.content;
    let Meaning::News(News::Paid { payment, .. }) = content.meaning() else { return Ok(None) };
    if content.is_hearsay() {
        return Ok(None);
    }
    let evidence = Evidence {
        inbox: event.id.into(),
        connections: &event.connections,
        event_type: &content.event,
        content_hash: &content.hash(),
        content: &serde_json::to_value(content).unwrap_or(Value::Null),
    };
    let (link_id, reference) = (content.link_id.as_deref(), content.session);
    let signed = SignedPayment { payment, link_id, reference, evidence };
    checkout::complete_at_once(app, event.scope, signed).await
}

async fn store_alone(app: &App, event: &Stored) -> Result<(), ApiError> {
    let (own, stored) = (app.clone(), event.clone());
    db::transact(&app.pool, "receive_alone", move |tx| {
        let (app, event) = (own.clone(), stored.clone());
        Box::pin(async move { insert(&app, tx, &event).await })
    })
    .await?;
    app.wake.notify(Work::Inbox);
    Ok(())
}

/// A link's own event follows that of its payment at once; nothing need be asked then.
const LINKS_OWN_EVENT: TimeDelta = TimeDelta::seconds(5);

/// False when it is stored already.
async fn insert(app: &App, tx: &mut db::Tx, event: &Stored) -> Result<bool, db::Error> {
    let content = &event.content;
    let value = serde_json::to_value(content).unwrap_or(Value::Null);
    let (hash, now) = (content.hash(), app.clock.now());
    let due = if content.is_hearsay() { now + LINKS_OWN_EVENT } else { now };
    let row = (content.event.as_str(), hash.as_slice(), &value);
    store::insert(tx, event.scope, event.id, &event.connections, row, now, due).await
}
