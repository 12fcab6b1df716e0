//! SQL of API keys.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{
    KeyId, Mode, Scope,
    key::{Authenticated, Key, NewKey},
};
use crate::{
    db::{self, Pool, RowStatus, Tx},
    kit::page::PageRequest,
};

/// Stores the key. A row with its id that is the same request's first try gets the new text in place of the one that
/// nobody saw: the same name and end, and not revoked. The key as it is then; none when the row is something else.
pub async fn put_key(
    tx: &mut Tx,
    scope: Scope,
    new: &NewKey,
    now: DateTime<Utc>,
) -> Result<Option<Key>, db::Error> {
    let row = sqlx::query_as!(
        KeyRow,
        "-- tenancy.put_key
        insert into api_keys as k (environment_id, id, name, lookup_id, last_four, hash, expires_at, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        on conflict (environment_id, id) do update
        set lookup_id = excluded.lookup_id, last_four = excluded.last_four, hash = excluded.hash
        where k.revoked_at is null
            and k.name = excluded.name
            and k.expires_at is not distinct from excluded.expires_at
        returning id, name, lookup_id, last_four, created_at, expires_at, revoked_at",
        Uuid::from(scope.environment),
        Uuid::from(new.id),
        new.name,
        new.secret.lookup_id,
        new.secret.last_four,
        new.secret.hash,
        new.expires_at,
        now,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

struct KeyRow {
    id: Uuid,
    name: String,
    lookup_id: String,
    last_four: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl From<KeyRow> for Key {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            lookup_id: row.lookup_id,
            last_four: row.last_four,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// Keys of the environment that are not revoked, `except` one.
pub async fn count_keys(tx: &mut Tx, scope: Scope, except: KeyId) -> Result<usize, db::Error> {
    let count = sqlx::query_scalar!(
        r#"-- tenancy.count_keys
        select count(*) as "count!"
        from api_keys
        where environment_id = $1 and id <> $2 and revoked_at is null"#,
        Uuid::from(scope.environment),
        Uuid::from(except),
    )
    .fetch_one(tx)
    .await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// One page of the environment's keys, the newest first, and how many there are. Archived means revoked.
pub async fn list_keys(
    pool: &Pool,
    scope: Scope,
    status: RowStatus,
    page: PageRequest,
) -> Result<(Vec<Key>, i64), db::Error> {
    let is_revoked = status == RowStatus::Archived;
    let rows = sqlx::query_as!(
        KeyRow,
        "-- tenancy.list_keys
        select id, name, lookup_id, last_four, created_at, expires_at, revoked_at
        from api_keys
        where environment_id = $1 and (revoked_at is not null) = $2
        order by created_at desc, id desc
        limit $3 offset $4",
        Uuid::from(scope.environment),
        is_revoked,
        page.limit,
        page.offset,
    )
    .fetch_all(pool)
    .await?;
    let total = sqlx::query_scalar!(
        r#"-- tenancy.list_keys, total
        select count(*) as "count!"
        from api_keys
        where environment_id = $1 and (revoked_at is not null) = $2"#,
        Uuid::from(scope.environment),
        is_revoked,
    )
    .fetch_one(pool)
    .await?;
    Ok((rows.into_iter().map(Into::into).collect(), total))
}

/// What came of revoking a key.
pub struct Revocation {
    /// Whether the key was valid until now.
    pub revoked: bool,
    /// Whether the key that asked for it still is.
    pub actor_is_valid: bool,
}

/// Revokes a key on behalf of another one. Both rows are locked, in the order of their ids: of two keys that revoke
/// each other at once, one stays.
pub async fn revoke_key(
    tx: &mut Tx,
    scope: Scope,
    actor: KeyId,
    id: KeyId,
    now: DateTime<Utc>,
) -> Result<Revocation, db::Error> {
    sqlx::query_as!(
        Revocation,
        r#"-- tenancy.revoke_key
        with valid as (
            select id
            from api_keys
            where environment_id = $1 and id in ($2, $3) and revoked_at is null
            order by id
            for update
        ), revoked as (
            update api_keys k
            set revoked_at = $4
            from valid v
            where k.environment_id = $1 and k.id = $3 and v.id = k.id and exists (select 1 from valid where id = $2)
            returning k.id
        )
        select exists (select 1 from revoked) as "revoked!",
            exists (select 1 from valid where id = $2) as "actor_is_valid!""#,
        Uuid::from(scope.environment),
        Uuid::from(actor),
        Uuid::from(id),
        now,
    )
    .fetch_one(tx)
    .await
}

/// Whether the key is valid without an end, and no other one of the environment is.
pub async fn is_last_lasting_key(tx: &mut Tx, scope: Scope, id: KeyId) -> Result<bool, db::Error> {
    sqlx::query_scalar!(
        r#"-- tenancy.is_last_lasting_key
        select count(*) = 1 and bool_and(id = $2) as "is_last!"
        from api_keys
        where environment_id = $1 and revoked_at is null and expires_at is null"#,
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_one(tx)
    .await
}

/// A key's row with the environment it opens.
#[derive(Debug)]
pub struct FoundKey {
    /// What the whole key must match.
    pub hash: Vec<u8>,
    /// From then on it opens nothing.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    id: Uuid,
    environment_id: Uuid,
    tenant_id: Uuid,
    mode: String,
    session_ttl_seconds: Option<i32>,
}

impl FoundKey {
    /// What it opens.
    pub fn authenticated(&self) -> Authenticated {
        Authenticated {
            scope: Scope { tenant: self.tenant_id.into(), environment: self.environment_id.into() },
            mode: Mode::from_column(&self.mode),
            key: KeyId::from(self.id),
            expires_at: self.expires_at,
            session_ttl_seconds: self.session_ttl_seconds,
        }
    }
}

/// By the key's public part, in whichever environment it is: this is how a request gets its scope.
pub async fn find_key_any_scope(pool: &Pool, lookup_id: &str) -> Result<Option<FoundKey>, db::Error> {
    sqlx::query_as!(
        FoundKey,
        "-- tenancy.find_key_any_scope
        select k.hash, k.expires_at, k.revoked_at, k.id, k.environment_id, e.tenant_id, e.mode, e.session_ttl_seconds
        from api_keys k
        join environments e on e.id = k.environment_id
        where k.lookup_id = $1",
        lookup_id,
    )
    .fetch_optional(pool)
    .await
}

/// A key's name, and the tenant that it acts for.
pub struct Owner {
    pub key_name: String,
    pub tenant_name: String,
    pub tenant_created_at: DateTime<Utc>,
}

/// None when the key is of another environment, or was never there.
pub async fn find_owner(pool: &Pool, scope: Scope, id: KeyId) -> Result<Option<Owner>, db::Error> {
    sqlx::query_as!(
        Owner,
        "-- tenancy.find_owner
        select k.name as key_name, t.name as tenant_name, t.created_at as tenant_created_at
        from api_keys k
        join environments e on e.id = k.environment_id
        join tenants t on t.id = e.tenant_id
        where k.environment_id = $1 and k.id = $2 and e.tenant_id = $3",
        Uuid::from(scope.environment),
        Uuid::from(id),
        Uuid::from(scope.tenant),
    )
    .fetch_optional(pool)
    .await
}
