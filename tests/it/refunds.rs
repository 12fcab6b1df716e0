//! Refunds: sent until Razorpay answers, never twice, told of once, and listed for ever.

use checkoutd::{
    payments::SendRefunds,
    sandbox::{FaultKind, FaultRule, Faults, Op, RefundStatus, WebhookFaults},
    worker::Job,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Merchant, Receiver, Settings, TestApp, WEBHOOK_SECRET};

mod by_hand;
mod races;
mod sending;

fn faults(rule: FaultRule) -> Faults {
    Faults { rules: vec![rule], ..Faults::default() }
}

pub fn outcome(refund_outcome: RefundStatus) -> Faults {
    Faults { refund_outcome, ..Faults::default() }
}

/// Razorpay says no, in its own words.
fn refusal(description: &str) -> FaultKind {
    let body = json!({"error": {"code": "BAD_REQUEST_ERROR", "description": description}});
    FaultKind::Status { code: 400, body: Some(body.to_string()), retry_after: None }
}

const LOW_BALANCE: &str = "Your account does not have enough balance to carry out the refund operation.";

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

async fn read(merchant: &Merchant, refund: &Value) -> Value {
    merchant.get(&format!("/v1/refunds/{}", refund["id"].as_str().unwrap())).await.expect(200)
}

const WHOLE_STORY: [&str; 3] = ["payment.late", "refund.created", "refund.succeeded"];

#[tokio::test]
async fn a_late_payment_is_told_in_three_events_that_reach_the_merchant() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let (session, paid) = app.late_payment(&merchant).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "PENDING");
    assert_eq!((&refund["settled_amount"], &refund["attempts"]), (&json!("0"), &json!(0)));
    app.drain().await;
    let refund = read(&merchant, &refund).await;
    let made = &app.made(&paid)[0];
    for (field, expected) in [
        ("checkout_session_id", session["id"].clone()),
        ("payment_id", session["checkout_payment_id"].clone()),
        ("invoice_id", session["checkout_invoice_id"].clone()),
        ("amount", json!("499")),
        ("settled_amount", json!("499")),
        ("currency", json!("inr")),
        ("refund_status", json!("SUCCEEDED")),
        ("refund_reason", json!("OTHER")),
        ("reason", json!("late_payment")),
        ("refund_destination", json!("GATEWAY")),
        ("payment_gateway", json!("razorpay")),
        ("gateway_payment_id", json!(paid.payment_id)),
        ("gateway_refund_id", json!(made.id)),
        ("gateway_idempotency_token", refund["id"].clone()),
        ("attempts", json!(1)),
        ("next_attempt_at", Value::Null),
        ("failure_reason", Value::Null),
        ("failed_at", Value::Null),
        ("tenant_id", json!(merchant.tenant_id)),
        ("environment_id", json!(merchant.environment_id)),
    ] {
        assert_eq!(refund[field], expected, "{field}");
    }
    assert_eq!(made.idempotency_key.as_deref(), refund["id"].as_str());
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    let told: Vec<Value> = receiver
        .received()
        .iter()
        .map(super::support::Received::json)
        .filter(|event| event.get("refund").is_some())
        .collect();
    let mut types: Vec<_> = told.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    types.sort_unstable();
    assert_eq!(types, WHOLE_STORY, "each once");
    let last = told.iter().find(|event| event["sequence"] == 3).unwrap();
    assert_eq!(last["data"], refund, "as it is read");
    let first = told.iter().find(|event| event["sequence"] == 1).unwrap();
    assert_eq!(first["data"]["refund_status"], "PENDING");
    app.finish().await;
}

