//! SQL of invoices: reads, and what merchants say about them. Checkout writes them with everything else that a
//! session drafts.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Uuid;

use super::{
    BillingReason, Invoice, InvoiceId, InvoiceLine, InvoiceStatus, InvoiceType, PaymentStatus,
    threshold::Threshold,
};
use crate::{
    db::{
        self, Pool, RowStatus, Tx, read_column,
        search::{Criteria, Select},
    },
    kit::{
        money::{Currency, Money},
        page::Page,
    },
    subscriptions::SubscriptionId,
    tenancy::Scope,
};

#[derive(sqlx::FromRow)]
struct InvoiceRow {
    id: Uuid,
    customer_id: Uuid,
    subscription_id: Uuid,
    invoice_status: String,
    payment_status: String,
    currency: String,
    total_minor: i64,
    amount_paid_minor: i64,
    invoice_number: Option<String>,
    billing_reason: String,
    billing_period: String,
    period_start: DateTime<Utc>,
    period_end: DateTime<Utc>,
    due_date: Option<DateTime<Utc>>,
    metadata: Value,
    version: i32,
    finalized_at: Option<DateTime<Utc>>,
    paid_at: Option<DateTime<Utc>>,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<InvoiceRow> for Invoice {
    type Error = db::Error;

    fn try_from(row: InvoiceRow) -> Result<Self, db::Error> {
        let currency: Currency = read_column(&row.currency)?;
        Ok(Self {
            id: row.id.into(),
            customer: row.customer_id.into(),
            subscription: row.subscription_id.into(),
            invoice_status: read_column(&row.invoice_status)?,
            payment_status: read_column(&row.payment_status)?,
            total: Money::new(row.total_minor, currency),
            paid: Money::new(row.amount_paid_minor, currency),
            invoice_number: row.invoice_number,
            billing_reason: read_column(&row.billing_reason)?,
            billing_period: read_column(&row.billing_period)?,
            period_start: row.period_start,
            period_end: row.period_end,
            due_date: row.due_date,
            metadata: row.metadata,
            version: row.version,
            finalized_at: row.finalized_at,
            paid_at: row.paid_at,
            status: RowStatus::from_column(&row.status),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// One select list for every reader of a row; `$tail` differs.
macro_rules! select_invoice {
    ($name:literal, $tail:literal, $($bind:expr),* $(,)?) => {
        sqlx::query_as!(
            InvoiceRow,
            "-- invoices." + $name + "
            select id, customer_id, subscription_id, invoice_status, payment_status, currency, total_minor,
                amount_paid_minor, invoice_number, billing_reason, billing_period, period_start, period_end, due_date,
                metadata, version, finalized_at, paid_at, status, created_at, updated_at
            from invoices
            " + $tail,
            $($bind),*
        )
    };
}

pub async fn find(pool: &Pool, scope: Scope, id: InvoiceId) -> Result<Option<Invoice>, db::Error> {
    select_invoice!(
        "find",
        "where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// The newest invoice of a subscription.
pub async fn find_latest(
    pool: &Pool,
    scope: Scope,
    subscription: SubscriptionId,
) -> Result<Option<Invoice>, db::Error> {
    select_invoice!(
        "find_latest",
        "where environment_id = $1 and subscription_id = $2
        order by created_at desc, id desc
        limit 1",
        Uuid::from(scope.environment),
        Uuid::from(subscription),
    )
    .fetch_optional(pool)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Reads a published invoice and holds its row until the transaction ends.
pub async fn lock(tx: &mut Tx, scope: Scope, id: InvoiceId) -> Result<Option<Invoice>, db::Error> {
    select_invoice!(
        "lock",
        "where environment_id = $1 and id = $2 and status = 'published'
        for update",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(tx)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Writes what a merchant may change of a locked invoice.
pub async fn update(tx: &mut Tx, scope: Scope, invoice: &Invoice) -> Result<(), db::Error> {
    sqlx::query!(
        "-- invoices.update
        update invoices set metadata = $3, due_date = $4, version = $5, updated_at = $6
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(invoice.id),
        invoice.metadata,
        invoice.due_date,
        invoice.version,
        invoice.updated_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a search of invoices names; absent parts match everything.
#[derive(Debug)]
pub struct Wanted {
    pub ids: Option<Vec<Uuid>>,
    pub customer_id: Option<Vec<Uuid>>,
    /// Customers by the merchant's own name.
    pub named_customer_ids: Option<Vec<Uuid>>,
    /// Whose subscription it is for: the same customer.
    pub subscription_customer_ids: Option<Vec<Uuid>>,
    pub subscription_id: Option<Vec<Uuid>>,
    pub invoice_type: Option<InvoiceType>,
    pub invoice_statuses: Option<Vec<InvoiceStatus>>,
    pub payment_statuses: Option<Vec<PaymentStatus>>,
    pub billing_reason: Option<BillingReason>,
    pub currency: Option<Currency>,
    pub due_more_than: Option<Threshold>,
    pub remaining_more_than: Option<Threshold>,
    pub finalized_from: Option<DateTime<Utc>>,
    /// Nothing matches.
    pub voided: bool,
    pub period_start_from: Option<DateTime<Utc>>,
    pub period_start_until: Option<DateTime<Utc>>,
    pub period_end_from: Option<DateTime<Utc>>,
    pub period_end_until: Option<DateTime<Utc>>,
}

/// Ten-thousandths of a major unit in a minor unit of the row's currency: 10^(4 - exponent).
macro_rules! ten_thousandths_per_minor_unit {
    () => {
        "case when currency in ('bif', 'clp', 'djf', 'gnf', 'isk', 'jpy', 'kmf', 'krw', 'pyg', 'rwf', 'ugx', 'vnd', \
         'vuv', 'xaf', 'xof', 'xpf') then 10000 \
         when currency in ('bhd', 'iqd', 'jod', 'kwd', 'lyd', 'omr', 'tnd') then 10 else 100 end"
    };
}

pub async fn search(
    pool: &Pool,
    scope: Scope,
    wanted: Wanted,
    criteria: Criteria,
) -> Result<Page<Invoice>, db::Error> {
    let invoice_statuses = |all: Vec<InvoiceStatus>| -> Vec<String> {
        all.into_iter().map(|status| status.as_str().to_owned()).collect()
    };
    let payment_statuses = |all: Vec<PaymentStatus>| -> Vec<String> {
        all.into_iter().map(|status| status.as_str().to_owned()).collect()
    };
    let mut select = Select::new(
        "invoices.search",
        "id, customer_id, subscription_id, invoice_status, payment_status, currency, total_minor, \
         amount_paid_minor, invoice_number, billing_reason, billing_period, period_start, period_end, due_date, \
         metadata, version, finalized_at, paid_at, status, created_at, updated_at",
        "invoices",
        scope.environment,
    )
    .any_of("id", wanted.ids)
    .any_of("customer_id", wanted.customer_id)
    .any_of("customer_id", wanted.named_customer_ids)
    .any_of("customer_id", wanted.subscription_customer_ids)
    .any_of("subscription_id", wanted.subscription_id)
    .any_of("invoice_status", wanted.invoice_statuses.map(invoice_statuses))
    .any_of("payment_status", wanted.payment_statuses.map(payment_statuses))
    .equals("billing_reason", wanted.billing_reason.map(|reason| reason.as_str().to_owned()))
    .equals("currency", wanted.currency.map(Currency::lower))
    .compare(
        concat!("total_minor::numeric * ", ten_thousandths_per_minor_unit!(), " >"),
        wanted.due_more_than.map(Threshold::ten_thousandths),
    )
    .compare(
        concat!("(total_minor - amount_paid_minor)::numeric * ", ten_thousandths_per_minor_unit!(), " >"),
        wanted.remaining_more_than.map(Threshold::ten_thousandths),
    )
    .compare("finalized_at >=", wanted.finalized_from)
    .compare("period_start >=", wanted.period_start_from)
    .compare("period_start <=", wanted.period_start_until)
    .compare("period_end >=", wanted.period_end_from)
    .compare("period_end <=", wanted.period_end_until);
    if wanted.voided || wanted.invoice_type.is_some_and(|wanted| wanted != InvoiceType::Subscription) {
        // Subscriptions are all that is invoiced here, and nothing is voided.
        select = select.condition("false");
    }
    select.fetch::<InvoiceRow>(pool, criteria).await?.try_map(TryInto::try_into)
}

/// The lines of several invoices.
pub async fn list_lines(
    pool: &Pool,
    scope: Scope,
    invoices: &[InvoiceId],
) -> Result<Vec<InvoiceLine>, db::Error> {
    let ids: Vec<Uuid> = invoices.iter().copied().map(Uuid::from).collect();
    let rows = sqlx::query!(
        "-- invoices.list_lines
        select l.id, l.invoice_id, l.subscription_line_item_id, l.price_id, l.display_name, l.plan_display_name,
            l.quantity, l.amount_minor, l.period_start, l.period_end, l.created_at
        from invoice_line_items l
        join prices p on p.environment_id = l.environment_id and p.id = l.price_id
        where l.environment_id = $1 and l.invoice_id = any($2)
        order by p.created_at, p.id",
        Uuid::from(scope.environment),
        &ids,
    )
    .fetch_all(pool)
    .await?;
    let lines = rows.into_iter().map(|row| InvoiceLine {
        id: row.id.into(),
        invoice: row.invoice_id.into(),
        subscription_line: row.subscription_line_item_id.into(),
        price: row.price_id.into(),
        display_name: row.display_name,
        plan_display_name: row.plan_display_name,
        quantity: row.quantity,
        amount_minor: row.amount_minor,
        period_start: row.period_start,
        period_end: row.period_end,
        created_at: row.created_at,
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_knows_every_currency_that_has_no_hundredths() {
        let letters = || 'a'..='z';
        let codes =
            letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c}"))));
        let (mut none, mut thousandths) = (Vec::new(), Vec::new());
        for code in codes {
            match code.parse::<Currency>().map(Currency::exponent) {
                Ok(0) => none.push(format!("'{code}'")),
                Ok(3) => thousandths.push(format!("'{code}'")),
                Ok(exponent) => assert_eq!(exponent, 2, "{code}"),
                Err(_) => {}
            }
        }
        let sql = format!(
            "case when currency in ({}) then 10000 when currency in ({}) then 10 else 100 end",
            none.join(", "),
            thousandths.join(", ")
        );
        assert_eq!(ten_thousandths_per_minor_unit!(), sql);
    }
}
