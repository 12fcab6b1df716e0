//! Running rules: read-only transactions with a time limit of their own.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Row, types::Uuid};

use super::{Holds, Rule};
use crate::{
    db::{self, Pool},
    kit::ids,
};

/// What breaks a rule, and whether there is more of it.
pub type Offenders = (Vec<String>, bool);

/// What breaks `rule` at `now`, at most `limit`.
///
/// # Errors
/// Postgres is away, or the query took more than a minute.
pub async fn run(pool: &Pool, rule: &Rule, now: DateTime<Utc>, limit: usize) -> Result<Offenders, db::Error> {
    let mut tx = db::begin_read(pool, "begin read only; set local statement_timeout = '60s'").await?;
    // One more than is shown tells whether there are more.
    let sql = format!("-- doctor.{}\nselect * from ({}) as broken limit {}", rule.name, rule.sql, limit + 1);
    let query = sqlx::query(AssertSqlSafe(sql)); // -- doctor.run
    let query = match rule.holds {
        Holds::Always => query,
        Holds::After(seconds) => query.bind(now - TimeDelta::seconds(seconds)),
    };
    let rows = query.fetch_all(&mut *tx).await?;
    tx.rollback().await?;
    let found = rows.iter().take(limit).map(|row| shown(rule.prefix, row.get(0))).collect();
    Ok((found, rows.len() > limit))
}

fn shown(prefix: &str, text: String) -> String {
    let (id, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let Ok(id) = id.parse::<Uuid>() else { return text };
    format!("{} {rest}", ids::encode(prefix, id)).trim_end().to_owned()
}
