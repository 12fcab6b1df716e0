//! The fields that every search and list takes, from a JSON body or a query string alike.

use std::{ops::RangeInclusive, str::FromStr};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IntoDeserializer, value},
};
use serde_json::Value;
use uuid::Uuid;

use super::{ApiError, Violations};
use crate::{
    db::search::{Bind, Column, Criteria, Direction, Filter, Kind, Operator},
    kit::{
        ids::{self, Id},
        page::PageRequest,
    },
};

/// More filters or sort keys than this are a mistake.
const MAX_CLAUSES: usize = 50;

// Flattened into a slice's request, and parsed by `Search::parse`: the fields are read as plain JSON first, so that an
// answer can name each one that is wrong.
/// What every search takes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Search {
    /// Items on a page; 50 if not given.
    #[schemars(with = "Option<i64>", range(min = 1, max = 1000))]
    limit: Option<Value>,
    /// Items to pass over.
    #[schemars(with = "Option<i64>", range(min = 0, max = 4_294_967_295_u32))]
    offset: Option<Value>,
    /// The direction of a `sort` by name; `desc` if not given.
    #[schemars(with = "Option<SortDirection>")]
    order: Option<Value>,
    /// By `created_at`, newest first, if not given.
    #[schemars(with = "Option<Sort>")]
    sort: Option<Value>,
    /// `published` if not given.
    #[schemars(with = "Option<Status>")]
    status: Option<Value>,
    /// Created at this time or later.
    #[schemars(with = "Option<DateTime<Utc>>")]
    start_time: Option<Value>,
    /// Created at this time or earlier.
    #[schemars(with = "Option<DateTime<Utc>>")]
    end_time: Option<Value>,
    /// What to embed: names with commas between them.
    #[schemars(with = "Option<String>")]
    expand: Option<Value>,
    /// All must hold.
    #[schemars(with = "Option<Vec<FilterClause>>", length(max = 50))]
    filters: Option<Value>,
}

/// The forms that the plain JSON above is to have.
#[expect(dead_code, reason = "describe what is read as plain JSON")]
mod forms {
    use super::{DateTime, Deserialize, JsonSchema, Operator, Utc};

    #[derive(JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum SortDirection {
        Asc,
        Desc,
    }

    /// The state of rows. None is `deleted`: deleting archives.
    #[derive(JsonSchema)]
    #[serde(rename_all = "lowercase")]
    #[schemars(rename = "SearchedStatus")]
    pub enum Status {
        Published,
        Archived,
        Deleted,
    }

    /// A field's name, or several keys.
    #[derive(JsonSchema)]
    #[serde(untagged)]
    pub enum Sort {
        Field(String),
        Keys(Vec<SortKey>),
    }

    #[derive(JsonSchema)]
    pub struct SortKey {
        field: String,
        /// `desc` if not given.
        direction: Option<SortDirection>,
    }

    /// A condition on one field.
    #[derive(JsonSchema)]
    pub struct FilterClause {
        field: String,
        operator: Operator,
        data_type: Option<FilterDataType>,
        value: FilterValue,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum FilterDataType {
        String,
        Number,
        Date,
        Array,
        Boolean,
    }

    /// The member that suits the field and the operator.
    #[derive(JsonSchema)]
    pub struct FilterValue {
        string: Option<String>,
        number: Option<f64>,
        boolean: Option<bool>,
        date: Option<DateTime<Utc>>,
        array: Option<Vec<String>>,
    }
}

use forms::{FilterClause, FilterDataType, Sort, SortDirection, Status};

/// The query of what embeds more on request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Expand {
    /// Comma-separated: what to embed. Words that mean nothing here are passed over.
    expand: Option<String>,
}

impl Expand {
    /// Whether `what` is asked for.
    pub fn names(&self, what: &str) -> bool {
        self.expand.as_deref().unwrap_or_default().split(',').any(|name| name.trim() == what)
    }
}

