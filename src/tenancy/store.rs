//! SQL of tenants and connections.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Uuid;

use super::{
    Scope, TenantId,
    connection::{Connection, ConnectionId, SealedAccount},
};
use crate::{
    db::{
        self, Pool, Tx,
        search::{Criteria, Select},
    },
    kit::page::Page,
};

pub async fn insert_tenant(
    tx: &mut Tx,
    id: TenantId,
    name: &str,
    now: DateTime<Utc>,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- tenancy.insert_tenant
        insert into tenants (id, name, created_at) values ($1, $2, $3)",
        Uuid::from(id),
        name,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub async fn insert_connection(
    pool: &Pool,
    scope: Scope,
    connection: &Connection,
    sealed: &SealedAccount,
) -> Result<(), db::Error> {
    sqlx::query!(
        "-- tenancy.insert_connection
        insert into connections (environment_id, id, name, provider_type, key_id, secret_key_sealed,
            webhook_secret_sealed, metadata, status, created_at, updated_at)
        values ($1, $2, $3, 'razorpay', $4, $5, $6, $7, 'published', $8, $8)",
        Uuid::from(scope.environment),
        Uuid::from(connection.id),
        connection.name,
        connection.key_id,
        sealed.secret_key,
        sealed.webhook_secret,
        connection.metadata,
        connection.created_at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Writes the mutable part. `sealed` fields that are null stay as they are; a new webhook secret moves the
/// old one aside until `previous_expires_at`.
pub async fn update_connection(
    pool: &Pool,
    scope: Scope,
    connection: &Connection,
    secret_key: Option<Vec<u8>>,
    webhook_secret: Option<Vec<u8>>,
    previous_webhook_secret: Option<Vec<u8>>,
    previous_expires_at: Option<DateTime<Utc>>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- tenancy.update_connection
        update connections
        set name = $3,
            key_id = $4,
            metadata = $5,
            updated_at = $6,
            secret_key_sealed = coalesce($7, secret_key_sealed),
            webhook_secret_sealed = coalesce($8, webhook_secret_sealed),
            previous_webhook_secret_sealed = case when $8::bytea is null then previous_webhook_secret_sealed else $9 end,
            previous_webhook_secret_expires_at =
                case when $8::bytea is null then previous_webhook_secret_expires_at else $10 end
        where environment_id = $1 and id = $2 and status = 'published'",
        Uuid::from(scope.environment),
        Uuid::from(connection.id),
        connection.name,
        connection.key_id,
        connection.metadata,
        connection.updated_at,
        secret_key,
        webhook_secret,
        previous_webhook_secret,
        previous_expires_at,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn archive_connection(
    pool: &Pool,
    scope: Scope,
    id: ConnectionId,
    now: DateTime<Utc>,
) -> Result<bool, db::Error> {
    let done = sqlx::query!(
        "-- tenancy.archive_connection
        update connections set status = 'archived', updated_at = $3
        where environment_id = $1 and id = $2 and status = 'published'",
        Uuid::from(scope.environment),
        Uuid::from(id),
        now,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

#[derive(sqlx::FromRow)]
struct ConnectionRow {
    id: Uuid,
    name: String,
    key_id: String,
    metadata: Value,
    status: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<ConnectionRow> for Connection {
    fn from(row: ConnectionRow) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            key_id: row.key_id,
            metadata: row.metadata,
            status: row.status,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

pub async fn find_connection(
    pool: &Pool,
    scope: Scope,
    id: ConnectionId,
) -> Result<Option<Connection>, db::Error> {
    let row = sqlx::query_as!(
        ConnectionRow,
        "-- tenancy.find_connection
        select id, name, key_id, metadata, status, created_at, updated_at
        from connections
        where environment_id = $1 and id = $2 and status = 'published'",
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Into::into))
}

pub async fn search_connections(
    pool: &Pool,
    scope: Scope,
    criteria: Criteria,
) -> Result<Page<Connection>, db::Error> {
    let columns = "id, name, key_id, metadata, status, created_at, updated_at";
    let page = Select::new("tenancy.search_connections", columns, "connections", scope.environment)
        .fetch::<ConnectionRow>(pool, criteria)
        .await?;
    Ok(page.map(Into::into))
}

pub async fn list_connections(pool: &Pool, scope: Scope) -> Result<Vec<Connection>, db::Error> {
    let rows = sqlx::query_as!(
        ConnectionRow,
        "-- tenancy.list_connections
        select id, name, key_id, metadata, status, created_at, updated_at
        from connections
        where environment_id = $1 and status = 'published'
        order by created_at desc, id desc",
        Uuid::from(scope.environment),
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// The sealed credentials of one connection; archived ones too, because their links may still be paid.
pub async fn find_account(
    pool: &Pool,
    scope: Scope,
    id: ConnectionId,
) -> Result<Option<SealedAccount>, db::Error> {
    sqlx::query_as!(
        SealedAccount,
        r#"-- tenancy.find_account
        select id as "id: ConnectionId", key_id, secret_key_sealed as secret_key, webhook_secret_sealed as webhook_secret,
            previous_webhook_secret_sealed as previous_webhook_secret,
            previous_webhook_secret_expires_at as previous_expires_at
        from connections
        where environment_id = $1 and id = $2"#,
        Uuid::from(scope.environment),
        Uuid::from(id),
    )
    .fetch_optional(pool)
    .await
}

/// Every Razorpay account of the environment, the published one first: an event may belong to a link that
/// was made before the account was replaced. None when there is no such environment.
pub async fn list_accounts(pool: &Pool, scope: Scope) -> Result<Option<Vec<SealedAccount>>, db::Error> {
    let rows = sqlx::query!(
        r#"-- tenancy.list_accounts
        select c.id as "id?", c.key_id as "key_id?", c.secret_key_sealed as "secret_key_sealed?",
            c.webhook_secret_sealed, c.previous_webhook_secret_sealed, c.previous_webhook_secret_expires_at
        from environments e
        left join connections c on c.environment_id = e.id
        where e.id = $1 and e.tenant_id = $2
        order by c.status = 'published' desc, c.created_at desc, c.id desc
        limit 100"#,
        Uuid::from(scope.environment),
        Uuid::from(scope.tenant),
    )
    .fetch_all(pool)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let accounts = rows.into_iter().filter_map(|row| {
        Some(SealedAccount {
            id: row.id?.into(),
            key_id: row.key_id?,
            secret_key: row.secret_key_sealed?,
            webhook_secret: row.webhook_secret_sealed,
            previous_webhook_secret: row.previous_webhook_secret_sealed,
            previous_expires_at: row.previous_webhook_secret_expires_at,
        })
    });
    Ok(Some(accounts.collect()))
}

/// Every account there is.
pub async fn list_all_accounts_any_scope(pool: &Pool) -> Result<Vec<(Scope, SealedAccount)>, db::Error> {
    let rows = sqlx::query!(
        "-- tenancy.list_all_accounts_any_scope
        select e.tenant_id, c.environment_id, c.id, c.key_id, c.secret_key_sealed, c.webhook_secret_sealed,
            c.previous_webhook_secret_sealed, c.previous_webhook_secret_expires_at
        from connections c join environments e on e.id = c.environment_id
        order by c.environment_id, c.id",
    )
    .fetch_all(pool)
    .await?;
    let accounts = rows.into_iter().map(|row| {
        let scope = Scope { tenant: row.tenant_id.into(), environment: row.environment_id.into() };
        let sealed = SealedAccount {
            id: row.id.into(),
            key_id: row.key_id,
            secret_key: row.secret_key_sealed,
            webhook_secret: row.webhook_secret_sealed,
            previous_webhook_secret: row.previous_webhook_secret_sealed,
            previous_expires_at: row.previous_webhook_secret_expires_at,
        };
        (scope, sealed)
    });
    Ok(accounts.collect())
}

/// In any environment, of a database that need not be migrated.
pub async fn has_live_account_any_scope(pool: &Pool) -> Result<bool, db::Error> {
    let has_tables = sqlx::query_scalar!(
        r#"-- tenancy.has_live_account_any_scope, tables
        select to_regclass('connections') is not null as "exists!""#,
    )
    .fetch_one(pool)
    .await?;
    if !has_tables {
        return Ok(false);
    }
    sqlx::query_scalar!(
        r#"-- tenancy.has_live_account_any_scope
        select exists (select 1 from connections where key_id like 'rzp\_live\_%') as "exists!""#,
    )
    .fetch_one(pool)
    .await
}
