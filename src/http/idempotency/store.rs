//! SQL of idempotency keys.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use crate::{
    db::{self, Pool, Tx},
    tenancy::Scope,
};

/// A request that asks to run under its key.
pub struct Claim<'a> {
    pub scope: Scope,
    pub key: &'a str,
    pub fingerprint: &'a [u8],
    /// The id that is reserved when the key is new.
    pub reserved_id: Uuid,
    pub token: Uuid,
    pub lease_expires_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
    /// Keys from then or before count as absent.
    pub forgotten: DateTime<Utc>,
}

/// A key as it is found.
pub struct Found {
    /// Whether the caller holds it now, and has to run the request.
    pub claimed: bool,
    pub reserved_id: Uuid,
    /// When the first request under it came.
    pub created_at: DateTime<Utc>,
    /// Of the request that it belongs to; none when it was claimed.
    pub fingerprint: Option<Vec<u8>>,
    pub answer_status: Option<i16>,
    pub answer_type: Option<String>,
    pub answer_sealed: Option<Vec<u8>>,
}

/// Takes the key if it is new, forgotten, or left without an answer by the same request; else shows who has it. None
/// when somebody wrote it at this very moment: ask again.
pub async fn claim(pool: &Pool, claim: &Claim<'_>) -> Result<Option<Found>, db::Error> {
    sqlx::query_as!(
        Found,
        r#"-- http.claim_idempotency_key
        with claimed as (
            insert into idempotency_keys as k (environment_id, key, fingerprint, reserved_id, lease_token,
                lease_expires_at, created_at)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (environment_id, key) do update
            set fingerprint = excluded.fingerprint,
                reserved_id = case when k.created_at <= $8 then excluded.reserved_id else k.reserved_id end,
                created_at = case when k.created_at <= $8 then excluded.created_at else k.created_at end,
                lease_token = excluded.lease_token,
                lease_expires_at = excluded.lease_expires_at,
                answer_status = null, answer_type = null, answer_sealed = null
            where (k.lease_expires_at is null or k.lease_expires_at <= $7)
                and (k.created_at <= $8 or (k.answer_status is null and k.fingerprint = excluded.fingerprint))
            returning reserved_id, created_at
        )
        select true as "claimed!", reserved_id as "reserved_id!", created_at as "created_at!",
            null::bytea as fingerprint, null::smallint as answer_status, null::text as answer_type,
            null::bytea as answer_sealed
        from claimed
        union all
        select false, reserved_id, created_at, fingerprint, answer_status, answer_type, answer_sealed
        from idempotency_keys
        where environment_id = $1 and key = $2 and not exists (select from claimed)"#,
        Uuid::from(claim.scope.environment),
        claim.key,
        claim.fingerprint,
        claim.reserved_id,
        claim.token,
        claim.lease_expires_at,
        claim.now,
        claim.forgotten,
    )
    .fetch_optional(pool)
    .await
}

/// A key that this request holds.
#[derive(Clone, Debug)]
pub struct Held {
    pub scope: Scope,
    pub key: String,
    pub token: Uuid,
}

/// An answer that stays.
pub struct Answer {
    pub status: i16,
    pub content_type: Option<String>,
    pub sealed: Vec<u8>,
}

/// Keeps the answer and ends the lease. False when the lease was lost: nothing is written.
pub async fn store_answer(pool: &Pool, held: &Held, answer: &Answer) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- http.store_idempotent_answer
        update idempotency_keys
        set answer_status = $4, answer_type = $5, answer_sealed = $6, lease_token = null, lease_expires_at = null
        where environment_id = $1 and key = $2 and lease_token = $3",
        Uuid::from(held.scope.environment),
        held.key,
        held.token,
        answer.status,
        answer.content_type,
        answer.sealed,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the request still holds its key; if so, nobody takes it over before the transaction ends.
pub async fn lock_lease(tx: &mut Tx, held: &Held) -> Result<bool, db::Error> {
    let found = sqlx::query!(
        "-- http.lock_idempotency_lease
        select key
        from idempotency_keys
        where environment_id = $1 and key = $2 and lease_token = $3
        for share",
        Uuid::from(held.scope.environment),
        held.key,
        held.token,
    )
    .fetch_optional(tx)
    .await?;
    Ok(found.is_some())
}

/// Ends the lease and keeps the reserved id: the same request may run again at once.
pub async fn release(pool: &Pool, held: &Held) -> Result<(), db::Error> {
    sqlx::query!(
        "-- http.release_idempotency_key
        update idempotency_keys
        set lease_token = null, lease_expires_at = null
        where environment_id = $1 and key = $2 and lease_token = $3",
        Uuid::from(held.scope.environment),
        held.key,
        held.token,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives the key up: the request wrote nothing, and another one may come under it.
pub async fn free(pool: &Pool, held: &Held) -> Result<(), db::Error> {
    sqlx::query!(
        "-- http.free_idempotency_key
        delete from idempotency_keys
        where environment_id = $1 and key = $2 and lease_token = $3",
        Uuid::from(held.scope.environment),
        held.key,
        held.token,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Removes the answer of the request that made what has this id, and leaves the key: the same request makes nothing
/// new. Such ids are of their request's time, `from` to `to`; there is no index of them.
pub async fn delete_answer_any_scope(
    tx: &mut Tx,
    reserved_id: Uuid,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- http.delete_idempotent_answer_any_scope
        update idempotency_keys
        set answer_status = null, answer_type = null, answer_sealed = null
        where reserved_id = $1 and answer_status is not null and created_at between $2 and $3",
        reserved_id,
        from,
        to,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Keys from `forgotten` or before under which nothing runs, oldest first.
pub async fn list_removable_any_scope(
    pool: &Pool,
    forgotten: DateTime<Utc>,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(Uuid, String)>, db::Error> {
    let rows = sqlx::query!(
        "-- http.list_removable_idempotency_keys_any_scope
        select environment_id, key
        from idempotency_keys
        where created_at <= $1 and (lease_expires_at is null or lease_expires_at <= $2)
        order by created_at
        limit $3",
        forgotten,
        now,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.environment_id, row.key)).collect())
}

/// Removes those of `keys` that were not taken up anew meanwhile; how many.
pub async fn delete_removable_any_scope(
    pool: &Pool,
    keys: &[(Uuid, String)],
    forgotten: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<u64, db::Error> {
    let (environments, keys): (Vec<Uuid>, Vec<String>) = keys.iter().cloned().unzip();
    let done = sqlx::query!(
        "-- http.delete_removable_idempotency_keys_any_scope
        delete from idempotency_keys i
        using unnest($1::uuid[], $2::text[]) as k (environment_id, key)
        where i.environment_id = k.environment_id and i.key = k.key
            and i.created_at <= $3 and (i.lease_expires_at is null or i.lease_expires_at <= $4)",
        &environments,
        &keys,
        forgotten,
        now,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
