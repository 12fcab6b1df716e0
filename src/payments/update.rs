//! What a merchant may change of a payment: its metadata. The rest is what the provider reported.

use serde_json::Value;

use super::{Payment, PaymentId, store};
use crate::{
    app::App,
    db,
    http::{ApiError, Named},
    tenancy::Scope,
};

/// What a merchant says of a payment: new metadata, and what it believes of the rest.
pub trait Claim: Clone + Send + Sync + 'static {
    /// Fields that are not as they are recorded.
    fn contradictions(&self, payment: &Payment) -> Vec<&'static str>;
}

/// Replaces the metadata, if there is any in `metadata`, and if nothing of `claim` contradicts the record.
///
/// # Errors
/// 404 unknown, or archived with its checkout; 400 `invalid_operation` naming what only the provider can change.
pub async fn update(
    app: &App,
    scope: Scope,
    id: PaymentId,
    metadata: Option<Value>,
    claim: impl Claim,
) -> Result<Payment, ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "update_payment", move |tx| {
        let (metadata, claim) = (metadata.clone(), claim.clone());
        Box::pin(async move {
            let locked = store::lock_payment(tx, scope, id).await?;
            let mut payment = locked.ok_or_else(|| ApiError::not_found(PaymentId::NOUN))?;
            let contradictions = claim.contradictions(&payment);
            if !contradictions.is_empty() {
                let fields = contradictions.join(", ");
                return Err(ApiError::invalid_operation(format!(
                    "{fields}: only what the payment provider reports changes that"
                ))
                .detail("reason", "provider_decides")
                .detail("fields", contradictions));
            }
            if let Some(metadata) = metadata.filter(|metadata| *metadata != payment.metadata) {
                payment.metadata = metadata;
                payment.updated_at = now;
                store::update_payment(tx, scope, &payment).await?;
            }
            Ok(payment)
        })
    })
    .await
}
