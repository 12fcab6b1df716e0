//! `Idempotency-Key`: a POST that is sent again does its work once, and is answered as the first time.
//!
//! The key's row is claimed before the handler runs, and holds the answer afterwards (docs/adr/0012). A request that
//! died in between is run again under the same key. What is sent is stored first: of an answer that is not in the row
//! nobody has seen anything.
//!
//! # A new POST route
//!
//! Put it below [`once`]'s layer (one that only reads is named `…/search`, and passes it by), refuse (4xx) before anything is written, and see to it that it may run again after it
//! stopped anywhere. If it makes an object, take [`Reserved`] and wrap the making in [`Reserved::once`]:
//! `reserved.once(&app.ids, |id| find(…, id), |id| create(…, id, …))`. Everything that a later run could judge differently
//! (dates against now, names that may be archived meanwhile) belongs into the second. An object whose secret is stored as
//! a hash only is given a new secret by a later run: nobody has seen the old one, because its answer was never sent (see
//! `tenancy::key::create`). What is replaced is replaced in a transaction that begins with [`Reserved::fence_in`]: a run
//! that was taken for dead may still come. If it changes an object, and doing so twice is not the same as once, ask
//! [`Reserved::may_have_made`] with the time of the object's last change, and answer with the object as it is.

mod reserved;
mod store;
mod sweep;

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta};
use futures::FutureExt;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use reserved::Reserved;
pub use sweep::SweepIdempotencyKeys;

use self::store::{Answer, Claim, Found, Held};
use super::{
    ApiError, Caller, error::NothingDone, extract::BODY_LIMIT_BYTES, layers::REQUEST_TIMEOUT, read_body,
};
use crate::{
    app::App,
    db::{self, Tx},
    kit::{checkpoint, secret::Place},
    tenancy::Scope,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// How long a key is remembered, from its first request on.
const KEPT: TimeDelta = TimeDelta::days(7);
/// Longer than a request is waited for. One that dies holds its key for this long.
const LEASE: TimeDelta = TimeDelta::seconds(60);
const _: () = assert!(LEASE.num_seconds() > REQUEST_TIMEOUT.as_secs().cast_signed());
/// A longer answer is not kept: the request runs again, and finds what it made.
const ANSWER_LIMIT_BYTES: usize = 64 * 1024;
/// The id of an object is made just before or after its key's row is dated.
const ID_AND_ROW_APART: TimeDelta = TimeDelta::minutes(1);

/// The layer. Requests that are no POST, that only read, or without the header, pass untouched.
pub async fn once(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_post = request.method() == Method::POST && !only_reads(request.uri().path());
    if !is_post || !request.headers().contains_key(&IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    run_once(&app, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

/// Searches are safe to repeat, and their answers are long.
pub(super) fn only_reads(path: &str) -> bool {
    path.ends_with("/search")
}

/// Removes the stored answer of the request that made what has this id, if there is one: it shows a secret that is not
/// to lie about any longer. The same request is not answered with it any more, and makes nothing new either.
///
/// # Errors
/// Those of the database.
pub async fn forget_answer_in(tx: &mut Tx, id: Uuid) -> Result<(), db::Error> {
    let made_at = id.get_timestamp().and_then(|time| {
        let (seconds, nanos) = time.to_unix();
        DateTime::from_timestamp(seconds.try_into().ok()?, nanos)
    });
    // One without a time was not reserved under a key.
    let Some(made_at) = made_at else { return Ok(()) };
    store::delete_answer_any_scope(tx, id, made_at - ID_AND_ROW_APART, made_at + ID_AND_ROW_APART).await
}

async fn run_once(app: &App, request: Request, next: Next) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let scope = Caller::from_request_parts(&mut parts, app).await?.scope;
    let key = key_of(&parts.headers)?.to_owned();
    let body = read_body(Request::from_parts(parts.clone(), body), BODY_LIMIT_BYTES).await?;
    let held = Arc::new(Held { scope, key, token: app.ids.uuid() });
    let reserved = match claim(app, &held, &fingerprint(&parts, &body)).await? {
        Claimed::Run(reserved) => reserved,
        Claimed::Replay(response) => return Ok(response),
    };
    checkpoint::reach("idempotency.claimed");
    parts.extensions.insert(reserved.clone());
    let run = next.run(Request::from_parts(parts, Body::from(body)));
    let response = match AssertUnwindSafe(run).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            release(app, &held).await;
            resume_unwind(panic)
        }
    };
    checkpoint::reach("idempotency.answered");
    conclude(app, &held, &reserved, response).await
}

/// 1 to 255 printable ASCII characters.
fn key_of(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(ApiError::validation("Idempotency-Key", "must be given once"));
    };
    let is_printable = |text: &&str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let text = value.to_str().ok().filter(|text| (1..=255).contains(&text.len())).filter(is_printable);
    text.ok_or_else(|| {
        ApiError::validation("Idempotency-Key", "must have 1 to 255 printable ASCII characters")
    })
}

