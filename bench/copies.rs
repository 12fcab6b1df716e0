//! Copies of a merchant's sessions by SQL: as many as years of trade would leave behind, in minutes.

use std::collections::HashMap;

use anyhow::ensure;
use sqlx::{AssertSqlSafe, Executor, PgExecutor, PgPool, Row, types::Uuid};

use super::world::Merchant;

/// Every table in which a session leaves rows, in two halves that take about as long.
const HALVES: [&[&str]; 2] = [
    &["events", "deliveries", "delivery_attempts", "inbox"],
    &[
        "subscriptions",
        "subscription_line_items",
        "invoices",
        "invoice_line_items",
        "payments",
        "payment_attempts",
        "provider_payments",
        "checkout_sessions",
        "session_transitions",
    ],
];

/// Texts that name one thing.
const NAMES: [&str; 5] =
    ["link_id", "gateway_tracking_id", "gateway_payment_id", "provider_payment_id", "invoice_number"];

/// An id of copy `n` of the model's `k`th row, in the order of time as the service's own: a version 7 UUID, one second
/// after the copy before.
const CLONE_ID: &str =
    "create function clone_id(n bigint, k int, newest timestamptz, total bigint) returns uuid
    immutable parallel safe language sql
    return (lpad(to_hex((extract(epoch from newest) * 1000)::bigint - (total - n) * 1000), 12, '0')
        || '7' || lpad(to_hex(k), 3, '0') || '8000' || lpad(to_hex(n), 12, '0'))::uuid";

/// Settings of a server that may lose everything; afterwards they are reset.
const HASTE: [&str; 3] = ["fsync = off", "full_page_writes = off", "max_wal_size = '16GB'"];

/// How one session of a merchant is copied.
pub struct Copies {
    halves: [Vec<String>; 2],
    total: usize,
}

impl Copies {
    /// Takes the merchant's only session as the model; it must be completed and delivered. `total` is how many copies
    /// there will be in the end: the last one is the youngest.
    pub async fn new(pool: &PgPool, merchant: &Merchant, total: usize) -> anyhow::Result<Self> {
        let mut rows = Vec::new();
        for table in HALVES.into_iter().flatten() {
            for row in model_rows(pool, merchant, table).await? {
                rows.push((*table, row));
            }
        }
        let sessions = rows.iter().filter(|(table, _)| *table == "checkout_sessions").count();
        ensure!(sessions == 1, "the model is {sessions} sessions");
        let ids: HashMap<String, usize> = rows
            .iter()
            .filter_map(|(_, row)| row.iter().find(|column| column.name == "id")?.value.clone())
            .enumerate()
            .map(|(place, id)| (id, place))
            .collect();
        let customers: String = sqlx::query_scalar(
            "select string_agg(quote_literal(id), ',') from customers where environment_id = $1",
        )
        .bind(merchant.environment)
        .fetch_one(pool)
        .await?;
        let newest: String =
            sqlx::query_scalar("select created_at::text from checkout_sessions where environment_id = $1")
                .bind(merchant.environment)
                .fetch_one(pool)
                .await?;
        let own = Own { ids, customers, newest, total };
        let mut halves = [Vec::new(), Vec::new()];
        for (table, row) in &rows {
            halves[usize::from(!HALVES[0].contains(table))].push(own.insert(table, row));
        }
        pool.execute(CLONE_ID).await?;
        Ok(Self { halves, total })
    }

    /// Inserts the youngest `count`, with every index as it is.
    pub async fn insert_youngest(&self, pool: &PgPool, count: usize) -> anyhow::Result<()> {
        let mut connection = pool.acquire().await?;
        connection.execute("set session_replication_role = replica").await?;
        for sql in self.halves.iter().flatten() {
            execute(&mut *connection, of_copies(sql, self.total - count + 1, self.total)).await?;
        }
        connection.execute("set session_replication_role = origin").await?;
        Ok(())
    }

