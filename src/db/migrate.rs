//! Bringing the schema up to date beside a service that serves.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection,
    migrate::{MigrateError, Migration, Migrator},
};

/// All migrations, compiled in.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Who holds this advisory lock migrates.
const LOCK: i64 = 0x6368_6563_6b6f_7574;
/// Between two attempts to get it.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// A change waits so long for a table that a request holds: what comes after it waits behind it.
const TABLE_WAIT: &str = "set lock_timeout = '2s'";
/// What is built without a transaction holds up nobody while it waits.
const NO_LIMIT: &str = "set lock_timeout = 0";
/// How often a stage is tried, and the pause that lets waiting requests go first.
const ATTEMPTS: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// Brings the schema up to date, on a connection without the time limits of requests. Takes an advisory lock,
/// so that replicas may all try: the others wait and find nothing to do. A change that does not get its table within two
/// seconds lets go, and is tried again for some minutes.
pub async fn migrate(url: &SecretString) -> Result<(), MigrateError> {
    let mut connection = PgConnection::connect(url.expose_secret()).await?;
    lock(&mut connection).await?;
    let migrations: Vec<_> = MIGRATOR.iter().cloned().collect();
    let mut migrator = Migrator::with_migrations(migrations.clone());
    migrator.set_locking(false);
    for stage in migrations.chunk_by(|one, next| one.no_tx == next.no_tx) {
        let mut attempt = 1;
        while let Err(error) = run(&mut connection, &migrator, stage).await {
            if attempt == ATTEMPTS || !is_contended(&error) {
                return Err(error);
            }
            tracing::warn!(attempt, %error, "a migration waits for requests that hold its table, trying again");
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
    // Gives the lock back.
    connection.close().await?;
    Ok(())
}

/// Asks again and again: a statement that waits has a snapshot, and an index that is built concurrently waits for
/// everyone who has one.
async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    while !sqlx::query_scalar("-- db.lock\nselect pg_try_advisory_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut *connection)
        .await?
    {
        tokio::time::sleep(LOCK_POLL).await;
    }
    Ok(())
}

/// Applies the migrations up to the end of `stage`, whose members all have a transaction or all have none.
async fn run(
    connection: &mut PgConnection,
    migrator: &Migrator,
    stage: &[Migration],
) -> Result<(), MigrateError> {
    let Some(last) = stage.last() else { return Ok(()) };
    if last.no_tx {
        connection.execute(NO_LIMIT).await?;
        drop_half_built(connection, stage).await?;
    } else {
        connection.execute(TABLE_WAIT).await?;
    }
    migrator.run_to(last.version, connection).await
}

/// Removes indexes of these migrations that an earlier run left half built: `if not exists` would take them for done.
async fn drop_half_built(connection: &mut PgConnection, stage: &[Migration]) -> Result<(), sqlx::Error> {
    let invalid: Vec<String> = sqlx::query_scalar(
        "-- db.drop_half_built
        select c.relname::text
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        where not i.indisvalid and pg_table_is_visible(c.oid)",
    )
    .fetch_all(&mut *connection)
    .await?;
    for name in invalid {
        if stage.iter().any(|migration| migration.sql.as_str().contains(&format!(" {name}"))) {
            // An identifier cannot be bound; this one is in a migration.
            let drop = AssertSqlSafe(format!("drop index concurrently if exists \"{name}\""));
            connection.execute(sqlx::raw_sql(drop)).await?;
        }
    }
    Ok(())
}

/// Whether requests were in the way: a lock that was not to be had in time, or a deadlock with one of them.
fn is_contended(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}
