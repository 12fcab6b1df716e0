//! Creating a link when Razorpay misbehaves: never two links, and no outcome is guessed.

use checkoutd::sandbox::{FaultKind, FaultRule, Faults, LinkStatus, Op};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Merchant, Receiver, TestApp};

fn status(code: u16) -> FaultKind {
    FaultKind::Status { code, body: None, retry_after: None }
}

fn faults(rules: Vec<FaultRule>) -> Faults {
    Faults { rules, ..Faults::default() }
}

async fn request(merchant: &Merchant) -> Value {
    let plan = merchant.plan().await;
    merchant.customer_if_missing().await;
    Merchant::session_request(&plan)
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_link_was_made_is_found_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let request = request(&merchant).await;
    for kind in [FaultKind::ResetAfter, FaultKind::Malformed, status(500), status(503), status(429)] {
        app.sandbox.set_faults(faults(vec![FaultRule::times(1, Op::CreateLink, kind.clone())]));
        let before = app.sandbox.ledger().links.len();
        let session = merchant.post("/v1/checkout/sessions", request.clone()).await.expect(201);
        assert_eq!(session["checkout_status"], "pending", "{kind:?}");
        assert_eq!(app.sandbox.ledger().links.len(), before + 1, "{kind:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_refusal_fails_the_session_and_says_why() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let body = json!({"error": {"code": "BAD_REQUEST_ERROR", "description": "amount exceeds maximum amount allowed.",
        "metadata": [], "reason": null, "source": null, "step": null}});
    let refusal = FaultKind::Status { code: 400, body: Some(body.to_string()), retry_after: None };
    app.sandbox.set_faults(faults(vec![FaultRule::times(1, Op::CreateLink, refusal)]));
    let error = merchant
        .post("/v1/checkout/sessions", request(&merchant).await)
        .await
        .expect_error(502, "http_client_error");
    assert!(error["message"].as_str().unwrap().contains("amount exceeds maximum amount allowed."), "{error}");
    let id = error["details"]["checkout_session_id"].as_str().unwrap();
    let session = merchant.get(&format!("/v1/checkout/sessions/{id}")).await.expect(200);
    assert_eq!(session["checkout_status"], "failed");
    app.drain().await;
    assert_eq!(receiver.event_types(), ["checkout.session.failed"]);
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_503_and_the_session_settles_by_itself() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let mut request = request(&merchant).await;
    request["idempotency_key"] = json!("order_1");
    // The link is made, its answer is lost, and the lists do not show it yet.
    app.sandbox.set_faults(Faults {
        rules: vec![FaultRule::times(1, Op::CreateLink, FaultKind::ResetAfter)],
        list_lag_ms: 6_000,
        ..Faults::default()
    });
    let reply = merchant.post("/v1/checkout/sessions", request.clone()).await;
    assert_eq!(reply.headers["retry-after"], "5");
    let error = reply.expect_error(503, "service_unavailable");
    let id = error["details"]["checkout_session_id"].clone();
    // The retried key finds it.
    let again =
        merchant.post("/v1/checkout/sessions", request.clone()).await.expect_error(409, "already_exists");
    assert_eq!(again["details"]["checkout_session_id"], id);
    assert_eq!(again["details"]["checkout_session"]["checkout_status"], "initiated");
    app.advance(TimeDelta::seconds(20)).await;
    let session = merchant.get(&format!("/v1/checkout/sessions/{}", id.as_str().unwrap())).await.expect(200);
    assert_eq!(session["checkout_status"], "pending");
    assert!(session["payment_action"]["url"].as_str().unwrap().starts_with("http"));
    assert_eq!(app.sandbox.ledger().links.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_payment_that_beats_our_own_commit_of_the_link_completes_the_session() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(Faults {
        rules: vec![FaultRule::always(Op::CreateLink, FaultKind::ResetAfter)],
        list_lag_ms: 60_000,
        ..Faults::default()
    });
    let reply = merchant.post("/v1/checkout/sessions", request(&merchant).await).await;
    let id = reply.expect_error(503, "service_unavailable")["details"]["checkout_session_id"].clone();
    app.sandbox.set_faults(Faults::default());
    let session = json!({"id": id});
    app.pay_and_settle(&session).await;
    let session = merchant.read_session(&session).await;
    assert_eq!(session["checkout_status"], "completed");
    app.advance(TimeDelta::minutes(16)).await;
    app.finish().await;
}

#[tokio::test]
async fn a_link_with_another_amount_is_never_shown_and_is_cancelled() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(faults(vec![FaultRule::times(1, Op::CreateLink, FaultKind::OtherAmount)]));
    let reply = merchant.post("/v1/checkout/sessions", request(&merchant).await).await;
    let error = reply.expect_error(502, "http_client_error");
    app.drain().await;
    let id = error["details"]["checkout_session_id"].as_str().unwrap();
    assert_eq!(app.sandbox.ledger().link(id).unwrap().status, LinkStatus::Cancelled);
    let session = merchant.get(&format!("/v1/checkout/sessions/{id}")).await.expect(200);
    assert_eq!(session["checkout_status"], "failed");
    assert!(session.get("payment_action").is_none());
    app.finish().await;
}

