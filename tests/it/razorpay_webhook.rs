//! The inbound endpoint: only Razorpay's own bytes are believed, and each of its facts once.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{
    KEY_SECRET, Merchant, TestApp, WEBHOOK_SECRET,
    razorpay::{paid_event, signature},
    send,
};

const AMOUNT: i64 = 49_900;

fn link_of(app: &TestApp, session: &Value) -> String {
    app.sandbox.ledger().link(session["id"].as_str().unwrap()).unwrap().id.clone()
}

/// Stored events: type, status and outcome.
async fn inbox(app: &TestApp) -> Vec<(String, String, Option<String>)> {
    sqlx::query_as("select event_type, inbox_status, outcome from inbox")
        .fetch_all(&app.state().pool)
        .await
        .unwrap()
}

async fn is_pending(merchant: &Merchant, session: &Value) {
    assert_eq!(merchant.read_session(session).await["checkout_status"], "pending");
}

#[tokio::test]
async fn only_the_exact_signature_of_this_environment_is_believed() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let body = paid_event(&session, &link_of(&app, &session), &json!(AMOUNT)).to_string();
    let right = signature(body.as_bytes(), WEBHOOK_SECRET);
    assert!(right.bytes().any(|byte| byte.is_ascii_lowercase()), "upper case must differ: {right}");
    let before = app.row_counts().await;
    merchant.post_event(body.clone(), None).await.expect_error(401, "unauthorized");
    let flipped = |index: usize| {
        let mut text = right.clone().into_bytes();
        text[index] = if text[index] == b'0' { b'1' } else { b'0' };
        String::from_utf8(text).unwrap()
    };
    for wrong in [
        "",
        " ",
        "0",
        "00",
        "nonsense",
        &"z".repeat(64),
        &"0".repeat(64),
        &right[..63],
        &right[..62],
        &right[2..],
        &format!("{right}00"),
        &format!("sha256={right}"),
        &format!("{right},{right}"),
        &right.to_uppercase(),
        &flipped(0),
        &flipped(63),
        &"a".repeat(5000),
        "é",
        &signature(body.as_bytes(), KEY_SECRET),
        &signature(body.as_bytes(), ""),
        &signature(body.as_bytes(), "another tenant's secret"),
        &signature(b"{}", WEBHOOK_SECRET),
    ] {
        merchant.post_event(body.clone(), Some(wrong)).await.expect_error(401, "unauthorized");
    }
    // One byte more or less, a changed amount, the same JSON written otherwise.
    let rewritten = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&body).unwrap()).unwrap();
    for other in
        [format!("{body} "), body[1..].to_owned(), body.replace("49900", "1"), rewritten, String::new()]
    {
        merchant.post_event(other, Some(&right)).await.expect_error(401, "unauthorized");
    }
    assert_eq!(app.row_counts().await, before);
    is_pending(&merchant, &session).await;
    app.finish().await;
}

