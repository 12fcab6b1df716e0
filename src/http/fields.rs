//! Rules that fields of several slices share.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, SubsecRound, Utc};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

use super::Violations;

const MAX_METADATA_KEYS: usize = 50;
const MAX_METADATA_KEY: usize = 40;
const MAX_METADATA_VALUE: usize = 500;

/// The merchant's own pairs as they arrive.
pub type Metadata = BTreeMap<String, String>;

/// At most 50 pairs; keys of 1 to 40 characters, values of at most 500.
pub fn check_metadata(violations: &mut Violations, metadata: &Metadata) {
    violations.require(metadata.len() <= MAX_METADATA_KEYS, "metadata", "must have at most 50 keys");
    for (key, value) in metadata {
        if key.is_empty() || key.chars().count() > MAX_METADATA_KEY {
            let shown: String = key.chars().take(MAX_METADATA_KEY).collect();
            violations.add(format!("metadata.{shown}"), "must have a key of 1 to 40 characters");
        } else if value.chars().count() > MAX_METADATA_VALUE {
            violations.add(format!("metadata.{key}"), "must have at most 500 characters");
        }
    }
}

/// The pairs as JSON, for the store.
pub fn metadata_value(metadata: Metadata) -> Value {
    metadata.into_iter().collect()
}

/// A text of 1 to `max` characters, where there is one.
pub fn check_name(violations: &mut Violations, field: &str, text: Option<&str>, max: usize) {
    let fits = text.is_none_or(|text| (1..=max).contains(&text.chars().count()));
    violations.require(fits, field, &format!("must have 1 to {max} characters"));
}

/// A text of at most `max` characters, where there is one.
pub fn check_length(violations: &mut Violations, field: &str, text: Option<&str>, max: usize) {
    let fits = text.is_none_or(|text| text.chars().count() <= max);
    violations.require(fits, field, &format!("must have at most {max} characters"));
}

/// Reads RFC 3339 text of the years 1 to 9999, cut to the microseconds that Postgres keeps. With any offset
/// in; UTC from here on.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    (1..=9999).contains(&time.year()).then(|| time.trunc_subsecs(6))
}

/// For `#[serde(default, deserialize_with = "optional_time")]`: [`parse_time`], or none.
pub fn optional_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let parse =
        |text: String| parse_time(&text).ok_or_else(|| D::Error::custom("must be an RFC 3339 date and time"));
    text.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_stays_within_its_bounds() {
        let broken = |metadata: Metadata| {
            let mut violations = Violations::default();
            check_metadata(&mut violations, &metadata);
            violations.finish().is_err()
        };
        let pair = |key: &str, value: &str| Metadata::from([(key.to_owned(), value.to_owned())]);
        assert!(!broken(pair(&"é".repeat(40), &"é".repeat(500))));
        assert!(broken(pair(&"k".repeat(41), "")));
        assert!(broken(pair("", "v")));
        assert!(broken(pair("k", &"v".repeat(501))));
        assert!(!broken((0..50).map(|n| (n.to_string(), String::new())).collect()));
        assert!(broken((0..51).map(|n| (n.to_string(), String::new())).collect()));
    }

    #[test]
    fn times_are_rfc_3339_in_a_range_that_postgres_and_json_have() {
        let shown = |text| parse_time(text).map(|time| time.to_rfc3339());
        assert_eq!(shown("2026-01-01T12:00:00+05:30").as_deref(), Some("2026-01-01T06:30:00+00:00"));
        assert_eq!(
            shown("2026-01-01T00:00:00.123456789Z").as_deref(),
            Some("2026-01-01T00:00:00.123456+00:00")
        );
        for text in [
            "",
            "2026-01-01",
            "2026-01-01 00:00",
            "0000-01-01T00:00:00Z",
            "+12026-01-01T00:00:00Z",
            "1767225600",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
