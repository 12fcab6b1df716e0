//! The merchants' webhook receivers: they verify by the Standard Webhooks specification, keep a log to which
//! is only ever added, and sometimes fail on the first try of an event.

use std::{
    collections::HashSet,
    io::{BufWriter, Write},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{self, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::Utc;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::{checker::Receipt, dice::Dice, tally::locked};

/// The specification's tolerance for timestamps.
const TOLERANCE_SECONDS: i64 = 5 * 60;

pub struct Receivers {
    pub addr: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    /// By endpoint.
    secrets: Mutex<Vec<String>>,
    log: Mutex<(Vec<Receipt>, BufWriter<std::fs::File>)>,
    seen: Mutex<HashSet<(usize, String)>>,
    failing: AtomicBool,
    seed: u64,
}

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Take,
    Refuse,
    TakeSlowly,
    /// Takes it, but the answer comes after the sender has given up.
    Hang,
}

impl Receivers {
    pub async fn start(seed: u64, failing: bool, log: &Path) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let inner = Arc::new(Inner {
            secrets: Mutex::default(),
            log: Mutex::new((Vec::new(), BufWriter::new(std::fs::File::create(log)?))),
            seen: Mutex::default(),
            failing: AtomicBool::new(failing),
            seed,
        });
        let router = Router::new().route("/{endpoint}", post(take)).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { addr, inner })
    }

    /// From now on everything is taken at once.
    pub fn calm(&self) {
        self.inner.failing.store(false, Ordering::Relaxed);
    }

    pub fn url(&self, endpoint: usize) -> String {
        format!("http://{}/{endpoint}", self.addr)
    }

    /// Endpoints are numbered in the order in which their secrets come.
    pub fn add_secret(&self, secret: &str) {
        locked(&self.inner.secrets).push(secret.to_owned());
    }

    pub fn count(&self) -> usize {
        locked(&self.inner.log).0.len()
    }

    pub fn receipts(&self) -> Vec<Receipt> {
        let mut log = locked(&self.inner.log);
        let _ = log.1.flush();
        log.0.clone()
    }
}

async fn take(
    State(inner): State<Arc<Inner>>,
    extract::Path(endpoint): extract::Path<usize>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let event = header(&headers, "webhook-id").to_owned();
    let secret = locked(&inner.secrets).get(endpoint).cloned().unwrap_or_default();
    let verified = verifies(&secret, &headers, &body);
    let manner = inner.manner(endpoint, &event);
    let number = inner.record(endpoint, event, &body, verified);
    match manner {
        Manner::Take => {}
        Manner::Refuse => {
            inner.answered(number, 500);
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        Manner::TakeSlowly => tokio::time::sleep(Duration::from_millis(1500)).await,
        Manner::Hang => tokio::time::sleep(Duration::from_secs(20)).await,
    }
    // Not reached when the sender has gone.
    inner.answered(number, 200);
    StatusCode::OK
}

impl Inner {
    /// By seed and event; the second try of an event is always taken.
    fn manner(&self, endpoint: usize, event: &str) -> Manner {
        let first = locked(&self.seen).insert((endpoint, event.to_owned()));
        if !first || !self.failing.load(Ordering::Relaxed) {
            return Manner::Take;
        }
        let choices = [(90, Manner::Take), (6, Manner::Refuse), (3, Manner::TakeSlowly), (1, Manner::Hang)];
        Dice::new(self.seed, event, endpoint).weighted(&choices)
    }

    fn record(&self, endpoint: usize, event: String, body: &[u8], verified: bool) -> usize {
        let mut log = locked(&self.log);
        let text = String::from_utf8_lossy(body);
        let _ = writeln!(log.1, "{} endpoint={endpoint} id={event} verified={verified} {text}", Utc::now());
        log.0.push(Receipt { endpoint, event, body: digest(body), verified, answered: None });
        log.0.len() - 1
    }

    fn answered(&self, number: usize, status: u16) {
        locked(&self.log).0[number].answered = Some(status);
    }
}

/// The start of a body's SHA-256.
pub fn digest(body: &[u8]) -> [u8; 8] {
    Sha256::digest(body)[..8].try_into().expect("a digest is longer")
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Standard Webhooks: HMAC-SHA256 over `id.timestamp.body` with the secret behind `whsec_`; any signature of
/// version 1 in the space-separated list may fit, and the timestamp must be near.
fn verifies(secret: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let Some(Ok(key)) = secret.strip_prefix("whsec_").map(|text| BASE64_STANDARD.decode(text)) else {
        return false;
    };
    let (id, timestamp) = (header(headers, "webhook-id"), header(headers, "webhook-timestamp"));
    let near =
        timestamp.parse::<i64>().is_ok_and(|at| (Utc::now().timestamp() - at).abs() <= TOLERANCE_SECONDS);
    if id.is_empty() || !near {
        return false;
    }
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    header(headers, "webhook-signature").split(' ').any(|part| {
        let Some(Ok(signature)) = part.strip_prefix("v1,").map(|text| BASE64_STANDARD.decode(text)) else {
            return false;
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
        mac.update(&signed);
        mac.verify_slice(&signature).is_ok()
    })
}
