//! Webhooks out: signing, posting, and the background sender.

use std::collections::HashSet;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::SandboxError;
use super::ledger::Attempt;
use super::queue::attempt;
use super::server::Shared;

/// How often the background sender looks at the clock, which may jump.
const TICK: Duration = Duration::from_millis(50);
const MAX_IN_FLIGHT: usize = 16;

/// Lower-case hex HMAC-SHA256, as webhooks and callbacks carry it.
pub(super) fn sign(secret: &str, message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

/// One POST to a webhook URL.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub url: String,
    pub event_id: String,
    pub signature: Option<String>,
    pub body: String,
}

/// Any body, signed as a webhook of an account: for forged, foreign and malformed events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendWebhook {
    /// The account whose webhook URL and secret are used.
    pub key_id: String,
    /// A JSON string is sent as it stands, anything else as compact JSON.
    pub body: Value,
    /// `X-Razorpay-Event-Id`; none: a new one.
    #[serde(default)]
    pub event_id: Option<String>,
    /// Signs with this key instead of the account's webhook secret.
    #[serde(default)]
    pub secret: Option<String>,
    /// Sent instead of a computed signature; empty: the header is left out.
    #[serde(default)]
    pub signature: Option<String>,
}

pub(super) fn client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .http1_title_case_headers()
        .build()
}

/// The receiver's status, or what went wrong before there was one.
async fn post(http: &reqwest::Client, outgoing: Outgoing) -> Result<u16, String> {
    let mut request = http
        .post(&outgoing.url)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, "Razorpay-Webhook/v1")
        .header(ACCEPT_ENCODING, "gzip")
        .header("request-id", &outgoing.event_id)
        .header("x-razorpay-event-id", &outgoing.event_id);
    if let Some(signature) = &outgoing.signature {
        request = request.header("x-razorpay-signature", signature);
    }
    let response = request.body(outgoing.body).send().await.map_err(|error| describe(&error))?;
    Ok(response.status().as_u16())
}

/// The chain of causes: reqwest's own text stops at "error sending request".
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Tries everything that is due once, one after the other, including what becomes due meanwhile. Returns how
/// many deliveries were tried.
pub(super) async fn flush(shared: &Arc<Shared>) -> usize {
    let mut tried = HashSet::new();
    loop {
        let claimed = shared.books().claim_delivery(&tried);
        let Some((index, outgoing)) = claimed else { return tried.len() };
        tried.insert(index);
        // In a task of its own: a caller that gives up must not leave the delivery claimed.
        let shared_too = Arc::clone(shared);
        let attempt = shared.tasks.spawn(async move { deliver(&shared_too, index, outgoing).await });
        if attempt.await.is_err() {
            return tried.len();
        }
    }
}

async fn deliver(shared: &Shared, index: usize, outgoing: Outgoing) {
    tokio::select! {
        answer = post(&shared.http, outgoing) => shared.books().finish_delivery(index, answer),
        () = shared.shutdown.cancelled() => {}
    }
}

/// Posts what is due until the sandbox shuts down, several at a time and so in no strict order.
pub(super) async fn deliver_in_background(shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let webhooks_due = Arc::clone(&shared.books().webhooks_due);
    loop {
        while let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            let claimed = shared.books().claim_delivery(&HashSet::new());
            let Some((index, outgoing)) = claimed else { break };
            let shared_too = Arc::clone(&shared);
            shared.tasks.spawn(async move {
                deliver(&shared_too, index, outgoing).await;
                drop(slot);
                shared_too.books().webhooks_due.notify_one();
            });
        }
        tokio::select! {
            () = webhooks_due.notified() => {}
            () = tokio::time::sleep(TICK) => {}
            () = shared.shutdown.cancelled() => return,
        }
    }
}

/// Posts an arbitrary body at once, once.
pub(super) async fn send(shared: &Shared, request: SendWebhook) -> Result<Attempt, SandboxError> {
    let outgoing = {
        let mut books = shared.books();
        let account = books.account_by_key(&request.key_id).cloned();
        let account = account.ok_or_else(|| SandboxError::UnknownAccount(request.key_id.clone()))?;
        let no_webhook = || SandboxError::NoWebhook(request.key_id.clone());
        let url = account.webhook_url.ok_or_else(no_webhook)?;
        let body = match request.body {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let secret = request.secret.or(account.webhook_secret);
        let computed = || secret.map(|secret| sign(&secret, body.as_bytes()));
        let signature = request.signature.or_else(computed).filter(|signature| !signature.is_empty());
        let event_id = request.event_id.unwrap_or_else(|| books.ids.alphanumeric(14));
        Outgoing { url, event_id, signature, body }
    };
    let answer = post(&shared.http, outgoing).await;
    let now_ms = shared.books().now().timestamp_millis();
    Ok(attempt(now_ms, answer))
}
