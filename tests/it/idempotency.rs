//! `Idempotency-Key`: whatever is sent twice is done once, and answered as the first time.

use std::{collections::HashSet, path::Path};

use axum::http::Method;
use checkoutd::sandbox::{FaultKind, FaultRule, Faults, Op, PayRequest};
use chrono::TimeDelta;
use futures::future::{Either, join_all, select};
use serde_json::{Value, json};

use crate::support::{Merchant, Receiver, Reply, TestApp, connection, send};

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

/// As though the process had died after the handler and before the answer was stored.
async fn lose_answer(app: &TestApp, key: &str) {
    let lost = sqlx::query(
        "update idempotency_keys set answer_status = null, answer_type = null, answer_sealed = null,
            lease_token = gen_random_uuid(), lease_expires_at = $2 where key = $1",
    )
    .bind(key)
    .bind(app.state().clock.now() + LEASE)
    .execute(&app.state().pool)
    .await
    .unwrap();
    assert_eq!(lost.rows_affected(), 1);
}

async fn answered(app: &TestApp, key: &str) -> Option<bool> {
    sqlx::query_scalar("select answer_status is not null from idempotency_keys where key = $1")
        .bind(key)
        .fetch_optional(&app.state().pool)
        .await
        .unwrap()
}

/// Sends a request again whose answer was lost: not before its lease has run out.
async fn run_again(app: &TestApp, merchant: &Merchant, key: &str, path: &str, body: Option<&Value>) -> Reply {
    lose_answer(app, key).await;
    is_in_progress(send(merchant.keyed(key, path, body)).await);
    app.clock().advance(LEASE);
    let reply = send(merchant.keyed(key, path, body)).await;
    assert!(!is_replay(&reply), "{path}");
    reply
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
async fn many_at_once_under_one_key_make_one_session_and_one_link() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let other = app.replica(&merchant).await;
    let request = session_request(&merchant).await;
    let both = [&merchant, &other];
    let replies = join_all((0..40).map(|n| both[n % 2].post_keyed("k", SESSIONS, &request))).await;
    let made: Vec<_> = replies.iter().filter(|reply| reply.status == 201).collect();
    assert_eq!(made.iter().filter(|reply| !is_replay(reply)).count(), 1, "one of them did it");
    assert_eq!(made.iter().map(|reply| &reply.text).collect::<HashSet<_>>().len(), 1);
    let text = made[0].text.clone();
    for reply in replies.into_iter().filter(|reply| reply.status != 201) {
        is_in_progress(reply);
    }
    assert_eq!(other.post_keyed("k", SESSIONS, &request).await.text, text);
    assert_eq!((count(&app, "checkout_sessions").await, app.sandbox.ledger().links.len()), (1, 1));
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
async fn an_unknown_outcome_is_settled_by_the_same_request() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let request = session_request(&merchant).await;
    // The link is made, its answer is lost, and the lists do not show it yet.
    app.sandbox.set_faults(Faults {
        rules: vec![FaultRule::times(1, Op::CreateLink, FaultKind::ResetAfter)],
        list_lag_ms: 6_000,
        ..Faults::default()
    });
    let reply = merchant.post_keyed("k", SESSIONS, &request).await;
    assert_eq!(reply.headers["retry-after"], "5");
    let error = reply.expect_error(503, "service_unavailable");
    let mut other = request.clone();
    other["metadata"] = json!({"a": "b"});
    is_reused(merchant.post_keyed("k", SESSIONS, &other).await);
    // Still: the lease is over and the provider says no more than before.
    merchant.post_keyed("k", SESSIONS, &request).await.expect_error(503, "service_unavailable");
    app.sandbox.set_faults(Faults::default());
    let made = merchant.post_keyed("k", SESSIONS, &request).await;
    assert!(!is_replay(&made));
    let again = merchant.post_keyed("k", SESSIONS, &request).await;
    assert_eq!((&again.text, is_replay(&again)), (&made.text, true));
    let session = made.expect(201);
    assert_eq!(session["id"], error["details"]["checkout_session_id"]);
    assert_eq!(session["checkout_status"], "pending");
    assert_eq!((count(&app, "checkout_sessions").await, app.sandbox.ledger().links.len()), (1, 1));
    app.pay_and_settle(&session).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn a_refusal_of_the_provider_is_answered_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let request = session_request(&merchant).await;
    let refusal = FaultKind::Status { code: 400, body: None, retry_after: None };
    for (key, kind) in [("refused", refusal), ("other", FaultKind::OtherAmount)] {
        let rules = vec![FaultRule::times(1, Op::CreateLink, kind)];
        app.sandbox.set_faults(Faults { rules, ..Faults::default() });
        let first = merchant.post_keyed(key, SESSIONS, &request).await;
        let again = merchant.post_keyed(key, SESSIONS, &request).await;
        assert_eq!((again.status, &again.text, is_replay(&again)), (502, &first.text, true));
        let again = run_again(&app, &merchant, key, SESSIONS, Some(&request)).await;
        assert_eq!((again.status, &again.text), (502, &first.text), "from what is on record");
        first.expect_error(502, "http_client_error");
    }
    assert_eq!(count(&app, "checkout_sessions").await, 2);
    app.drain().await;
    app.finish().await;
}

