//! A merchant's backend: the public API, what it answered, and what may not be answered.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    checker::{Named, Observation},
    tally::{Tally, locked},
};

/// A merchant's environment and its credentials.
#[derive(Clone, Debug)]
pub struct Merchant {
    pub number: usize,
    pub api_key: String,
    pub plan: String,
    pub currency: &'static str,
    /// Minor units.
    pub price: i64,
    /// Where the sandbox's account is.
    pub key_id: String,
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub json: Value,
}

pub struct Client {
    http: reqwest::Client,
    base: String,
    tally: Arc<Tally>,
    epoch: Instant,
    observations: Mutex<Vec<Observation>>,
    named: Mutex<Vec<Named>>,
    overlaps: Mutex<Vec<String>>,
}

/// No answer that says anything final: the caller tries again.
pub const TRY_AGAIN: [u16; 2] = [429, 503];

impl Client {
    pub fn new(base: String, tally: Arc<Tally>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(64)
            .build()?;
        Ok(Self {
            http,
            base,
            tally,
            epoch: Instant::now(),
            observations: Mutex::default(),
            named: Mutex::default(),
            overlaps: Mutex::default(),
        })
    }

    /// The answer, or none when the connection broke or it took too long. A status that is neither in `allowed`
    /// nor a request to try again is a problem.
    pub async fn send(
        &self,
        merchant: &Merchant,
        method: Method,
        path: &str,
        body: Option<&Value>,
        allowed: &[u16],
        timeout: Duration,
    ) -> Option<Reply> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base)).timeout(timeout);
        request = request.header("x-api-key", &merchant.api_key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let Some((status, text)) = answer(request).await else {
            self.tally.count("requests without an answer");
            return None;
        };
        self.tally.count(format!("answers: {status}"));
        if !allowed.contains(&status) && !TRY_AGAIN.contains(&status) {
            self.tally.problem(format!("{method} {path} was answered {status}: {text:.400}"));
        }
        Some(Reply { status, json: serde_json::from_str(&text).unwrap_or_default() })
    }

    pub async fn get(&self, merchant: &Merchant, path: &str) -> Option<Reply> {
        self.send(merchant, Method::GET, path, None, &[200], Duration::from_secs(45)).await
    }

    /// Repeats a GET until there is an answer that says something. After `limit` there is none.
    pub async fn get_for_sure(
        &self,
        merchant: &Merchant,
        path: &str,
        allowed: &[u16],
        limit: Duration,
    ) -> Option<Reply> {
        let until = Instant::now() + limit;
        loop {
            let timeout = Duration::from_secs(15);
            let reply = self.send(merchant, Method::GET, path, None, allowed, timeout).await;
            match reply {
                Some(reply) if !TRY_AGAIN.contains(&reply.status) => return Some(reply),
                _ if Instant::now() > until => return None,
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Reads a session and keeps what it said.
    pub async fn read_session(&self, merchant: &Merchant, id: &str, query: &str) -> Option<Value> {
        let sent = self.now_ns();
        let reply = self.get(merchant, &format!("/v1/checkout/sessions/{id}{query}")).await?;
        if reply.status != 200 {
            return None;
        }
        self.observe(&reply.json, sent);
        Some(reply.json)
    }

    /// Whether the service says that it can do its work.
    pub async fn is_ready(&self) -> bool {
        let request = self.http.get(format!("{}/readyz", self.base)).timeout(Duration::from_secs(1));
        answer(request).await.is_some_and(|(status, _)| status == 200)
    }

    /// A page that Razorpay sends the browser to.
    pub async fn visit(&self, url: &str) {
        let request = self.http.get(url).timeout(Duration::from_secs(20));
        if let Some((status, text)) = answer(request).await {
            self.tally.count(format!("return page: {status}"));
            if ![200, 303, 429, 503].contains(&status) {
                self.tally.problem(format!("GET {url} was answered {status}: {text:.400}"));
            }
        }
    }

    /// Nanoseconds since the rig's start.
    pub fn now_ns(&self) -> u128 {
        self.epoch.elapsed().as_nanos()
    }

    /// Keeps an answer that shows a whole session; it must never be taken back.
    pub fn observe(&self, session: &Value, sent_ns: u128) {
        let (Some(id), Some(status)) = (session["id"].as_str(), session["checkout_status"].as_str()) else {
            return;
        };
        let observation = Observation {
            session: id.to_owned(),
            sent_ns,
            received_ns: self.now_ns(),
            status: status.to_owned(),
            digest: Some(digest_of(session)),
        };
        locked(&self.observations).push(observation);
    }

    /// Keeps an answer that says how a session ended without showing it.
    pub fn observe_status(&self, id: &str, status: &str, sent_ns: u128) {
        let observation = Observation {
            session: id.to_owned(),
            sent_ns,
            received_ns: self.now_ns(),
            status: status.to_owned(),
            digest: None,
        };
        locked(&self.observations).push(observation);
    }

    /// Keeps that an answer named a session: from now on it must exist.
    pub fn name(&self, merchant: &Merchant, id: &str, status: u16) {
        let named = Named { session: id.to_owned(), merchant: merchant.number, status };
        locked(&self.named).push(named);
    }

    pub fn overlap(&self, text: String) {
        locked(&self.overlaps).push(text);
    }

    pub fn named(&self) -> Vec<Named> {
        locked(&self.named).clone()
    }

    pub fn observations(&self) -> Vec<Observation> {
        locked(&self.observations).clone()
    }

    pub fn overlaps(&self) -> Vec<String> {
        locked(&self.overlaps).clone()
    }

    /// The bytes of a list, page by page, without parsing the items.
    pub async fn raw(&self, merchant: &Merchant, path: &str) -> Option<String> {
        let request = self.http.get(format!("{}{path}", self.base)).timeout(Duration::from_secs(30));
        let (status, text) = answer(request.header("x-api-key", &merchant.api_key)).await?;
        (status == 200).then_some(text)
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Option<(u16, String)> {
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    // A body that breaks off is no answer.
    Some((status, response.text().await.ok()?))
}

/// What a terminal session may never change: all but the hints about the answer itself.
fn digest_of(session: &Value) -> [u8; 8] {
    let mut session = session.clone();
    if let Some(fields) = session.as_object_mut() {
        for hint in ["stale", "next_poll_after_ms", "updated_at"] {
            fields.remove(hint);
        }
    }
    let digest = Sha256::digest(session.to_string());
    digest[..8].try_into().expect("a digest is longer")
}
