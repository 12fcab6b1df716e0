//! `Idempotency-Key`: whatever is sent twice is done once, and answered as the first time.

mod later;
mod races;
mod reruns;

use std::collections::HashSet;

use axum::http::Method;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Merchant, Receiver, Reply, TestApp, described::DOCUMENT, send};

const SESSIONS: &str = "/v1/checkout/sessions";
const LEASE: TimeDelta = TimeDelta::seconds(60);

impl Merchant {
    /// A POST under a key.
    pub fn keyed(&self, key: &str, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let request = self.builder(Method::POST, path).header("x-api-key", &self.api_key);
        let request = request.header("idempotency-key", key);
        body.map_or_else(|| request.try_clone().unwrap(), |body| request.try_clone().unwrap().json(body))
    }

    pub async fn post_keyed(&self, key: &str, path: &str, body: &Value) -> Reply {
        send(self.keyed(key, path, Some(body))).await
    }
}

pub fn is_replay(reply: &Reply) -> bool {
    reply.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

#[track_caller]
pub fn is_in_progress(reply: Reply) {
    assert_eq!(reply.headers["retry-after"], "1");
    let error = reply.expect_error(409, "already_exists");
    assert_eq!(error["details"]["reason"], "idempotent_request_in_progress");
}

#[track_caller]
fn is_reused(reply: Reply) {
    let error = reply.expect_error(422, "validation_error");
    assert_eq!(error["details"]["reason"], "idempotency_key_reused");
}

fn customer(external_id: &str) -> Value {
    json!({"external_id": external_id, "name": "Jane Smith", "email": "jane@example.com"})
}

/// The guide's request, with its plan and customer.
async fn session_request(merchant: &Merchant) -> Value {
    let plan = merchant.plan().await;
    merchant.customer_if_missing().await;
    Merchant::session_request(&plan)
}

async fn count(app: &TestApp, table: &str) -> i64 {
    let rows = app.row_counts().await;
    rows.into_iter().find(|(name, _)| name == table).unwrap().1
}

async fn answered(app: &TestApp, key: &str) -> Option<bool> {
    sqlx::query_scalar("select answer_status is not null from idempotency_keys where key = $1")
        .bind(key)
        .fetch_optional(&app.state().pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_byte_for_byte() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let made = merchant.post_keyed("k", "/v1/customers", &customer("user_12345")).await;
    assert_eq!((made.status, is_replay(&made)), (201, false));
    // What the customer is called by now is not asked.
    let path = format!("/v1/customers/{}", made.json()["id"].as_str().unwrap());
    merchant.put(&path, json!({"name": "Another"})).await.expect(200);
    for _ in 0..3 {
        let again = merchant.post_keyed("k", "/v1/customers", &customer("user_12345")).await;
        assert_eq!((again.status, &again.text, is_replay(&again)), (201, &made.text, true));
        for name in ["content-type", "cache-control", "content-length"] {
            assert_eq!(again.headers[name], made.headers[name], "{name}");
        }
        assert_ne!(again.headers["x-request-id"], made.headers["x-request-id"], "it is a request of its own");
    }
    assert_eq!(count(&app, "customers").await, 1);

    let request = session_request(&merchant).await;
    let session = merchant.post_keyed("s", SESSIONS, &request).await;
    let cancel = format!("{SESSIONS}/{}/cancel", session.json()["id"].as_str().unwrap());
    let cancelled = send(merchant.keyed("c", &cancel, None)).await;
    assert_eq!((session.status, cancelled.status), (201, 200));
    let again = merchant.post_keyed("s", SESSIONS, &request).await;
    assert_eq!((again.status, &again.text), (201, &session.text));
    let again = send(merchant.keyed("c", &cancel, None)).await;
    assert_eq!((again.status, &again.text, is_replay(&again)), (200, &cancelled.text, true));
    assert_eq!(app.sandbox.ledger().links.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.post_keyed("k", "/v1/customers", &customer("user_1")).await.expect(201);
    let before = app.row_counts().await;
    is_reused(merchant.post_keyed("k", "/v1/customers", &customer("user_2")).await);
    is_reused(merchant.post_keyed("k", "/v1/customers?x=1", &customer("user_1")).await);
    is_reused(merchant.post_keyed("k", "/v1/plans", &customer("user_1")).await);
    is_reused(send(merchant.keyed("k", "/v1/customers", None)).await);
    assert_eq!(app.row_counts().await, before);
    assert!(is_replay(&merchant.post_keyed("k", "/v1/customers", &customer("user_1")).await));
    // Only POSTs have keys.
    let read = merchant.builder(Method::GET, "/v1/customers/external/user_1");
    let read = send(read.header("x-api-key", &merchant.api_key).header("idempotency-key", "k")).await;
    assert_eq!((read.status, is_replay(&read)), (200, false));
    app.finish().await;
}

#[tokio::test]
async fn a_key_of_a_wrong_form_is_refused_by_its_headers_name() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let before = app.row_counts().await;
    let wrong: [&[u8]; 5] = [b"", &[b'x'; 256], "ключ".as_bytes(), b"a\tb", b"\xff"];
    for key in wrong {
        let request = merchant.builder(Method::POST, "/v1/customers").header("x-api-key", &merchant.api_key);
        let request = request.header("idempotency-key", key).json(&customer("user_1"));
        let error = send(request).await.expect_error(400, "validation_error");
        assert!(error["details"]["Idempotency-Key"].is_string(), "{error}");
    }
    let twice = merchant.keyed("a", "/v1/customers", Some(&customer("user_1")));
    let error = send(twice.header("idempotency-key", "a")).await.expect_error(400, "validation_error");
    assert_eq!(error["details"]["Idempotency-Key"], "must be given once");
    // Who calls is asked first.
    let stranger = Merchant { api_key: "sk_test_nobody".into(), ..merchant.clone() };
    stranger.post_keyed("", "/v1/customers", &customer("user_1")).await.expect_error(401, "unauthorized");
    assert_eq!(app.row_counts().await, before);
    for key in ["x", "a b~!", &"x".repeat(255)] {
        merchant.post_keyed(key, "/v1/customers", &customer(key)).await.expect(201);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_refusal_frees_the_key_for_the_mended_request() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    let request = Merchant::session_request(&plan);
    let mut wrong = request.clone();
    wrong["success_url"] = json!("ftp://example.com");
    merchant.post_keyed("k", SESSIONS, &wrong).await.expect_error(400, "validation_error");
    let large = json!({"external_id": "x", "name": "x".repeat(70_000)});
    merchant.post_keyed("k", SESSIONS, &large).await.expect_error(413, "validation_error");
    let text = merchant.keyed("k", SESSIONS, None).header("content-type", "text/plain").body("x");
    send(text).await.expect_error(415, "validation_error");
    merchant.post_keyed("k", "/v1/nothing", &request).await.expect_error(404, "not_found");
    merchant.post_keyed("k", SESSIONS, &request).await.expect_error(404, "not_found");
    merchant.post_keyed("c", "/v1/customers", &customer("user_12345")).await.expect(201);
    merchant
        .post_keyed("k", "/v1/customers", &customer("user_12345"))
        .await
        .expect_error(409, "already_exists");
    assert_eq!(answered(&app, "k").await, None);
    let session = merchant.post_keyed("k", SESSIONS, &request).await;
    assert_eq!((session.status, is_replay(&session)), (201, false));
    assert!(is_replay(&merchant.post_keyed("k", SESSIONS, &request).await));
    app.finish().await;
}

#[tokio::test]
async fn a_key_belongs_to_its_environment() {
    let app = TestApp::start().await;
    let (test, live) = app.merchant_pair().await;
    let (stranger, _) = app.merchant_pair().await;
    let mut ids = HashSet::new();
    for merchant in [&test, &live, &stranger] {
        let made = merchant.post_keyed("k", "/v1/customers", &customer("user_1")).await;
        assert!(!is_replay(&made));
        ids.insert(made.expect(201)["id"].to_string());
    }
    assert_eq!(ids.len(), 3);
    // With another request too: it must not show that somebody has the key.
    live.post_keyed("l", "/v1/customers", &customer("user_2")).await.expect(201);
    stranger.post_keyed("l", "/v1/customers", &customer("user_3")).await.expect(201);
    app.finish().await;
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_week() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let first = merchant.post_keyed("k", "/v1/customers", &customer("user_1")).await.expect(201);
    app.clock().advance(TimeDelta::days(7) - TimeDelta::microseconds(1));
    assert!(is_replay(&merchant.post_keyed("k", "/v1/customers", &customer("user_1")).await));
    app.drain().await;
    assert_eq!(count(&app, "idempotency_keys").await, 1, "not yet");
    app.clock().advance(TimeDelta::microseconds(1));
    // Before anything removed it.
    let next = merchant.post_keyed("k", "/v1/customers", &customer("user_2")).await;
    assert!(!is_replay(&next));
    assert_ne!(next.expect(201)["id"], first["id"], "it has an id of its own");
    app.drain().await;
    assert!(
        is_replay(&merchant.post_keyed("k", "/v1/customers", &customer("user_2")).await),
        "it is young again"
    );
    app.finish().await;
}

#[tokio::test]
async fn old_keys_are_removed_in_batches_unless_something_runs_under_them() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let now = app.state().clock.now();
    sqlx::query(
        "insert into idempotency_keys (environment_id, key, fingerprint, reserved_id, lease_token, lease_expires_at, created_at)
         select e.id, n || e.id::text, '', gen_random_uuid(), case when n = 1 then gen_random_uuid() end,
            case when n = 1 then $1::timestamptz + interval '1 second' end, $1::timestamptz - make_interval(secs => 1300 - n)
         from environments e, generate_series(1, 1200) n",
    )
    .bind(now)
    .execute(&app.state().pool)
    .await
    .unwrap();
    app.clock().advance(TimeDelta::days(7) - TimeDelta::seconds(200));
    sqlx::query("update idempotency_keys set lease_expires_at = $1 where lease_token is not null")
        .bind(app.state().clock.now() + TimeDelta::seconds(1))
        .execute(&app.state().pool)
        .await
        .unwrap();
    app.drain().await;
    // Both environments: 100 are too young, and under one somebody is at work.
    assert_eq!(count(&app, "idempotency_keys").await, 2 * (100 + 1));
    app.advance(TimeDelta::seconds(200)).await;
    assert_eq!(count(&app, "idempotency_keys").await, 0);
    merchant.get("/v1/checkout/sessions").await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn stored_answers_show_nothing_to_who_reads_the_table() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let body = json!({"url": receiver.url(), "description": "canary-description"});
    let made = merchant.post_keyed("k", "/v1/webhook_endpoints", &body).await;
    assert_eq!(merchant.post_keyed("k", "/v1/webhook_endpoints", &body).await.text, made.text);
    app.add_canary(made.expect(201)["secret"].as_str().unwrap());
    sqlx::query("set bytea_output = 'escape'").execute(&app.state().pool).await.unwrap();
    let rows: Vec<String> = sqlx::query_scalar("select k::text from idempotency_keys k")
        .fetch_all(&app.state().pool)
        .await
        .unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| !row.contains("canary-description")));
    // Nor does it open in another row.
    merchant.post_keyed("l", "/v1/webhook_endpoints", &json!({"url": receiver.url()})).await.expect(201);
    sqlx::query("update idempotency_keys set answer_sealed = (select answer_sealed from idempotency_keys where key = 'k')")
        .execute(&app.state().pool)
        .await
        .unwrap();
    merchant.post_keyed("k", "/v1/webhook_endpoints", &body).await.expect(201);
    let moved = merchant.post_keyed("l", "/v1/webhook_endpoints", &json!({"url": receiver.url()})).await;
    moved.expect_error(500, "internal_error");
    app.finish().await;
}

