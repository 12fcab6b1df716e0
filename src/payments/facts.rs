//! What happened at the provider: captured payments with their one fate, and failed tries.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{PaymentId, store};
use crate::{
    app::App,
    db::{self, Tx},
    kit::money::Money,
    tenancy::Scope,
};

/// A captured payment at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderPayment {
    /// `pay_…`, Razorpay's.
    pub provider_payment_id: String,
    /// What was captured.
    pub amount: Money,
    /// Whether all of it has gone back already, at the provider.
    pub refunded: bool,
}

impl ProviderPayment {
    /// From the provider's words; `None` when there is no amount, or it is in an unknown currency.
    pub fn captured(id: &str, amount_minor: i64, currency: &str, refunded: bool) -> Option<Self> {
        let amount = Money::new(amount_minor, currency.parse().ok()?);
        (amount_minor > 0).then(|| Self { provider_payment_id: id.to_owned(), amount, refunded })
    }
}

/// What becomes of captured money; decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It paid its session.
    Applied,
    /// It goes back.
    Refund,
}

impl Fate {
    fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refund => "refund",
        }
    }
}

/// Records a captured payment. False when it is on record already: its fate is decided and stays.
#[expect(clippy::too_many_arguments, reason = "a row's columns, each of its own type")]
pub async fn insert_provider_payment_in(
    tx: &mut Tx,
    scope: Scope,
    session: Uuid,
    payment: &ProviderPayment,
    fate: Fate,
    cause: &str,
    inbox: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    store::insert_provider_payment(tx, scope, session, payment, fate.as_str(), cause, inbox, now).await
}

/// Whether a captured payment is on record, and so its fate decided.
pub async fn is_known_in(tx: &mut Tx, scope: Scope, provider_payment_id: &str) -> Result<bool, db::Error> {
    store::is_known(tx, scope, provider_payment_id).await
}

/// Whether a webhook has told of the payment that completed a session, be it later than a read.
pub async fn was_told_by_webhook(app: &App, scope: Scope, session: Uuid) -> Result<bool, db::Error> {
    store::was_told_by_webhook(&app.pool, scope, session).await
}

/// Records a failed try on our payment. A repeat does nothing.
pub async fn insert_failed_attempt_in(
    tx: &mut Tx,
    scope: Scope,
    attempt: Uuid,
    payment: PaymentId,
    provider_payment_id: &str,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    store::insert_failed_attempt(tx, scope, attempt, payment, provider_payment_id, reason, now).await
}
