//! SQL of what the operator does with keys.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{EnvironmentId, KeyId, Mode, Scope, TenantId, key::Key};
use crate::db::{self, Pool, Tx};

/// A key with the environment that it opens.
pub struct FoundKey {
    pub key: Key,
    pub environment: EnvironmentId,
    pub environment_name: String,
    pub mode: Mode,
}

/// Every key of the tenant, revoked ones too.
pub async fn list_keys_any_scope(pool: &Pool, tenant: TenantId) -> Result<Vec<FoundKey>, db::Error> {
    let rows = sqlx::query!(
        r#"-- tenancy.list_keys_any_scope
        select k.environment_id, k.id, k.name, k.lookup_id, k.last_four, k.created_at, k.expires_at, k.revoked_at,
            coalesce(e.name, initcap(e.mode)) as "environment_name!", e.mode
        from environments e
        join api_keys k on k.environment_id = e.id
        where e.tenant_id = $1
        order by e.created_at, e.id, k.created_at, k.id"#,
        Uuid::from(tenant),
    )
    .fetch_all(pool)
    .await?;
    let keys = rows.into_iter().map(|row| FoundKey {
        key: Key {
            id: row.id.into(),
            name: row.name,
            lookup_id: row.lookup_id,
            last_four: row.last_four,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        },
        environment: row.environment_id.into(),
        environment_name: row.environment_name,
        mode: Mode::from_column(&row.mode),
    });
    Ok(keys.collect())
}

/// Revokes the key, whosever it is. Whether it was not revoked before; none when there is no such key.
pub async fn revoke_key_any_scope(
    tx: &mut Tx,
    id: KeyId,
    now: DateTime<Utc>,
) -> Result<Option<bool>, db::Error> {
    sqlx::query_scalar!(
        r#"-- tenancy.revoke_key_any_scope
        with found as (
            select environment_id, id, revoked_at
            from api_keys
            where id = $1
            for update
        ), revoked as (
            update api_keys k
            set revoked_at = $2
            from found f
            where k.environment_id = f.environment_id and k.id = f.id and f.revoked_at is null
        )
        select revoked_at is null as "was_valid!"
        from found"#,
        Uuid::from(id),
        now,
    )
    .fetch_optional(tx)
    .await
}

/// Whose environment it is, and of which mode.
pub async fn find_environment_any_scope(
    pool: &Pool,
    id: EnvironmentId,
) -> Result<Option<(Scope, Mode)>, db::Error> {
    let row = sqlx::query!(
        "-- tenancy.find_environment_any_scope
        select tenant_id, mode
        from environments
        where id = $1",
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| (Scope { tenant: row.tenant_id.into(), environment: id }, Mode::from_column(&row.mode))))
}