/// Paths of every POST that takes an API key: those that only read, and the others.
fn post_routes() -> (Vec<&'static String>, Vec<&'static String>) {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let is_keyed = |item: &Value| item["post"]["security"].as_array().is_some_and(|any| !any.is_empty());
    paths
        .iter()
        .filter(|(_, item)| is_keyed(item))
        .map(|(path, _)| path)
        .partition(|path| path.ends_with("/search"))
}

#[tokio::test]
async fn every_post_route_honours_the_header() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.post_keyed("used", "/v1/customers", &customer("user_1")).await.expect(201);
    let (searches, routes) = post_routes();
    assert!(routes.len() >= 17 && searches.len() >= 6, "{routes:#?} {searches:#?}");
    let before = app.row_counts().await;
    for route in routes {
        let path = route.replace(['{', '}'], "");
        is_reused(merchant.post_keyed("used", &path, &json!({"route": route})).await);
        let error = merchant.post_keyed(&"x".repeat(256), &path, &json!({})).await;
        let error = error.expect_error(400, "validation_error");
        assert!(error["details"]["Idempotency-Key"].is_string(), "{route}: {error}");
    }
    assert_eq!(app.row_counts().await, before);
    // A search is safe to repeat: its key is not looked at, and nothing is kept.
    for path in searches {
        for key in ["used", &"x".repeat(256)] {
            let reply = merchant.post_keyed(key, path, &json!({})).await;
            assert_eq!((reply.status, is_replay(&reply)), (200, false), "{path}: {}", reply.text);
        }
    }
    assert_eq!(app.row_counts().await, before);
    // Razorpay's events have their own identity.
    let webhook = format!("/v1/webhooks/razorpay/{}/{}", merchant.tenant_id, merchant.environment_id);
    merchant.post_keyed("used", &webhook, &json!({})).await.expect_error(401, "unauthorized");
    app.finish().await;
}
