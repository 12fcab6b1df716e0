//! What `refund.*` webhooks say.

use chrono::{DateTime, Utc};

use super::{
    RefundId, RefundStatus,
    record::update_in,
    store::{self, Key},
};
use crate::{
    app::App,
    db::{self, Tx},
    razorpay,
    tenancy::Scope,
};

/// What a `refund.*` webhook says.
#[derive(Clone, Debug)]
pub struct RefundNews {
    /// The payment that it gives back.
    pub provider_payment_id: String,
    /// `rfnd_…`
    pub gateway_refund_id: String,
    /// Our refund's key, where it is ours.
    pub receipt: Option<RefundId>,
    /// Minor units.
    pub amount_minor: i64,
    /// Where it is in its life.
    pub status: razorpay::RefundStatus,
}

/// Takes over what a `refund.*` webhook says of a refund of ours; false when it is not ours.
pub async fn note_refund_in(
    app: &App,
    tx: &mut Tx,
    scope: Scope,
    news: &RefundNews,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let key = Key::ProviderPayment(&news.provider_payment_id);
    let Some(mut refund) = store::lock_refund(tx, scope, key).await?.filter(|found| found.is_meant_by(news))
    else {
        return Ok(false);
    };
    if refund.status == RefundStatus::Succeeded && news.status == razorpay::RefundStatus::Failed {
        tracing::error!(
            alert = "refund_reversed",
            refund.id = %refund.id,
            refund.gateway_id = news.gateway_refund_id,
            "Razorpay takes back that a refund succeeded"
        );
    }
    let from = (refund.status, refund.gateway_refund_id.clone());
    let event = refund.hear(news, now, app.ids.fraction());
    if from != (refund.status, refund.gateway_refund_id.clone()) {
        update_in(app, tx, &mut refund, from.0, event, now).await?;
    }
    Ok(true)
}
