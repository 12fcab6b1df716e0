//! SQL of payments and provider payments.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Uuid;

use super::{
    Attempt, DestinationType, Payment, PaymentGateway, PaymentId, PaymentMethodType, facts::ProviderPayment,
};
use crate::{
    db::{
        self, Pool, RowStatus, Tx, read_column,
        search::{Criteria, Select},
    },
    invoices::PaymentStatus,
    kit::{
        money::{Currency, Money},
        page::Page,
    },
    tenancy::Scope,
};

#[expect(clippy::too_many_arguments, reason = "a row's columns, each of its own type")]
pub async fn insert_provider_payment(
    tx: &mut Tx,
    scope: Scope,
    session: Uuid,
    payment: &ProviderPayment,
    fate: &str,
    cause: &str,
    inbox: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- payments.insert_provider_payment
        with told as (
            update provider_payments set inbox_id = $8
            where environment_id = $1 and provider_payment_id = $2 and inbox_id is null and $8::uuid is not null
        )
        insert into provider_payments (environment_id, provider_payment_id, session_id, amount_minor, currency, fate,
            cause, inbox_id, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict (environment_id, provider_payment_id) do nothing",
        Uuid::from(scope.environment),
        payment.provider_payment_id,
        session,
        payment.amount.minor,
        payment.amount.currency.lower(),
        fate,
        cause,
        inbox,
        now,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn is_known(tx: &mut Tx, scope: Scope, provider_payment_id: &str) -> Result<bool, db::Error> {
    sqlx::query_scalar!(
        r#"-- payments.is_known
        select exists (
            select from provider_payments where environment_id = $1 and provider_payment_id = $2
        ) as "known!""#,
        Uuid::from(scope.environment),
        provider_payment_id,
    )
    .fetch_one(tx)
    .await
}

pub async fn was_told_by_webhook(pool: &Pool, scope: Scope, session: Uuid) -> Result<bool, db::Error> {
    sqlx::query_scalar!(
        r#"-- payments.was_told_by_webhook
        select exists (
            select from provider_payments
            where environment_id = $1 and session_id = $2 and fate = 'applied' and inbox_id is not null
        ) as "told!""#,
        Uuid::from(scope.environment),
        session,
    )
    .fetch_one(pool)
    .await
}

pub async fn insert_failed_attempt(
    tx: &mut Tx,
    scope: Scope,
    attempt: Uuid,
    payment: PaymentId,
    provider_payment_id: &str,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- payments.insert_failed_attempt
        with attempt as (
            insert into payment_attempts (environment_id, id, payment_id, attempt_number, gateway_payment_id,
                payment_status, error_message, created_at)
            values ($1, $2, $3,
                1 + (select count(*) from payment_attempts where environment_id = $1 and payment_id = $3),
                $4, 'FAILED', $5, $6)
            on conflict on constraint payment_attempts_once do nothing
            returning payment_id
        )
        update payments p
        set error_message = $5, updated_at = $6
        from attempt a
        where p.environment_id = $1 and p.id = a.payment_id and p.payment_status = 'INITIATED'",
        Uuid::from(scope.environment),
        attempt,
        Uuid::from(payment),
        provider_payment_id,
        reason,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct PaymentRow {
    id: Uuid,
    invoice_id: Uuid,
    invoice_number: Option<String>,
    amount_minor: i64,
    currency: String,
    payment_status: String,
    payment_gateway: String,
    gateway_payment_id: Option<String>,
    gateway_tracking_id: Option<String>,
    payment_url: Option<String>,
    error_message: Option<String>,
    metadata: Value,
    succeeded_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<PaymentRow> for Payment {
    type Error = db::Error;

    fn try_from(row: PaymentRow) -> Result<Self, db::Error> {
        Ok(Self {
            id: row.id.into(),
            invoice: row.invoice_id.into(),
            invoice_number: row.invoice_number,
            amount: Money::new(row.amount_minor, read_column(&row.currency)?),
            payment_status: read_column(&row.payment_status)?,
            payment_gateway: read_column(&row.payment_gateway)?,
            gateway_payment_id: row.gateway_payment_id,
            gateway_tracking_id: row.gateway_tracking_id,
            payment_url: row.payment_url,
            error_message: row.error_message,
            metadata: row.metadata,
            succeeded_at: row.succeeded_at,
            failed_at: row.failed_at,
            status: RowStatus::from_column(&row.status),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// One select list for every reader of a row; `$tail` differs.
macro_rules! select_payment {
    ($name:literal, $tail:literal, $($bind:expr),* $(,)?) => {
        sqlx::query_as!(
            PaymentRow,
            "-- payments." + $name + "
            select id, invoice_id, (select i.invoice_number from invoices i
                    where i.environment_id = payments.environment_id and i.id = payments.invoice_id) as invoice_number,
                amount_minor, currency, payment_status, payment_gateway, gateway_payment_id, gateway_tracking_id,
                payment_url, error_message, metadata, succeeded_at, failed_at, status, created_at, updated_at
            from payments
            " + $tail,
            $($bind),*
        )
    };
}

pub async fn find_payment(pool: &Pool, scope: Scope, id: PaymentId) -> Result<Option<Payment>, db::Error> {
    select_payment!(
        "find_payment",
        "where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Reads a published payment and holds its row until the transaction ends.
pub async fn lock_payment(tx: &mut Tx, scope: Scope, id: PaymentId) -> Result<Option<Payment>, db::Error> {
    select_payment!(
        "lock_payment",
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

/// Writes what a merchant may change of a locked payment.
pub async fn update_payment(tx: &mut Tx, scope: Scope, payment: &Payment) -> Result<(), db::Error> {
    sqlx::query!(
        "-- payments.update_payment
        update payments set metadata = $3, updated_at = $4
        where environment_id = $1 and id = $2",
        Uuid::from(scope.environment),
        Uuid::from(payment.id),
        payment.metadata,
        payment.updated_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// What a list of payments is narrowed to; absent parts match everything.
#[derive(Debug)]
pub struct WantedPayments {
    pub ids: Option<Vec<Uuid>>,
    pub destination_type: Option<DestinationType>,
    pub invoice_ids: Option<Vec<Uuid>>,
    pub method: Option<PaymentMethodType>,
    pub payment_status: Option<PaymentStatus>,
    pub gateway: Option<PaymentGateway>,
    pub gateway_payment_id: Option<String>,
    pub gateway_tracking_id: Option<String>,
    pub currency: Option<Currency>,
}

impl WantedPayments {
    /// Payment links for invoices are all that there is here.
    fn is_of_others(&self) -> bool {
        self.destination_type.is_some_and(|wanted| wanted != DestinationType::Invoice)
            || self.method.is_some_and(|wanted| wanted != PaymentMethodType::PaymentLink)
    }
}

pub async fn search_payments(
    pool: &Pool,
    scope: Scope,
    wanted: WantedPayments,
    criteria: Criteria,
) -> Result<Page<Payment>, db::Error> {
    let is_of_others = wanted.is_of_others();
    let select = Select::new(
        "payments.search_payments",
        "id, invoice_id, (select i.invoice_number from invoices i \
         where i.environment_id = payments.environment_id and i.id = payments.invoice_id) as invoice_number, \
         amount_minor, currency, payment_status, payment_gateway, gateway_payment_id, gateway_tracking_id, \
         payment_url, error_message, metadata, succeeded_at, failed_at, status, created_at, updated_at",
        "payments",
        scope.environment,
    )
    .any_of("id", wanted.ids)
    .any_of("invoice_id", wanted.invoice_ids)
    .equals("payment_status", wanted.payment_status.map(|status| status.as_str().to_owned()))
    .equals("payment_gateway", wanted.gateway.map(|gateway| gateway.as_str().to_owned()))
    .equals("gateway_payment_id", wanted.gateway_payment_id)
    .equals("gateway_tracking_id", wanted.gateway_tracking_id)
    .equals("currency", wanted.currency.map(Currency::lower));
    let select = if is_of_others { select.condition("false") } else { select };
    select.fetch::<PaymentRow>(pool, criteria).await?.try_map(TryInto::try_into)
}

/// What was tried on several payments, in order.
pub async fn list_attempts(
    pool: &Pool,
    scope: Scope,
    payments: &[PaymentId],
) -> Result<Vec<Attempt>, db::Error> {
    let ids: Vec<Uuid> = payments.iter().copied().map(Uuid::from).collect();
    let rows = sqlx::query!(
        "-- payments.list_attempts
        select id, payment_id, attempt_number, gateway_payment_id, payment_status, error_message, created_at
        from payment_attempts
        where environment_id = $1 and payment_id = any($2)
        order by attempt_number, id",
        Uuid::from(scope.environment),
        &ids,
    )
    .fetch_all(pool)
    .await?;
    let attempts = rows.into_iter().map(|row| {
        Ok(Attempt {
            id: row.id.into(),
            payment: row.payment_id.into(),
            number: row.attempt_number,
            gateway_payment_id: row.gateway_payment_id,
            payment_status: read_column(&row.payment_status)?,
            error_message: row.error_message,
            created_at: row.created_at,
        })
    });
    attempts.collect()
}
