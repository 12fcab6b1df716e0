//! The service answers, and says whether it can do its work.

use axum::http::Method;
use serde_json::json;

use crate::support::{TestApp, send};

#[tokio::test]
async fn a_started_service_is_healthy_and_ready() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for path in ["/healthz", "/readyz"] {
        send(merchant.builder(Method::GET, path)).await.expect(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn unknown_routes_and_verbs_answer_in_the_envelope() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.get("/v1/nothing").await.expect_error(404, "not_found");
    merchant.put("/v1/checkout/sessions", json!({})).await.expect_error(405, "invalid_operation");
    app.finish().await;
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let reply = send(merchant.builder(Method::GET, "/healthz").header("x-request-id", "abc-1")).await;
    assert_eq!(reply.headers["x-request-id"], "abc-1");
    let reply = send(merchant.builder(Method::GET, "/healthz").header("x-request-id", "with space")).await;
    assert!(reply.headers["x-request-id"].to_str().unwrap().starts_with("req_"));
    assert_eq!(reply.headers["cache-control"], "no-store");
    app.finish().await;
}
