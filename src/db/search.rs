//! Searches: a select whose conditions, order and page come from the caller. Only text compiled into the
//! program becomes SQL; whatever a caller sent is bound.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, Postgres, QueryBuilder, postgres::PgRow};
use uuid::Uuid;

use super::{Error, Pool};
use crate::kit::page::{Page, PageRequest};

/// A column that callers may filter and sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name on the wire, and in the table.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// What a column holds, and so which operators and values suit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `text`.
    Text,
    /// `bigint` or `integer`.
    Number,
    /// `timestamptz`.
    Time,
    /// `uuid`, written with this prefix.
    Id(&'static str),
}

impl Column {
    /// A text column.
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: Kind::Text }
    }

    /// A column of whole numbers.
    pub const fn number(name: &'static str) -> Self {
        Self { name, kind: Kind::Number }
    }

    /// A column of instants.
    pub const fn time(name: &'static str) -> Self {
        Self { name, kind: Kind::Time }
    }

    /// A column of ids that start with `prefix`.
    pub const fn id(name: &'static str, prefix: &'static str) -> Self {
        Self { name, kind: Kind::Id(prefix) }
    }
}

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FilterOperator")]
#[expect(missing_docs, reason = "each variant is its wire name")]
pub enum Operator {
    Eq,
    Contains,
    NotContains,
    Gt,
    Lt,
    Gte,
    In,
    NotIn,
    Before,
    After,
}

/// A value on its way into a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Bind {
    /// `text`.
    Text(String),
    /// `text[]`.
    Texts(Vec<String>),
    /// `bigint`.
    Number(i64),
    /// `bigint[]`.
    Numbers(Vec<i64>),
    /// `timestamptz`.
    Time(DateTime<Utc>),
    /// `uuid[]`.
    Ids(Vec<Uuid>),
    /// `uuid`.
    Id(Uuid),
    /// `jsonb`.
    Json(Value),
}

macro_rules! bind_from {
    ($($type:ty => $variant:ident,)+) => {$(
        impl From<$type> for Bind {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }
    )+};
}

bind_from! {
    String => Text,
    Vec<String> => Texts,
    i64 => Number,
    Vec<i64> => Numbers,
    DateTime<Utc> => Time,
    Vec<Uuid> => Ids,
    Uuid => Id,
    Value => Json,
}

/// One filter of a caller. `In` and `NotIn` carry a list, the others a single value, of the column's kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// What is compared.
    pub column: Column,
    /// How.
    pub operator: Operator,
    /// With what.
    pub value: Bind,
}

/// Which way a list runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest or oldest first.
    Ascending,
    /// Largest or newest first.
    Descending,
}

/// What every search takes: the page, the order, and the conditions on columns that all tables have.
#[derive(Clone, Debug, PartialEq)]
pub struct Criteria {
    /// Which part of the list.
    pub page: PageRequest,
    /// First by these; then by id, so that pages never overlap. Newest first when empty.
    pub sort: Vec<(Column, Direction)>,
    /// Rows in this state only.
    pub status: &'static str,
    /// Created then or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Created then or earlier.
    pub created_until: Option<DateTime<Utc>>,
    /// All of these hold.
    pub filters: Vec<Filter>,
}

/// A select from one table of one environment; the table has `id`, `created_at` and `status`.
#[derive(Clone, Debug)]
pub struct Select {
    name: &'static str,
    columns: &'static str,
    table: &'static str,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug)]
struct Condition {
    before: String,
    bind: Option<Bind>,
    after: &'static str,
}

impl Select {
    /// Selects `columns` of the rows of `table` in `environment`. `name` is the statement's, `slice.function`.
    pub fn new(
        name: &'static str,
        columns: &'static str,
        table: &'static str,
        environment: impl Into<Uuid>,
    ) -> Self {
        let select = Self { name, columns, table, conditions: Vec::new() };
        select.compare("environment_id =", Some(environment.into()))
    }

    /// Only rows whose `column` equals `value`; all when there is none.
    #[must_use]
    pub fn equals(self, column: &'static str, value: Option<impl Into<Bind>>) -> Self {
        self.push(format!("{column} = "), value.map(Into::into), "")
    }

    /// Only rows whose `column` is among `values`, a list; all when there is none. An empty list matches nothing.
    #[must_use]
    pub fn any_of(self, column: &'static str, values: Option<impl Into<Bind>>) -> Self {
        self.push(format!("{column} = any("), values.map(Into::into), ")")
    }

    /// Only rows for which `comparison` followed by `value` holds, such as `metadata @>`; all when there is none.
    #[must_use]
    pub fn compare(self, comparison: &'static str, value: Option<impl Into<Bind>>) -> Self {
        self.push(format!("{comparison} "), value.map(Into::into), "")
    }

    /// Only rows for which `sql` holds.
    #[must_use]
    pub fn condition(mut self, sql: &'static str) -> Self {
        self.conditions.push(Condition { before: sql.to_owned(), bind: None, after: "" });
        self
    }

    fn push(mut self, before: String, bind: Option<Bind>, after: &'static str) -> Self {
        if bind.is_some() {
            self.conditions.push(Condition { before, bind, after });
        }
        self
    }

