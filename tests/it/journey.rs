//! The guide's journey: a session is made, paid and completed, or not paid and cleaned up.

use chrono::TimeDelta;
use serde_json::json;

use crate::support::{Merchant, Receiver, TestApp};

#[tokio::test]
async fn a_paid_session_completes_and_tells_the_merchant() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    assert!(session["id"].as_str().unwrap().starts_with("chk_"));
    assert_eq!(session["checkout_status"], "pending");
    assert_eq!(session["payment_action"]["type"], "payment_link");
    assert_eq!(session["payment"]["status"], "INITIATED");
    assert_eq!(session["amount"], "499");
    assert_eq!(session["expires_at"], "2026-11-23T09:45:00Z");
    assert_eq!(session["next_poll_after_ms"], 2000);
    assert_eq!(session["terminal"], false);

    app.pay(&session);
    assert_eq!(app.sandbox.flush_webhooks().await, 4);

    let session = merchant.read_session(&session).await;
    assert_eq!(session["checkout_status"], "completed");
    assert_eq!(session["completed_at"], "2026-11-23T09:30:00Z");
    assert_eq!(session["payment"]["status"], "SUCCEEDED");
    assert_eq!(session["terminal"], true);
    assert_eq!(session["next_poll_after_ms"], 0);
    app.finish().await;
}

#[tokio::test]
async fn endpoints_get_initiated_and_completed_in_order() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let session = merchant.session().await;
    app.drain().await;
    assert_eq!(receiver.event_types(), ["checkout.session.initiated"]);
    app.pay_and_settle(&session).await;
    assert_eq!(receiver.event_types(), ["checkout.session.initiated", "checkout.session.completed"]);
    let event = receiver.received()[1].json();
    assert_eq!(event["sequence"], 2);
    assert_eq!(event["data"]["id"], session["id"]);
    assert_eq!(event["data"]["customer_id"], session["customer_id"]);
    assert_eq!(event["data"], event["checkout_session"]);
    assert_eq!(event["data"]["checkout_status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn an_unpaid_session_expires_at_its_deadline_with_its_link_and_its_drafts() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let session = merchant.session().await;
    app.advance(TimeDelta::seconds(899)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    app.advance(TimeDelta::seconds(1)).await;
    let session = merchant.read_session(&session).await;
    assert_eq!(session["checkout_status"], "expired");
    assert_eq!(session["failure_reason"], "not paid in time");
    assert!(session.get("cancelled_at").is_none());
    let link = app.sandbox.ledger().link(session["id"].as_str().unwrap()).unwrap().clone();
    assert_eq!(link.status.as_str(), "cancelled");
    assert_eq!(receiver.event_types(), ["checkout.session.initiated", "checkout.session.expired"]);
    app.finish().await;
}

#[tokio::test]
async fn a_repeated_key_gets_the_whole_open_session_and_is_free_once_it_ended() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let mut request = Merchant::session_request(&plan);
    request["idempotency_key"] = json!("order_1");
    let first = merchant.post("/v1/checkout/sessions", request.clone()).await.expect(201);
    let error =
        merchant.post("/v1/checkout/sessions", request.clone()).await.expect_error(409, "already_exists");
    assert_eq!(error["details"]["idempotency_key"], "order_1");
    assert_eq!(error["details"]["checkout_session_id"], first["id"]);
    let again = &error["details"]["checkout_session"];
    for field in ["id", "checkout_status", "payment_action", "expires_at", "idempotency_key", "success_url"] {
        assert_eq!(again[field], first[field], "{field}");
    }
    assert_eq!(app.sandbox.ledger().links.len(), 1);
    app.pay_and_settle(&first).await;
    let second = merchant.post("/v1/checkout/sessions", request).await.expect(201);
    assert_ne!(second["id"], first["id"]);
    app.finish().await;
}

#[tokio::test]
async fn one_key_of_two_merchants_names_a_session_of_each() {
    let app = TestApp::start().await;
    let mut created = Vec::new();
    for merchant in [app.merchant().await, app.merchant().await] {
        let mut request = Merchant::session_request(&merchant.plan().await);
        merchant.customer("user_12345").await;
        request["idempotency_key"] = json!("order_1");
        let session = merchant.post("/v1/checkout/sessions", request.clone()).await.expect(201);
        created.push((merchant, request, session));
    }
    for (merchant, request, session) in created {
        let error = merchant.post("/v1/checkout/sessions", request).await.expect_error(409, "already_exists");
        assert_eq!(error["details"]["checkout_session_id"], session["id"]);
        assert_eq!(error["details"]["checkout_session"]["id"], session["id"]);
    }
    app.finish().await;
}

#[tokio::test]
async fn without_webhooks_a_poll_finds_the_payment() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay(&session);
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn without_webhooks_and_polls_the_deadline_finds_the_payment() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay(&session);
    app.state().clock.now();
    app.clock().advance(TimeDelta::minutes(15));
    app.drain().await;
    let session = merchant.read_session(&session).await;
    assert_eq!(session["checkout_status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn cancel_ends_the_session_and_closes_the_link() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let path = format!("/v1/checkout/sessions/{}/cancel", session["id"].as_str().unwrap());
    let cancelled = merchant.post_empty(&path).await.expect(200);
    assert_eq!(cancelled["checkout_status"], "expired");
    assert_eq!(cancelled["cancelled_at"], "2026-11-23T09:30:00Z");
    assert_eq!(cancelled["failure_reason"], "cancelled by the merchant");
    // The provider's own event about it changes nothing, and neither does a repeat.
    app.sandbox.flush_webhooks().await;
    assert_eq!(merchant.post_empty(&path).await.expect(200)["cancelled_at"], cancelled["cancelled_at"]);
    let link = app.sandbox.ledger().link(session["id"].as_str().unwrap()).unwrap().clone();
    assert_eq!(link.status.as_str(), "cancelled");
    app.finish().await;
}
