//! A database with a million sessions.

use std::{fmt::Write, path::Path, time::Instant};

use checkoutd::{
    config::Config,
    db::{self, embedded},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

const DATABASE: &str = "plans";

/// Tables with many rows, in the order in which they can become unlogged: first those that point at others. The halves
/// take about as long.
const BILLING: &[&str] = &[
    "session_transitions",
    "refunds",
    "checkout_sessions",
    "payment_attempts",
    "provider_payments",
    "payments",
    "invoice_line_items",
    "invoices",
];
const EVENTS: &[&str] = &[
    "delivery_attempts",
    "deliveries",
    "events",
    "inbox",
    "subscription_line_items",
    "subscriptions",
    "customers",
    "idempotency_keys",
];

const SMALL: &[&str] = &[
    "tenants",
    "environments",
    "api_keys",
    "connections",
    "plans",
    "prices",
    "invoice_counters",
    "webhook_endpoints",
    "endpoint_health",
    "webhook_replays",
];

/// Nothing else is set: indexes and statistics are those of the service.
const SETTINGS: &str =
    "set session_replication_role = replica; set jit = off; set max_parallel_maintenance_workers = 0;
    set maintenance_work_mem = '512MB'; set work_mem = '256MB'";

pub struct World {
    pub connection: PgConnection,
    postgres: embedded::Server,
}

impl World {
    /// Makes the database, or takes the one that an earlier run made.
    pub async fn start(keep: bool) -> anyhow::Result<Self> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(DATABASE);
        let options = embedded::Options { dir, durable: false, pg_bin: Config::from_env()?.pg_bin };
        let postgres = embedded::start(options).await?;
        let url = postgres.url(DATABASE);
        if !(keep && is_loaded(&url).await) {
            load(&postgres).await?;
        }
        Ok(Self { connection: PgConnection::connect(&url).await?, postgres })
    }

    /// Runs a statement of whoever runs this.
    pub async fn change(&mut self, sql: String) -> Result<(), sqlx::Error> {
        run(&mut self.connection, sql).await
    }

    /// Without `keep`, gives gigabytes back.
    pub async fn stop(self, keep: bool) -> anyhow::Result<()> {
        self.connection.close().await?;
        if !keep {
            let mut admin = PgConnection::connect(&self.postgres.url("postgres")).await?;
            run(&mut admin, format!("drop database {DATABASE}")).await?;
            admin.close().await?;
        }
        self.postgres.stop().await?;
        Ok(())
    }
}

async fn is_loaded(url: &str) -> bool {
    let Ok(mut connection) = PgConnection::connect(url).await else { return false };
    let newest = db::MIGRATOR.iter().map(|migration| migration.version).max();
    let loaded = sqlx::query("select max(version), to_regclass('numbers') is null from _sqlx_migrations")
        .fetch_one(&mut connection)
        .await;
    loaded.is_ok_and(|row| row.get::<Option<i64>, _>(0) == newest && row.get::<bool, _>(1))
}

async fn load(postgres: &embedded::Server) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut admin = PgConnection::connect(&postgres.url("postgres")).await?;
    run(&mut admin, format!("drop database if exists {DATABASE} with (force)")).await?;
    run(&mut admin, format!("create database {DATABASE}")).await?;
    admin.close().await?;
    let url = postgres.url(DATABASE);
    db::migrate(&url.clone().into()).await?;
    let mut connection = PgConnection::connect(&url).await?;
    run(&mut connection, without_log_and_indexes()).await?;
    run(&mut connection, format!("{SETTINGS}; {}", include_str!("load/tenants.sql"))).await?;
    tokio::try_join!(
        on_its_own(&url, include_str!("load/billing.sql").to_owned()),
        on_its_own(&url, include_str!("load/events.sql").to_owned()),
    )?;
    println!("{:.1} s: rows", begun.elapsed().as_secs_f64());
    run(&mut connection, "drop table numbers".to_owned()).await?;
    tokio::try_join!(on_its_own(&url, finish(BILLING)), on_its_own(&url, finish(EVENTS)))?;
    println!("{:.1} s: indexes", begun.elapsed().as_secs_f64());
    run(&mut connection, format!("analyze {}", SMALL.join(", "))).await?;
    connection.close().await?;
    println!("{:.1} s: loaded", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    Ok(())
}

/// A statement at a time: vacuum runs in no transaction.
async fn on_its_own(url: &str, script: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    run(&mut connection, SETTINGS.to_owned()).await?;
    for statement in script.split(";\n") {
        run(&mut connection, statement.to_owned()).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Rows go in without indexes and without a log: both take longer than the rows. `reindex` builds every index that the
/// migrations made, as they made it.
fn without_log_and_indexes() -> String {
    let mut sql = String::new();
    for table in BILLING.iter().chain(EVENTS) {
        // Writing to a String cannot fail.
        let _ = writeln!(sql, "alter table {table} set unlogged;");
        let _ = writeln!(sql, "alter table {table} set (autovacuum_enabled = off);");
        let _ = writeln!(sql, "update pg_index set indisready = false where indrelid = '{table}'::regclass;");
    }
    sql
}

fn finish(tables: &[&str]) -> String {
    tables.iter().fold(String::new(), |mut sql, table| {
        let _ = writeln!(sql, "reindex table {table};\nvacuum analyze {table};");
        sql
    })
}