#[tokio::test]
async fn a_session_cancelled_before_its_link_is_known_leaves_no_payable_link() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(Faults {
        rules: vec![FaultRule::always(Op::CreateLink, FaultKind::ResetAfter)],
        list_lag_ms: 6_000,
        ..Faults::default()
    });
    let reply = merchant.post("/v1/checkout/sessions", request(&merchant).await).await;
    let id = reply.expect_error(503, "service_unavailable")["details"]["checkout_session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let cancelled = merchant.post_empty(&format!("/v1/checkout/sessions/{id}/cancel")).await.expect(200);
    assert_eq!(cancelled["checkout_status"], "expired");
    app.advance(TimeDelta::seconds(31)).await;
    assert_eq!(app.sandbox.ledger().link(&id).unwrap().status, LinkStatus::Cancelled);
    app.finish().await;
}

#[tokio::test]
async fn the_link_carries_our_notes_the_customer_and_a_deadline_that_razorpay_accepts() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let mut request = request(&merchant).await;
    let mut metadata = serde_json::Map::new();
    for number in 0..20 {
        metadata.insert(format!("key_{number:02}"), json!("x".repeat(500)));
    }
    metadata.insert("checkout_session_id".into(), json!("chk_forged"));
    request["metadata"] = Value::Object(metadata);
    let session = merchant.post("/v1/checkout/sessions", request).await.expect(201);
    let link = app.sandbox.ledger().links.remove(0);
    let notes = link.terms.notes.unwrap();
    assert_eq!(notes.len(), 15);
    assert_eq!(notes["checkout_session_id"], session["id"]);
    assert!(notes.values().all(|note| note.as_str().unwrap().chars().count() <= 255));
    assert_eq!(link.terms.reference_id, session["id"].as_str().unwrap());
    assert_eq!(link.terms.customer.unwrap()["email"], "jane@example.com");
    assert!(
        !link.terms.notify_email
            && !link.terms.notify_sms
            && !link.terms.reminder_enable
            && !link.terms.accept_partial
    );
    let expires_at: chrono::DateTime<chrono::Utc> = session["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(link.terms.expire_by, expires_at.timestamp() + 120);
    app.finish().await;
}

#[tokio::test]
async fn a_short_lifetime_expires_in_time_though_razorpay_wants_fifteen_minutes() {
    let settings = crate::support::Settings {
        variables: vec![("CHECKOUTD_SESSION_TTL_SECONDS", "60")],
        ..crate::support::Settings::default()
    };
    let app = TestApp::start_with(settings).await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.advance(TimeDelta::seconds(60)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "expired");
    assert_eq!(app.sandbox.ledger().links[0].status, LinkStatus::Cancelled);
    app.finish().await;
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_does_not_abandon_the_link() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(Faults {
        rules: vec![FaultRule::times(1, Op::CreateLink, FaultKind::ResetAfter)],
        list_lag_ms: 60_000,
        ..Faults::default()
    });
    let reply = merchant.post("/v1/checkout/sessions", request(&merchant).await).await;
    let error = reply.expect_error(503, "service_unavailable");
    let id = error["details"]["checkout_session_id"].as_str().unwrap().to_owned();
    // The worker asks again, and is refused for a reason that says nothing about the first try.
    let quota = json!({"error": {"code": "RATE_LIMIT_EXCEEDED", "description": "test mode limit of 30 reached for payment_link"}});
    let quota = FaultKind::Status { code: 429, body: Some(quota.to_string()), retry_after: None };
    app.sandbox.set_faults(Faults {
        rules: vec![FaultRule::always(Op::CreateLink, quota)],
        list_lag_ms: 60_000,
        ..Faults::default()
    });
    app.advance(TimeDelta::seconds(20)).await;
    let path = format!("/v1/checkout/sessions/{id}");
    assert_eq!(merchant.get(&path).await.expect(200)["checkout_status"], "initiated");
    app.advance(TimeDelta::minutes(2)).await;
    assert_eq!(merchant.get(&path).await.expect(200)["checkout_status"], "pending");
    app.finish().await;
}

#[tokio::test]
async fn a_mismatched_link_of_a_cancelled_session_is_closed_too() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(Faults {
        rules: vec![FaultRule::times(1, Op::CreateLink, FaultKind::ResetAfter)],
        list_lag_ms: 6_000,
        ..Faults::default()
    });
    let reply = merchant.post("/v1/checkout/sessions", request(&merchant).await).await;
    let error = reply.expect_error(503, "service_unavailable");
    let id = error["details"]["checkout_session_id"].as_str().unwrap().to_owned();
    merchant.post_empty(&format!("/v1/checkout/sessions/{id}/cancel")).await.expect(200);
    app.sandbox.set_faults(faults(vec![FaultRule::times(1, Op::ListLinks, FaultKind::OtherAmount)]));
    app.advance(TimeDelta::seconds(31)).await;
    app.drain().await;
    assert_eq!(app.sandbox.ledger().link(&id).unwrap().status, LinkStatus::Cancelled);
    app.finish().await;
}
