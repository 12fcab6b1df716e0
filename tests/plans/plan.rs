//! Runs a statement and reads what Postgres says about how it did.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use super::cases::Case;

/// A table may be read as a whole up to so many rows.
const SMALL: f64 = 10_000.0;

/// A statement as the service sends it.
pub struct Statement {
    pub text: String,
    /// Of each value that it takes, as Postgres calls it.
    types: Vec<String>,
}

/// All checked statements, by the name in their first line.
pub fn statements() -> anyhow::Result<BTreeMap<String, Statement>> {
    #[derive(Deserialize)]
    struct File {
        query: String,
        describe: Describe,
    }
    #[derive(Deserialize)]
    struct Describe {
        parameters: BTreeMap<String, Vec<String>>,
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let file: File = serde_json::from_slice(&fs::read(entry?.path())?)?;
        let name = file.query.lines().next().unwrap_or_default().trim_start_matches("-- ").to_owned();
        let types = file.describe.parameters.into_values().flatten().map(|name| sql_type(&name)).collect();
        all.insert(name, Statement { text: file.query, types });
    }
    Ok(all)
}

/// `Uuid`, `Int8Array` …
fn sql_type(name: &str) -> String {
    match name.strip_suffix("Array") {
        Some(element) => format!("{}[]", element.to_lowercase()),
        None => name.to_lowercase(),
    }
}

/// How a statement was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Planned for these values, as the first five times on a connection.
    Custom,
    /// Planned for all values, as it may be later.
    Generic,
}

/// What came of it.
pub struct Outcome {
    pub rows: f64,
    pub buffers: u64,
    pub time_ms: f64,
    pub problems: Vec<String>,
    /// As JSON.
    pub plan: String,
}

/// Sizes of tables, by name.
pub type Sizes = BTreeMap<String, f64>;

pub async fn sizes(connection: &mut PgConnection) -> Result<Sizes, sqlx::Error> {
    let rows = sqlx::query(
        "select relname::text, reltuples::float8 from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Runs a statement, in a transaction that is rolled back.
pub async fn run(
    connection: &mut PgConnection,
    sizes: &Sizes,
    case: Case,
    statement: &Statement,
    mode: Mode,
) -> Result<Outcome, sqlx::Error> {
    let types =
        if statement.types.is_empty() { String::new() } else { format!("({})", statement.types.join(", ")) };
    let values = if case.values.is_empty() { String::new() } else { format!("({})", case.values) };
    let force = if mode == Mode::Custom { "force_custom_plan" } else { "force_generic_plan" };
    let begin = format!(
        "begin; set local plan_cache_mode = {force}; set local jit = off; prepare s{types} as {}",
        statement.text
    );
    let explain = format!("explain (analyze, buffers, format json) execute s{values}");
    let done = explained(connection, begin, explain).await;
    // It outlives the transaction; when it could not be prepared there is nothing to forget.
    let forgotten = "rollback; do $$ begin if exists (select from pg_prepared_statements where name = 's') then \
        execute 'deallocate s'; end if; end $$";
    connection.execute(sqlx::raw_sql(forgotten)).await?;
    let (text, scanned) = done?;
    let plan: Value = serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let root = &plan[0]["Plan"];
    let mut outcome = Outcome {
        rows: 0.0,
        buffers: count(root, "Shared Hit Blocks") + count(root, "Shared Read Blocks"),
        time_ms: plan[0]["Execution Time"].as_f64().unwrap_or_default(),
        problems: Vec::new(),
        plan: text,
    };
    look(root, sizes, &mut outcome);
    // The checks of foreign keys, too, which the plan does not show.
    let large = scanned.into_iter().filter(|table| sizes.get(table).is_some_and(|rows| *rows > SMALL));
    outcome.problems.extend(large.map(|table| format!("{table} was read as a whole")));
    if case.stops_early {
        outcome.problems.clear();
    }
    if outcome.rows > case.rows {
        outcome.problems.push(format!("{} rows were read, and not {}", outcome.rows, case.rows));
    }
    if outcome.buffers > case.buffers {
        outcome.problems.push(format!("{} buffers were read, and not {}", outcome.buffers, case.buffers));
    }
    Ok(outcome)
}

/// The plan, and the tables that were read as a whole.
async fn explained(
    connection: &mut PgConnection,
    begin: String,
    explain: String,
) -> Result<(String, Vec<String>), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(begin))).await?;
    let before = scans(connection).await?;
    let row = connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(explain))).await?;
    // JSON is sent as its text.
    let plan = row.try_get_unchecked(0)?;
    let after = scans(connection).await?;
    let scanned = after.into_iter().filter(|(table, count)| before.get(table).unwrap_or(&0) < count);
    Ok((plan, scanned.map(|(table, _)| table).collect()))
}

/// How often each table was read as a whole on this connection. Postgres tells others with a delay.
async fn scans(connection: &mut PgConnection) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let rows = sqlx::query("select relname::text, seq_scan from pg_stat_xact_user_tables")
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn count(node: &Value, what: &str) -> u64 {
    node[what].as_u64().unwrap_or_default()
}

fn number(node: &Value, what: &str) -> f64 {
    node[what].as_f64().unwrap_or_default()
}

/// Adds up what this node and those below it read of tables.
fn look(node: &Value, sizes: &Sizes, outcome: &mut Outcome) {
    let kind = node["Node Type"].as_str().unwrap_or_default();
    let loops = number(node, "Actual Loops");
    if kind.ends_with("Scan") && kind != "Bitmap Index Scan" && loops > 0.0 {
        let removed = number(node, "Rows Removed by Filter") + number(node, "Rows Removed by Index Recheck");
        outcome.rows += (number(node, "Actual Rows") + removed) * loops;
    }
    if kind == "Seq Scan"
        && let Some(table) = node["Relation Name"].as_str()
        && sizes.get(table).is_some_and(|rows| *rows > SMALL)
    {
        outcome.problems.push(format!("a sequential scan of {table}"));
    }
    for below in node["Plans"].as_array().into_iter().flatten() {
        look(below, sizes, outcome);
    }
}
