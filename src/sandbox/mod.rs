//! A Razorpay simulator: its wire format over real HTTP on a port of its own, with a payment page, signed
//! webhooks, and faults that can be switched on.
//!
//! It stands in for Razorpay in `checkoutd dev` and in tests, so it knows nothing of the rest of checkoutd and is
//! talked to over HTTP only. State is in memory and ends with it. Where Razorpay's documentation and recordings
//! of its live API disagree, it answers as seen live; where nothing is known, the stricter of the likely ways.
//!
//! - `api`: Razorpay's `/v1`; `links`, `charge`, `refunds`, `books`: its rules; `wire`, `events`, `errors`: its JSON
//! - `page`, `page_views`: the payment page and the dashboard
//! - `queue`, `webhooks`: events on their way out
//! - `control`, `actions`, `faults`: what a test or a developer does to it

mod account;
mod actions;
mod api;
mod books;
mod charge;
mod control;
mod errors;
mod events;
mod faults;
mod instruments;
mod ledger;
mod links;
mod page;
mod page_views;
mod queue;
mod refunds;
mod server;
#[cfg(test)]
mod tests;
mod webhooks;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::net::TcpListener;

pub use account::{ALL_EVENTS, Account};
pub use charge::{PaidInfo, PayMethod, PayOutcome, PayRequest};
pub use faults::{FaultKind, FaultRule, Faults, Op, WebhookFaults};
pub use instruments::{Failure, Instrument};
pub use ledger::{
    Attempt, Delivery, DeliveryStatus, Ledger, Link, LinkStatus, LinkTerms, Order, Payment, PaymentStatus,
    Refund, RefundStatus,
};
pub use webhooks::SendWebhook;

use books::Books;
use server::Shared;

/// Where the sandbox gets the time from.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// How a sandbox is started. [`SandboxConfig::new`] has defaults for everything but the clock.
pub struct SandboxConfig {
    /// Port 0 takes a free one.
    pub bind: SocketAddr,
    /// What short URLs start with; none: `http://` and the bound address.
    pub public_url: Option<String>,
    /// Ids are drawn from it: the same seed and calls give the same ids. Whoever remembers ids over a restart
    /// of the sandbox must give it another seed, or ids come twice.
    pub seed: u64,
    /// Who may call; more can be put later.
    pub accounts: Vec<Account>,
    /// Sandbox time, before the control API's offset.
    pub clock: Clock,
    /// Whether webhooks go out by themselves. Tests say false and call [`Sandbox::flush_webhooks`].
    pub auto_deliver: bool,
    /// Waits between the attempts of a webhook, in sandbox time; then it is given up. Razorpay's own ladder is
    /// 0.2 s, 6 s, 13 s, 21 s, 42 s … doubling for a day.
    pub retry_ladder: Vec<Duration>,
    /// How long a receiver of webhooks may take, in real time. Razorpay gives it 5 s.
    pub webhook_timeout: Duration,
}

impl SandboxConfig {
    /// A free loopback port, no accounts, webhooks delivered by themselves with an accelerated ladder.
    pub fn new(clock: Clock) -> Self {
        let ladder_ms = [200, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000];
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_url: None,
            seed: 0,
            accounts: Vec::new(),
            clock,
            auto_deliver: true,
            retry_ladder: ladder_ms.map(Duration::from_millis).to_vec(),
            webhook_timeout: Duration::from_secs(5),
        }
    }
}