impl Search {
    /// The criteria, or a 400 that names each wrong field. Filters and sort keys may name `columns` only.
    pub fn parse(&self, columns: &[Column]) -> Result<Criteria, ApiError> {
        let mut violations = Violations::default();
        let criteria = Criteria {
            page: self.page(&mut violations),
            sort: self.sort(columns, &mut violations),
            status: self.status(&mut violations),
            created_from: read_time(&mut violations, "start_time", self.start_time.as_ref()),
            created_until: read_time(&mut violations, "end_time", self.end_time.as_ref()),
            filters: self.filters(columns, &mut violations),
        };
        if let (Some(from), Some(until)) = (criteria.created_from, criteria.created_until) {
            violations.require(from <= until, "end_time", "must not be before start_time");
        }
        if let Some(expand) = &self.expand {
            violations.require(expand.is_string(), "expand", "must be a string");
        }
        violations.finish()?;
        Ok(criteria)
    }

    /// Whether the comma-separated `expand` names `what`.
    pub fn expands(&self, what: &str) -> bool {
        let expand = self.expand.as_ref().and_then(Value::as_str).unwrap_or_default();
        expand.split(',').any(|name| name.trim() == what)
    }

    fn page(&self, violations: &mut Violations) -> PageRequest {
        // Offsets are bounded so that offset plus limit cannot overflow.
        let (limits, offsets) = (1..=PageRequest::MAX_LIMIT, 0..=i64::from(u32::MAX));
        let limit = bounded(violations, "limit", self.limit.as_ref(), limits);
        let offset = bounded(violations, "offset", self.offset.as_ref(), offsets);
        PageRequest { limit: limit.unwrap_or(PageRequest::DEFAULT_LIMIT), offset: offset.unwrap_or(0) }
    }

    fn status(&self, violations: &mut Violations) -> &'static str {
        // No row is `deleted`, a word of the compatible API: deleting archives.
        let words = ["published", "archived", "deleted"];
        let Some(status) = &self.status else { return words[0] };
        let found = words.into_iter().find(|word| status.as_str() == Some(word));
        violations.require(found.is_some(), "status", "must be published, archived or deleted");
        found.unwrap_or(words[0])
    }

    /// A list of `{"field","direction"}`, or a plain field name that `order` directs.
    fn sort(&self, columns: &[Column], violations: &mut Violations) -> Vec<(Column, Direction)> {
        let order = direction(self.order.as_ref(), "order", violations);
        match &self.sort {
            None => vec![(Column::time("created_at"), order)],
            Some(Value::String(field)) => find_column(columns, Some(field), "sort", violations)
                .map(|column| (column, order))
                .into_iter()
                .collect(),
            Some(Value::Array(keys)) if keys.len() <= MAX_CLAUSES => {
                let mut sort = Vec::with_capacity(keys.len());
                for (index, key) in keys.iter().enumerate() {
                    let field = key.get("field").and_then(Value::as_str);
                    let column = find_column(columns, field, &format!("sort[{index}].field"), violations);
                    let name = format!("sort[{index}].direction");
                    let direction = direction(key.get("direction"), &name, violations);
                    sort.extend(column.map(|column| (column, direction)));
                }
                sort
            }
            Some(_) => {
                violations.add("sort", "must be a field name or a list of at most 50 {field, direction}");
                Vec::new()
            }
        }
    }

    fn filters(&self, columns: &[Column], violations: &mut Violations) -> Vec<Filter> {
        match &self.filters {
            None => Vec::new(),
            Some(Value::Array(filters)) if filters.len() <= MAX_CLAUSES => filters
                .iter()
                .enumerate()
                .filter_map(|(index, filter)| {
                    read_filter(columns, filter, &format!("filters[{index}]"), violations)
                })
                .collect(),
            Some(_) => {
                violations.add("filters", "must be a list of at most 50 {field, operator, data_type, value}");
                Vec::new()
            }
        }
    }
}

fn bounded(
    violations: &mut Violations,
    field: &str,
    value: Option<&Value>,
    range: RangeInclusive<i64>,
) -> Option<i64> {
    let number = integer(value?).filter(|number| range.contains(number));
    if number.is_none() {
        violations.add(field, format!("must be a whole number from {} to {}", range.start(), range.end()));
    }
    number
}

fn direction(value: Option<&Value>, name: &str, violations: &mut Violations) -> Direction {
    match value.map(Value::as_str) {
        None | Some(Some("desc")) => Direction::Descending,
        Some(Some("asc")) => Direction::Ascending,
        Some(_) => {
            violations.add(name, "must be asc or desc");
            Direction::Descending
        }
    }
}

