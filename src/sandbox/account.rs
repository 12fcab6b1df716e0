//! Accounts: who may call, and where their webhooks go.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Every event the sandbox can emit; an account is subscribed to all of them unless it says otherwise.
pub const ALL_EVENTS: [&str; 11] = [
    "payment.authorized",
    "payment.captured",
    "payment.failed",
    "order.paid",
    "payment_link.paid",
    "payment_link.partially_paid",
    "payment_link.cancelled",
    "payment_link.expired",
    "refund.created",
    "refund.processed",
    "refund.failed",
];

/// One merchant at the sandbox: an API key, and the webhook configured in "the dashboard".
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// API key id; the prefix `rzp_live_` makes the account a live one, anything else a test one.
    pub key_id: String,
    /// API key secret; also the key of the callback signature.
    pub key_secret: String,
    /// The business (`acc_…`). Empty: derived from `key_id`. Two keys that name the same business see the
    /// same links, as after a key roll; its webhook is that of the key put last.
    #[serde(default)]
    pub account_id: String,
    /// Where webhooks are posted; none: nothing is posted.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// Key of the webhook signature; none: webhooks are not signed, as at Razorpay.
    #[serde(default)]
    pub webhook_secret: Option<String>,
    /// Subscribed events; empty switches webhooks off.
    #[serde(default = "all_events")]
    pub events: Vec<String>,
}

fn all_events() -> Vec<String> {
    ALL_EVENTS.iter().map(ToString::to_string).collect()
}

impl Account {
    /// An account without a webhook, subscribed to everything once it gets one.
    pub fn new(key_id: impl Into<String>, key_secret: impl Into<String>) -> Self {
        Self {
            key_id: key_id.into(),
            key_secret: key_secret.into(),
            account_id: String::new(),
            webhook_url: None,
            webhook_secret: None,
            events: all_events(),
        }
    }

    /// The same account with its webhook configured.
    #[must_use]
    pub fn with_webhook(mut self, url: impl Into<String>, secret: impl Into<String>) -> Self {
        self.webhook_url = Some(url.into());
        self.webhook_secret = Some(secret.into());
        self
    }

    pub(super) fn is_live(&self) -> bool {
        self.key_id.starts_with("rzp_live_")
    }

    pub(super) fn with_account_id(mut self) -> Self {
        if self.account_id.is_empty() {
            let digest = Sha256::digest(self.key_id.as_bytes());
            self.account_id = format!("acc_{}", alphanumeric(&digest[..14]));
        }
        self
    }
}

/// Razorpay's id alphabet, one character per byte.
pub(super) fn alphanumeric(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// Ids that look like Razorpay's and are the same in every run with the same seed.
#[derive(Debug)]
pub(super) struct Ids {
    seed: u64,
    drawn: u64,
}

impl Ids {
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// `prefix` and 14 characters of `[A-Za-z0-9]`.
    pub fn next(&mut self, prefix: &str) -> String {
        format!("{prefix}{}", self.alphanumeric(14))
    }

    pub fn alphanumeric(&mut self, len: usize) -> String {
        alphanumeric(&self.draw()[..len])
    }

    pub fn digits(&mut self, len: usize) -> String {
        self.draw()[..len].iter().map(|byte| char::from(b'0' + byte % 10)).collect()
    }

    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        let mut hash = Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(self.drawn.to_be_bytes());
        hash.finalize().into()
    }
}
