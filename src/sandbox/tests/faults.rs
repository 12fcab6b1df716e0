//! Each fault, and the rest of the control API.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::*;
use crate::sandbox::server::Connection;

fn fault(op: &str, times: u32, kind: &Value) -> Value {
    let mut rule = json!({"op": op, "times": times});
    rule.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
    json!({"rules": [rule]})
}

async fn set(rig: &Rig, faults: Value) {
    let (status, answer) = rig.control(Method::PUT, "/faults", faults).await;
    assert_eq!(status, 200, "{answer}");
}

/// A create whose answer may never come: the error, if the client gave up or was cut off.
async fn try_create(rig: &Rig, reference_id: &str) -> Result<(u16, String), reqwest::Error> {
    let request = rig
        .http
        .post(rig.url("/v1/payment_links"))
        .basic_auth(KEY_ID, Some(KEY_SECRET))
        .timeout(Duration::from_millis(300))
        .json(&json!({"amount": 100, "reference_id": reference_id}));
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

#[tokio::test]
async fn a_status_fault_answers_without_doing_the_work_as_often_as_asked() {
    let rig = Rig::start().await;
    set(&rig, fault("create_link", 2, &json!({"kind": "status", "code": 429, "retry_after": 3}))).await;
    for _ in 0..2 {
        let request = rig.http.post(rig.url("/v1/payment_links")).basic_auth(KEY_ID, Some(KEY_SECRET));
        let response = request.json(&json!({"amount": 100})).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"].to_str().unwrap()),
            (429, &"3")
        );
        let body = read(response).await.1;
        assert_eq!(body, json!({"error": {"code": "BAD_REQUEST_ERROR", "description": "Too many requests"}}));
    }
    assert!(rig.sandbox.ledger().links.is_empty());
    assert_eq!(try_create(&rig, "A").await.unwrap().0, 200);

    set(&rig, fault("create_link", 1, &json!({"kind": "status", "code": 502, "body": "<html>"}))).await;
    assert_eq!(try_create(&rig, "B").await.unwrap(), (502, "<html>".to_owned()));
    set(&rig, fault("create_link", 1, &json!({"kind": "status", "code": 500}))).await;
    assert!(try_create(&rig, "B").await.unwrap().1.contains("SERVER_ERROR"));
}

#[tokio::test]
async fn each_fault_applies_to_its_own_call_only() {
    let rig = Rig::start().await;
    let payment_id = rig.paid("REF-1").await;
    let link = rig.sandbox.ledger().links[0].clone();
    let (id, order_id) = (link.id, link.order_id.unwrap());
    let calls = [
        ("create_link", Method::POST, "/v1/payment_links".to_owned()),
        ("list_links", Method::GET, "/v1/payment_links".to_owned()),
        ("fetch_link", Method::GET, format!("/v1/payment_links/{id}")),
        ("cancel_link", Method::POST, format!("/v1/payment_links/{id}/cancel")),
        ("fetch_payment", Method::GET, format!("/v1/payments/{payment_id}")),
        ("order_payments", Method::GET, format!("/v1/orders/{order_id}/payments")),
        ("fetch_refund", Method::GET, format!("/v1/payments/{payment_id}/refunds")),
        ("refund", Method::POST, format!("/v1/payments/{payment_id}/refund")),
    ];
    for (op, ..) in &calls {
        set(&rig, fault(op, 1, &json!({"kind": "status", "code": 503}))).await;
        for (other, method, path) in &calls {
            let (status, _) = rig.call(method.clone(), path, &Value::Null).await;
            assert_eq!(status == 503, op == other, "{op} on {other}");
        }
    }
}

#[tokio::test]
async fn a_client_can_time_out_before_or_after_the_work_is_done() {
    let rig = Rig::start().await;
    set(&rig, fault("create_link", 1, &json!({"kind": "timeout_before"}))).await;
    assert!(try_create(&rig, "before").await.unwrap_err().is_timeout());
    assert!(rig.sandbox.ledger().link("before").is_none());
    set(&rig, fault("create_link", 1, &json!({"kind": "timeout_after"}))).await;
    assert!(try_create(&rig, "after").await.unwrap_err().is_timeout());
    assert!(rig.sandbox.ledger().link("after").is_some());
}