/// Every route that makes something, run a second time because nobody knows what the first came to.
#[tokio::test]
async fn what_an_earlier_run_made_is_answered_and_not_made_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    let endpoint = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    let plan = merchant.plan().await;
    let (unconnected, _) = app.merchant_pair().await;
    let price = json!({
        "entity_type": "PLAN", "entity_id": plan, "type": "FIXED", "billing_model": "FLAT_FEE",
        "billing_period": "ANNUAL", "billing_period_count": 1, "currency": "INR", "invoice_cadence": "ADVANCE",
        "price_unit_type": "FIAT", "amount": "10", "lookup_key": "annual",
    });
    let since = app.state().clock.now() - TimeDelta::hours(1);
    let requests = [
        (&merchant, "/v1/customers".to_owned(), Some(customer("user_1"))),
        (&merchant, "/v1/plans".to_owned(), Some(json!({"name": "Basic", "lookup_key": "basic"}))),
        (&merchant, "/v1/prices".to_owned(), Some(price)),
        (&unconnected, "/v1/connections".to_owned(), Some(connection("rzp_test_77777777777777"))),
        (&merchant, "/v1/webhook_endpoints".to_owned(), Some(json!({"url": receiver.url()}))),
        (&merchant, format!("{endpoint}/secret/rotate"), None),
        (&merchant, format!("{endpoint}/test"), None),
        (&merchant, format!("{endpoint}/replay"), Some(json!({"since": since}))),
    ];
    for (merchant, path, body) in requests {
        let first = send(merchant.keyed(&path, &path, body.as_ref())).await;
        assert!(matches!(first.status, 200..=202), "{path}: {}", first.text);
        let rows = app.row_counts().await;
        let again = run_again(&app, merchant, &path, &path, body.as_ref()).await;
        assert_eq!((again.status, again.json()), (first.status, first.json()), "{path}");
        assert_eq!(app.row_counts().await, rows, "{path}");
        if let Some(secret) = first.json()["secret"].as_str() {
            app.add_canary(secret);
        }
        assert!(is_replay(&send(merchant.keyed(&path, &path, body.as_ref())).await), "{path}");
    }
    app.finish().await;
}

/// A second rotation would silence the secret that the receiver still has.
#[tokio::test]
async fn a_rotation_that_ran_twice_rotated_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    app.clock().advance(TimeDelta::hours(1));
    let path = format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap());
    let rotate = format!("{path}/secret/rotate");
    let rotated = send(merchant.keyed("k", &rotate, None)).await.expect(200);
    let again = run_again(&app, &merchant, "k", &rotate, None).await.expect(200);
    assert_eq!(again["secret"], rotated["secret"]);
    merchant.post_empty(&format!("{path}/test")).await.expect(202);
    app.drain().await;
    let sent = receiver.received().pop().unwrap();
    for secret in [&endpoint["secret"], &rotated["secret"]] {
        assert!(crate::support::verifies(&sent, secret), "both sign");
    }
    // Under a new key it is another rotation.
    let next = send(merchant.keyed("l", &rotate, None)).await.expect(200);
    assert_ne!(next["secret"], rotated["secret"]);
    app.finish().await;
}

