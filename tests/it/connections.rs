//! A merchant's Razorpay account: secrets go in and never out, test and live stay apart.

use axum::http::Method;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{KEY_SECRET, Merchant, TestApp, WEBHOOK_SECRET, connection, send};

const PATH: &str = "/v1/connections";
const KEY_ID: &str = "rzp_test_1DP5mmOlF5G5ag";

/// `connection(KEY_ID)` with `value` at `pointer`, or without the member there.
fn changed(pointer: &str, value: Option<Value>) -> Value {
    let mut request = connection(KEY_ID);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = request.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
    request
}

#[track_caller]
fn shows_no_secret(body: &Value) {
    let text = body.to_string();
    for secret in [KEY_SECRET, WEBHOOK_SECRET, "secret"] {
        assert!(!text.contains(secret), "{text}");
    }
}

fn path(connection: &Value) -> String {
    format!("{PATH}/{}", connection["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_connection_is_made_read_changed_and_deleted_without_showing_its_secrets() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let mut request = connection(KEY_ID);
    request["metadata"] = json!({"team": "billing"});
    let made = merchant.post(PATH, request).await.expect(201);
    assert!(made["id"].as_str().unwrap().starts_with("conn_"));
    for (field, value) in [
        ("name", json!("Razorpay")),
        ("provider_type", json!("razorpay")),
        ("key_id", json!(KEY_ID)),
        ("status", json!("published")),
        ("metadata", json!({"team": "billing"})),
        ("tenant_id", json!(merchant.tenant_id)),
        ("environment_id", json!(merchant.environment_id)),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    shows_no_secret(&made);
    assert_eq!(merchant.get(&path(&made)).await.expect(200), made);
    for list in [merchant.get(PATH).await, merchant.post("/v1/connections/search", json!({})).await] {
        let list = list.expect(200);
        assert_eq!(list["items"], json!([made]));
        assert_eq!(list["pagination"]["total"], 1);
    }
    let renamed = merchant.put(&path(&made), json!({"name": "Other", "metadata": {}})).await.expect(200);
    assert_eq!((&renamed["name"], &renamed["metadata"]), (&json!("Other"), &json!({})));
    assert_eq!(renamed["key_id"], KEY_ID);
    shows_no_secret(&renamed);
    let replaced = json!({"encrypted_secret_data": {"key_id": "rzp_test_2", "secret_key": KEY_SECRET}});
    let replaced = merchant.put(&path(&made), replaced).await.expect(200);
    assert_eq!((&replaced["key_id"], &replaced["name"]), (&json!("rzp_test_2"), &json!("Other")));
    shows_no_secret(&replaced);

    assert_eq!(merchant.delete(&path(&made)).await.expect(204), Value::Null);
    merchant.get(&path(&made)).await.expect_error(404, "not_found");
    merchant.put(&path(&made), json!({"name": "x"})).await.expect_error(404, "not_found");
    merchant.delete(&path(&made)).await.expect_error(404, "not_found");
    assert_eq!(merchant.get(PATH).await.expect(200)["items"], json!([]));
    // The place is free again.
    merchant.post(PATH, connection(KEY_ID)).await.expect(201);
    app.finish().await;
}

#[tokio::test]
async fn each_wrong_field_of_a_connection_is_named_and_nothing_is_stored() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let before = app.row_counts().await;
    let (key_id, secret_key, webhook_secret) = (
        "/encrypted_secret_data/key_id",
        "/encrypted_secret_data/secret_key",
        "/encrypted_secret_data/webhook_secret",
    );
    let mut cases = Vec::new();
    for (pointer, value) in [
        ("/name", None),
        ("/name", Some(json!(""))),
        ("/name", Some(json!("x".repeat(256)))),
        ("/name", Some(json!(5))),
        ("/provider_type", None),
        ("/provider_type", Some(json!("stripe"))),
        ("/provider_type", Some(json!("Razorpay"))),
        ("/encrypted_secret_data", None),
        ("/encrypted_secret_data", Some(json!("x"))),
        ("/metadata", Some(json!([]))),
        ("/metadata", Some(json!({"a": 1}))),
        ("/metadata", Some(json!({"a": "x".repeat(501)}))),
        (key_id, None),
        (key_id, Some(json!(""))),
        (key_id, Some(json!("rzp_live_1DP5mmOlF5G5ag"))),
        (key_id, Some(json!("1DP5mmOlF5G5ag"))),
        (key_id, Some(json!("rzp_test_a b"))),
        (key_id, Some(json!(" rzp_test_1"))),
        (key_id, Some(json!(7))),
        (secret_key, None),
        (webhook_secret, Some(json!(5))),
    ] {
        cases.push((pointer, value));
    }
    for secret in ["", " ", "two words", "tab\t", "line\nbreak", "é", "\u{7f}", &"x".repeat(257)] {
        cases.extend([(secret_key, Some(json!(secret))), (webhook_secret, Some(json!(secret)))]);
    }
    for (pointer, value) in cases {
        let field = pointer[1..].replace('/', ".");
        let error =
            merchant.post(PATH, changed(pointer, value.clone())).await.expect_error(400, "validation_error");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&field), "{field} {value:?}: {message}");
        shows_no_secret_value(&error);
    }
    assert_eq!(app.row_counts().await, before);
    app.finish().await;
}

