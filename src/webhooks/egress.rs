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
/// From the look-up of the name to the last byte that is read of the answer.
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
        Self::build(allow_private, &(Arc::new(SystemLookup) as _), TOTAL_TIMEOUT)
    }

    /// Resolves by `lookup`.
    pub fn with_lookup(allow_private: bool, lookup: &Arc<dyn Lookup>) -> Result<Self, reqwest::Error> {
        Self::build(allow_private, lookup, TOTAL_TIMEOUT)
    }

    fn build(
        allow_private: bool,
        lookup: &Arc<dyn Lookup>,
        total_timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        let client = |rules| client(VettedResolver { rules, lookup: Arc::clone(lookup) }, total_timeout);
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
        let response = sent.map_err(|error| classify(&error))?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let (status, retry_after) = (response.status(), retry_after.map(str::to_owned));
        Ok(Answer { status, retry_after, body: read_start(response).await })
    }
}

fn client(resolver: VettedResolver, total_timeout: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        .dns_resolver(resolver)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(total_timeout)
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

fn classify(error: &reqwest::Error) -> SendError {
    let mut cause: &dyn Error = error;
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

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        io::{Read, Write},
        net::{IpAddr, TcpListener, TcpStream},
        sync::Mutex,
    };

    use tokio::task::{JoinHandle, spawn_blocking};

    use super::*;

    /// Answers look-ups with a script of address lists, and counts them.
    struct Script(Mutex<VecDeque<Vec<SocketAddr>>>);

    impl Script {
        fn new(answers: &[&[&str]]) -> Arc<Self> {
            let parse = |text: &&str| SocketAddr::new(text.parse::<IpAddr>().expect("an address"), 0);
            Arc::new(Self(Mutex::new(answers.iter().map(|list| list.iter().map(parse).collect()).collect())))
        }

        fn left(&self) -> usize {
            self.0.lock().expect("not poisoned").len()
        }
    }

    impl Lookup for Script {
        fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            let next =
                self.0.lock().expect("not poisoned").pop_front().expect("no more look-ups than scripted");
            Box::pin(async move { Ok(next) })
        }
    }

    /// Listens where nobody may connect.
    struct Canary(TcpListener);

    impl Canary {
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.set_nonblocking(true).expect("a socket");
            Self(listener)
        }

        fn port(&self) -> u16 {
            self.0.local_addr().expect("bound").port()
        }

        fn was_dialled(&self) -> bool {
            self.0.accept().is_ok()
        }
    }

    /// Serves one connection on loopback with `serve`, which gets it after the request's head arrived.
    fn serve_one<T: Send + 'static>(
        serve: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> (u16, JoinHandle<T>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = spawn_blocking(move || {
            let (mut stream, _) = listener.accept().expect("the request under test");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("a request") == 1 {
                head.push(byte[0]);
            }
            serve(stream)
        });
        (port, server)
    }

    async fn post(egress: &Egress, mode: Mode, url: &str) -> Result<Answer, SendError> {
        egress.post(egress.rules(mode), url, HeaderMap::new(), Vec::new()).await
    }

    fn local() -> Egress {
        Egress::new(true).expect("TLS works")
    }

    #[tokio::test]
    async fn one_bad_address_rejects_them_all_and_nothing_is_dialled() {
        let canary = Canary::new();
        let answers: &[&[&str]] = &[
            &["127.0.0.1"],
            &["93.184.215.14", "127.0.0.1"],
            &["127.0.0.1", "93.184.215.14"],
            &["::ffff:127.0.0.1"],
            &["64:ff9b::7f00:1"],
            &["2606:4700::1111", "fd00:ec2::254"],
            &["169.254.169.254"],
        ];
        let script = Script::new(answers);
        let egress = Egress::with_lookup(false, &(script.clone() as _)).expect("TLS works");
        for answer in answers {
            let sent =
                post(&egress, Mode::Test, &format!("https://rebound.example:{}/", canary.port())).await;
            assert_eq!(sent, Err(SendError::ForbiddenAddress), "{answer:?}");
        }
        assert_eq!(script.left(), 0, "every request looked its host up anew");
        assert!(!canary.was_dialled());
    }

    #[tokio::test]
    async fn a_name_that_changes_its_address_is_vetted_again() {
        let canary = Canary::new();
        let script = Script::new(&[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"]]);
        let egress = Egress::with_lookup(true, &(script as _)).expect("TLS works");
        let (port, server) = serve_one(|mut stream| {
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").expect("a reader");
        });
        let url = format!("http://rebound.example:{port}/");
        assert_eq!(
            post(&egress, Mode::Test, &url).await.map(|answer| answer.status),
            Ok(StatusCode::NO_CONTENT)
        );
        server.await.expect("the server is well");
        assert_eq!(post(&egress, Mode::Test, &url).await, Err(SendError::ForbiddenAddress));
        // The canary is a canary: where it is allowed, it is reached.
        let (url, dialled) = (format!("http://rebound.example:{}/", canary.port()), canary);
        let reached = spawn_blocking(move || {
            loop {
                if dialled.was_dialled() {
                    return;
                }
                std::thread::yield_now();
            }
        });
        assert!(matches!(post(&egress, Mode::Test, &url).await, Err(SendError::Failed(_))));
        reached.await.expect("the canary is well");
    }

    #[tokio::test]
    async fn literal_addresses_never_reach_the_resolver_and_are_vetted_all_the_same() {
        let canary = Canary::new();
        let egress = Egress::with_lookup(true, &(Script::new(&[]) as _)).expect("TLS works");
        for host in ["127.0.0.1", "0x7f.1", "2130706433", "[::ffff:7f00:1]", "localhost"] {
            let url = format!("https://{host}:{}/", canary.port());
            let sent = egress.post(Rules::new(Mode::Test, false), &url, HeaderMap::new(), Vec::new()).await;
            assert_eq!(sent, Err(SendError::Rejected(Rejection::Address)), "{host}");
            let sent = post(&egress, Mode::Live, &format!("https://{host}/")).await;
            assert_eq!(sent, Err(SendError::Rejected(Rejection::Address)), "{host} in a live environment");
        }
        assert!(!canary.was_dialled());
    }

    #[tokio::test]
    async fn redirects_are_answers() {
        let canary = Canary::new();
        for status in [301, 302, 303, 307, 308] {
            let location = format!("http://127.0.0.1:{}/", canary.port());
            let (port, server) = serve_one(move |mut stream| {
                write!(
                    stream,
                    "HTTP/1.1 {status} Elsewhere\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
                )
            });
            let answer = post(&local(), Mode::Test, &format!("http://127.0.0.1:{port}/")).await;
            assert_eq!(answer.expect("an answer").status.as_u16(), status);
            server.await.expect("the server is well").expect("a reader");
        }
        assert!(!canary.was_dialled());
    }

    #[tokio::test]
    async fn an_endless_body_is_cut() {
        let (port, server) = serve_one(|mut stream| {
            stream.write_all(b"HTTP/1.1 500 Oops\r\n\r\n").expect("a reader");
            let chunk = [b'x'; 4096];
            let mut written = 0_usize;
            // Ends by the client's hanging up; the buffers of both ends are far below this many bytes.
            while written < 1_000_000_000 && stream.write_all(&chunk).is_ok() {
                written += chunk.len();
            }
            written
        });
        let answer =
            post(&local(), Mode::Test, &format!("http://127.0.0.1:{port}/")).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), answer.body.len()), (500, KEEP_LIMIT_BYTES));
        assert!(server.await.expect("the server is well") < 100_000_000);
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline_and_a_dripping_body_does_not_hide_the_status() {
        let impatient = Egress::build(true, &(Arc::new(SystemLookup) as _), Duration::from_millis(300));
        let impatient = impatient.expect("TLS works");
        let (port, silent) = serve_one(|mut stream| stream.read(&mut [0]));
        let url = format!("http://127.0.0.1:{port}/");
        assert_eq!(post(&impatient, Mode::Test, &url).await, Err(SendError::TimedOut));
        silent.await.expect("the server is well").expect("the client hung up");

        let (port, dripping) = serve_one(|mut stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nab").expect("a reader");
            stream.read(&mut [0])
        });
        let answer = post(&impatient, Mode::Test, &format!("http://127.0.0.1:{port}/")).await;
        let expected = Answer { status: StatusCode::OK, retry_after: None, body: "ab".into() };
        assert_eq!(answer, Ok(expected));
        dripping.await.expect("the server is well").expect("the client hung up");
    }

    #[test]
    fn what_is_kept_can_be_stored() {
        assert_eq!(kept(b"a\0b\xff"), "ab\u{fffd}");
        let wide = "\u{20b9}".repeat(1000);
        assert_eq!(kept(wide.as_bytes()), "\u{20b9}".repeat(341));
    }
}
