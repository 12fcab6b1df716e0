//! Postgres: the pool, migrations and transactions. No domain tables in here.

pub mod clock;
pub mod embedded;
mod migrate;
pub mod search;
mod status;
mod transact;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection as _, Executor,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use migrate::{MIGRATOR, migrate};
pub use status::RowStatus;
pub use transact::{TransactError, begin_read, fetch_claim, is_conflict, transact, transact_unflushed};

/// The connection pool.
pub type Pool = sqlx::PgPool;
/// A connection outside of any transaction: each statement commits by itself.
pub type Connection = sqlx::PgConnection;
/// A connection inside an open transaction; what functions ending in `_in` take.
pub type Tx = sqlx::PgConnection;
/// What the driver reports.
pub type Error = sqlx::Error;

/// Log directive that drops Postgres's notices: they are for people at a prompt.
pub const QUIET_NOTICES: &str = "sqlx::postgres::notice=off";

/// Idle longer than this, a connection is pinged before it is lent out.
const PING_AFTER_IDLE: Duration = Duration::from_secs(5);

/// Connections are made anew this often, so that after a failover none stays with the old server for long.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Whether a text is a Postgres URL.
pub fn is_url(url: &SecretString) -> bool {
    let text = url.expose_secret();
    let scheme = text.starts_with("postgres://") || text.starts_with("postgresql://");
    scheme && text.parse::<PgConnectOptions>().is_ok()
}

/// Opens a pool of at most `size` connections; the first is made on first use.
///
/// Every session has a statement timeout (5 s), a lock timeout (2 s) and a limit on idle transactions (10 s).
pub fn connect(url: &SecretString, size: u32) -> Result<Pool, Error> {
    let options = url.expose_secret().parse::<PgConnectOptions>()?.application_name("checkoutd").options([
        ("statement_timeout", "5s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
        // Our statements are short: compiling one takes longer than running it.
        ("jit", "off"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(2))
        .max_lifetime(LIFETIME)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > PING_AFTER_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options);
    Ok(pool)
}

/// A read-only transaction for a list with optional filters. Each statement in it is planned for the values that it
/// has: the plan that Postgres keeps for a statement that runs often fits every combination of filters, and so reads
/// the whole table for some.
pub async fn begin_list(pool: &Pool) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, Error> {
    begin_read(pool, "begin read only; set local plan_cache_mode = force_custom_plan").await
}

/// Creates `database` on the server of `url` unless it is there.
pub async fn create_database(url: &SecretString, database: &str) -> Result<(), Error> {
    let mut connection = sqlx::PgConnection::connect(url.expose_secret()).await?;
    let exists =
        sqlx::query_scalar::<_, bool>("select exists (select 1 from pg_database where datname = $1)")
            .bind(database)
            .fetch_one(&mut connection)
            .await?;
    if !exists {
        // An identifier cannot be bound; the caller's is a constant.
        let sql = format!("create database \"{}\"", database.replace('"', "\"\""));
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await?;
    }
    connection.close().await
}

/// Whether the database answers and has every migration of this binary.
pub async fn is_ready(pool: &Pool) -> Result<bool, Error> {
    let newest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    // Not a checked macro: the table belongs to the migrator and is not in the migrations.
    sqlx::query_scalar::<_, bool>(
        "-- db.is_ready
        select exists (select 1 from _sqlx_migrations where version = $1 and success)",
    )
    .bind(newest)
    .fetch_one(pool)
    .await
}

/// Reads a text column that a CHECK keeps to what `T` knows.
pub fn read_column<T>(text: &str) -> Result<T, Error>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse().map_err(|error: T::Err| Error::Decode(Box::new(error)))
}

/// The name of the constraint that refused a write, for `store.rs` files to name the error.
pub fn violated_constraint(error: &Error) -> Option<&str> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::constraint)
}

/// Whether the database could not be used right now, as opposed to having refused the statement:
/// connections lost or exhausted, time-outs, shutdown, deadlock, read-only after a failover.
pub fn is_unavailable(error: &Error) -> bool {
    match error {
        Error::Io(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::Tls(_)
        | Error::WorkerCrashed
        | Error::Protocol(_) => true,
        Error::Database(database) => database.code().is_some_and(|code| {
            matches!(&*code, "40001" | "40P01" | "55P03" | "57014" | "25006" | "25P03")
                || code.starts_with("08")
                || code.starts_with("53")
                || code.starts_with("57P")
        }),
        _ => false,
    }
}