#[track_caller]
fn shows_no_secret_value(error: &Value) {
    let text = error.to_string();
    assert!(!text.contains(KEY_SECRET) && !text.contains(WEBHOOK_SECRET), "{text}");
}

#[tokio::test]
async fn an_environment_takes_razorpay_keys_of_its_own_mode_only() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    for (merchant, wrong, right) in
        [(&test, "rzp_live_1DP5mmOlF5G5ag", KEY_ID), (&live, KEY_ID, "rzp_live_1DP5mmOlF5G5ag")]
    {
        let error = merchant.post(PATH, connection(wrong)).await.expect_error(400, "validation_error");
        let rule = error["details"]["encrypted_secret_data.key_id"].as_str().unwrap();
        assert!(rule.contains(&right[..9]), "{rule}");
        let made = merchant.post(PATH, connection(right)).await.expect(201);
        let change = json!({"encrypted_secret_data": {"key_id": wrong, "secret_key": KEY_SECRET}});
        let error = merchant.put(&path(&made), change).await.expect_error(400, "validation_error");
        assert!(error["message"].as_str().unwrap().contains("encrypted_secret_data.key_id"));
        assert_eq!(merchant.get(&path(&made)).await.expect(200)["key_id"], right);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_second_connection_is_refused_even_when_both_come_at_once() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    let replies = futures::future::join_all((0..8).map(|_| merchant.post(PATH, connection(KEY_ID)))).await;
    let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    merchant.post(PATH, connection(KEY_ID)).await.expect_error(409, "already_exists");
    live.post(PATH, connection("rzp_live_1")).await.expect(201);
    app.finish().await;
}

#[tokio::test]
async fn malformed_unknown_and_foreign_connections_are_the_same_404() {
    let app = TestApp::start().await;
    let (merchant, live) = app.merchant_pair().await;
    let (stranger, _) = app.merchant_pair().await;
    let mine = merchant.post(PATH, connection(KEY_ID)).await.expect(201);
    let theirs = stranger.post(PATH, connection(KEY_ID)).await.expect(201);
    let own_live = live.post(PATH, connection("rzp_live_1")).await.expect(201);
    let id = mine["id"].as_str().unwrap();
    let unknown = checkoutd::kit::ids::encode("conn", sqlx::types::Uuid::nil());
    let expected = merchant.get(&format!("{PATH}/{unknown}")).await.text;
    assert!(expected.contains("connection_not_found"), "{expected}");
    for id in [
        theirs["id"].as_str().unwrap(),
        own_live["id"].as_str().unwrap(),
        "nonsense",
        "%00",
        "%ff",
        &id.to_lowercase(),
        &id.replace("conn_", "chk_"),
        &id[1..],
        &format!("{id}0"),
        "conn_",
    ] {
        let path = format!("{PATH}/{id}");
        for reply in [
            merchant.get(&path).await,
            merchant.delete(&path).await,
            merchant.put(&path, json!({"name": "taken over"})).await,
        ] {
            assert_eq!((reply.status, reply.text.as_str()), (404, expected.as_str()), "{id}");
        }
    }
    assert_eq!(stranger.get(&path(&theirs)).await.expect(200), theirs);
    app.finish().await;
}

