//! Rules that several slices share.

use serde_json::{Map, Value};

use super::{ApiError, Violations};
use crate::kit::page::PageRequest;

const METADATA_PAIRS: usize = 50;
const METADATA_KEY_CHARACTERS: usize = 40;
const METADATA_VALUE_CHARACTERS: usize = 500;

/// Metadata is a flat map of strings: at most 50 pairs, keys of 40 and values of 500 characters.
pub fn metadata_violations(violations: &mut Violations, field: &str, metadata: &Map<String, Value>) {
    violations.require(metadata.len() <= METADATA_PAIRS, field, "must have at most 50 pairs");
    for (key, value) in metadata {
        if !(1..=METADATA_KEY_CHARACTERS).contains(&key.chars().count()) {
            violations.add(field, "must have keys of 1 to 40 characters");
        }
        match value {
            Value::String(text) if text.chars().count() <= METADATA_VALUE_CHARACTERS => {}
            Value::String(_) => violations.add(format!("{field}.{key}"), "must have at most 500 characters"),
            _ => violations.add(format!("{field}.{key}"), "must be a string"),
        }
    }
}

/// The page size of a log: 1 to 1000, 50 if not given. An `offset` is refused, because who pages by it would read the
/// first page for ever.
pub fn log_limit(limit: Option<i64>, offset: Option<&str>) -> Result<i64, ApiError> {
    if offset.is_some() {
        let rule = "must be absent: a log goes on from its last item, not by offset";
        return Err(ApiError::validation("offset", rule));
    }
    Ok(page(limit, None)?.limit)
}

/// A page within bounds: limit 1 to 1000 (50 if not given), offset from 0.
pub fn page(limit: Option<i64>, offset: Option<i64>) -> Result<PageRequest, ApiError> {
    let request =
        PageRequest { limit: limit.unwrap_or(PageRequest::DEFAULT_LIMIT), offset: offset.unwrap_or(0) };
    let mut violations = Violations::default();
    violations.require(
        (1..=PageRequest::MAX_LIMIT).contains(&request.limit),
        "limit",
        "must be from 1 to 1000",
    );
    violations.require(request.offset >= 0, "offset", "must not be negative");
    violations.finish().map(|()| request)
}
