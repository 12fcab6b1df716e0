//! Calls to Razorpay. Time-outs and retries live here and nowhere else.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use reqwest::{Method, RequestBuilder, Response, header::RETRY_AFTER, redirect::Policy};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::{
    outcome::{Effect, ProviderError, classify},
    pace::{Call, Pace},
    wire::{Collection, CreateLink, CreateRefund, Customer, Link, LinkList, Notify, Payment, Refund},
};
use crate::kit::{
    backoff::{exponential, jittered},
    ids::Ids,
    money::Money,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// One try.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);
/// A call with all its tries, and how many there are.
const PATIENT: Patience = Patience { budget: Duration::from_secs(10), tries: 3 };
/// Several calls together, where a person waits for them.
const HURRIED: Patience = Patience { budget: Duration::from_secs(5), tries: 2 };
/// A try that has less time left than this is not started.
const SHORTEST_TRY: Duration = Duration::from_secs(1);
/// Longer waits are not believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
const BACKOFF_BASE: Duration = Duration::from_millis(150);
const BACKOFF_CAP: Duration = Duration::from_secs(2);
/// Far beyond any real answer.
const ANSWER_LIMIT_BYTES: usize = 1024 * 1024;

/// A key pair of one Razorpay account.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Public half, `rzp_test_…`.
    pub key_id: String,
    /// Secret half.
    pub secret_key: SecretString,
}

/// A link to make.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// Unique at the account, at most 40 characters; the only protection against a second link.
    pub reference_id: String,
    /// To be paid in full.
    pub amount: Money,
    /// Shown on the payment page.
    pub description: String,
    /// Unix seconds; at least 15 minutes ahead.
    pub expire_by: i64,
    /// Whom the page greets.
    pub customer: Customer,
    /// At most 15 pairs of at most 255 characters.
    pub notes: Map<String, Value>,
    /// Where the browser goes after a payment.
    pub callback_url: String,
}

/// A refund to make.
#[derive(Clone, Debug)]
pub struct NewRefund {
    /// `pay_…`
    pub payment_id: String,
    /// Minor units.
    pub amount_minor: i64,
    /// The same for every try of the same refund; at least 10 characters.
    pub idempotency_key: String,
}

#[derive(Clone, Copy, Debug)]
struct Patience {
    budget: Duration,
    tries: u32,
}

/// The client; cheap to clone, connections are shared.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base_url: Url,
    ids: Ids,
    pace: Pace,
    patience: Patience,
    /// When all calls of this clone together must be over.
    until: Option<Instant>,
}

impl Client {
    /// A client of the API at `base_url` (Razorpay, or the sandbox), which ends in a slash.
    pub fn new(base_url: Url, ids: Ids, pace: Pace) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TRY_TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("checkoutd/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, base_url, ids, pace, patience: PATIENT, until: None })
    }

    /// The same client for somebody who waits: all its calls together have five seconds, each has two tries.
    #[must_use]
    pub fn hurried(&self) -> Self {
        Self { patience: HURRIED, until: Some(Instant::now() + HURRIED.budget), ..self.clone() }
    }

    /// How long no link can be made at this account, because Razorpay has stopped answering.
    pub fn creates_paused(&self, credentials: &Credentials) -> Option<Duration> {
        self.pace.paused(&credentials.key_id, Call::Create)
    }

    /// Whether the account's budget allows a read that could as well be done later, and leaves this part of it.
    pub fn has_spare_read(&self, credentials: &Credentials, leaving: f64) -> bool {
        self.pace.has_spare_read(&credentials.key_id, leaving)
    }

    /// When a read that could wait, and is due at `at`, has its turn.
    pub fn turn(&self, connection: Uuid, at: DateTime<Utc>) -> DateTime<Utc> {
        self.pace.turn(connection, at)
    }

    /// When a read that the budget did not allow has its turn.
    pub fn put_off(&self, connection: Uuid) -> DateTime<Utc> {
        self.pace.put_off(connection)
    }

    fn deadline(&self) -> Instant {
        let own = Instant::now() + self.patience.budget;
        self.until.map_or(own, |until| until.min(own))
    }

