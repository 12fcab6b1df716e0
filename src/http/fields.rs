//! Rules for lengths and times that several slices share.

use chrono::{DateTime, Datelike, SubsecRound, Utc};
use serde::{Deserialize, Deserializer, de::Error};

use super::Violations;

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

/// For `#[serde(default, deserialize_with = "given")]`: tells a `null`, which is `Some(None)`, from an absent member.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

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
