//! SQL of payments, provider payments and refunds.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{
    PaymentId,
    facts::ProviderPayment,
    refund::{Lease, NewRefund, Outcome},
};
use crate::{
    db::{self, Pool, Tx},
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

pub async fn insert_refund(
    tx: &mut Tx,
    scope: Scope,
    refund: &NewRefund,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- payments.insert_refund
        insert into refunds (environment_id, id, provider_payment_id, session_id, connection_id, amount_minor, currency,
            refund_status, reason, attempt_count, next_attempt_at, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, 'PENDING', $8, 0, $9, $9, $9)",
        Uuid::from(scope.environment),
        Uuid::from(refund.id),
        refund.payment.provider_payment_id,
        refund.session,
        Uuid::from(refund.connection),
        refund.payment.amount.minor,
        refund.payment.amount.currency.lower(),
        refund.reason,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A refund that succeeded stays so, whatever arrives later.
pub async fn note_refund(
    tx: &mut Tx,
    scope: Scope,
    provider_payment_id: &str,
    gateway_refund_id: &str,
    status: &str,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- payments.note_refund
        update refunds
        set refund_status = $3, gateway_refund_id = $4, updated_at = $5,
            succeeded_at = case when $3 = 'SUCCEEDED' then $5 else succeeded_at end
        where environment_id = $1 and provider_payment_id = $2 and refund_status <> 'SUCCEEDED'",
        Uuid::from(scope.environment),
        provider_payment_id,
        status,
        gateway_refund_id,
        now,
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
    let rows = sqlx::query!(
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
        returning e.tenant_id, r.environment_id, r.id, r.connection_id, r.provider_payment_id, r.gateway_refund_id,
            r.amount_minor, r.attempt_count",
        now,
        lease_expires_at,
        token,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let leases = rows.into_iter().map(|row| Lease {
        scope: Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() },
        id: row.id.into(),
        connection: row.connection_id.into(),
        provider_payment_id: row.provider_payment_id,
        gateway_refund_id: row.gateway_refund_id,
        amount_minor: row.amount_minor,
        attempt_count: row.attempt_count,
        token,
    });
    Ok(leases.collect())
}

/// Writes a try's outcome. A worker that lost its lease, and a refund that a webhook settled, change nothing.
pub async fn finish_refund(
    pool: &Pool,
    lease: &Lease,
    outcome: &Outcome<'_>,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- payments.finish_refund
        update refunds
        set refund_status = $4, gateway_refund_id = coalesce($5, gateway_refund_id), last_error = $6,
            attempt_count = attempt_count + 1, next_attempt_at = $7, lease_token = null, lease_expires_at = null,
            succeeded_at = case when $4 = 'SUCCEEDED' then $8 else succeeded_at end, updated_at = $8
        where environment_id = $1 and id = $2 and lease_token = $3 and refund_status in ('PENDING', 'PROCESSING')",
        Uuid::from(lease.scope.environment),
        Uuid::from(lease.id),
        lease.token,
        outcome.status,
        outcome.gateway_refund_id,
        outcome.error,
        outcome.next_attempt_at,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}
