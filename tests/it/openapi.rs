//! The description of the API: `/openapi.json`, `/docs`, and the committed copy.

use std::collections::HashSet;

use axum::http::Method;
use serde_json::Value;

use crate::support::{
    TestApp,
    described::{DOCUMENT, operations},
    send,
};

#[test]
fn the_committed_copy_is_what_the_service_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        committed == *DOCUMENT,
        "the API's description changed: cargo run -- openapi > docs/openapi.json"
    );
}

#[test]
fn every_operation_has_a_name_of_its_own_a_summary_and_its_refusals() {
    let mut ids = HashSet::new();
    for (path, method, operation) in operations() {
        let place = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{place} has no id"));
        assert!(ids.insert(id), "{place}: {id} is another's id too");
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{place}: summary");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{place}: no success");
        let needs_key = !operation["security"].as_array().unwrap().is_empty();
        // What is open to all: what watches the process, and Razorpay's webhooks, which are signed.
        let is_open = matches!(path, "/healthz" | "/readyz") || path.starts_with("/v1/webhooks/razorpay/");
        assert_eq!(needs_key, !is_open, "{place}: security");
        if needs_key {
            for status in ["401", "403", "429", "500", "503"] {
                assert!(responses.contains_key(status), "{place}: {status}");
            }
        }
        for name in path.split('/').filter_map(|segment| segment.strip_prefix('{')) {
            let name = name.trim_end_matches('}');
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(
                parameters.iter().any(|parameter| parameter["in"] == "path" && parameter["name"] == name),
                "{place}: {name}"
            );
        }
    }
}

#[tokio::test]
async fn the_service_describes_itself_to_anybody() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let reply = send(merchant.builder(Method::GET, "/openapi.json")).await;
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.expect(200), *DOCUMENT);
    let page = send(merchant.builder(Method::GET, "/docs")).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("/openapi.json"));
    // Nothing is loaded from elsewhere, and only the page's own scripts run.
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("script-src 'unsafe"), "{policy}");
    app.finish().await;
}
