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
        "[".repeat(200_000),
        r#"{"payload":"#.repeat(20_000),
        format!("\u{feff}{text}"),
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
    // Another encoding than the signed bytes themselves is none.
    bodies.push(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec());
    let before = app.row_counts().await;
    for body in bodies {
        // Whatever it is: unsigned, it is not looked at.
        merchant.post_signed(body.clone(), KEY_SECRET).await.expect_error(401, "unauthorized");
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

#[tokio::test]
async fn an_event_a_hundred_times_at_once_over_two_replicas_is_one_transition() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let replica = app.replica(&merchant).await;
    let session = merchant.session().await;
    let paid = app.pay(&session);
    let mut event = paid_event(&session, &paid.link_id, &json!(AMOUNT));
    event["payload"]["payment"]["entity"]["id"] = json!(paid.payment_id);
    let body = event.to_string();
    let signed = signature(body.as_bytes(), WEBHOOK_SECRET);
    let path = format!("/v1/webhooks/razorpay/{}/{}", merchant.tenant_id, merchant.environment_id);
    // Half of them under one event id, half each under its own: that header is not signed.
    let posts = (0..100).map(|number| {
        let id = if number % 4 < 2 { 0 } else { number };
        let to = if number % 2 == 0 { &merchant } else { &replica };
        let request = to.builder(Method::POST, &path).header("x-razorpay-event-id", format!("evt_{id}"));
        send(request.header("x-razorpay-signature", &signed).body(body.clone()))
    });
    let statuses: Vec<_> =
        futures::future::join_all(posts).await.into_iter().map(|reply| reply.status).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(inbox(&app).await, [("payment_link.paid".into(), "processed".into(), Some("applied".into()))]);
    let transitions: Vec<(i32, String)> =
        sqlx::query_as("select sequence, to_status from session_transitions order by sequence")
            .fetch_all(&app.state().pool)
            .await
            .unwrap();
    assert_eq!(transitions, [(1, "pending".into()), (2, "completed".into())]);
    for merchant in [&merchant, &replica] {
        assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    }
    app.finish().await;
}