/// Why the sandbox did not do what the control API or a test asked.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Neither a link's id nor a `reference_id`.
    #[error("no link has the id or reference_id {0:?}")]
    UnknownLink(String),
    /// No account has this key.
    #[error("no account has the key_id {0:?}")]
    UnknownAccount(String),
    /// The account cannot be addressed.
    #[error("{0}")]
    InvalidAccount(&'static str),
    /// The account has no webhook URL.
    #[error("the account {0:?} has no webhook_url")]
    NoWebhook(String),
    /// The link is not open, and the payment was not a late one.
    #[error("link {link_id} is {}", status.as_str())]
    NotPayable {
        /// `plink_…`
        link_id: String,
        /// Where it stands.
        status: LinkStatus,
    },
    /// The state of the link forbids it; Razorpay's own text.
    #[error("{0}")]
    Refused(&'static str),
    /// No such refund.
    #[error("no refund has the id {0:?}")]
    UnknownRefund(String),
    /// The refund has ended already.
    #[error("refund {0} is not pending, or would not end")]
    RefundNotPending(String),
}

/// A running sandbox. It stops when it is shut down or dropped.
pub struct Sandbox {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Sandbox {
    /// Binds and serves in the background. Fails when the address cannot be bound.
    pub async fn start(config: SandboxConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.bind).await?;
        let addr = listener.local_addr()?;
        let public_url = config.public_url.unwrap_or_else(|| format!("http://{addr}"));
        let public_url = public_url.trim_end_matches('/').to_owned();
        let ladder_ms = config.retry_ladder.iter();
        let ladder_ms = ladder_ms.map(|wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)).collect();
        let books = Books::new(config.clock, config.seed, public_url, ladder_ms);
        let http = webhooks::client(config.webhook_timeout).map_err(io::Error::other)?;
        let shared = Arc::new(Shared::new(books, http));
        for account in config.accounts {
            actions::put_account(&shared, account).map_err(io::Error::other)?;
        }
        shared.tasks.spawn(server::serve(listener, Arc::clone(&shared)));
        if config.auto_deliver {
            shared.tasks.spawn(webhooks::deliver_in_background(Arc::clone(&shared)));
        }
        Ok(Self { addr, shared })
    }

    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://` and the bound address, without `/v1`: what stands in for `https://api.razorpay.com`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Stops serving and sending, hanging requests included, and waits until both have stopped.
    pub async fn shutdown(self) {
        self.shared.shutdown.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Creates or replaces an account and returns its business id (`acc_…`).
    pub fn put_account(&self, account: Account) -> Result<String, SandboxError> {
        actions::put_account(&self.shared, account)
    }

    /// Pays a link, given by id or `reference_id`, as its payer would. Webhooks are queued, not yet sent.
    pub fn pay(&self, link: &str, request: PayRequest) -> Result<PaidInfo, SandboxError> {
        actions::pay(&self.shared, link, request)
    }

    /// Cancels a link as the merchant would in the dashboard.
    pub fn cancel(&self, link: &str) -> Result<(), SandboxError> {
        actions::cancel(&self.shared, link)
    }

    /// Expires a link before its time.
    pub fn expire(&self, link: &str) -> Result<(), SandboxError> {
        actions::expire(&self.shared, link)
    }

    /// Ends a refund that [`Faults::refund_outcome`] left pending.
    pub fn settle_refund(&self, refund_id: &str, outcome: RefundStatus) -> Result<(), SandboxError> {
        self.shared.books().settle_refund(refund_id, outcome)
    }

    /// Tries every webhook that is due once and returns how many were tried.
    pub async fn flush_webhooks(&self) -> usize {
        webhooks::flush(&self.shared).await
    }

    /// Posts an arbitrary body as a webhook, once, and returns how the receiver answered.
    pub async fn send_webhook(&self, request: SendWebhook) -> Result<Attempt, SandboxError> {
        webhooks::send(&self.shared, request).await
    }

    /// What goes wrong, with how many calls are left to.
    pub fn faults(&self) -> Faults {
        self.shared.books().faults.clone()
    }

    /// Replaces what goes wrong; `Faults::default()` ends it.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.books().faults = faults;
    }

    /// Moves sandbox time by this much against its clock.
    pub fn set_clock_offset(&self, offset: TimeDelta) {
        let mut books = self.shared.books();
        books.clock_offset = offset;
        books.expire_due();
    }

    /// A copy of everything recorded so far, links past their deadline already expired.
    pub fn ledger(&self) -> Ledger {
        self.shared.books().ledger().clone()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.shutdown.cancel();
    }
}