#[tokio::test]
async fn a_resend_and_a_retried_refund_that_ran_twice_happen_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    let session = merchant.session().await;
    app.drain().await;
    let path = format!("/v1/webhook_endpoints/{}/deliveries", endpoint["id"].as_str().unwrap());
    let delivery = merchant.get(&path).await.expect(200)["items"][0]["id"].as_str().unwrap().to_owned();
    app.clock().advance(TimeDelta::minutes(1));
    let resend = format!("/v1/deliveries/{delivery}/resend");
    send(merchant.keyed("k", &resend, None)).await.expect(202);
    app.drain().await;
    assert_eq!(receiver.received().len(), 2);
    run_again(&app, &merchant, "k", &resend, None).await.expect(202);
    app.drain().await;
    assert_eq!(receiver.received().len(), 2);

    let id = session["id"].as_str().unwrap();
    merchant.post_empty(&format!("{SESSIONS}/{id}/cancel")).await;
    app.sandbox.pay(id, PayRequest { late: true, ..PayRequest::default() }).unwrap();
    app.sandbox.flush_webhooks().await;
    let refunds = merchant.get("/v1/refunds").await.expect(200);
    let retry = format!("/v1/refunds/{}/retry", refunds["items"][0]["id"].as_str().unwrap());
    send(merchant.keyed("r", &retry, None)).await.expect(200);
    app.drain().await;
    let again = run_again(&app, &merchant, "r", &retry, None).await.expect(200);
    assert_eq!(again["refund_status"], "SUCCEEDED", "and not: it cannot be tried again");
    assert_eq!(app.sandbox.ledger().refunds.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_session_is_found_again_whatever_became_of_it_and_of_its_plan() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let request = session_request(&merchant).await;
    let plan = request["configuration"]["create_subscription_params"]["plan_id"].as_str().unwrap();
    let session = merchant.post_keyed("k", SESSIONS, &request).await.expect(201);
    // The plan has no price any more: a new session could not be made.
    let prices = merchant.post("/v1/prices/search", json!({"plan_ids": [plan]})).await.expect(200);
    let price = prices["items"][0]["id"].as_str().unwrap();
    merchant.delete(&format!("/v1/prices/{price}")).await.expect(200);
    merchant.post(SESSIONS, request.clone()).await.expect_error(400, "validation_error");
    let again = run_again(&app, &merchant, "k", SESSIONS, Some(&request)).await.expect(201);
    assert_eq!((&again["id"], &again["payment_action"]), (&session["id"], &session["payment_action"]));
    app.pay_and_settle(&session).await;
    let again = run_again(&app, &merchant, "k", SESSIONS, Some(&request)).await.expect(201);
    assert_eq!((&again["id"], &again["checkout_status"]), (&session["id"], &json!("completed")));
    assert_eq!(app.sandbox.ledger().links.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn the_field_in_the_body_and_the_header_go_together() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let mut request = session_request(&merchant).await;
    request["idempotency_key"] = json!("order_1");
    let session = merchant.post_keyed("k", SESSIONS, &request).await.expect(201);
    // A retry gets its own session, and not a 409 about itself.
    let again = run_again(&app, &merchant, "k", SESSIONS, Some(&request)).await.expect(201);
    assert_eq!(again["id"], session["id"]);
    let other = merchant.post_keyed("l", SESSIONS, &request).await.expect_error(409, "already_exists");
    assert_eq!(other["details"]["reason"], "idempotency_key_in_use");
    assert_eq!(other["details"]["checkout_session_id"], session["id"]);
    let cancel = format!("{SESSIONS}/{}/cancel", session["id"].as_str().unwrap());
    merchant.post_empty(&cancel).await.expect(200);
    // The order's number is free again; the first header is not.
    let next = merchant.post_keyed("l", SESSIONS, &request).await.expect(201);
    assert_ne!(next["id"], session["id"]);
    assert_eq!(merchant.post_keyed("k", SESSIONS, &request).await.expect(201)["id"], session["id"]);
    app.finish().await;
}

#[tokio::test]
async fn a_run_that_was_taken_for_dead_and_comes_back_writes_nothing_twice() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let request = session_request(&merchant).await;
    // The draft waits for the customer's row.
    let mut holder = app.state().pool.begin().await.unwrap();
    sqlx::query("select from customers for update").execute(&mut *holder).await.unwrap();
    let first = merchant.post_keyed("k", SESSIONS, &request);
    let takeover = async {
        while answered(&app, "k").await.is_none() {
            tokio::task::yield_now().await;
        }
        app.clock().advance(LEASE);
        let second = merchant.post_keyed("k", SESSIONS, &request);
        let release = async {
            until_waiting(&app, 2).await;
            holder.rollback().await.unwrap();
        };
        tokio::join!(second, release).0
    };
    let (first, second) = tokio::join!(first, takeover);
    is_in_progress(first);
    let again = merchant.post_keyed("k", SESSIONS, &request).await;
    assert_eq!((second.status, &again.text, is_replay(&again)), (201, &second.text, true));
    assert_eq!((count(&app, "checkout_sessions").await, app.sandbox.ledger().links.len()), (1, 1));
    app.finish().await;
}