/// What makes two requests the same. No method or target has a zero byte.
fn fingerprint(parts: &Parts, body: &Bytes) -> [u8; 32] {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let mut hash = Sha256::new();
    for part in [parts.method.as_str(), target] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update(body);
    hash.finalize().into()
}

enum Claimed {
    Run(Reserved),
    Replay(Response),
}

async fn claim(app: &App, held: &Arc<Held>, fingerprint: &[u8]) -> Result<Claimed, ApiError> {
    let now = app.clock.now();
    let claim = Claim {
        scope: held.scope,
        key: &held.key,
        fingerprint,
        reserved_id: app.ids.uuid(),
        token: held.token,
        lease_expires_at: now + LEASE,
        now,
        forgotten: now - KEPT,
    };
    for _ in 0..3 {
        let Some(found) = store::claim(&app.pool, &claim).await? else { continue };
        if found.claimed {
            let is_later = found.reserved_id != claim.reserved_id;
            let reserved = Reserved::new(held, found.reserved_id, found.created_at, is_later);
            return Ok(Claimed::Run(reserved));
        }
        if found.fingerprint.as_deref() != Some(fingerprint) {
            return Err(ApiError::unprocessable(
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request",
            ));
        }
        return replay(app, held.scope, found).map(Claimed::Replay);
    }
    Err(in_progress())
}

/// The stored answer, byte for byte; 409 when there is none yet.
fn replay(app: &App, scope: Scope, found: Found) -> Result<Response, ApiError> {
    let (Some(status), Some(sealed)) = (found.answer_status, found.answer_sealed) else {
        return Err(in_progress());
    };
    let body = app.sealer.open(place(scope, found.reserved_id), &sealed).map_err(|error| {
        tracing::error!(alert = "secret_unreadable", %error, "a stored answer does not open");
        ApiError::internal(error)
    })?;
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or_else(|| ApiError::internal(anyhow::anyhow!("a stored status is none")))?;
    let mut response = (status, body.expose_secret().to_owned()).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    if let Some(content_type) = found.answer_type.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn in_progress() -> ApiError {
    ApiError::already_exists("a request with this Idempotency-Key is being worked on")
        .detail("reason", "idempotent_request_in_progress")
        .retry_after(1)
}

fn place(scope: Scope, reserved_id: Uuid) -> Place {
    Place {
        column: "idempotency_keys.answer_sealed",
        environment: scope.environment.into(),
        row: reserved_id,
    }
}

/// What becomes of the key is read off the answer.
async fn conclude(
    app: &App,
    held: &Held,
    reserved: &Reserved,
    response: Response,
) -> Result<Response, ApiError> {
    let status = response.status();
    // The provider refused, which ended what was drafted: that stays.
    if status.is_success() || status == StatusCode::BAD_GATEWAY {
        return keep(app, held, reserved.id(&app.ids), response).await;
    }
    let nothing_done = response.extensions().get::<NothingDone>().is_some();
    let is_refused = nothing_done || status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED;
    // Nothing was written: the caller mends the request and sends it under the same key. Of a later run this is not
    // known: an earlier one may have made something that is gone since, and must not be made anew.
    if is_refused && !reserved.is_later() {
        store::free(&app.pool, held).await.map_err(not_stored)?;
    } else {
        release(app, held).await;
    }
    Ok(response)
}

/// Stores the answer before it is sent.
async fn keep(app: &App, held: &Held, reserved_id: Uuid, response: Response) -> Result<Response, ApiError> {
    let (parts, body) = response.into_parts();
    let body =
        to_bytes(body, usize::MAX).await.map_err(|error| ApiError::internal(anyhow::Error::new(error)))?;
    let text = std::str::from_utf8(&body).ok().filter(|text| text.len() <= ANSWER_LIMIT_BYTES);
    let Some(text) = text else {
        release(app, held).await;
        return Ok(Response::from_parts(parts, Body::from(body)));
    };
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let answer = Answer {
        // A status has three digits.
        status: i16::try_from(parts.status.as_u16()).unwrap_or_default(),
        content_type: content_type.and_then(|value| value.to_str().ok()).map(str::to_owned),
        sealed: app.sealer.seal(place(held.scope, reserved_id), &text.into()),
    };
    if !store::store_answer(&app.pool, held, &answer).await.map_err(not_stored)? {
        // Taken for dead: the answer is the other run's to give.
        return Err(in_progress());
    }
    checkpoint::reach("idempotency.stored");
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// An answer that is not stored must not be sent: the request would be run again after it was believed.
fn not_stored(error: db::Error) -> ApiError {
    tracing::warn!(%error, "the answer to a request with an idempotency key could not be stored");
    ApiError::unavailable("the answer could not be stored; send the request again under the same key", 1)
        .detail("reason", "answer_not_stored")
}

/// Best effort: a lease that stays runs out.
async fn release(app: &App, held: &Held) {
    if let Err(error) = store::release(&app.pool, held).await {
        tracing::warn!(%error, "an idempotency key could not be released and will be when its lease expires");
    }
}