    /// Makes the link, or finds the one that an earlier call with the same reference made. Never a second.
    ///
    /// After every doubt the reference is looked up; only when it is not there is the create sent again,
    /// and Razorpay refuses it if it was there after all (its lists lag by seconds). `in_doubt` says that an
    /// earlier call may have made it: then a refusal settles nothing. [`ProviderError::Unknown`] means that the
    /// time was not enough to settle it: ask again later.
    pub async fn ensure_link(
        &self,
        credentials: &Credentials,
        link: &NewLink,
        mut in_doubt: bool,
    ) -> Result<Link, ProviderError> {
        let deadline = self.deadline();
        for attempt in 0..self.patience.tries {
            if in_doubt
                && let Ok(Some(found)) = self.find_link_by(deadline, credentials, &link.reference_id).await
            {
                return self.vetted(found, &link.reference_id, link.amount);
            }
            let error = match self.create_link(deadline, credentials, link).await {
                Ok(created) => return self.vetted(created, &link.reference_id, link.amount),
                Err(error) => error,
            };
            in_doubt |= matches!(error, ProviderError::Unknown(_)) || error.is_duplicate_reference();
            if !in_doubt && error.is_final() {
                return Err(error);
            }
            if !self.pause(attempt, &error, deadline).await {
                return self.last_look(deadline, credentials, link, in_doubt, error).await;
            }
        }
        // The last pause of the loop says no before this is reached.
        Err(ProviderError::Unknown("no answer that settles it".into()))
    }

    /// No time for another create: the link may be there all the same.
    async fn last_look(
        &self,
        deadline: Instant,
        credentials: &Credentials,
        link: &NewLink,
        in_doubt: bool,
        error: ProviderError,
    ) -> Result<Link, ProviderError> {
        if !in_doubt {
            return Err(error);
        }
        match self.find_link_by(deadline, credentials, &link.reference_id).await {
            Ok(Some(found)) => self.vetted(found, &link.reference_id, link.amount),
            _ => Err(ProviderError::Unknown(error.to_string())),
        }
    }

    async fn create_link(
        &self,
        deadline: Instant,
        credentials: &Credentials,
        link: &NewLink,
    ) -> Result<Link, ProviderError> {
        let body = CreateLink {
            amount: link.amount.minor,
            currency: link.amount.currency.code(),
            accept_partial: false,
            description: &link.description,
            reference_id: &link.reference_id,
            expire_by: link.expire_by,
            customer: &link.customer,
            notify: Notify { sms: false, email: false },
            reminder_enable: false,
            notes: &link.notes,
            callback_url: &link.callback_url,
            callback_method: "get",
        };
        let request = self.request(Method::POST, "v1/payment_links", credentials).json(&body);
        self.send(credentials, Call::Create, request, deadline).await
    }

    /// Refuses a link that is not what was asked for: it must never be shown to a customer.
    pub fn vetted(&self, mut link: Link, reference_id: &str, amount: Money) -> Result<Link, ProviderError> {
        let url = Url::parse(&link.short_url).ok();
        // A sandbox on loopback has no certificate.
        let url = url.filter(|url| url.scheme() == "https" || url.scheme() == self.base_url.scheme());
        let fits = Self::plain(&link.id).is_ok()
            && link.reference_id == reference_id
            && link.amount == amount.minor
            && link.currency.eq_ignore_ascii_case(amount.currency.code());
        match url.filter(|_| fits) {
            Some(url) => {
                link.short_url = url.into();
                Ok(link)
            }
            // An id that is none could neither be stored nor cancelled.
            None if Self::plain(&link.id).is_err() => {
                Err(ProviderError::Unknown("the answer names no link".into()))
            }
            None => Err(ProviderError::Mismatch { link_id: link.id }),
        }
    }

    /// The link with all its details.
    pub async fn fetch_link(&self, credentials: &Credentials, link_id: &str) -> Result<Link, ProviderError> {
        self.read(credentials, &format!("v1/payment_links/{}", Self::plain(link_id)?)).await
    }

    /// The link under `reference_id`. Absence proves little: lists lag behind by seconds.
    pub async fn find_link(
        &self,
        credentials: &Credentials,
        reference_id: &str,
    ) -> Result<Option<Link>, ProviderError> {
        self.find_link_by(self.deadline(), credentials, reference_id).await
    }

    /// All links under `reference_id`, oldest first. Razorpay promises that there is at most one.
    pub async fn find_links(
        &self,
        credentials: &Credentials,
        reference_id: &str,
    ) -> Result<Vec<Link>, ProviderError> {
        self.find_links_by(self.deadline(), credentials, reference_id).await
    }