    /// Inserts all but the youngest `there`, and builds every index anew, as the migrations made it.
    pub async fn insert_others(&self, pool: &PgPool, there: usize) -> anyhow::Result<()> {
        for setting in HASTE {
            execute(pool, format!("alter system set {setting}")).await?;
        }
        execute(pool, "select pg_reload_conf()".into()).await?;
        futures::future::try_join_all((0..2).map(async |half| {
            let mut connection = pool.acquire().await?;
            let settings = "set session_replication_role = replica; set synchronous_commit = off; set jit = off;
                set maintenance_work_mem = '1GB'; set max_parallel_maintenance_workers = 0; set statement_timeout = 0";
            connection.execute(settings).await?;
            for table in HALVES[half] {
                // As with the plans' database: rows go in without indexes, which are built afterwards.
                let idle = "update pg_index set indisready = false where indrelid";
                execute(&mut *connection, format!("{idle} = '{table}'::regclass")).await?;
            }
            for sql in &self.halves[half] {
                execute(&mut *connection, of_copies(sql, 1, self.total - there)).await?;
            }
            for table in HALVES[half] {
                execute(&mut *connection, format!("reindex table {table}")).await?;
                execute(&mut *connection, format!("vacuum (analyze, freeze) {table}")).await?;
            }
            connection.close().await?;
            anyhow::Ok(())
        }))
        .await?;
        for (setting, _) in HASTE.iter().filter_map(|setting| setting.split_once(' ')) {
            execute(pool, format!("alter system reset {setting}")).await?;
        }
        execute(pool, "select pg_reload_conf()".into()).await?;
        execute(pool, "checkpoint".into()).await
    }
}

async fn execute(executor: impl PgExecutor<'_>, sql: String) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(executor).await?;
    Ok(())
}

/// A column of a model's row.
struct Column {
    name: String,
    /// As Postgres calls it: `uuid`, `timestamptz` …
    kind: String,
    value: Option<String>,
}

async fn model_rows(pool: &PgPool, merchant: &Merchant, table: &str) -> anyhow::Result<Vec<Vec<Column>>> {
    let columns = sqlx::query(
        "select column_name::text, udt_name::text from information_schema.columns
         where table_schema = 'public' and table_name = $1 and is_generated = 'NEVER' order by ordinal_position",
    )
    .bind(table)
    .fetch_all(pool)
    .await?;
    let columns: Vec<(String, String)> = columns.iter().map(|row| (row.get(0), row.get(1))).collect();
    let texts: Vec<_> = columns.iter().map(|(name, _)| format!("m.{name}::text")).collect();
    let select = format!("select array[{}] from {table} m where environment_id = $1", texts.join(", "));
    let rows: Vec<Vec<Option<String>>> =
        sqlx::query_scalar(AssertSqlSafe(select)).bind(merchant.environment).fetch_all(pool).await?;
    ensure!(!rows.is_empty(), "the model has no row in {table}");
    let row = |values: Vec<Option<String>>| {
        let both = columns.iter().zip(values);
        both.map(|((name, kind), value)| Column { name: name.clone(), kind: kind.clone(), value }).collect()
    };
    Ok(rows.into_iter().map(row).collect())
}

/// What is each copy's own.
struct Own {
    /// The model's ids, with a number for each.
    ids: HashMap<String, usize>,
    customers: String,
    /// When the model was made.
    newest: String,
    total: usize,
}

impl Own {
    fn insert(&self, table: &str, row: &[Column]) -> String {
        let names: Vec<_> = row.iter().map(|column| column.name.as_str()).collect();
        let values: Vec<_> = row.iter().map(|column| self.value(column)).collect();
        format!("insert into {table} ({}) select {} from NUMBERS n", names.join(", "), values.join(", "))
    }

    fn value(&self, Column { name, kind, value }: &Column) -> String {
        let Some(value) = value else { return "null".to_owned() };
        let Self { newest, total, .. } = self;
        let quoted = format!("'{}'", value.replace('\'', "''"));
        match (name.as_str(), kind.as_str()) {
            // Nobody looks at what is over.
            ("check_at", _) => "null".to_owned(),
            ("customer_id", _) => {
                format!("(array[{}]::uuid[])[1 + n % {}]", self.customers, super::world::CUSTOMERS)
            }
            ("xact_id", _) => format!("n - {total} - 1000"),
            ("content_hash", _) => "sha256(n::text::bytea)".to_owned(),
            (name, _) if NAMES.contains(&name) => format!("{quoted} || '_' || n"),
            (_, "uuid") if self.ids.contains_key(value) => {
                format!("clone_id(n, {}, '{newest}', {total})", self.ids[value])
            }
            (_, "timestamptz") => format!("{quoted}::timestamptz - ({total} - n) * interval '1 second'"),
            (_, kind) => format!("{quoted}::{kind}"),
        }
    }
}

fn of_copies(insert: &str, first: usize, last: usize) -> String {
    insert.replace("NUMBERS", &format!("generate_series({first}::bigint, {last}::bigint)"))
}

/// The sessions that were completed last.
pub async fn completed(pool: &PgPool, merchant: &Merchant, most: usize) -> anyhow::Result<Vec<Uuid>> {
    let ids = "select id from checkout_sessions where environment_id = $1 and checkout_status = 'completed'
        order by id desc limit $2";
    let ids = sqlx::query_scalar(ids).bind(merchant.environment).bind(i64::try_from(most)?);
    Ok(ids.fetch_all(pool).await?)
}
