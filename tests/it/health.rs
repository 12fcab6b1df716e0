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

/// Ends by the server's own limit of ten seconds; a server without one fails by the runner's patience.
#[tokio::test]
async fn a_client_that_sends_no_request_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let app = TestApp::start().await;
    let addr = app.base_url.strip_prefix("http://").unwrap();
    let silent = async |first: &'static [u8]| {
        let mut socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        socket.write_all(first).await.unwrap();
        let mut answer = Vec::new();
        // The end of the stream, orderly or not.
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    let answers =
        tokio::join!(silent(b""), silent(b"P"), silent(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: "));
    for answer in [answers.0, answers.1, answers.2] {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    app.finish().await;
}
