//! Taking an event in: verify over the raw bytes, keep, settle, and only then acknowledge.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use serde_json::Value;

use super::{
    InboxId,
    content::{Content, Envelope},
    drive::{Driven, announce, drive_in},
    store,
};
use crate::{
    app::App,
    checkout::SettleError,
    db,
    http::{ApiError, find_nul},
    kit::checkpoint,
    razorpay::signature,
    tenancy::{self, ConnectionId, Scope},
    worker::Work,
};

/// Verifies, stores and settles one event.
///
/// # Errors
/// 404 unknown environment; 503 no webhook secret is known, or Postgres is away (Razorpay retries for 24 hours);
/// 401 the signature does not verify; 400 verified, but not an event.
pub async fn receive(app: &App, scope: Scope, signature: &str, body: &[u8]) -> Result<(), ApiError> {
    if tenancy::find_environment(app, scope).await?.is_none() {
        return Err(ApiError::not_found("environment"));
    }
    let connections = verify(app, scope, signature, body).await?;
    checkpoint::reach("inbox.verified");
    let content = parse(body)?;
    let id: InboxId = app.ids.next();
    // A panic too: unanswered, Razorpay would bring the same event again for a day.
    let work = AssertUnwindSafe(store_and_drive(app, scope, id, &connections, &content)).catch_unwind();
    let error = match work.await {
        Ok(Ok(())) => {
            checkpoint::reach("inbox.committed");
            return Ok(());
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "panic".to_owned(),
    };
    // Kept by itself, so that it can be acknowledged and the worker can go on with it.
    tracing::warn!(inbox.event = content.event, error, "an event could not be settled at once");
    store_alone(app, scope, id, &connections, &content).await?;
    checkpoint::reach("inbox.kept");
    Ok(())
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
    let accounts = tenancy::all_accounts(app, scope).await?;
    if accounts.iter().all(|account| account.webhook_secrets.is_empty()) {
        return Err(ApiError::unavailable("the environment has no webhook secret yet", 60));
    }
    let verified: Vec<_> = accounts
        .iter()
        .filter(|account| {
            account.webhook_secrets.iter().any(|secret| signature::verifies(body, signature, secret))
        })
        .map(|account| account.connection)
        .collect();
    if verified.is_empty() {
        tracing::warn!(environment.id = %scope.environment, "a webhook whose signature does not verify");
        return Err(ApiError::unauthorized("the signature does not verify"));
    }
    Ok(verified)
}

/// One transaction: the event and what it changes.
async fn store_and_drive(
    app: &App,
    scope: Scope,
    id: InboxId,
    connections: &[ConnectionId],
    content: &Content,
) -> Result<(), SettleError> {
    let (own, kept, signers) = (app.clone(), content.clone(), connections.to_vec());
    let driven = db::transact(&app.pool, "receive", move |tx| {
        let (app, content, connections) = (own.clone(), kept.clone(), signers.clone());
        Box::pin(async move {
            if !insert(&app, tx, scope, id, &connections, &content).await? {
                return Ok(None);
            }
            checkpoint::reach("inbox.stored");
            drive_in(&app, tx, scope, id, &connections, &content, false).await.map(Some)
        })
    })
    .await?;
    if let Some(driven) = driven {
        if matches!(driven, Driven::TooEarly) {
            app.wake.notify(Work::Inbox);
        }
        announce(app, id, &content.event, &driven);
    }
    Ok(())
}

async fn store_alone(
    app: &App,
    scope: Scope,
    id: InboxId,
    connections: &[ConnectionId],
    content: &Content,
) -> Result<(), ApiError> {
    let (own, kept, signers) = (app.clone(), content.clone(), connections.to_vec());
    db::transact(&app.pool, "receive_alone", move |tx| {
        let (app, content, connections) = (own.clone(), kept.clone(), signers.clone());
        Box::pin(async move { insert(&app, tx, scope, id, &connections, &content).await })
    })
    .await?;
    app.wake.notify(Work::Inbox);
    Ok(())
}

async fn insert(
    app: &App,
    tx: &mut db::Tx,
    scope: Scope,
    id: InboxId,
    connections: &[ConnectionId],
    content: &Content,
) -> Result<bool, db::Error> {
    let value = serde_json::to_value(content).unwrap_or(Value::Null);
    store::insert(tx, scope, id, connections, &content.event, (&content.hash(), &value), app.clock.now())
        .await
}
