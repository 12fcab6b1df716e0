//! Requests that ran before without an answer that stayed: they go on where they stopped.

use checkoutd::sandbox::{FaultKind, FaultRule, Faults, Op, PayRequest};

use super::*;
use crate::support::{Receiver, connection, verifies};

/// As though the process had died after the handler and before the answer was stored.
pub async fn lose_answer(app: &TestApp, key: &str) {
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

/// Sends a request again whose answer was lost: not before its lease has run out.
pub async fn run_again(
    app: &TestApp,
    merchant: &Merchant,
    key: &str,
    path: &str,
    body: Option<&Value>,
) -> Reply {
    lose_answer(app, key).await;
    is_in_progress(send(merchant.keyed(key, path, body)).await);
    app.clock().advance(LEASE);
    let reply = send(merchant.keyed(key, path, body)).await;
    assert!(!is_replay(&reply), "{path}");
    reply
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

/// Only a hash of a key is kept: what cannot be answered again is replaced, and nobody saw the first.
#[tokio::test]
async fn a_key_that_nobody_saw_is_replaced_and_not_made_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for (path, body, id) in [
        ("/v1/secrets/api/keys", json!({"name": "Backend", "type": "private_key"}), "/secret/id"),
        ("/v1/environments", json!({"name": "Staging", "type": "development"}), "/id"),
    ] {
        let first = merchant.post_keyed(path, path, &body).await.expect(201);
        let rows = app.row_counts().await;
        let reply = run_again(&app, &merchant, path, path, Some(&body)).await;
        let replayed = merchant.post_keyed(path, path, &body).await;
        assert_eq!((&replayed.text, is_replay(&replayed)), (&reply.text, true), "{path}");
        let second = reply.expect(201);
        assert_eq!(app.row_counts().await, rows, "{path}");
        assert_eq!(first.pointer(id), second.pointer(id), "{path}");
        assert_ne!(first["api_key"], second["api_key"], "{path}");
        for (made, status) in [(&first, 401), (&second, 200)] {
            let api_key = made["api_key"].as_str().unwrap().to_owned();
            app.add_canary(&api_key);
            let caller = Merchant { api_key, ..merchant.clone() };
            assert_eq!(caller.get("/v1/users/me").await.status, status, "{path}");
        }
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
        assert!(verifies(&sent, secret), "both sign");
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
async fn a_subscription_that_an_earlier_run_cancelled_is_answered_as_cancelled() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay_and_settle(&session).await;
    let cancel =
        format!("/v1/subscriptions/{}/cancel", session["checkout_subscription_id"].as_str().unwrap());
    let request = json!({"cancellation_type": "immediate"});
    let first = send(merchant.keyed("c", &cancel, Some(&request))).await.expect(200);
    let again = run_again(&app, &merchant, "c", &cancel, Some(&request)).await.expect(200);
    assert_eq!(again, first);
    // Under a key of its own it is another request, which comes too late.
    send(merchant.keyed("d", &cancel, Some(&request))).await.expect_error(400, "invalid_operation");
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
    let gone = run_again(&app, &merchant, "k", path, Some(&body)).await.expect_error(409, "already_exists");
    assert_eq!(gone["details"]["reason"], "made_and_deleted");
    app.finish().await;
}
