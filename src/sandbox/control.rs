//! The control API under `/_sandbox`: what a test or a developer does to the sandbox. JSON, no authentication,
//! loopback callers only.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::Account;
use super::charge::{PaidInfo, PayRequest};
use super::faults::Faults;
use super::ledger::{Attempt, Ledger, RefundStatus};
use super::server::{Connection, Shared};
use super::webhooks::{self, SendWebhook};
use super::{SandboxError, actions};

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_sandbox/accounts", put(put_account))
        .route("/_sandbox/accounts/{key_id}", get(read_account))
        .route("/_sandbox/links/{link}/pay", post(pay))
        .route("/_sandbox/links/{link}/cancel", post(cancel))
        .route("/_sandbox/links/{link}/expire", post(expire))
        .route("/_sandbox/refunds/{id}/settle", post(settle_refund))
        .route("/_sandbox/ledger", get(ledger))
        .route("/_sandbox/faults", get(faults).put(put_faults).delete(clear_faults))
        .route("/_sandbox/clock", post(set_clock))
        .route("/_sandbox/webhooks/flush", post(flush))
        .route("/_sandbox/webhooks/send", post(send))
        .route_layer(from_fn(loopback_only))
}

async fn loopback_only(
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    if connection.peer.ip().to_canonical().is_loopback() {
        return next.run(request).await;
    }
    let body = json!({"error": "the control API answers on loopback only"});
    (StatusCode::FORBIDDEN, Json(body)).into_response()
}

impl IntoResponse for SandboxError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::UnknownLink(_) | Self::UnknownRefund(_) | Self::UnknownAccount(_) => StatusCode::NOT_FOUND,
            Self::NotPayable { .. } | Self::Refused(_) | Self::RefundNotPending(_) | Self::NoWebhook(_) => {
                StatusCode::CONFLICT
            }
            Self::InvalidAccount(_) => StatusCode::BAD_REQUEST,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

type Answer<T> = Result<Json<T>, SandboxError>;

async fn put_account(State(shared): State<Arc<Shared>>, Json(account): Json<Account>) -> Answer<Value> {
    let account_id = actions::put_account(&shared, account)?;
    Ok(Json(json!({"account_id": account_id})))
}

/// Whether there is such an account; its secrets stay here.
async fn read_account(State(shared): State<Arc<Shared>>, Path(key_id): Path<String>) -> Answer<Value> {
    let known = shared.books().account_by_key(&key_id).is_some();
    if known { Ok(Json(json!({"key_id": key_id}))) } else { Err(SandboxError::UnknownAccount(key_id)) }
}

async fn pay(
    State(shared): State<Arc<Shared>>,
    Path(link): Path<String>,
    Json(request): Json<PayRequest>,
) -> Answer<PaidInfo> {
    actions::pay(&shared, &link, request).map(Json)
}

async fn cancel(State(shared): State<Arc<Shared>>, Path(link): Path<String>) -> Answer<Value> {
    actions::cancel(&shared, &link)?;
    Ok(Json(json!({"status": "cancelled"})))
}

async fn expire(State(shared): State<Arc<Shared>>, Path(link): Path<String>) -> Answer<Value> {
    actions::expire(&shared, &link)?;
    Ok(Json(json!({"status": "expired"})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settlement {
    outcome: RefundStatus,
}

async fn settle_refund(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Json(settlement): Json<Settlement>,
) -> Answer<Value> {
    shared.books().settle_refund(&id, settlement.outcome)?;
    Ok(Json(json!({"status": settlement.outcome})))
}

async fn ledger(State(shared): State<Arc<Shared>>) -> Json<Ledger> {
    Json(shared.books().ledger().clone())
}

async fn faults(State(shared): State<Arc<Shared>>) -> Json<Faults> {
    Json(shared.books().faults.clone())
}

async fn put_faults(State(shared): State<Arc<Shared>>, Json(faults): Json<Faults>) -> Json<Faults> {
    shared.books().faults = faults.clone();
    Json(faults)
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.books().faults = Faults::default();
    StatusCode::NO_CONTENT
}

/// Moves sandbox time: by an offset to the clock it was started with, or to an instant.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum ClockSetting {
    Offset { offset_seconds: i32 },
    Now { now: DateTime<Utc> },
}

async fn set_clock(State(shared): State<Arc<Shared>>, Json(setting): Json<ClockSetting>) -> Json<Value> {
    let mut books = shared.books();
    books.clock_offset = match setting {
        ClockSetting::Offset { offset_seconds } => TimeDelta::seconds(i64::from(offset_seconds)),
        ClockSetting::Now { now } => now - (books.now() - books.clock_offset),
    };
    books.expire_due();
    Json(json!({"now": books.now()}))
}

async fn flush(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({"tried": webhooks::flush(&shared).await}))
}

async fn send(State(shared): State<Arc<Shared>>, Json(request): Json<SendWebhook>) -> Answer<Attempt> {
    webhooks::send(&shared, request).await.map(Json)
}