#[tokio::test]
async fn a_hanging_request_ends_when_its_client_leaves_and_when_the_sandbox_stops() {
    let rig = Rig::start().await;
    set(&rig, fault("list_links", 2, &json!({"kind": "timeout_before"}))).await;
    let request = "GET /v1/payment_links HTTP/1.1\r\nhost: x\r\n\
                   authorization: Basic cnpwX3Rlc3Rfb25lOnNlY3JldF9vbmU=\r\n\r\n";
    let tasks = &rig.sandbox.shared.tasks;
    let turns_left = || rig.sandbox.shared.books().faults.rules[0].times;
    let hang = async |turns_left_when_it_hangs| {
        let mut stream = TcpStream::connect(rig.sandbox.addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        while turns_left() != Some(turns_left_when_it_hangs) {
            tokio::task::yield_now().await;
        }
        stream
    };
    let tasks_before = tasks.len();
    let leaves = hang(1).await;
    assert_eq!(tasks.len(), tasks_before + 1);
    drop(leaves);
    while tasks.len() != tasks_before {
        tokio::task::yield_now().await;
    }
    let mut stays = hang(0).await;
    rig.sandbox.shutdown().await;
    let mut answer = Vec::new();
    let _ = stays.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_connection_can_be_closed_without_an_answer_after_the_work() {
    let rig = Rig::start().await;
    set(&rig, fault("create_link", 1, &json!({"kind": "reset_after"}))).await;
    let error = try_create(&rig, "A").await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    assert_eq!(rig.sandbox.ledger().links.len(), 1);
}

#[tokio::test]
async fn an_answer_can_be_cut_late_or_about_another_amount() {
    let rig = Rig::start().await;
    set(&rig, fault("create_link", 1, &json!({"kind": "malformed"}))).await;
    let (status, text) = try_create(&rig, "cut").await.unwrap();
    assert_eq!(status, 200);
    assert!(text.starts_with('{') && serde_json::from_str::<Value>(&text).is_err());
    assert!(rig.sandbox.ledger().link("cut").is_some());

    set(&rig, fault("create_link", 1, &json!({"kind": "other_amount"}))).await;
    let (_, text) = try_create(&rig, "other").await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["amount"], 200);
    assert_eq!(rig.sandbox.ledger().link("other").unwrap().terms.amount, 100);
    set(&rig, fault("list_links", 1, &json!({"kind": "other_amount"}))).await;
    assert_eq!(rig.get("/v1/payment_links").await.1["payment_links"][0]["amount"], 200);

    set(&rig, fault("list_links", 1, &json!({"kind": "delay_ms", "delay_ms": 30}))).await;
    let asked_at = Instant::now();
    assert_eq!(rig.get("/v1/payment_links").await.0, 200);
    assert!(asked_at.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn lists_can_lag_behind_while_reads_by_id_do_not() {
    let rig = Rig::start().await;
    set(&rig, json!({"list_lag_ms": 6_000})).await;
    let link = rig.link("REF-1").await;
    let listed = async || {
        rig.get("/v1/payment_links?reference_id=REF-1").await.1["payment_links"].as_array().unwrap().len()
    };
    assert_eq!(listed().await, 0);
    assert_eq!(rig.get(&format!("/v1/payment_links/{}", link["id"].as_str().unwrap())).await.0, 200);
    rig.advance(6);
    assert_eq!(listed().await, 1);
}

#[tokio::test]
async fn faults_can_be_read_and_cleared() {
    let rig = Rig::start().await;
    set(&rig, fault("refund", 3, &json!({"kind": "reset_after"}))).await;
    let (_, faults) = rig.control(Method::GET, "/faults", Value::Null).await;
    assert_eq!(faults["rules"], json!([{"op": "refund", "times": 3, "kind": "reset_after"}]));
    assert_eq!(rig.control(Method::DELETE, "/faults", Value::Null).await.0, 204);
    assert_eq!(rig.control(Method::GET, "/faults", Value::Null).await.1["rules"], json!([]));
}

#[tokio::test]
async fn the_control_api_moves_the_clock_and_shows_the_ledger() {
    let rig = Rig::start().await;
    let (_, link) = rig
        .post("/v1/payment_links", json!({"amount": 100, "expire_by": START + 1_000, "reference_id": "R"}))
        .await;
    let (_, answer) = rig.control(Method::POST, "/clock", json!({"offset_seconds": 60})).await;
    assert_eq!(answer, json!({"now": "2027-01-15T08:01:00Z"}));
    let (_, answer) = rig.control(Method::POST, "/clock", json!({"now": "2027-01-15T08:16:40Z"})).await;
    assert_eq!(answer, json!({"now": "2027-01-15T08:16:40Z"}));
    let (_, ledger) = rig.control(Method::GET, "/ledger", Value::Null).await;
    assert_eq!((&ledger["links"][0]["id"], &ledger["links"][0]["status"]), (&link["id"], &json!("expired")));
    assert_eq!(ledger["deliveries"][0]["event"], "payment_link.expired");

    let unknown = rig.control(Method::POST, "/links/nothing/pay", json!({})).await;
    assert_eq!(unknown, (404, json!({"error": "no link has the id or reference_id \"nothing\""})));
    rig.link("S").await;
    assert_eq!(rig.control(Method::POST, "/links/S/expire", Value::Null).await.0, 200);
    let refused = rig.control(Method::POST, "/links/S/cancel", Value::Null).await;
    assert_eq!(refused, (409, json!({"error": "cannot cancel or expire an expired link"})));
    rig.link("T").await;
    assert_eq!(rig.control(Method::POST, "/links/T/cancel", Value::Null).await.0, 200);
}

#[tokio::test]
async fn the_control_api_refuses_callers_from_elsewhere() {
    let rig = Rig::start().await;
    let router = crate::sandbox::control::routes().with_state(Arc::clone(&rig.sandbox.shared));
    for (peer, expected) in
        [("127.0.0.1:9", 200), ("[::ffff:127.0.0.1]:9", 200), ("10.0.0.7:9", 403), ("[2001:db8::1]:9", 403)]
    {
        let connection = Connection { peer: peer.parse().unwrap(), close: CancellationToken::new() };
        let mut request = axum::extract::Request::new(axum::body::Body::empty());
        *request.uri_mut() = "/_sandbox/ledger".parse().unwrap();
        request.extensions_mut().insert(connection);
        assert_eq!(router.clone().oneshot(request).await.unwrap().status(), expected, "{peer}");
    }
}
