//! Razorpay's API under `/v1`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::Account;
use super::books::{Books, LinkFilter};
use super::errors::{WireError, default_body};
use super::faults::{FaultKind, Op};
use super::server::{Connection, Shared};
use super::wire::Reply;

/// What "another amount" differs by, minor units.
const OTHER_AMOUNT_DIFFERENCE: i64 = 100;

pub(super) fn routes() -> Router<Arc<Shared>> {
    let links = get(list_links).post(create_link);
    Router::new()
        .route("/v1/payment_links", links.clone())
        .route("/v1/payment_links/", links)
        .route("/v1/payment_links/{id}", get(fetch_link))
        .route("/v1/payment_links/{id}/cancel", post(cancel_link))
        .route("/v1/payments/{id}", get(fetch_payment))
        .route("/v1/payments/{id}/refund", post(refund))
        .route("/v1/payments/{id}/refunds", get(payment_refunds))
        .route("/v1/refunds/{id}", get(fetch_refund))
        .route("/v1/orders/{id}/payments", get(order_payments))
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl IntoResponse for WireError {
    fn into_response(self) -> Response {
        self.into_reply().into_response()
    }
}

/// The account that a request authenticated as.
struct Merchant(Account);

impl FromRequestParts<Arc<Shared>> for Merchant {
    type Rejection = WireError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, WireError> {
        let Some(header) = parts.headers.get(AUTHORIZATION) else {
            let text = "Please provide your api key for authentication purposes";
            return Err(WireError::gateway(401, text));
        };
        let (key_id, key_secret) =
            basic_credentials(header).ok_or_else(|| WireError::gateway(401, "Authentication failed"))?;
        let account = shared.books().account_by_key(&key_id).cloned();
        account
            .filter(|account| account.key_secret == key_secret)
            .map(Merchant)
            .ok_or_else(|| WireError::gateway(401, "Authentication failed"))
    }
}

/// The scheme is case-sensitive at Razorpay, unlike in the HTTP standard.
fn basic_credentials(header: &HeaderValue) -> Option<(String, String)> {
    let encoded = header.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (key_id, key_secret) = decoded.split_once(':')?;
    Some((key_id.to_owned(), key_secret.to_owned()))
}

pub(super) async fn not_found() -> WireError {
    WireError::gateway(400, "The requested URL was not found on the server.")
}

type Work = Result<Reply, WireError>;

/// Runs one call under the fault that is switched on for it, if any.
async fn run(
    shared: &Shared,
    connection: &Connection,
    op: Op,
    work: impl FnOnce(&mut Books) -> Work,
) -> Response {
    let fault = shared.books().faults.take(op);
    let work = || work(&mut shared.books()).unwrap_or_else(WireError::into_reply);
    let reply = match fault {
        None => work(),
        Some(FaultKind::Status { code, body, retry_after }) => {
            Reply { status: code, body: body.unwrap_or_else(|| default_body(code)), retry_after }
        }
        Some(FaultKind::TimeoutBefore) => std::future::pending().await,
        Some(FaultKind::TimeoutAfter) => {
            work();
            std::future::pending().await
        }
        Some(FaultKind::ResetAfter) => {
            work();
            connection.close.cancel();
            std::future::pending().await
        }
        Some(FaultKind::Malformed) => {
            let whole = work().body;
            let half = whole.chars().take(whole.chars().count() / 2).collect();
            Reply { status: 200, body: half, retry_after: None }
        }
        Some(FaultKind::DelayMs { delay_ms }) => {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            work()
        }
        Some(FaultKind::Twice) => {
            let reply = work();
            shared.books().repeat_newest_link();
            reply
        }
        Some(FaultKind::OtherAmount) => with_other_amount(work()),
    };
    reply.into_response()
}

fn with_other_amount(reply: Reply) -> Reply {
    let Ok(mut body) = serde_json::from_str::<Value>(&reply.body) else { return reply };
    bump_amount(&mut body);
    for list in ["payment_links", "items"] {
        body.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(bump_amount);
    }
    Reply::json(reply.status, &body)
}

fn bump_amount(entity: &mut Value) {
    if let Some(amount) = entity.get("amount").and_then(Value::as_i64) {
        entity["amount"] = json!(amount.saturating_add(OTHER_AMOUNT_DIFFERENCE));
    }
}

async fn create_link(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Merchant(account): Merchant,
    body: Bytes,
) -> Response {
    let work = |books: &mut Books| books.create_link(&account, &body).map(|link| Reply::ok(&link));
    run(&shared, &connection, Op::CreateLink, work).await
}

async fn fetch_link(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Merchant(account): Merchant,
    Path(id): Path<String>,
) -> Response {
    let work = |books: &mut Books| books.fetch_link(&account, &id).map(|link| Reply::ok(&link));
    run(&shared, &connection, Op::FetchLink, work).await
}

#[derive(Deserialize)]
struct ListQuery {
    reference_id: Option<String>,
    payment_id: Option<String>,
    count: Option<usize>,
    skip: Option<usize>,
}

async fn list_links(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Merchant(account): Merchant,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let work = |books: &mut Books| {
        let Query(query) = query.map_err(|_| WireError::core("The count must be an integer."))?;
        let filter = LinkFilter {
            reference_id: query.reference_id,
            payment_id: query.payment_id,
            count: query.count.unwrap_or(10).min(100),
            skip: query.skip.unwrap_or(0),
        };
        books.list_links(&account, &filter).map(|links| Reply::ok(&links))
    };
    run(&shared, &connection, Op::ListLinks, work).await
}

async fn cancel_link(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Merchant(account): Merchant,
    Path(id): Path<String>,
) -> Response {
    let work = |books: &mut Books| books.cancel_link(&account, &id).map(|link| Reply::ok(&link));
    run(&shared, &connection, Op::CancelLink, work).await
}

async fn fetch_payment(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Merchant(account): Merchant,
    Path(id): Path<String>,
) -> Response {
    run(&shared, &connection, Op::FetchPayment, |books| books.fetch_payment(&account, &id)).await
}

async fn refund(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Merchant(account): Merchant,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // A value that is not text cannot pass the check of the key's alphabet either.
    let key = headers.get("x-refund-idempotency").map(|value| value.to_str().unwrap_or("not text!"));
    run(&shared, &connection, Op::Refund, |books| books.refund(&account, &id, key, &body)).await
}

async fn payment_refunds(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Merchant(account): Merchant,
    Path(id): Path<String>,
) -> Response {
    run(&shared, &connection, Op::FetchRefund, |books| books.payment_refunds(&account, &id)).await
}

async fn fetch_refund(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Merchant(account): Merchant,
    Path(id): Path<String>,
) -> Response {
    run(&shared, &connection, Op::FetchRefund, |books| books.fetch_refund(&account, &id)).await
}

async fn order_payments(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    Merchant(account): Merchant,
    Path(id): Path<String>,
) -> Response {
    run(&shared, &connection, Op::OrderPayments, |books| books.order_payments(&account, &id)).await
}