#[tokio::test]
async fn other_reasons_are_told_in_two_events() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (duplicate, wrong, back) =
        (merchant.session().await, merchant.session().await, merchant.session().await);
    app.pay_and_settle(&duplicate).await;
    app.pay_late(&duplicate).await;
    let amount = checkoutd::sandbox::PayRequest { amount: Some(100), ..Default::default() };
    app.sandbox.pay(wrong["id"].as_str().unwrap(), amount).unwrap();
    // Given back by hand before anybody told us that it was paid.
    app.sandbox.set_faults(Faults {
        webhooks: WebhookFaults { enabled: false, ..WebhookFaults::default() },
        ..Faults::default()
    });
    let paid = app.pay(&back);
    app.refund_by_hand(&paid, json!({})).await;
    app.sandbox.set_faults(Faults::default());
    app.advance(TimeDelta::minutes(15)).await;
    for (session, reason, word) in [
        (duplicate, "duplicate_payment", "DUPLICATE"),
        (wrong, "amount_mismatch", "OTHER"),
        (back, "refunded_already", "OTHER"),
    ] {
        let refund = merchant.refund_of(&session).await;
        assert_eq!((&refund["reason"], &refund["refund_reason"]), (&json!(reason), &json!(word)));
        assert_eq!(refund["refund_status"], "SUCCEEDED");
        assert_eq!(merchant.refund_events(&refund).await, ["refund.created", "refund.succeeded"], "{reason}");
    }
    assert_eq!(app.made(&paid).len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn the_list_is_narrowed_and_paged_as_other_lists_are() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let mut sessions = Vec::new();
    app.sandbox.set_faults(outcome(RefundStatus::Failed));
    for _ in 0..3 {
        sessions.push(app.late_payment(&merchant).await.0);
    }
    app.drain().await;
    app.sandbox.set_faults(Faults::default());
    let (session, _) = app.late_payment(&merchant).await;
    app.drain().await;
    let list = async |query: &str| {
        let page = merchant.get(&format!("/v1/refunds?{query}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        (
            items.iter().map(|item| item["checkout_session_id"].clone()).collect::<Vec<_>>(),
            page["pagination"].clone(),
        )
    };
    let ids: Vec<_> = sessions.iter().map(|session| session["id"].clone()).collect();
    let newest_first = [session["id"].clone(), ids[2].clone(), ids[1].clone(), ids[0].clone()];
    let (all, pagination) = list("").await;
    assert_eq!(all, newest_first);
    assert_eq!(pagination, json!({"total": 4, "limit": 50, "offset": 0}));
    let (page, pagination) = list("limit=2&offset=1").await;
    assert_eq!(page, newest_first[1..3]);
    assert_eq!(pagination, json!({"total": 4, "limit": 2, "offset": 1}));
    assert_eq!(list("status=succeeded").await.0, newest_first[..1]);
    assert_eq!(list("refund_statuses=FAILED").await.0, newest_first[1..]);
    assert_eq!(list("status=FAILED,SUCCEEDED").await.0.len(), 4);
    assert_eq!(list("status=PENDING").await.0.len(), 0);
    let (payment, invoice) = (&sessions[1]["checkout_payment_id"], &sessions[1]["checkout_invoice_id"]);
    assert_eq!(list(&format!("payment_ids={}", payment.as_str().unwrap())).await.0, ids[1..2]);
    assert_eq!(list(&format!("invoice_ids={}", invoice.as_str().unwrap())).await.0, ids[1..2]);
    assert_eq!(list("payment_ids=nonsense").await.0.len(), 0);
    assert_eq!(list("refund_statuses=CANCELLED,SUCCEEDED").await.0, newest_first[..1]);
    assert_eq!(list("only_settled=true").await.0, newest_first[..1]);
    assert_eq!(
        list("only_settled=false&gateway=razorpay&refund_destinations=WALLET,GATEWAY").await.0.len(),
        4
    );
    for nothing in [
        "only_settled=true&refund_statuses=FAILED",
        "gateway=stripe",
        "refund_statuses=CANCELLED",
        "refund_destinations=WALLET,OUT_OF_BAND",
        "credit_note_ids=cn_1",
    ] {
        assert_eq!(list(nothing).await.0.len(), 0, "{nothing}");
    }
    assert_eq!(list("checkout_session_id=nonsense").await.0.len(), 0);
    let second = merchant.refund_of(&sessions[1]).await["created_at"].as_str().unwrap().to_owned();
    assert_eq!(list(&format!("start_time={second}")).await.0, newest_first[..3]);
    assert_eq!(list(&format!("end_time={second}")).await.0, newest_first[2..]);
    for (query, field) in [
        ("status=paid", "status[0]"),
        ("refund_statuses=FAILED,gone", "refund_statuses[1]"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("offset=-1", "offset"),
        ("start_time=yesterday", "start_time"),
    ] {
        let error = merchant.get(&format!("/v1/refunds?{query}")).await.expect_error(400, "validation_error");
        assert!(error["details"].get(field).is_some(), "{error}");
    }
    app.finish().await;
}

#[tokio::test]
async fn another_tenants_refund_is_not_there() {
    let app = TestApp::start().await;
    let (merchant, stranger) = (app.merchant().await, app.merchant().await);
    let (session, _) = app.late_payment(&merchant).await;
    let refund = merchant.refund_of(&session).await;
    let before = app.row_counts().await;
    let own = format!("/v1/refunds/{}", refund["id"].as_str().unwrap());
    let absent = format!("/v1/refunds/{}", checkoutd::kit::ids::encode("refund", sqlx::types::Uuid::nil()));
    for path in [&*own, &*absent, "/v1/refunds/nonsense", "/v1/refunds/%00"] {
        for reply in [stranger.get(path).await, stranger.post_empty(&format!("{path}/retry")).await] {
            let error = reply.expect_error(404, "not_found");
            assert_eq!(error["message"], "no such refund");
            assert_eq!(error["details"], json!({"reason": "refund_not_found"}));
        }
    }
    let theirs =
        async |path: String| stranger.get(&path).await.expect(200)["items"].as_array().unwrap().len();
    assert_eq!(theirs("/v1/refunds".into()).await, 0);
    let session = session["id"].as_str().unwrap();
    assert_eq!(theirs(format!("/v1/refunds?checkout_session_id={session}")).await, 0);
    assert_eq!(theirs(format!("/v1/events?refund_id={}", refund["id"].as_str().unwrap())).await, 0);
    assert_eq!(app.row_counts().await, before);
    assert_eq!(read(&merchant, &refund).await, refund);
    app.drain().await;
    app.finish().await;
}
