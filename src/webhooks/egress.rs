//! Requests to merchants' endpoints, guarded: only vetted addresses are connected to, and nothing an
//! endpoint does can hold a worker for longer than 15 seconds or fill its memory.

use std::{error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use reqwest::{
    Client, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, RETRY_AFTER},
};

use super::target::{Rejection, Rules};
use crate::tenancy::Mode;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte of the connection to the last of the answer.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// What is read of an answer, and what is kept of it.
const READ_LIMIT_BYTES: usize = 16 * 1024;
const KEEP_LIMIT_BYTES: usize = 1024;

/// Finds the addresses of a host.
pub trait Lookup: Send + Sync {
    /// Every address of `host`; the port is not used.
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// Sends requests to merchants' endpoints.
pub struct Egress {
    public: Client,
    /// Reaches loopback and private networks too; there only when the operator allows it.
    private: Option<Client>,
}

/// What an endpoint answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The Retry-After header, as sent.
    pub retry_after: Option<String>,
    /// The first KiB of the body.
    pub body: String,
}

/// Why there was no answer. The texts are shown to the merchant and name no address of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The URL is not allowed (any more).
    #[error("the URL {0}")]
    Rejected(#[from] Rejection),
    /// The host's name leads to an address that is not allowed; nothing was connected to.
    #[error("the host resolves to an address that is not on the public internet")]
    ForbiddenAddress,
    /// No answer within the time limit.
    #[error("no answer within 15 seconds")]
    TimedOut,
    /// Refused, reset, no such host, bad certificate, not HTTP …
    #[error("{0}")]
    Failed(String),
}

impl Egress {
    /// Resolves by the operating system. `allow_private` lets test environments reach http, loopback and
    /// private addresses. Fails when the platform's TLS set-up is broken.
    pub fn new(allow_private: bool) -> Result<Self, reqwest::Error> {
        Self::with_lookup(allow_private, Arc::new(SystemLookup))
    }

    /// Resolves by `lookup`.
    pub fn with_lookup(allow_private: bool, lookup: Arc<dyn Lookup>) -> Result<Self, reqwest::Error> {
        let client = |rules| client(VettedResolver { rules, lookup: Arc::clone(&lookup) });
        let private = allow_private.then(|| client(Rules::new(Mode::Test, true))).transpose()?;
        Ok(Self { public: client(Rules::new(Mode::Live, false))?, private })
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
        let response = sent.map_err(classify)?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let (status, retry_after) = (response.status(), retry_after.map(str::to_owned));
        Ok(Answer { status, retry_after, body: read_start(response).await })
    }
}

fn client(resolver: VettedResolver) -> Result<Client, reqwest::Error> {
    Client::builder()
        .dns_resolver(resolver)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_max_idle_per_host(8)
        .pool_idle_timeout(Duration::from_secs(30))
        .http2_max_header_list_size(16 * 1024)
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

fn classify(error: reqwest::Error) -> SendError {
    let mut cause: &dyn Error = &error;
    loop {
        if cause.is::<ForbiddenAddress>() {
            return SendError::ForbiddenAddress;
        }
        let Some(source) = cause.source() else { break };
        cause = source;
    }
    if error.is_timeout() {
        return SendError::TimedOut;
    }
    let what = if error.is_connect() { "could not connect" } else { "no complete answer" };
    SendError::Failed(kept(format!("{what}: {cause}").as_bytes()))
}

/// Answers with a host's addresses only when every one of them is allowed: with a mixed answer, a second
/// look-up or a retry could land on the bad one.
struct VettedResolver {
    rules: Rules,
    lookup: Arc<dyn Lookup>,
}

#[derive(Debug, thiserror::Error)]
#[error("forbidden address")]
struct ForbiddenAddress;

impl Resolve for VettedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, found) = (self.rules, self.lookup.lookup(name.as_str().to_owned()));
        Box::pin(async move {
            let addresses = found.await?;
            if addresses.iter().all(|address| rules.admits(address.ip())) {
                Ok(Box::new(addresses.into_iter()) as Addrs)
            } else {
                Err(ForbiddenAddress.into())
            }
        })
    }
}

struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })
    }
}