    async fn find_link_by(
        &self,
        deadline: Instant,
        credentials: &Credentials,
        reference_id: &str,
    ) -> Result<Option<Link>, ProviderError> {
        let mut links = self.find_links_by(deadline, credentials, reference_id).await?.into_iter();
        let first = links.next();
        for second in links {
            tracing::error!(alert = "second_link", link.id = second.id, "a second link under one reference");
            // If this fails: the look at the session after its end cancels it.
            let _ = self.cancel_link(credentials, &second.id).await;
        }
        Ok(first)
    }

    async fn find_links_by(
        &self,
        deadline: Instant,
        credentials: &Credentials,
        reference_id: &str,
    ) -> Result<Vec<Link>, ProviderError> {
        let path = format!("v1/payment_links?reference_id={reference_id}");
        let list: LinkList = self
            .retry(credentials, Call::Read, deadline, || self.request(Method::GET, &path, credentials))
            .await?;
        // The filter has been reported as ignored: look again.
        let mut links = list.payment_links;
        links.retain(|link| link.reference_id == reference_id);
        // A payment decides; else the oldest, and each time the same.
        links.sort_by_key(|link| (link.amount_paid == 0, link.created_at));
        Ok(links)
    }

    /// Cancels a link. Works only while it is `created`; a refusal is information: fetch it and see.
    pub async fn cancel_link(&self, credentials: &Credentials, link_id: &str) -> Result<Link, ProviderError> {
        let path = format!("v1/payment_links/{}/cancel", Self::plain(link_id)?);
        let request = || self.request(Method::POST, &path, credentials);
        self.retry(credentials, Call::Cancel, self.deadline(), request).await
    }

    /// Captured payments on a link, refunded ones included: those that the link lists, and its order's when
    /// it lists none or `all` are wanted, as a payment that came late may show in the order only.
    pub async fn captured_payments(
        &self,
        credentials: &Credentials,
        link: &Link,
        all: bool,
    ) -> Result<Vec<Payment>, ProviderError> {
        let mut payments: Vec<Payment> = Vec::new();
        for listed in &link.payments {
            payments.push(self.fetch_payment(credentials, &listed.payment_id).await?);
        }
        if let (true, Some(order_id)) = (all || payments.is_empty(), &link.order_id) {
            let list: Collection<Payment> =
                self.read(credentials, &format!("v1/orders/{}/payments", Self::plain(order_id)?)).await?;
            let listed = |id: &str| link.payments.iter().any(|listed| listed.payment_id == id);
            payments.extend(list.items.into_iter().filter(|payment| !listed(&payment.id)));
        }
        payments.retain(|payment| payment.status.was_captured());
        Ok(payments)
    }

    /// A payment.
    pub async fn fetch_payment(
        &self,
        credentials: &Credentials,
        payment_id: &str,
    ) -> Result<Payment, ProviderError> {
        self.read(credentials, &format!("v1/payments/{}", Self::plain(payment_id)?)).await
    }

    /// Gives money back. Safe to repeat under the same idempotency key.
    pub async fn refund(
        &self,
        credentials: &Credentials,
        refund: &NewRefund,
    ) -> Result<Refund, ProviderError> {
        let path = format!("v1/payments/{}/refund", Self::plain(&refund.payment_id)?);
        let body =
            CreateRefund { amount: refund.amount_minor, speed: "normal", receipt: &refund.idempotency_key };
        let made: Refund = self
            .retry(credentials, Call::Refund, self.deadline(), || {
                self.request(Method::POST, &path, credentials)
                    .header("X-Refund-Idempotency", &refund.idempotency_key)
                    .json(&body)
            })
            .await?;
        let fits = Self::plain(&made.id).is_ok()
            && made.payment_id == refund.payment_id
            && made.amount == refund.amount_minor;
        if fits { Ok(made) } else { Err(ProviderError::Unknown("the answer is about another refund".into())) }
    }

    /// The refunds of a payment, whoever made them, newest first. At most 100, far more than a payment has.
    pub async fn payment_refunds(
        &self,
        credentials: &Credentials,
        payment_id: &str,
    ) -> Result<Vec<Refund>, ProviderError> {
        let path = format!("v1/payments/{}/refunds?count=100", Self::plain(payment_id)?);
        let mut list: Collection<Refund> = self.read(credentials, &path).await?;
        list.items.retain(|refund| refund.payment_id == payment_id && Self::plain(&refund.id).is_ok());
        Ok(list.items)
    }