#[tokio::test]
async fn ten_thousand_forged_signatures_verify_nothing() {
    use checkoutd::razorpay::signature::verifies;
    use rand::{RngExt, SeedableRng};

    let mut random = rand::rngs::StdRng::seed_from_u64(20);
    let (secret, body) = (WEBHOOK_SECRET.into(), br#"{"event":"payment_link.paid"}"#);
    let right = signature(body, WEBHOOK_SECRET);
    assert!(verifies(body, &right, &secret));
    for round in 0..10_000 {
        let bytes: [u8; 32] = random.random();
        let forged = match round % 4 {
            // The form of a signature, any text, one wrong byte, and another secret's.
            0 => hex::encode(bytes),
            1 => String::from_utf8_lossy(&bytes[..usize::from(bytes[0] % 32)]).into_owned(),
            2 => {
                let mut bits = hex::decode(&right).unwrap();
                bits[usize::from(bytes[0] % 32)] ^= 1 << (bytes[1] % 8);
                hex::encode(bits)
            }
            _ => signature(body, &hex::encode(bytes)),
        };
        assert!(!verifies(body, &forged, &secret), "{forged}");
    }
}

#[tokio::test]
async fn forgeries_leave_no_row_and_nothing_to_answer_but_401() {
    let app = TestApp::start().await;
    let (merchant, stranger) = (app.merchant().await, app.merchant().await);
    let connections = stranger.get("/v1/connections").await.expect(200);
    let id = connections["items"][0]["id"].as_str().unwrap();
    let other = json!({"encrypted_secret_data": {"webhook_secret": "the-strangers-own-secret"}});
    stranger.put(&format!("/v1/connections/{id}"), other).await.expect(200);
    let session = merchant.session().await;
    let body = paid_event(&session, &link_of(&app, &session), &json!(AMOUNT)).to_string();
    let before = app.row_counts().await;
    let right = signature(body.as_bytes(), WEBHOOK_SECRET);
    let flipped = (0..32).map(|place| {
        let mut bytes = hex::decode(&right).unwrap();
        bytes[place] ^= 1;
        hex::encode(bytes)
    });
    let forged = ["the-strangers-own-secret", KEY_SECRET, &merchant.api_key, &merchant.environment_id]
        .map(|secret| signature(body.as_bytes(), secret));
    for signature in flipped.chain(forged) {
        merchant.post_event(body.clone(), Some(&signature)).await.expect_error(401, "unauthorized");
    }
    assert_eq!(app.row_counts().await, before);
    is_pending(&merchant, &session).await;
    app.finish().await;
}

#[tokio::test]
async fn a_genuine_body_of_thirty_days_ago_changes_nothing() {
    let app = TestApp::start().await;
    let (merchant, stranger) = (app.merchant().await, app.merchant().await);
    let (paid, unpaid) = (merchant.session().await, merchant.session().await);
    app.pay_and_settle(&paid).await;
    app.advance(chrono::TimeDelta::minutes(15)).await;
    app.advance(chrono::TimeDelta::days(30)).await;
    let genuine = app.sandbox.ledger().deliveries;
    assert!(genuine.iter().any(|delivery| delivery.event == "payment_link.cancelled"), "of the unpaid one");
    let state = async || {
        // Events that meant nothing were removed by now, and may come again.
        let mut stored = inbox(&app).await;
        stored.retain(|(_, _, outcome)| outcome.as_deref() != Some("ignored"));
        let mut counts = app.row_counts().await;
        counts.retain(|(table, _)| table != "inbox");
        (counts, stored)
    };
    let before = state().await;
    for delivery in &genuine {
        merchant.post_event(delivery.body.clone(), delivery.signature.as_deref()).await.expect(200);
    }
    app.drain().await;
    assert_eq!(state().await, before);
    // The other tenant holds the same secret, so it verifies there; and concerns nothing there.
    for delivery in &genuine {
        stranger.post_event(delivery.body.clone(), delivery.signature.as_deref()).await.expect(200);
    }
    app.advance(chrono::TimeDelta::minutes(11)).await;
    let strangers: Vec<Option<String>> =
        sqlx::query_scalar("select distinct outcome from inbox where environment_id = $1 order by 1")
            .bind(sqlx::types::Uuid::from(
                stranger.environment_id.parse::<checkoutd::tenancy::EnvironmentId>().unwrap(),
            ))
            .fetch_all(&app.state().pool)
            .await
            .unwrap();
    assert_eq!(strangers, [Some("foreign".to_owned()), Some("ignored".to_owned())]);
    assert_eq!(merchant.read_session(&paid).await["checkout_status"], "completed");
    assert_eq!(merchant.read_session(&unpaid).await["checkout_status"], "expired");
    app.finish().await;
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let path = format!("/v1/webhooks/razorpay/{}/{}", merchant.tenant_id, merchant.environment_id);
    let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 16 * 1024]));
    let request = merchant.builder(Method::POST, &path).header("x-razorpay-signature", "00");
    // Either the answer is read, or the connection was closed under the writing client.
    if let Ok(answer) = request.body(reqwest::Body::wrap_stream(endless)).send().await {
        assert_eq!(answer.status(), 413);
    }
    merchant.get("/healthz").await.expect(200);
    assert!(inbox(&app).await.is_empty());
    app.finish().await;
}

/// One sealed secret was moved or cut; another connection's events are believed all the same.
#[tokio::test]
async fn a_secret_that_does_not_open_hides_no_other() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let connections = merchant.get("/v1/connections").await.expect(200);
    let path = format!("/v1/connections/{}", connections["items"][0]["id"].as_str().unwrap());
    merchant.delete(&path).await;
    let mut request = crate::support::connection("rzp_test_00000000000009");
    request["encrypted_secret_data"]["webhook_secret"] = json!("canary-another-secret");
    merchant.post("/v1/connections", request).await.expect(201);
    let post = async |secret| merchant.post_signed(r#"{"event": "x"}"#, secret).await;
    let damage = async |sql: &'static str| {
        let done = sqlx::query(sql).execute(&app.state().pool).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    };
    damage("update connections set webhook_secret_sealed = 'x' where status = 'archived'").await;
    // The API's secret is not needed for this.
    damage("update connections set secret_key_sealed = 'x' where status = 'published'").await;
    post("canary-another-secret").await.expect(200);
    // It may be the damaged one's: Razorpay is to bring it again.
    let reply = post(WEBHOOK_SECRET).await;
    assert!(reply.headers.contains_key("retry-after"));
    reply.expect_error(503, "service_unavailable");
    damage("update connections set webhook_secret_sealed = 'x' where status = 'published'").await;
    post("canary-another-secret").await.expect_error(503, "service_unavailable");
    app.finish().await;
}
