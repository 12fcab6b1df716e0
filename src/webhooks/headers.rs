//! Headers that a merchant adds to the requests to an endpoint.

use std::collections::BTreeMap;

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::http::Violations;

const MAX_HEADERS: usize = 16;
const MAX_NAME_CHARACTERS: usize = 64;
const MAX_VALUE_CHARACTERS: usize = 1024;

/// What we send ourselves, and what belongs to the connection.
const OURS: [&str; 19] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];
const OURS_PREFIXES: [&str; 4] = ["webhook-", "svix-", "proxy-", "x-forwarded-"];

/// Headers by their names as they were given.
pub type Headers = BTreeMap<String, String>;

/// Parses `headers`; what is wrong with each is added to `violations`.
pub fn check(violations: &mut Violations, headers: Map<String, Value>) -> Headers {
    violations.require(headers.len() <= MAX_HEADERS, "headers", "must be at most 16");
    let mut checked = Headers::new();
    let mut seen = Vec::new();
    for (name, value) in headers {
        // Shown in the answer: not at any length, and on one line.
        let field = format!("headers.{}", name.escape_debug().take(MAX_NAME_CHARACTERS).collect::<String>());
        let lower = name.to_ascii_lowercase();
        if name.len() > MAX_NAME_CHARACTERS || HeaderName::try_from(&name).is_err() {
            violations.add(field, "must be a header name of at most 64 characters");
            continue;
        }
        if OURS.contains(&&*lower) || OURS_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
            violations.add(field, "is set by checkoutd or by the connection");
            continue;
        }
        if seen.contains(&lower) {
            violations.add(field, "must be given once: header names have no letter case");
            continue;
        }
        match value {
            Value::String(text) if is_plain(&text) => {
                seen.push(lower);
                checked.insert(name, text);
            }
            _ => violations.add(
                field,
                "must be a text of 1 to 1024 printable ASCII characters, without spaces at its ends",
            ),
        }
    }
    checked
}

fn is_plain(text: &str) -> bool {
    (1..=MAX_VALUE_CHARACTERS).contains(&text.len())
        && text.trim() == text
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && HeaderValue::from_str(text).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(headers: Value) -> Result<Headers, String> {
        let mut violations = Violations::default();
        let Value::Object(headers) = headers else { panic!("an object") };
        let checked = check(&mut violations, headers);
        violations.finish().map(|()| checked).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_merchants_own_headers_pass() {
        let own =
            json!({"Authorization": "Bearer abc", "X-Shop": "1, 2; a=\"b\"", "cf-access-client-id": "x"});
        assert_eq!(checked(own).expect("all fine").len(), 3);
    }

    #[test]
    fn what_would_override_ours_or_break_the_request_does_not() {
        for (name, value) in [
            ("Webhook-Id", json!("evt_1")),
            ("webhook-signature", json!("v1,x")),
            ("svix-id", json!("x")),
            ("Content-Type", json!("text/plain")),
            ("content-length", json!("0")),
            ("HOST", json!("internal")),
            ("Transfer-Encoding", json!("chunked")),
            ("Connection", json!("close")),
            ("Proxy-Authorization", json!("x")),
            ("X-Forwarded-For", json!("127.0.0.1")),
            ("User-Agent", json!("x")),
            ("", json!("x")),
            ("X Shop", json!("x")),
            ("X-Shop:", json!("x")),
            ("X-Shop\r\nWebhook-Id", json!("x")),
            ("X-Sh\u{f6}p", json!("x")),
            ("X-Shop", json!("a\r\nWebhook-Id: b")),
            ("X-Shop", json!("a\nb")),
            ("X-Shop", json!("a\tb")),
            ("X-Shop", json!("\u{fc}")),
            ("X-Shop", json!(" x")),
            ("X-Shop", json!("")),
            ("X-Shop", json!(1)),
            ("X-Shop", json!(null)),
            ("X-Shop", json!("x".repeat(1025))),
            (&*"x".repeat(65), json!("x")),
        ] {
            assert!(checked(json!({name: value})).is_err(), "{name:?}: {value}");
        }
        assert!(checked(json!({"X-Shop": "1", "x-shop": "2"})).is_err(), "the same name twice");
        let many: Map<_, _> = (0..17).map(|i| (format!("x-{i}"), json!("1"))).collect();
        assert!(checked(Value::Object(many)).is_err(), "seventeen");
    }
}