    /// A refund.
    pub async fn fetch_refund(
        &self,
        credentials: &Credentials,
        refund_id: &str,
    ) -> Result<Refund, ProviderError> {
        self.read(credentials, &format!("v1/refunds/{}", Self::plain(refund_id)?)).await
    }

    /// Ids come from the provider and end up in paths: letters, digits and underscores only.
    fn plain(id: &str) -> Result<&str, ProviderError> {
        let plain = (1..=64).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if plain {
            Ok(id)
        } else {
            Err(ProviderError::Rejected { status: 400, description: "not an id".into() })
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        credentials: &Credentials,
        path: &str,
    ) -> Result<T, ProviderError> {
        let request = || self.request(Method::GET, path, credentials);
        self.retry(credentials, Call::Read, self.deadline(), request).await
    }

    /// For calls that may be sent twice.
    async fn retry<T: DeserializeOwned>(
        &self,
        credentials: &Credentials,
        call: Call,
        deadline: Instant,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<T, ProviderError> {
        let mut attempt = 0;
        loop {
            match self.send(credentials, call, request(), deadline).await {
                Err(error) if !error.is_final() && self.pause(attempt, &error, deadline).await => {
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    /// Waits before the next try; false when there is none: tries used up, or the time is too short for another.
    async fn pause(&self, attempt: u32, error: &ProviderError, deadline: Instant) -> bool {
        if attempt + 1 >= self.patience.tries || matches!(error, ProviderError::Paused { .. }) {
            return false;
        }
        let backoff = jittered(exponential(BACKOFF_BASE, attempt, BACKOFF_CAP), 0.5, self.ids.fraction());
        let pause = match error {
            ProviderError::RateLimited { retry_after: Some(wanted) } => (*wanted).max(backoff),
            _ => backoff,
        };
        if Instant::now() + pause + SHORTEST_TRY > deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }

    fn request(&self, method: Method, path: &str, credentials: &Credentials) -> RequestBuilder {
        // Joining text keeps a base path.
        let url = format!("{}{path}", self.base_url);
        self.http
            .request(method, url)
            .basic_auth(&credentials.key_id, Some(credentials.secret_key.expose_secret()))
    }

    /// One try, unless calls of its kind are paused; its outcome counts for the next ones.
    async fn send<T: DeserializeOwned>(
        &self,
        credentials: &Credentials,
        call: Call,
        request: RequestBuilder,
        deadline: Instant,
    ) -> Result<T, ProviderError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ProviderError::Unavailable("no time left to ask".into()));
        }
        let key_id = &credentials.key_id;
        self.pace.admit(key_id, call).map_err(|retry_after| ProviderError::Paused { retry_after })?;
        let done = send(request, call.effect(), left).await;
        let outcome = done.as_ref().map_or_else(ProviderError::as_str, |_| "ok");
        metrics::counter!("checkoutd_provider_calls_total", "call" => call.as_str(), "outcome" => outcome)
            .increment(1);
        match &done {
            Ok(_) | Err(ProviderError::Rejected { .. }) => self.pace.answered(key_id, call),
            Err(ProviderError::RateLimited { retry_after }) => self.pace.failed(key_id, call, *retry_after),
            Err(_) => self.pace.failed(key_id, call, None),
        }
        done
    }
}

async fn send<T: DeserializeOwned>(
    request: RequestBuilder,
    effect: Effect,
    left: Duration,
) -> Result<T, ProviderError> {
    let response = request.timeout(left.min(TRY_TIMEOUT)).send().await.map_err(|error| {
        if error.is_connect() || error.is_builder() {
            ProviderError::Unavailable("no connection".into())
        } else if error.is_timeout() {
            effect.inconclusive("no answer in time")
        } else {
            effect.inconclusive("the connection broke")
        }
    })?;
    let status = response.status();
    let retry_after = retry_after(&response);
    let body = read_capped(response).await.map_err(|reason| effect.inconclusive(reason))?;
    if status.is_success() {
        serde_json::from_slice(&body).map_err(|_| effect.inconclusive("the answer could not be read"))
    } else {
        Err(classify(status.as_u16(), retry_after, &body, effect))
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

async fn read_capped(response: Response) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|_| "the connection broke")?);
        if body.len() > ANSWER_LIMIT_BYTES {
            return Err("the answer is too large");
        }
    }
    Ok(body)
}