fn find_column(
    columns: &[Column],
    field: Option<&str>,
    name: &str,
    violations: &mut Violations,
) -> Option<Column> {
    let found = columns.iter().find(|column| Some(column.name) == field).copied();
    if found.is_none() {
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        violations.add(name, format!("must be one of {}", names.join(", ")));
    }
    found
}

fn read_filter(
    columns: &[Column],
    filter: &Value,
    name: &str,
    violations: &mut Violations,
) -> Option<Filter> {
    let text = |member| filter.get(member).and_then(Value::as_str);
    let column = find_column(columns, text("field"), &format!("{name}.field"), violations);
    let operator = text("operator").and_then(read_word::<Operator>);
    if operator.is_none() {
        violations.add(
            format!("{name}.operator"),
            "must be one of eq, contains, not_contains, gt, lt, gte, in, not_in, before, after",
        );
    }
    if let Some(data_type) = filter.get("data_type") {
        violations.require(
            data_type.as_str().and_then(read_word::<FilterDataType>).is_some(),
            &format!("{name}.data_type"),
            "must be one of string, number, date, array, boolean",
        );
    }
    let (column, operator) = (column?, operator?);
    if !suits(operator, column.kind) {
        violations.add(format!("{name}.operator"), format!("does not apply to {}", column.name));
        return None;
    }
    let value = filter.get("value").unwrap_or(&Value::Null);
    let (member, rule) = member_of(operator, column.kind);
    let bind = value.get(member).and_then(|value| read_value(operator, column.kind, value));
    if bind.is_none() {
        violations.add(format!("{name}.value.{member}"), rule);
    }
    Some(Filter { column, operator, value: bind? })
}

/// The word of a closed list.
fn read_word<T: DeserializeOwned>(text: &str) -> Option<T> {
    T::deserialize(IntoDeserializer::<value::Error>::into_deserializer(text)).ok()
}

fn suits(operator: Operator, kind: Kind) -> bool {
    match operator {
        Operator::Eq => true,
        Operator::In | Operator::NotIn => kind != Kind::Time,
        Operator::Contains | Operator::NotContains => kind == Kind::Text,
        Operator::Gt | Operator::Gte | Operator::Lt => matches!(kind, Kind::Number | Kind::Time),
        Operator::Before | Operator::After => kind == Kind::Time,
    }
}

/// Which member of `value` is read, and what is said when it does not suit.
fn member_of(operator: Operator, kind: Kind) -> (&'static str, &'static str) {
    match (operator, kind) {
        (Operator::In | Operator::NotIn, Kind::Number) => ("array", "must be a list of whole numbers"),
        (Operator::In | Operator::NotIn, _) => ("array", "must be a list of strings"),
        (_, Kind::Number) => ("number", "must be a whole number"),
        (_, Kind::Time) => ("date", "must be an RFC 3339 date and time"),
        (_, Kind::Text | Kind::Id(_)) => ("string", "must be a string"),
    }
}

fn read_value(operator: Operator, kind: Kind, value: &Value) -> Option<Bind> {
    let is_list = matches!(operator, Operator::In | Operator::NotIn);
    let items = if is_list { value.as_array()?.iter().collect() } else { vec![value] };
    let texts = || items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    match kind {
        Kind::Text if is_list => texts().map(Bind::Texts),
        Kind::Text => texts()?.pop().map(Bind::Text),
        Kind::Number if is_list => {
            items.iter().map(|item| integer(item)).collect::<Option<Vec<_>>>().map(Bind::Numbers)
        }
        Kind::Number => integer(value).map(Bind::Number),
        Kind::Time => instant(value).map(Bind::Time),
        Kind::Id(prefix) => {
            let texts = texts()?;
            let mut ids = texts.iter().map(|text| ids::decode(prefix, text));
            if is_list {
                return Some(Bind::Ids(ids.flatten().collect()));
            }
            // What cannot be an id names nothing; no row has the nil id.
            ids.next().map(|id| Bind::Id(id.unwrap_or_else(Uuid::nil)))
        }
    }
}