#[tokio::test]
async fn an_api_key_does_not_replace_the_signature() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let path = format!("/v1/webhooks/razorpay/{}/{}", merchant.tenant_id, merchant.environment_id);
    merchant.post(&path, json!({"event": "x"})).await.expect_error(401, "unauthorized");
    merchant.get(&path).await.expect_error(405, "invalid_operation");
    assert!(inbox(&app).await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_or_malformed_tenant_or_environment_is_not_found() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let stranger = app.merchant().await;
    let body = json!({"event": "x", "payload": {}}).to_string();
    let signed = signature(body.as_bytes(), WEBHOOK_SECRET);
    let unknown = |prefix| checkoutd::kit::ids::encode(prefix, sqlx::types::Uuid::nil());
    let (tenant, environment) = (&*merchant.tenant_id, &*merchant.environment_id);
    for (tenant, environment) in [
        (tenant, "nonsense"),
        ("nonsense", environment),
        (tenant, &*stranger.environment_id),
        (&*stranger.tenant_id, environment),
        (environment, tenant),
        (tenant, &*unknown("env")),
        (&*unknown("tenant"), environment),
        (tenant, &*environment.to_lowercase()),
        (tenant, "%00"),
        (tenant, "%ff"),
        ("%ff", "%ff"),
    ] {
        let path = format!("/v1/webhooks/razorpay/{tenant}/{environment}");
        let request = merchant.builder(Method::POST, &path).header("x-razorpay-signature", &signed);
        let error = send(request.body(body.clone())).await.expect_error(404, "not_found");
        assert_eq!(error["details"]["reason"], "environment_not_found");
    }
    assert!(inbox(&app).await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn another_tenants_event_under_the_same_secret_changes_nothing() {
    let app = TestApp::start().await;
    let (merchant, stranger) = (app.merchant().await, app.merchant().await);
    let session = merchant.session().await;
    let own = stranger.session().await;
    let body = paid_event(&session, &link_of(&app, &session), &json!(AMOUNT)).to_string();
    stranger.post_signed(body, WEBHOOK_SECRET).await.expect(200);
    // Its own session named with the other's link: the link decides, and it is not there.
    let mixed = paid_event(&own, &link_of(&app, &session), &json!(AMOUNT)).to_string();
    stranger.post_signed(mixed, WEBHOOK_SECRET).await.expect(200);
    app.drain().await;
    is_pending(&merchant, &session).await;
    is_pending(&stranger, &own).await;
    let payments: i64 = sqlx::query_scalar("select count(*) from provider_payments")
        .fetch_one(&app.state().pool)
        .await
        .unwrap();
    assert_eq!(payments, 0);
    // Long after, the worker has given up on the event that names no session of theirs.
    app.advance(chrono::TimeDelta::minutes(12)).await;
    assert!(inbox(&app).await.iter().all(|(_, status, _)| status != "waiting"), "{:?}", inbox(&app).await);
    app.finish().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_looked_at() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let event = |bytes: usize| {
        let mut body = json!({"event": "big", "payload": {}}).to_string();
        body.push_str(&" ".repeat(bytes - body.len()));
        body
    };
    merchant.post_signed(event(257 * 1024), WEBHOOK_SECRET).await.expect_error(413, "validation_error");
    merchant.post_signed(event(256 * 1024 + 1), WEBHOOK_SECRET).await.expect_error(413, "validation_error");
    assert!(inbox(&app).await.is_empty());
    merchant.post_signed(event(256 * 1024), WEBHOOK_SECRET).await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn a_signed_body_that_is_no_event_is_refused_and_never_money() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let link = link_of(&app, &session);
    let paid = paid_event(&session, &link, &json!(AMOUNT));
    let text = paid.to_string();
    let with_amount = |amount: &str| text.replace("49900", amount);
    let deep = |open: &str, close: &str| {
        let levels = 200_000 / (open.len() + close.len());
        format!("{}{}", open.repeat(levels), close.repeat(levels))
    };
    let mut bodies: Vec<Vec<u8>> = [
        String::new(),
        "{".into(),
        "nonsense".into(),
        "[]".into(),
        "null".into(),
        "5".into(),
        "{}".into(),
        format!("[{text}]"),
        format!("{text}{text}"),
        r#"{"event": 5}"#.into(),
        r#"{"event": null}"#.into(),
        // Members by position are not an event.
        format!(r#"["payment_link.paid", {}]"#, paid["payload"]),
        deep("[", "]"),
        deep(r#"{"payload":"#, "}").replace(":}", ":0}"),
        r#"{"event":"#.to_owned() + &deep("[", "]") + "}",
        text.replace(r#""event":"payment_link.paid""#, r#""event":"payment_link.paid","event":"x""#),
        text.replace(r#""amount":49900"#, r#""amount":1,"amount":49900"#),
        text.replace("payment_link.paid", r"payment_link.paid\u0000"),
        text.replace("pay_00000000000001", r"pay_0000000000\u0000"),
        text.replace(&link, r"plink_\u0000"),
        text.replace(r#""INR""#, r#""I\u0000""#),
        text.replace("payment_link.paid", r"payment_link.\ud800"),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    bodies.push([b"{\"event\":\"\xff\"}".as_slice(), b""].concat());
    for amount in [
        r#""49900""#,
        "49900.0",
        "49900.5",
        "4.99e4",
        "1e400",
        "-1e400",
        "9223372036854775808",
        "null",
        "[49900]",
        "true",
        "NaN",
    ] {
        bodies.push(with_amount(amount).into_bytes());
    }
    let before = app.row_counts().await;
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        let reply = merchant.post_signed(body, WEBHOOK_SECRET).await;
        assert_eq!(reply.status, 400, "{shown}: {}", reply.text);
        let error = reply.expect_error(400, "validation_error");
        assert_eq!(error["details"]["reason"], "malformed_event", "{shown}");
    }
    assert_eq!(app.row_counts().await, before);
    is_pending(&merchant, &session).await;
    app.finish().await;
}

#[tokio::test]
async fn a_captured_amount_of_nothing_or_less_is_kept_for_people_and_moves_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let link = link_of(&app, &session);
    for amount in [0, -1, -AMOUNT, i64::MIN] {
        let body = paid_event(&session, &link, &json!(amount)).to_string();
        merchant.post_signed(body, WEBHOOK_SECRET).await.expect(200);
    }
    let nowhere = paid_event(&session, &link, &json!(AMOUNT)).to_string().replace("INR", "XXX");
    merchant.post_signed(nowhere, WEBHOOK_SECRET).await.expect(200);
    app.drain().await;
    for (_, status, outcome) in inbox(&app).await {
        assert_eq!((&*status, outcome.as_deref()), ("parked", Some("unusable_payment")));
    }
    is_pending(&merchant, &session).await;
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_event_type_is_stored_once_and_ignored() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for name in ["subscription.charged", "subscription.charged", "", "payment_link.paid", "x\ny", "ключ"]
    {
        let body = json!({"event": name, "payload": {}, "created_at": 1}).to_string();
        merchant.post_signed(body, WEBHOOK_SECRET).await.expect(200);
    }
    let ignored = |name: &str| (name.to_owned(), "processed".to_owned(), Some("ignored".to_owned()));
    let mut expected = ["subscription.charged", "", "payment_link.paid", "x\ny", "ключ"].map(ignored);
    let mut stored = inbox(&app).await;
    stored.sort();
    expected.sort();
    assert_eq!(stored, expected);
    app.finish().await;
}

#[tokio::test]
async fn the_same_event_twenty_times_at_once_is_one_transition() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let paid = app.pay(&session);
    let mut event = paid_event(&session, &link_of(&app, &session), &json!(AMOUNT));
    event["payload"]["payment"]["entity"]["id"] = json!(paid.payment_id);
    let body = event.to_string();
    let replies =
        futures::future::join_all((0..20).map(|_| merchant.post_signed(body.clone(), WEBHOOK_SECRET))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(inbox(&app).await.len(), 1);
    let after = app.row_counts().await;
    // Other header names for the same signed bytes, and another delivery time in them: still the same event.
    for number in 0..3 {
        let path = format!("/v1/webhooks/razorpay/{}/{}", merchant.tenant_id, merchant.environment_id);
        event["created_at"] = json!(1_795_000_100 + number / 2);
        let body = event.to_string();
        let request =
            merchant.builder(Method::POST, &path).header("x-razorpay-event-id", format!("evt_{number}"));
        let signed = request.header("x-razorpay-signature", signature(body.as_bytes(), WEBHOOK_SECRET));
        send(signed.body(body)).await.expect(200);
    }
    assert_eq!(app.row_counts().await, after);
    let session = merchant.read_session(&session).await;
    assert_eq!(session["checkout_status"], "completed");
    assert_eq!(session["completed_at"], "2026-11-23T09:30:00Z");
    app.finish().await;
}
