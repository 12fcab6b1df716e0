//! SQL of refunds.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{RefundId, RefundStatus, refund::Refund, send::Lease};
use crate::{
    db::{self, Pool, Tx, read_column},
    kit::{money::Money, page::PageRequest},
    tenancy::Scope,
};

/// The row as it is at first; `event_count` events are emitted next to it.
pub async fn insert_refund(tx: &mut Tx, refund: &Refund, event_count: usize) -> Result<(), db::Error> {
    sqlx::query!(
        "-- payments.insert_refund
        insert into refunds (environment_id, id, provider_payment_id, session_id, connection_id, amount_minor, currency,
            refund_status, reason, attempt_count, next_attempt_at, succeeded_at, event_count, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11, $12, $13, $13)",
        Uuid::from(refund.scope.environment),
        Uuid::from(refund.id),
        refund.provider_payment_id,
        refund.session,
        Uuid::from(refund.connection),
        refund.amount.minor,
        refund.amount.currency.lower(),
        refund.status.as_str(),
        refund.reason.as_str(),
        refund.next_attempt_at,
        refund.succeeded_at,
        i32::try_from(event_count).unwrap_or(i32::MAX),
        refund.created_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

struct RefundRow {
    tenant_id: Uuid,
    environment_id: Uuid,
    id: Uuid,
    session_id: Uuid,
    payment_id: Uuid,
    invoice_id: Uuid,
    connection_id: Uuid,
    provider_payment_id: String,
    amount_minor: i64,
    currency: String,
    refund_status: String,
    reason: String,
    gateway_refund_id: Option<String>,
    idempotency_key: Option<Uuid>,
    send_minor: Option<i64>,
    attempt_count: i32,
    failure_count: i32,
    last_error: Option<String>,
    next_attempt_at: DateTime<Utc>,
    lease_token: Option<Uuid>,
    event_count: i32,
    initiated_at: Option<DateTime<Utc>>,
    succeeded_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    alerted_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<RefundRow> for Refund {
    type Error = db::Error;

    fn try_from(row: RefundRow) -> Result<Self, db::Error> {
        Ok(Self {
            scope: Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() },
            id: row.id.into(),
            session: row.session_id,
            payment: row.payment_id.into(),
            invoice: row.invoice_id.into(),
            connection: row.connection_id.into(),
            provider_payment_id: row.provider_payment_id,
            amount: Money::new(row.amount_minor, read_column(&row.currency)?),
            status: read_column(&row.refund_status)?,
            reason: read_column(&row.reason)?,
            gateway_refund_id: row.gateway_refund_id,
            idempotency_key: row.idempotency_key.unwrap_or(row.id).into(),
            send_minor: row.send_minor,
            attempt_count: row.attempt_count,
            failure_count: row.failure_count,
            last_error: row.last_error,
            next_attempt_at: row.next_attempt_at,
            lease_token: row.lease_token,
            event_count: row.event_count,
            initiated_at: row.initiated_at,
            succeeded_at: row.succeeded_at,
            failed_at: row.failed_at,
            alerted_at: row.alerted_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// One select list for every reader; `$tail` differs.
macro_rules! select_refund {
    ($name:literal, $tail:literal, $($bind:expr),* $(,)?) => {
        sqlx::query_as!(
            RefundRow,
            "-- payments." + $name + "
            select e.tenant_id, r.environment_id, r.id, r.session_id, s.payment_id, s.invoice_id, r.connection_id,
                r.provider_payment_id, r.amount_minor, r.currency, r.refund_status, r.reason, r.gateway_refund_id,
                r.idempotency_key, r.send_minor, r.attempt_count, r.failure_count, r.last_error, r.next_attempt_at,
                r.lease_token, r.event_count, r.initiated_at, r.succeeded_at, r.failed_at, r.alerted_at, r.created_at,
                r.updated_at
            from refunds r
            join checkout_sessions s on s.environment_id = r.environment_id and s.id = r.session_id
            join environments e on e.id = r.environment_id
            " + $tail,
            $($bind),*
        )
    };
}

pub async fn find_refund(pool: &Pool, scope: Scope, id: RefundId) -> Result<Option<Refund>, db::Error> {
    let row = select_refund!(
        "find_refund",
        "where r.environment_id = $1 and r.id = $2",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Whose it is, for people who have nothing but its id.
pub async fn find_scope_any_scope(pool: &Pool, id: RefundId) -> Result<Option<Scope>, db::Error> {
    let row = sqlx::query!(
        "-- payments.find_scope_any_scope
        select e.tenant_id, r.environment_id
        from refunds r join environments e on e.id = r.environment_id
        where r.id = $1",
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() }))
}

/// What a refund is looked up by.
#[derive(Clone, Copy, Debug)]
pub enum Key<'a> {
    Refund(RefundId),
    /// There is at most one of each payment at the provider.
    ProviderPayment(&'a str),
}

/// The refund, held until the transaction ends.
pub async fn lock_refund(tx: &mut Tx, scope: Scope, key: Key<'_>) -> Result<Option<Refund>, db::Error> {
    let (id, payment) = match key {
        Key::Refund(id) => (Some(Uuid::from(id)), None),
        Key::ProviderPayment(payment) => (None, Some(payment)),
    };
    let row = select_refund!(
        "lock_refund",
        "where r.environment_id = $1 and (r.id = $2 or r.provider_payment_id = $3)
        for update of r",
        Uuid::from(scope.environment),
        id,
        payment,
    )
    .fetch_optional(tx)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Writes everything that changes in a refund's life. False when it is not `from` any more.
pub async fn update_refund(tx: &mut Tx, refund: &Refund, from: RefundStatus) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- payments.update_refund
        update refunds
        set refund_status = $4, gateway_refund_id = $5, idempotency_key = $6, send_minor = $7, attempt_count = $8,
            failure_count = $9, last_error = $10, next_attempt_at = $11, event_count = $12, initiated_at = $13,
            succeeded_at = $14, failed_at = $15, alerted_at = $16, updated_at = $17, lease_token = $18,
            lease_expires_at = case when $18::uuid is null then null else lease_expires_at end
        where environment_id = $1 and id = $2 and refund_status = $3",
        Uuid::from(refund.scope.environment),
        Uuid::from(refund.id),
        from.as_str(),
        refund.status.as_str(),
        refund.gateway_refund_id,
        Uuid::from(refund.idempotency_key),
        refund.send_minor,
        refund.attempt_count,
        refund.failure_count,
        refund.last_error,
        refund.next_attempt_at,
        refund.event_count,
        refund.initiated_at,
        refund.succeeded_at,
        refund.failed_at,
        refund.alerted_at,
        refund.updated_at,
        refund.lease_token,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn claim_due_refunds_any_scope(
    pool: &Pool,
    now: DateTime<Utc>,
    lease_expires_at: DateTime<Utc>,
    token: Uuid,
    limit: i64,
) -> Result<Vec<Lease>, db::Error> {
    let claim = sqlx::query!(
        "-- payments.claim_due_refunds_any_scope
        with due as (
            select environment_id, id
            from refunds
            where refund_status in ('PENDING', 'PROCESSING') and next_attempt_at <= $1
                and (lease_expires_at is null or lease_expires_at <= $1)
            order by next_attempt_at
            limit $4
            for update skip locked
        )
        update refunds r
        set lease_token = $3, lease_expires_at = $2
        from due d, environments e
        where r.environment_id = d.environment_id and r.id = d.id and e.id = d.environment_id
        returning e.tenant_id, r.environment_id, r.id",
        now,
        lease_expires_at,
        token,
        limit,
    );
    let rows = db::fetch_claim(pool, claim).await?;
    let leases = rows.into_iter().map(|row| Lease {
        scope: Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() },
        id: row.id.into(),
        token,
    });
    Ok(leases.collect())
}

/// What a list of refunds is narrowed to; absent parts match everything.
#[derive(Debug, Default)]
pub struct RefundFilter {
    pub statuses: Option<Vec<String>>,
    pub session: Option<Uuid>,
    pub payments: Option<Vec<Uuid>>,
    pub invoices: Option<Vec<Uuid>>,
    pub created_from: Option<DateTime<Utc>>,
    pub created_to: Option<DateTime<Utc>>,
}

/// One page, newest first, and how many match. What payments and invoices were made for is found by the subscription,
/// which sessions have an index for.
pub async fn list_refunds(
    pool: &Pool,
    scope: Scope,
    filter: &RefundFilter,
    page: PageRequest,
) -> Result<(Vec<Refund>, i64), db::Error> {
    let mut tx = db::begin_list(pool).await?;
    let rows = select_refund!(
        "list_refunds",
        "where r.environment_id = $1
            and ($2::text[] is null or r.refund_status = any ($2))
            and ($3::uuid is null or r.session_id = $3)
            and ($4::uuid[] is null or s.payment_id = any ($4) and s.subscription_id = any (array(
                select i.subscription_id
                from payments p
                join invoices i on i.environment_id = p.environment_id and i.id = p.invoice_id
                where p.environment_id = $1 and p.id = any ($4)
            )))
            and ($5::uuid[] is null or s.invoice_id = any ($5) and s.subscription_id = any (array(
                select i.subscription_id from invoices i where i.environment_id = $1 and i.id = any ($5)
            )))
            and ($6::timestamptz is null or r.created_at >= $6)
            and ($7::timestamptz is null or r.created_at <= $7)
        order by r.created_at desc, r.id desc
        limit $8 offset $9",
        Uuid::from(scope.environment),
        filter.statuses.as_deref(),
        filter.session,
        filter.payments.as_deref(),
        filter.invoices.as_deref(),
        filter.created_from,
        filter.created_to,
        page.limit,
        page.offset,
    )
    .fetch_all(&mut *tx)
    .await?;
    let total = sqlx::query_scalar!(
        r#"-- payments.count_refunds
        select count(*) as "count!"
        from refunds r
        join checkout_sessions s on s.environment_id = r.environment_id and s.id = r.session_id
        where r.environment_id = $1
            and ($2::text[] is null or r.refund_status = any ($2))
            and ($3::uuid is null or r.session_id = $3)
            and ($4::uuid[] is null or s.payment_id = any ($4) and s.subscription_id = any (array(
                select i.subscription_id
                from payments p
                join invoices i on i.environment_id = p.environment_id and i.id = p.invoice_id
                where p.environment_id = $1 and p.id = any ($4)
            )))
            and ($5::uuid[] is null or s.invoice_id = any ($5) and s.subscription_id = any (array(
                select i.subscription_id from invoices i where i.environment_id = $1 and i.id = any ($5)
            )))
            and ($6::timestamptz is null or r.created_at >= $6)
            and ($7::timestamptz is null or r.created_at <= $7)"#,
        Uuid::from(scope.environment),
        filter.statuses.as_deref(),
        filter.session,
        filter.payments.as_deref(),
        filter.invoices.as_deref(),
        filter.created_from,
        filter.created_to,
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok((rows.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?, total))
}

/// Ends leases whose steps were dropped.
pub async fn release_refunds_any_scope(pool: &Pool, tokens: &[Uuid]) -> Result<(), db::Error> {
    sqlx::query!(
        "-- payments.release_refunds_any_scope
        update refunds set lease_token = null, lease_expires_at = null
        where refund_status in ('PENDING', 'PROCESSING') and lease_token = any($1)",
        tokens,
    )
    .execute(pool)
    .await?;
    Ok(())
}