/// A whole number; its decimal text too, because query strings have nothing else; and `3.0`, because the SDK's numbers
/// are floats.
fn integer(value: &Value) -> Option<i64> {
    const EXACT_BELOW: f64 = 9e15;
    let whole = |number: f64| {
        let fits = number.fract() == 0.0 && number.abs() < EXACT_BELOW;
        fits.then(|| format!("{number:.0}").parse().ok()).flatten()
    };
    value.as_i64().or_else(|| value.as_f64().and_then(whole)).or_else(|| value.as_str()?.parse().ok())
}

fn instant(value: &Value) -> Option<DateTime<Utc>> {
    super::parse_time(value.as_str()?)
}

fn read_time(violations: &mut Violations, name: &str, value: Option<&Value>) -> Option<DateTime<Utc>> {
    let time = instant(value?);
    violations.require(time.is_some(), name, "must be an RFC 3339 date and time");
    time
}

/// A list: a JSON array of strings, or one comma-separated text as query strings have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(transparent, inline)]
pub struct List(Vec<String>);

impl List {
    /// The items; none when the list is empty, which asks for nothing.
    pub fn texts(self) -> Option<Vec<String>> {
        Some(self.0).filter(|items| !items.is_empty())
    }

    /// Whether it asks for something, and not for `word` in whatever letter case.
    pub fn lacks(&self, word: &str) -> bool {
        !self.0.is_empty() && !self.0.iter().any(|item| item.eq_ignore_ascii_case(word))
    }

    /// Without `word`, in whatever letter case.
    #[must_use]
    pub fn except(mut self, word: &str) -> Self {
        self.0.retain(|item| !item.eq_ignore_ascii_case(word));
        self
    }

    /// Whether it asks for anything at all.
    pub fn asks(&self) -> bool {
        !self.0.is_empty()
    }

    /// The items as ids of type `T`; none when the list is empty. What cannot be such an id names no row
    /// and is left out.
    pub fn ids<T: Id + FromStr>(self) -> Option<Vec<Uuid>> {
        let ids = |items: Vec<String>| {
            items.iter().filter_map(|item| item.parse::<T>().ok()).map(Into::into).collect()
        };
        self.texts().map(ids)
    }