    fn filter(self, filter: Filter) -> Self {
        let name = filter.column.name;
        let (before, after) = match filter.operator {
            Operator::Eq => (format!("{name} = "), ""),
            Operator::Gt | Operator::After => (format!("{name} > "), ""),
            Operator::Gte => (format!("{name} >= "), ""),
            Operator::Lt | Operator::Before => (format!("{name} < "), ""),
            Operator::Contains => (format!("{name} ilike "), ""),
            // A missing value contains nothing and is in no list.
            Operator::NotContains => (format!("({name} is null or {name} not ilike "), ")"),
            Operator::In => (format!("{name} = any("), ")"),
            Operator::NotIn => (format!("({name} is null or {name} <> all("), "))"),
        };
        let value = match (filter.operator, filter.value) {
            (Operator::Contains | Operator::NotContains, Bind::Text(text)) => {
                Bind::Text(format!("%{}%", escape_pattern(&text)))
            }
            (_, value) => value,
        };
        self.push(before, Some(value), after)
    }

    /// Runs the search: one page and the number of all matching rows.
    pub async fn fetch<R>(self, pool: &Pool, criteria: Criteria) -> Result<Page<R>, Error>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let page = criteria.page;
        let order = order_by(&criteria.sort);
        let mut select = self
            .equals("status", Some(criteria.status.to_owned()))
            .compare("created_at >=", criteria.created_from)
            .compare("created_at <=", criteria.created_until);
        for filter in criteria.filters {
            select = select.filter(filter);
        }
        let mut query = select.start(select.columns);
        query.push(order).push(" limit ").push_bind(page.limit).push(" offset ").push_bind(page.offset);
        let items: Vec<R> = query.build_query_as().fetch_all(pool).await?;
        let seen = i64::try_from(items.len()).unwrap_or(i64::MAX);
        // A page that is not full is the last one: its end is the total, unless the page lies beyond the end.
        let is_last = seen < page.limit && (seen > 0 || page.offset == 0);
        let total = if is_last {
            page.offset + seen
        } else {
            select.start("count(*)").build_query_scalar().fetch_one(pool).await?
        };
        Ok(Page::new(items, total, page))
    }

    fn start(&self, columns: &str) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new(format!("-- {}\nselect {columns} from {}", self.name, self.table));
        for (index, condition) in self.conditions.iter().enumerate() {
            query.push(if index == 0 { " where " } else { " and " }).push(&condition.before);
            match condition.bind.clone() {
                None => &mut query,
                Some(Bind::Text(text)) => query.push_bind(text),
                Some(Bind::Texts(texts)) => query.push_bind(texts),
                Some(Bind::Number(number)) => query.push_bind(number),
                Some(Bind::Numbers(numbers)) => query.push_bind(numbers),
                Some(Bind::Time(time)) => query.push_bind(time),
                Some(Bind::Ids(ids)) => query.push_bind(ids),
                Some(Bind::Id(id)) => query.push_bind(id),
                Some(Bind::Json(json)) => query.push_bind(json),
            }
            .push(condition.after);
        }
        query
    }
}

fn order_by(sort: &[(Column, Direction)]) -> String {
    const NEWEST_FIRST: [(Column, Direction); 1] = [(Column::time("created_at"), Direction::Descending)];
    let sort = if sort.is_empty() { &NEWEST_FIRST } else { sort };
    let word = |direction| if direction == Direction::Ascending { "asc" } else { "desc" };
    let mut sql = String::from(" order by ");
    for (column, direction) in sort {
        sql.extend([column.name, " ", word(*direction), ", "]);
    }
    let tie_break = sort.last().map_or(Direction::Descending, |(_, direction)| *direction);
    sql + "id " + word(tie_break)
}

/// `text` as a LIKE pattern that matches only itself.
fn escape_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '%' | '_') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_only_their_text() {
        assert_eq!(escape_pattern(r"50%_a\b"), r"50\%\_a\\b");
    }

    #[test]
    fn only_compiled_text_becomes_sql() {
        let name = Column::text("name");
        let filter = |operator, value| Filter { column: name, operator, value };
        let select = Select::new("demo.search", "id, name", "demo", Uuid::nil())
            .equals("email", Some("'; drop table demo; --".to_owned()))
            .equals("absent", None::<String>)
            .any_of("id", Some(vec![Uuid::max()]))
            .filter(filter(Operator::Contains, Bind::Text("a%".into())))
            .filter(filter(Operator::NotIn, Bind::Texts(vec!["b".into()])));
        assert_eq!(
            select.start("id, name").sql().as_str(),
            "-- demo.search\nselect id, name from demo where environment_id = $1 and email = $2 \
             and id = any($3) and name ilike $4 and (name is null or name <> all($5))"
        );
        assert_eq!(select.conditions[3].bind, Some(Bind::Text(r"%a\%%".into())));
    }

    #[test]
    fn every_order_ends_with_the_id() {
        assert_eq!(order_by(&[]), " order by created_at desc, id desc");
        let sort = [(Column::text("name"), Direction::Ascending)];
        assert_eq!(order_by(&sort), " order by name asc, id asc");
    }
}
