//! Every endpoint of the run: one listener, told apart by path.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::net::TcpListener;

/// What is wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Hang,
    Fail,
}

#[derive(Default)]
struct Inner {
    faults: Vec<Fault>,
    /// Of healthy endpoints.
    latencies: Vec<Duration>,
    /// Endpoint and event.
    seen: HashSet<(usize, String)>,
    all: usize,
}

#[derive(Clone)]
pub struct Receiver {
    inner: Arc<Mutex<Inner>>,
    pub url: String,
}

#[derive(Deserialize)]
struct Event {
    created_at: DateTime<Utc>,
}

impl Receiver {
    pub async fn start() -> anyhow::Result<Self> {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().route("/{number}", post(take)).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { inner, url })
    }

    pub fn break_endpoints(&self, fault: impl Fn(usize) -> Fault) {
        self.lock().faults = (0..super::ENDPOINTS).map(fault).collect();
    }

    pub fn take_latencies(&self) -> Vec<Duration> {
        std::mem::take(&mut self.lock().latencies)
    }

    /// How many deliveries came, and how many requests.
    pub fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.seen.len(), inner.all)
    }

    pub fn forget(&self) {
        let mut inner = self.lock();
        (inner.seen, inner.all) = (HashSet::new(), 0);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics with it")
    }
}

async fn take(
    State(inner): State<Arc<Mutex<Inner>>>,
    Path(number): Path<usize>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let now = Utc::now();
    let fault = {
        let mut inner = inner.lock().expect("nothing panics with it");
        let fault = inner.faults.get(number).copied().unwrap_or(Fault::None);
        let id = headers["webhook-id"].to_str().expect("an id").to_owned();
        inner.all += 1;
        let is_first = inner.seen.insert((number, id));
        if fault == Fault::None
            && is_first
            && let Ok(Event { created_at }) = serde_json::from_slice(&body)
        {
            inner.latencies.push((now - created_at).to_std().unwrap_or_default());
        }
        fault
    };
    match fault {
        Fault::None => StatusCode::OK,
        Fault::Fail => StatusCode::INTERNAL_SERVER_ERROR,
        Fault::Hang => std::future::pending().await,
    }
}
