//! What a merchant may do with an invoice: say more about it. Its status and money follow its checkout.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Invoice, InvoiceId, InvoiceStatus, store};
use crate::{
    app::App,
    db::{self, RowStatus},
    http::{ApiError, Named},
    tenancy::Scope,
};

/// What is new about an invoice; absent parts stay.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub metadata: Option<Value>,
    pub due_date: Option<DateTime<Utc>>,
}

/// Changes a draft or finalized invoice. What it says already is not written again.
///
/// # Errors
/// 404 unknown, or archived with its checkout; 400 for one that was voided or skipped.
pub async fn update(app: &App, scope: Scope, id: InvoiceId, change: Change) -> Result<Invoice, ApiError> {
    let now = app.clock.now();
    db::transact(&app.pool, "update_invoice", move |tx| {
        let change = change.clone();
        Box::pin(async move {
            let locked = store::lock(tx, scope, id).await?;
            let mut invoice = locked.ok_or_else(|| ApiError::not_found(InvoiceId::NOUN))?;
            if matches!(invoice.invoice_status, InvoiceStatus::Voided | InvoiceStatus::Skipped) {
                let status = invoice.invoice_status.as_str();
                return Err(ApiError::invalid_operation(format!("the invoice is {status}"))
                    .detail("reason", "invoice_ended"));
            }
            let metadata = change.metadata.unwrap_or_else(|| invoice.metadata.clone());
            let due_date = change.due_date.or(invoice.due_date);
            if metadata == invoice.metadata && due_date == invoice.due_date {
                return Ok(invoice);
            }
            invoice.metadata = metadata;
            invoice.due_date = due_date;
            invoice.version += 1;
            invoice.updated_at = now;
            store::update(tx, scope, &invoice).await?;
            Ok(invoice)
        })
    })
    .await
}

/// An invoice that was not archived with its checkout.
pub async fn get_published(app: &App, scope: Scope, id: InvoiceId) -> Result<Invoice, ApiError> {
    let found = store::find(&app.pool, scope, id).await?;
    found
        .filter(|invoice| invoice.status == RowStatus::Published)
        .ok_or_else(|| ApiError::not_found(InvoiceId::NOUN))
}

/// Why an invoice's status stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is a draft, and its checkout decides.
    Checkout,
    /// It is not in a state for that; the rule.
    Status(&'static str),
    /// Its money is here.
    Paid,
}

/// Whether there is nothing left to do to finalize it: a draft is finalized by being paid.
pub fn may_finalize(status: InvoiceStatus) -> Result<(), Refusal> {
    match status {
        InvoiceStatus::Draft => Err(Refusal::Checkout),
        InvoiceStatus::Finalized | InvoiceStatus::Voided => Err(Refusal::Status("only a draft is finalized")),
        InvoiceStatus::Skipped => Ok(()),
    }
}

/// Why it cannot be voided. There is always a reason: what is final is paid, and stays paid.
pub fn why_not_void(status: InvoiceStatus) -> Refusal {
    match status {
        InvoiceStatus::Draft => Refusal::Checkout,
        InvoiceStatus::Finalized => Refusal::Paid,
        InvoiceStatus::Voided | InvoiceStatus::Skipped => Refusal::Status("there is nothing to void"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_answer_to_finalize_and_to_void() {
        use InvoiceStatus::{Draft, Finalized, Skipped, Voided};
        assert_eq!(may_finalize(Draft), Err(Refusal::Checkout));
        assert_eq!(may_finalize(Skipped), Ok(()));
        assert!(matches!(may_finalize(Finalized), Err(Refusal::Status(_))));
        assert!(matches!(may_finalize(Voided), Err(Refusal::Status(_))));
        assert_eq!(why_not_void(Draft), Refusal::Checkout);
        assert_eq!(why_not_void(Finalized), Refusal::Paid);
        assert!(matches!(why_not_void(Voided), Refusal::Status(_)));
        assert!(matches!(why_not_void(Skipped), Refusal::Status(_)));
    }
}
