//! The sandbox seen from outside: over HTTP on a loopback port, with a clock that only the tests move.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test, which is the point")]

mod faults;
mod links;
mod page;
mod refunds;
mod webhooks;

use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing};
use chrono::DateTime;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use std::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::TaskTracker;

use super::*;

const KEY_ID: &str = "rzp_test_one";
const KEY_SECRET: &str = "secret_one";
const WEBHOOK_SECRET: &str = "whsec_one";
/// 2027-01-15 08:00:00 UTC
const START: i64 = 1_800_000_000;

/// A sandbox with one account, a receiver of its webhooks, and a hand on the clock.
struct Rig {
    sandbox: Sandbox,
    receiver: Receiver,
    http: Client,
    seconds: Arc<AtomicI64>,
}

impl Rig {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        let receiver = Receiver::start().await;
        let seconds = Arc::new(AtomicI64::new(START));
        let hand = Arc::clone(&seconds);
        let clock = move || DateTime::from_timestamp(hand.load(Ordering::SeqCst), 0).unwrap();
        let mut config = SandboxConfig {
            accounts: vec![Account::new(KEY_ID, KEY_SECRET).with_webhook(&receiver.url, WEBHOOK_SECRET)],
            auto_deliver: false,
            ..SandboxConfig::new(Arc::new(clock))
        };
        change(&mut config);
        let sandbox = Sandbox::start(config).await.unwrap();
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Self { sandbox, receiver, http, seconds }
    }

    fn advance(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.base_url())
    }

    /// One call as the merchant.
    async fn call(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.request(method, self.url(path)).basic_auth(KEY_ID, Some(KEY_SECRET));
        let request = if body.is_null() { request } else { request.json(body) };
        read(request.send().await.unwrap()).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, &body).await
    }

    /// One call of the control API.
    async fn control(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.request(method, self.url(&format!("/_sandbox{path}"))).json(&body);
        read(request.send().await.unwrap()).await
    }

    /// Creates a link and returns its answer.
    async fn link(&self, reference_id: &str) -> Value {
        let body = json!({
            "amount": 49_900, "currency": "INR", "description": "Pro, monthly", "reference_id": reference_id,
            "notes": {"session_id": reference_id}, "customer": {"name": "Jane", "contact": "9000090001"},
            "callback_url": "http://127.0.0.1:9/return?from=pay", "callback_method": "get",
        });
        let (status, link) = self.post("/v1/payment_links", body).await;
        assert_eq!(status, 200, "{link}");
        link
    }

    /// Creates a link, pays it, and returns the payment's id.
    async fn paid(&self, reference_id: &str) -> String {
        self.link(reference_id).await;
        self.sandbox.pay(reference_id, PayRequest::default()).unwrap().payment_id
    }
}

async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The description of an error answer, checked to be one.
fn description((status, body): (u16, Value)) -> String {
    assert_eq!(status, 400, "{body}");
    assert_eq!(body["error"]["code"], "BAD_REQUEST_ERROR");
    body["error"]["description"].as_str().unwrap().to_owned()
}

/// What a webhook receiver got.
#[derive(Clone)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn event(&self) -> String {
        self.json()["event"].as_str().unwrap().to_owned()
    }
}

#[derive(Clone, Default)]
struct Inbox {
    received: Arc<Mutex<Vec<Received>>>,
    /// Statuses of the next answers; 200 when there are none. 0 answers never.
    answers: Arc<Mutex<Vec<u16>>>,
}

/// An endpoint for webhooks.
struct Receiver {
    url: String,
    inbox: Inbox,
    _server: AbortOnDropHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        async fn receive(State(inbox): State<Inbox>, headers: HeaderMap, body: Bytes) -> StatusCode {
            inbox.received.lock().unwrap().push(Received { headers, body });
            let answer = inbox.answers.lock().unwrap().pop();
            match answer {
                Some(0) => std::future::pending().await,
                Some(status) => StatusCode::from_u16(status).unwrap(),
                None => StatusCode::OK,
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let inbox = Inbox::default();
        let router = Router::new().route("/hook", routing::post(receive)).with_state(inbox.clone());
        let server = TaskTracker::new().spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inbox, _server: AbortOnDropHandle::new(server) }
    }

    /// The next deliveries are answered with these, in order.
    fn answer(&self, statuses: &[u16]) {
        *self.inbox.answers.lock().unwrap() = statuses.iter().rev().copied().collect();
    }

    fn received(&self) -> Vec<Received> {
        self.inbox.received.lock().unwrap().clone()
    }

    fn events(&self) -> Vec<String> {
        self.received().iter().map(Received::event).collect()
    }
}
