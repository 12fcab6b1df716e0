//! Operations of the compatible API that are not served say so, by name.

use std::collections::HashSet;

use axum::http::Method;
use serde_json::json;

use crate::support::{TestApp, send};

/// Method, path with made-up ids, and the SDK's name.
fn operations() -> Vec<(Method, String, &'static str)> {
    let table = include_str!("../../src/http/unsupported.txt").lines().filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let [method, path, name] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let segments = path.split('/').map(|segment| if segment.starts_with('{') { "x" } else { segment });
        (method.parse().unwrap(), format!("/v1{}", segments.collect::<Vec<_>>().join("/")), name)
    };
    table.map(row).collect()
}

#[tokio::test]
async fn each_unsupported_operation_answers_501_by_its_name() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let mut named = HashSet::new();
    for (method, path, name) in operations() {
        let body = (method != Method::GET).then(|| json!({"any": "thing"}));
        let error = merchant.request(method, &path, body).await.expect_error(501, "not_implemented");
        assert_eq!(error["message"], format!("{name} is not supported"));
        assert_eq!(error["details"], json!({"reason": "operation_not_supported", "operation": name}));
        named.insert(name);
    }
    assert!(named.len() > 200, "{}", named.len());
    app.finish().await;
}

#[tokio::test]
async fn who_has_no_key_does_not_learn_what_is_supported() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for (method, path, name) in operations() {
        let reply = send(merchant.builder(method, &path).header("x-api-key", "sk_test_nobody")).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (401, Some("unauthorized")), "{name}");
    }
    app.finish().await;
}
