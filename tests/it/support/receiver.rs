//! A merchant's webhook endpoint: a real listener on loopback that keeps what it got.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::net::TcpListener;

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What a receiver checks, written from the specification and not from our signing code: whether `secret`
/// made one of the request's signatures.
pub fn verifies(request: &Received, secret: &Value) -> bool {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use hmac::{KeyInit, Mac};
    let key = STANDARD.decode(secret.as_str().unwrap().strip_prefix("whsec_").unwrap()).unwrap();
    request.header("webhook-signature").split(' ').any(|signature| {
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        for part in [request.header("webhook-id"), ".", request.header("webhook-timestamp"), "."] {
            mac.update(part.as_bytes());
        }
        mac.update(&request.body);
        let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        mac.verify_slice(&signature).is_ok()
    })
}

/// Stands for no status: no answer at all.
const HANG: u16 = 0;

/// Status, headers and body.
type Answer = (u16, Vec<(String, String)>, String);

#[derive(Default)]
struct Inner {
    received: Vec<Received>,
    script: VecDeque<Answer>,
}

#[derive(Clone)]
pub struct Receiver {
    inner: Arc<Mutex<Inner>>,
    url: String,
}

impl Receiver {
    /// Answers 200 unless scripted otherwise.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// At an address that the sender knows already.
    pub async fn start_at(address: &str) -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(Arc::clone(&inner));
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { inner, url }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next request is answered with `status`.
    pub fn answer_next(&self, status: u16) {
        self.answer_next_with(status, &[], "");
    }

    pub fn answer_next_with(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.inner.lock().unwrap().script.push_back((status, headers, body.to_owned()));
    }

    /// The next request is never answered.
    pub fn hang_next(&self) {
        self.answer_next(HANG);
    }

    pub fn received(&self) -> Vec<Received> {
        self.inner.lock().unwrap().received.clone()
    }

    /// Types of the events so far, in order of arrival.
    pub fn event_types(&self) -> Vec<String> {
        self.received()
            .iter()
            .map(|request| request.json()["event_type"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn take(State(inner): State<Arc<Mutex<Inner>>>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = {
        let mut inner = inner.lock().unwrap();
        inner.received.push(Received { headers, body });
        inner.script.pop_front()
    };
    let Some((status, headers, body)) = answer else { return StatusCode::OK.into_response() };
    if status == HANG {
        std::future::pending::<()>().await;
    }
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(axum::http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    response
}
