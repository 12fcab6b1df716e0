//! SQL of environments. The scope's environment is the one that is read or changed.

use chrono::{DateTime, Utc};
use sqlx::types::Uuid;

use super::{Environment, EnvironmentId, Mode, Scope, TenantId};
use crate::{
    db::{self, Pool, Tx},
    kit::page::PageRequest,
};

/// Stores the environment. None when there is another one under its id; the same one is a request that is tried again.
pub async fn put_environment(
    tx: &mut Tx,
    scope: Scope,
    name: &str,
    mode: Mode,
    now: DateTime<Utc>,
) -> Result<Option<Environment>, db::Error> {
    let row = sqlx::query_as!(
        EnvironmentRow,
        r#"-- tenancy.put_environment
        insert into environments as e (id, tenant_id, name, mode, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $5)
        on conflict (id) do update
        set name = e.name
        where e.tenant_id = excluded.tenant_id and e.name = excluded.name and e.mode = excluded.mode
        returning id, coalesce(name, initcap(mode)) as "name!", mode, created_at,
            coalesce(updated_at, created_at) as "updated_at!""#,
        Uuid::from(scope.environment),
        Uuid::from(scope.tenant),
        name,
        mode.as_str(),
        now,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(Into::into))
}

/// The name and the change of an environment that a version before them made are null.
struct EnvironmentRow {
    id: Uuid,
    name: String,
    mode: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<EnvironmentRow> for Environment {
    fn from(row: EnvironmentRow) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            mode: Mode::from_column(&row.mode),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Holds off other creations of environments of the tenant.
pub async fn lock_tenant(tx: &mut Tx, tenant: TenantId) -> Result<(), db::Error> {
    sqlx::query!(
        "-- tenancy.lock_tenant
        select id
        from tenants
        where id = $1
        for no key update",
        Uuid::from(tenant),
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

/// The tenant's environments of that mode, `except` one.
pub async fn count_environments(
    tx: &mut Tx,
    tenant: TenantId,
    mode: Mode,
    except: EnvironmentId,
) -> Result<usize, db::Error> {
    let count = sqlx::query_scalar!(
        r#"-- tenancy.count_environments
        select count(*) as "count!"
        from environments
        where tenant_id = $1 and mode = $2 and id <> $3"#,
        Uuid::from(tenant),
        mode.as_str(),
        Uuid::from(except),
    )
    .fetch_one(tx)
    .await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Holds off other creations of what an environment has a limited number of. Does not hold off inserts that refer to it.
pub async fn lock_environment_in(tx: &mut Tx, scope: Scope) -> Result<(), db::Error> {
    sqlx::query!(
        "-- tenancy.lock_environment
        select id
        from environments
        where id = $1 and tenant_id = $2
        for no key update",
        Uuid::from(scope.environment),
        Uuid::from(scope.tenant),
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

pub async fn find_environment(pool: &Pool, scope: Scope) -> Result<Option<Environment>, db::Error> {
    let row = sqlx::query_as!(
        EnvironmentRow,
        r#"-- tenancy.find_environment
        select id, coalesce(name, initcap(mode)) as "name!", mode, created_at,
            coalesce(updated_at, created_at) as "updated_at!"
        from environments
        where id = $1 and tenant_id = $2"#,
        Uuid::from(scope.environment),
        Uuid::from(scope.tenant),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Into::into))
}

/// One page of the tenant's environments, the newest first, and how many there are.
pub async fn list_environments(
    pool: &Pool,
    tenant: TenantId,
    page: PageRequest,
) -> Result<(Vec<Environment>, i64), db::Error> {
    let rows = sqlx::query_as!(
        EnvironmentRow,
        r#"-- tenancy.list_environments
        select id, coalesce(name, initcap(mode)) as "name!", mode, created_at,
            coalesce(updated_at, created_at) as "updated_at!"
        from environments
        where tenant_id = $1
        order by created_at desc, id desc
        limit $2 offset $3"#,
        Uuid::from(tenant),
        page.limit,
        page.offset,
    )
    .fetch_all(pool)
    .await?;
    let total = sqlx::query_scalar!(
        r#"-- tenancy.list_environments, total
        select count(*) as "count!"
        from environments
        where tenant_id = $1"#,
        Uuid::from(tenant),
    )
    .fetch_one(pool)
    .await?;
    Ok((rows.into_iter().map(Into::into).collect(), total))
}

pub async fn rename_environment(
    pool: &Pool,
    scope: Scope,
    name: &str,
    now: DateTime<Utc>,
) -> Result<Option<Environment>, db::Error> {
    let row = sqlx::query_as!(
        EnvironmentRow,
        r#"-- tenancy.rename_environment
        update environments
        set name = $3, updated_at = $4
        where id = $1 and tenant_id = $2
        returning id, coalesce(name, initcap(mode)) as "name!", mode, created_at,
            coalesce(updated_at, created_at) as "updated_at!""#,
        Uuid::from(scope.environment),
        Uuid::from(scope.tenant),
        name,
        now,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Into::into))
}

/// The environment's own session lifetime in seconds; none where the service's applies.
pub async fn find_session_ttl(pool: &Pool, scope: Scope) -> Result<Option<i32>, db::Error> {
    sqlx::query_scalar!(
        "-- tenancy.find_session_ttl
        select session_ttl_seconds
        from environments
        where id = $1 and tenant_id = $2",
        Uuid::from(scope.environment),
        Uuid::from(scope.tenant),
    )
    .fetch_one(pool)
    .await
}

pub async fn set_session_ttl(
    pool: &Pool,
    scope: Scope,
    session_ttl_seconds: Option<i32>,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- tenancy.set_session_ttl
        update environments
        set session_ttl_seconds = $3, updated_at = $4
        where id = $1 and tenant_id = $2",
        Uuid::from(scope.environment),
        Uuid::from(scope.tenant),
        session_ttl_seconds,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}
