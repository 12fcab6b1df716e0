//! A client of a running service's API, and of the sandbox's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode, header::DATE};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than the service works on any request.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls one base URL.
pub struct Api {
    base: Url,
    key: Option<SecretString>,
    http: reqwest::Client,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer, or only a part of one.
    #[error("{base} does not answer: {cause}")]
    Unreachable {
        /// Who.
        base: Url,
        /// The innermost cause.
        cause: String,
    },
    /// Another status than success.
    #[error("{url}: {status}: {message}")]
    Refused {
        /// What was called.
        url: Url,
        /// The status.
        status: StatusCode,
        /// In the other side's words.
        message: String,
    },
    /// A success in words that checkoutd does not use.
    #[error("{url}: not an answer of checkoutd: {cause}")]
    Malformed {
        /// What was called.
        url: Url,
        /// What is wrong with it.
        cause: String,
    },
}

impl CallError {
    /// Whether the same call may be answered otherwise in a while.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Malformed { .. } => false,
        }
    }
}

/// An answer of success.
pub struct Answer {
    url: Url,
    /// The other side's time, to the second.
    pub server_time: Option<DateTime<Utc>>,
    body: Vec<u8>,
}

impl Answer {
    /// The body as `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| CallError::Malformed { url: self.url.clone(), cause: error.to_string() })
    }
}

impl Api {
    /// `base` ends in a slash. `key` goes along with each call; the sandbox wants none.
    pub fn new(base: Url, key: Option<SecretString>) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            // A redirect would take the key elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .build()?;
        Ok(Self { base, key, http })
    }

    /// What it calls, as people write it.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// GET `path`, which does not begin with a slash.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, CallError> {
        self.call(Method::GET, path, query, None).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::POST, path, &[], Some(body)).await?.json()
    }

    /// PUT with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::PUT, path, &[], Some(body)).await?.json()
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, CallError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url.clone());
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let (status, date) = (response.status(), response.headers().get(DATE).cloned());
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?.to_vec();
        if !status.is_success() {
            return Err(CallError::Refused { url, status, message: message(&body) });
        }
        let date = date.as_ref().and_then(|date| date.to_str().ok());
        let server_time = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        Ok(Answer { url, server_time: server_time.map(|time| time.to_utc()), body })
    }

    /// An answer of `path` that [`Answer::json`] could read and that is wrong all the same.
    pub fn malformed(&self, path: &str, cause: &impl ToString) -> CallError {
        CallError::Malformed { url: self.url(path), cause: cause.to_string() }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }

    fn unreachable(&self, error: reqwest::Error) -> CallError {
        let cause = if error.is_timeout() {
            "timed out".to_owned()
        } else {
            anyhow::Error::from(error.without_url()).root_cause().to_string()
        };
        CallError::Unreachable { base: self.base.clone(), cause }
    }
}

/// What an error's body says: checkoutd's envelope, the sandbox's, or the start of anything else.
fn message(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    match json["message"].as_str().or(json["error"].as_str()) {
        Some(message) => printable(message, 500),
        None => printable(&String::from_utf8_lossy(body), 200),
    }
}

/// Text from outside, on one line of a terminal and without its control sequences.
pub fn printable(text: &str, most_characters: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(most_characters).map(plain).collect()
}
