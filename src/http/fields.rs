//! Rules that fields of several slices share.

use std::collections::BTreeMap;

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

/// A text that must be there and have 1 to `max` characters. Gives back an empty one beside a violation.
pub fn required_text(violations: &mut Violations, field: &str, text: Option<String>, max: usize) -> String {
    if text.is_none() {
        violations.add(field, "is required");
    } else {
        check_name(violations, field, text.as_deref(), max);
    }
    text.unwrap_or_default()
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
}