#[tokio::test]
async fn an_update_is_checked_like_a_create_and_changes_all_or_nothing() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let made = merchant.post(PATH, connection(KEY_ID)).await.expect(201);
    for (change, field) in [
        (json!({"name": ""}), "name"),
        (json!({"metadata": {"a": 1}}), "metadata.a"),
        (
            json!({"name": "x", "encrypted_secret_data": {"key_id": "rzp_test_2"}}),
            "encrypted_secret_data.secret_key",
        ),
        (
            json!({"name": "x", "encrypted_secret_data": {"secret_key": ""}}),
            "encrypted_secret_data.secret_key",
        ),
        (
            json!({"name": "x", "encrypted_secret_data": {"webhook_secret": "a b"}}),
            "encrypted_secret_data.webhook_secret",
        ),
    ] {
        let error = merchant.put(&path(&made), change).await.expect_error(400, "validation_error");
        assert!(error["details"][field].is_string(), "{error}");
    }
    assert_eq!(merchant.get(&path(&made)).await.expect(200), made);
    app.finish().await;
}

#[tokio::test]
async fn without_a_connection_a_session_is_refused_and_leaves_nothing() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let before = app.row_counts().await;
    let request = Merchant::session_request(&plan);
    let error =
        merchant.post("/v1/checkout/sessions", request.clone()).await.expect_error(400, "validation_error");
    assert_eq!(error["details"]["reason"], "connection_not_found");
    assert!(error["message"].as_str().unwrap().contains("POST /v1/connections"));
    assert_eq!(app.row_counts().await, before);
    let made = merchant.post(PATH, connection(KEY_ID)).await.expect(201);
    merchant.delete(&path(&made)).await.expect(204);
    let error = merchant.post("/v1/checkout/sessions", request).await.expect_error(400, "validation_error");
    assert_eq!(error["details"]["reason"], "connection_not_found");
    app.finish().await;
}

/// An event that asks for nothing, different for each `name`.
fn event(name: &str) -> String {
    json!({"entity": "event", "event": name, "payload": {}}).to_string()
}

#[tokio::test]
async fn a_replaced_webhook_secret_verifies_for_sixteen_days_more() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let made = merchant.get(PATH).await.expect(200)["items"][0].clone();
    let new = "canary-rotated-webhook-secret";
    app.add_canary(new);
    merchant.post_signed(event("a"), new).await.expect_error(401, "unauthorized");
    let change = json!({"encrypted_secret_data": {"webhook_secret": new}});
    shows_no_secret(&merchant.put(&path(&made), change).await.expect(200));
    for secret in [new, WEBHOOK_SECRET] {
        merchant.post_signed(event("a"), secret).await.expect(200);
    }
    // A change of something else neither ends the old secret nor prolongs it.
    app.advance(TimeDelta::days(10)).await;
    merchant.put(&path(&made), json!({"name": "Renamed"})).await.expect(200);
    app.advance(TimeDelta::days(6) - TimeDelta::seconds(1)).await;
    merchant.post_signed(event("b"), WEBHOOK_SECRET).await.expect(200);
    app.advance(TimeDelta::seconds(1)).await;
    merchant.post_signed(event("c"), WEBHOOK_SECRET).await.expect_error(401, "unauthorized");
    merchant.post_signed(event("c"), new).await.expect(200);
    app.finish().await;
}

/// The account of the first payment is remembered for two seconds; here no time passes at all.
#[tokio::test]
async fn a_webhook_secret_that_another_process_has_just_replaced_verifies_at_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let replica = app.replica(&merchant).await;
    let made = merchant.get(PATH).await.expect(200)["items"][0].clone();
    let session = merchant.session().await;
    app.pay_and_settle(&merchant.session().await).await;
    let new = "canary-rotated-webhook-secret";
    app.add_canary(new);
    let change = json!({"encrypted_secret_data": {"webhook_secret": new}});
    replica.put(&path(&made), change).await.expect(200);
    merchant.post_signed(app.pay_for_event(&session).body, new).await.expect(200);
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.sandbox.flush_webhooks().await;
    app.finish().await;
}

#[tokio::test]
async fn an_account_that_another_process_has_just_connected_is_known_at_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let replica = app.replica(&merchant).await;
    let made = merchant.get(PATH).await.expect(200)["items"][0].clone();
    app.pay_and_settle(&merchant.session().await).await;
    replica.delete(&path(&made)).await.expect(204);
    // Under the same secret, so that the account of before verifies its events.
    app.connect(&replica).await;
    let session = merchant.session().await;
    app.pay(&session);
    app.sandbox.flush_webhooks().await;
    let causes: Vec<String> =
        sqlx::query_scalar("select cause from session_transitions where to_status = 'completed'")
            .fetch_all(&app.state().pool)
            .await
            .unwrap();
    assert_eq!(causes, ["webhook", "webhook"]);
    app.finish().await;
}