/// Until so many statements wait for a lock.
async fn until_waiting(app: &TestApp, number: i64) {
    let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&app.state().pool).await.unwrap() < number {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_went_away_gets_the_answer_when_it_comes_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let request = session_request(&merchant).await;
    let mut holder = app.state().pool.begin().await.unwrap();
    sqlx::query("select from customers for update").execute(&mut *holder).await.unwrap();
    let sent = Box::pin(merchant.post_keyed("k", SESSIONS, &request));
    let waiting = Box::pin(until_waiting(&app, 1));
    match select(sent, waiting).await {
        Either::Left((reply, _)) => panic!("answered without the customer: {reply:?}"),
        // Its connection is closed here.
        Either::Right(((), sent)) => drop(sent),
    }
    holder.rollback().await.unwrap();
    while answered(&app, "k").await != Some(true) {
        tokio::task::yield_now().await;
    }
    let reply = merchant.post_keyed("k", SESSIONS, &request).await;
    assert!(is_replay(&reply));
    assert_eq!(reply.expect(201)["checkout_status"], "pending");
    assert_eq!((count(&app, "checkout_sessions").await, app.sandbox.ledger().links.len()), (1, 1));
    app.finish().await;
}

#[tokio::test]
async fn an_internal_error_gives_the_lease_back_and_keeps_the_id() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let (path, body) = ("/v1/webhook_endpoints", json!({"url": receiver.url()}));
    let made = merchant.post_keyed("k", path, &body).await.expect(201);
    let secret: Vec<u8> = sqlx::query_scalar("update webhook_endpoints set secret_sealed = '' returning (select w.secret_sealed from webhook_endpoints w)")
        .fetch_one(&app.state().pool)
        .await
        .unwrap();
    run_again(&app, &merchant, "k", path, Some(&body)).await.expect_error(500, "internal_error");
    sqlx::query("update webhook_endpoints set secret_sealed = $1")
        .bind(secret)
        .execute(&app.state().pool)
        .await
        .unwrap();
    // At once, without waiting for a lease.
    let again = merchant.post_keyed("k", path, &body).await.expect(201);
    assert_eq!((&again["id"], &again["secret"]), (&made["id"], &made["secret"]));
    // Deleted, it cannot be answered, nor made again under its id.
    merchant.delete(&format!("{path}/{}", made["id"].as_str().unwrap())).await.expect(204);
    let gone = run_again(&app, &merchant, "k", path, Some(&body)).await.expect_error(404, "not_found");
    assert_eq!(gone["details"]["reason"], "made_and_deleted");
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

/// Paths of every POST below `/v1` that takes an API key, read off the sources.
fn post_routes(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("sandbox") && !path.ends_with("inbox") {
            found.extend(post_routes(&path));
        } else if path.to_string_lossy().ends_with("api.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for route in text.split("route(").skip(1) {
                let Some(route) = route.trim_start().strip_prefix('"') else { continue };
                let (path, rest) = route.split_once('"').unwrap();
                let rest = rest.split("\n}").next().unwrap();
                if rest.contains("post(") || rest.contains("post_with(") {
                    found.push(format!("/v1{path}"));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

#[tokio::test]
async fn every_post_route_honours_the_header() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.post_keyed("used", "/v1/customers", &customer("user_1")).await.expect(201);
    let routes = post_routes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(routes.len() >= 17, "{routes:#?}");
    let before = app.row_counts().await;
    for route in &routes {
        let path = route.replace(['{', '}'], "");
        is_reused(merchant.post_keyed("used", &path, &json!({"route": route})).await);
        let error = merchant.post_keyed(&"x".repeat(256), &path, &json!({})).await;
        let error = error.expect_error(400, "validation_error");
        assert!(error["details"]["Idempotency-Key"].is_string(), "{route}: {error}");
    }
    assert_eq!(app.row_counts().await, before);
    // Razorpay's events have their own identity.
    let webhook = format!("/v1/webhooks/razorpay/{}/{}", merchant.tenant_id, merchant.environment_id);
    merchant.post_keyed("used", &webhook, &json!({})).await.expect_error(401, "unauthorized");
    app.finish().await;
}