    /// The items as terms such as an enum's; none when the list is empty, a violation of `field` for each
    /// that is not one.
    pub fn terms<T>(self, field: &str, violations: &mut Violations) -> Option<Vec<T>>
    where
        T: FromStr<Err: std::fmt::Display>,
    {
        let mut terms = Vec::new();
        for (index, item) in self.texts()?.iter().enumerate() {
            match item.parse() {
                Ok(term) => terms.push(term),
                Err(rule) => violations.add(format!("{field}[{index}]"), T::Err::to_string(&rule)),
            }
        }
        Some(terms)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a list of strings")]
        enum Form {
            Items(Vec<String>),
            Joined(String),
            Nothing(()),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Items(items) => items,
            Form::Joined(text) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
            }
            Form::Nothing(()) => Vec::new(),
        }))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        Column::id("id", "cust"),
        Column::text("name"),
        Column::number("display_order"),
        Column::time("created_at"),
    ];

    fn parse(body: Value) -> Result<Criteria, String> {
        let search: Search = serde_json::from_value(body).unwrap();
        search.parse(COLUMNS).map_err(|error| {
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
            format!("{error:?}")
        })
    }

    #[test]
    fn an_empty_search_is_the_first_page_of_the_newest() {
        let criteria = parse(json!({})).unwrap();
        assert_eq!(criteria.page, PageRequest { limit: 50, offset: 0 });
        assert_eq!(criteria.sort, [(COLUMNS[3], Direction::Descending)]);
        assert_eq!(criteria.status, "published");
    }

    #[test]
    fn query_strings_read_like_bodies() {
        let search: Search =
            serde_urlencoded::from_str("limit=5&offset=10&order=asc&sort=name&expand=prices,plan").unwrap();
        let criteria = search.parse(COLUMNS).unwrap();
        assert_eq!(criteria.page, PageRequest { limit: 5, offset: 10 });
        assert_eq!(criteria.sort, [(COLUMNS[1], Direction::Ascending)]);
        assert!(search.expands("plan") && !search.expands("price"));
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (body, field) in [
            (json!({"limit": 0}), "limit"),
            (json!({"limit": 1001}), "limit"),
            (json!({"limit": 2.5}), "limit"),
            (json!({"offset": -1}), "offset"),
            (json!({"offset": i64::MAX}), "offset"),
            (json!({"order": "down"}), "order"),
            (json!({"sort": "secret"}), "sort"),
            (json!({"sort": 1}), "sort"),
            (json!({"sort": [{"field": "x", "direction": "asc"}]}), "sort[0].field"),
            (json!({"sort": [{"field": "name", "direction": "up"}]}), "sort[0].direction"),
            (json!({"status": "gone"}), "status"),
            (json!({"start_time": "yesterday"}), "start_time"),
            (json!({"start_time": "2026-02-01T00:00:00Z", "end_time": "2026-01-01T00:00:00Z"}), "end_time"),
            (json!({"expand": 1}), "expand"),
            (json!({"filters": {}}), "filters"),
            (json!({"filters": [1]}), "filters[0].field"),
        ] {
            let error = parse(body.clone()).expect_err(field);
            assert!(error.contains(field), "{body}: {error}");
        }
    }

    #[test]
    fn filters_take_the_operators_and_values_of_their_column() {
        let filter = |field: &str, operator: &str, value: Value| {
            let filter = json!({"field": field, "operator": operator, "value": value});
            parse(json!({"filters": [filter]})).map(|criteria| criteria.filters[0].value.clone())
        };
        assert_eq!(filter("name", "contains", json!({"string": "J"})), Ok(Bind::Text("J".into())));
        assert_eq!(filter("name", "in", json!({"array": ["a"]})), Ok(Bind::Texts(vec!["a".into()])));
        assert_eq!(filter("display_order", "gte", json!({"number": 3})), Ok(Bind::Number(3)));
        assert_eq!(filter("display_order", "in", json!({"array": [3]})), Ok(Bind::Numbers(vec![3])));
        assert_eq!(filter("display_order", "eq", json!({"number": 3.0})), Ok(Bind::Number(3)));
        assert_eq!(filter("display_order", "lt", json!({"number": -0.0})), Ok(Bind::Number(0)));
        assert_eq!(filter("id", "eq", json!({"string": "nonsense"})), Ok(Bind::Id(Uuid::nil())));
        assert_eq!(filter("id", "in", json!({"array": ["nonsense"]})), Ok(Bind::Ids(vec![])));
        assert!(filter("created_at", "before", json!({"date": "2026-01-01T00:00:00Z"})).is_ok());
        for (field, operator, value, named) in [
            ("secret", "eq", json!({"string": "x"}), "filters[0].field"),
            ("name", "like", json!({"string": "x"}), "filters[0].operator"),
            ("name", "gt", json!({"string": "x"}), "filters[0].operator"),
            ("display_order", "contains", json!({"string": "x"}), "filters[0].operator"),
            ("created_at", "in", json!({"array": []}), "filters[0].operator"),
            ("name", "eq", json!({"number": 1}), "filters[0].value.string"),
            ("name", "eq", json!(null), "filters[0].value.string"),
            ("name", "in", json!({"array": [1]}), "filters[0].value.array"),
            ("display_order", "eq", json!({"number": 1.5}), "filters[0].value.number"),
            ("created_at", "after", json!({"date": "soon"}), "filters[0].value.date"),
        ] {
            let error = filter(field, operator, value).expect_err(named);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn lists_are_arrays_or_joined_by_commas() {
        #[derive(Deserialize)]
        struct Request {
            ids: Option<List>,
        }
        let read =
            |text: &str| serde_urlencoded::from_str::<Request>(text).unwrap().ids.and_then(List::texts);
        assert_eq!(read("ids=a%2Cb"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(read("ids="), None);
        assert_eq!(read(""), None);
        let body: Request = serde_json::from_value(json!({"ids": ["a,b"]})).unwrap();
        assert_eq!(body.ids.and_then(List::texts), Some(vec!["a,b".into()]));
        assert!(serde_json::from_value::<Request>(json!({"ids": [1]})).is_err());
        assert!(serde_json::from_value::<Request>(json!({"ids": 1})).is_err());
    }
}