/// Two rotations, and the secret before them is gone: at once in this process, and when another one did it, it still
/// completes what is paid for two seconds. It never does anything else.
#[tokio::test]
async fn a_webhook_secret_that_was_pushed_out_is_good_for_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let replica = app.replica(&merchant).await;
    let made = merchant.get(PATH).await.expect(200)["items"][0].clone();
    let rotate = async |by: &Merchant, secret: &str| {
        app.add_canary(secret);
        by.put(&path(&made), json!({"encrypted_secret_data": {"webhook_secret": secret}})).await.expect(200);
    };
    let paid =
        async |session: &Value| merchant.post_signed(app.pay_for_event(session).body, WEBHOOK_SECRET).await;
    let (first, second, third) =
        (merchant.session().await, merchant.session().await, merchant.session().await);
    merchant.post_signed(event("a"), WEBHOOK_SECRET).await.expect(200);
    rotate(&merchant, "canary-second-webhook-secret").await;
    rotate(&merchant, "canary-third-webhook-secret").await;
    paid(&first).await.expect_error(401, "unauthorized");

    rotate(&merchant, WEBHOOK_SECRET).await;
    merchant.post_signed(event("b"), WEBHOOK_SECRET).await.expect(200);
    rotate(&replica, "canary-fifth-webhook-secret").await;
    rotate(&replica, "canary-sixth-webhook-secret").await;
    paid(&second).await.expect(200);
    app.clock().advance(TimeDelta::milliseconds(1999));
    merchant.post_signed(event("c"), WEBHOOK_SECRET).await.expect_error(401, "unauthorized");
    app.clock().advance(TimeDelta::milliseconds(1));
    paid(&third).await.expect_error(401, "unauthorized");
    rotate(&merchant, WEBHOOK_SECRET).await;
    app.sandbox.flush_webhooks().await;
    app.finish().await;
}

#[tokio::test]
async fn saving_the_same_webhook_secret_again_does_not_end_the_previous_one() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let made = merchant.get(PATH).await.expect(200)["items"][0].clone();
    let new = "canary-rotated-webhook-secret";
    app.add_canary(new);
    for _ in 0..2 {
        let change = json!({"encrypted_secret_data": {"webhook_secret": new}});
        merchant.put(&path(&made), change).await.expect(200);
    }
    for secret in [new, WEBHOOK_SECRET] {
        merchant.post_signed(event(&secret[..8]), secret).await.expect(200);
    }
    app.finish().await;
}

#[tokio::test]
async fn without_a_webhook_secret_razorpay_is_told_to_come_back() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let signature = crate::support::razorpay::signature(event("a").as_bytes(), "");
    let come_back = |reply: crate::support::Reply| {
        assert_eq!(reply.headers["retry-after"], "60");
        reply.expect_error(503, "service_unavailable");
    };
    come_back(merchant.post_event(event("a"), Some(&signature)).await);
    let request = changed("/encrypted_secret_data/webhook_secret", None);
    let made = merchant.post(PATH, request).await.expect(201);
    // Signed with nothing, or with the API's secret: no key stands in for the missing one.
    come_back(merchant.post_event(event("a"), Some(&signature)).await);
    come_back(merchant.post_signed(event("a"), KEY_SECRET).await);
    let change = json!({"encrypted_secret_data": {"webhook_secret": WEBHOOK_SECRET}});
    merchant.put(&path(&made), change).await.expect(200);
    merchant.post_signed(event("a"), WEBHOOK_SECRET).await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn events_of_a_deleted_connection_still_verify() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let made = merchant.get(PATH).await.expect(200)["items"][0].clone();
    merchant.delete(&path(&made)).await.expect(204);
    app.pay(&session);
    app.sandbox.flush_webhooks().await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused_by_every_verb() {
    let app = TestApp::start().await;
    let (merchant, _) = app.merchant_pair().await;
    let made = merchant.post(PATH, connection(KEY_ID)).await.expect(201);
    for body in ["[]", "null", "5", "\"x\"", "[\"taken over\"]"] {
        let request = merchant.builder(Method::PUT, &path(&made)).header("x-api-key", &merchant.api_key);
        let request = request.header("content-type", "application/json").body(body);
        let error = send(request).await.expect_error(400, "validation_error");
        assert_eq!(error["details"]["body"], "must be a JSON object", "{body}");
    }
    assert_eq!(merchant.get(&path(&made)).await.expect(200), made);
    app.finish().await;
}
