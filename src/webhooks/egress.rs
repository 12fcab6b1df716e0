//! Requests to merchants' endpoints, guarded: only vetted addresses are connected to, and nothing an
//! endpoint does can hold a worker for longer than 15 seconds or fill its memory.

mod dns;
mod failure;
mod resolver;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use reqwest::{
    Certificate, Client, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

pub use failure::SendError;
pub use resolver::Lookup;

use super::target::Rules;
use crate::tenancy::Mode;
use dns::Dns;
use resolver::VettedResolver;

/// For the look-up of the name, the connection and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the look-up of the name to the last byte that is read of the answer.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// What is read of an answer's body, and what is kept of it.
const READ_LIMIT_BYTES: usize = 16 * 1024;
const KEEP_LIMIT_BYTES: usize = 1024;
/// A date takes 37 bytes at most.
const RETRY_AFTER_LIMIT_BYTES: usize = 64;
/// What an endpoint may send ahead of our reading; by default these are megabytes. A connection carries what
/// an endpoint is sent at the same time.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// With HTTP/1.1 it is hyper that sets bounds: 100 headers in 400 KiB.
const HTTP2_HEADERS_LIMIT_BYTES: u32 = 16 * 1024;

/// Sends requests to merchants' endpoints.
pub struct Egress {
    public: Client,
    /// Reaches loopback and private networks too; there only when the operator allows it. A client of its
    /// own, because connections are reused: what one environment may reach is not lent to another.
    private: Option<Client>,
}

/// What an endpoint answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The Retry-After header, as sent.
    pub retry_after: Option<String>,
    /// The first KiB of the body, as sent: compressed bytes are not unpacked.
    pub body: String,
}

/// What tests set otherwise.
struct Setup {
    lookup: Arc<dyn Lookup>,
    connect_timeout: Duration,
    total_timeout: Duration,
    /// Trusted besides the platform's certificate authorities.
    extra_roots: Vec<Certificate>,
}

impl Setup {
    fn with(lookup: Arc<dyn Lookup>) -> Self {
        let (connect_timeout, total_timeout) = (CONNECT_TIMEOUT, TOTAL_TIMEOUT);
        Self { lookup, connect_timeout, total_timeout, extra_roots: Vec::new() }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::with(Arc::new(Dns::of_system()))
    }
}

impl Egress {
    /// Resolves by the machine's name servers. `allow_private` lets test environments reach http, loopback and
    /// private addresses. Fails when the platform's TLS set-up is broken.
    pub fn new(allow_private: bool) -> Result<Self, reqwest::Error> {
        Self::build(allow_private, &Setup::default())
    }

    /// Resolves by `lookup`.
    pub fn with_lookup(allow_private: bool, lookup: &Arc<dyn Lookup>) -> Result<Self, reqwest::Error> {
        Self::build(allow_private, &Setup::with(Arc::clone(lookup)))
    }

    fn build(allow_private: bool, setup: &Setup) -> Result<Self, reqwest::Error> {
        let private = allow_private.then(|| client(Rules::new(Mode::Test, true), setup)).transpose()?;
        Ok(Self { public: client(Rules::new(Mode::Live, false), setup)?, private })
    }

    /// What environments of `mode` may reach.
    pub fn rules(&self, mode: Mode) -> Rules {
        Rules::new(mode, self.private.is_some())
    }

    /// Posts `body` to `url`, which is vetted anew: rules may have changed since it was registered.
    ///
    /// The status decides; a body that breaks off or drips is kept as far as it came.
    pub async fn post(
        &self,
        rules: Rules,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, SendError> {
        let url = rules.vet_url(url)?;
        let client = match &self.private {
            Some(private) if rules.private_allowed() => private,
            _ => &self.public,
        };
        let sent = client.post(url).headers(headers).body(body).send().await;
        let response = sent.map_err(|error| failure::classify(&error))?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.filter(|text| text.len() <= RETRY_AFTER_LIMIT_BYTES);
        let (status, retry_after) = (response.status(), retry_after.map(str::to_owned));
        Ok(Answer { status, retry_after, body: read_start(response).await })
    }
}

fn client(rules: Rules, setup: &Setup) -> Result<Client, reqwest::Error> {
    Client::builder()
        .dns_resolver(VettedResolver { rules, lookup: Arc::clone(&setup.lookup) })
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(setup.connect_timeout)
        .timeout(setup.total_timeout)
        .pool_max_idle_per_host(8)
        .pool_idle_timeout(Duration::from_secs(30))
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HTTP2_HEADERS_LIMIT_BYTES)
        .tls_certs_merge(setup.extra_roots.iter().cloned())
        .user_agent(concat!("checkoutd/", env!("CARGO_PKG_VERSION")))
        .build()
}

async fn read_start(mut response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < READ_LIMIT_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(READ_LIMIT_BYTES - bytes.len())]);
    }
    kept(&bytes)
}

/// Readable text of at most 1 KiB without U+0000, which Postgres cannot store.
fn kept(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).replace('\0', "");
    text.truncate(text.floor_char_boundary(KEEP_LIMIT_BYTES));
    text
}
