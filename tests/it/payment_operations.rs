//! What can be done with a payment: name it, and ask whether it is paid by now.

use checkoutd::sandbox::{FaultKind, FaultRule, Faults, Op};
use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::TestApp;

const ABSENT: &str = "/v1/payments/pay_00000000000000000000000000";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

fn path_of(session: &Value) -> String {
    format!("/v1/payments/{}", text(&session["checkout_payment_id"]))
}

#[tokio::test]
async fn only_the_metadata_of_a_payment_changes() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let payment = path_of(&session);
    let before = merchant.get(&payment).await.expect(200);
    app.clock().advance(TimeDelta::minutes(1));
    let mut expected = before.clone();
    expected["metadata"] = json!({"desk": "3"});
    expected["updated_at"] = json!("2026-11-23T09:31:00Z");
    let request = json!({"metadata": {"desk": "3"}, "payment_status": "INITIATED", "payment_gateway": "razorpay",
        "gateway_tracking_id": before["gateway_tracking_id"], "gateway_payment_id": "", "unheard_of": 1});
    assert_eq!(merchant.put(&payment, request.clone()).await.expect(200), expected);
    app.clock().advance(TimeDelta::minutes(1));
    for request in [request, json!({}), json!({"metadata": {"desk": "3"}})] {
        assert_eq!(merchant.put(&payment, request).await.expect(200), expected, "nothing new");
    }
    app.pay_and_settle(&session).await;
    let paid = merchant.put(&payment, json!({"metadata": {}})).await.expect(200);
    assert_eq!((&paid["metadata"], &paid["payment_status"]), (&json!({}), &json!("SUCCEEDED")));
    let known = json!({"payment_status": "SUCCEEDED", "gateway_payment_id": paid["gateway_payment_id"],
        "succeeded_at": paid["succeeded_at"]});
    assert_eq!(merchant.put(&payment, known).await.expect(200), paid);
    app.finish().await;
}

#[tokio::test]
async fn what_razorpay_reports_is_not_the_merchants_to_change() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let payment = path_of(&session);
    let before = merchant.get(&payment).await.expect(200);
    for (field, value) in [
        ("payment_status", json!("SUCCEEDED")),
        ("payment_gateway", json!("stripe")),
        ("gateway_payment_id", json!("pay_made_up")),
        ("gateway_tracking_id", json!("plink_made_up")),
        ("payment_method_id", json!("card_1")),
        ("error_message", json!("no")),
        ("succeeded_at", json!("2026-11-23T09:30:00Z")),
        ("failed_at", json!("2026-11-23T09:30:00Z")),
        ("refunded_at", json!("2026-11-23T09:30:00Z")),
        ("voided_at", json!("2026-11-23T09:30:00Z")),
    ] {
        let request = json!({"metadata": {"a": "b"}, field: value});
        let error = merchant.put(&payment, request).await.expect_error(400, "invalid_operation");
        assert_eq!(error["details"]["fields"], json!([field]), "{error}");
        assert_eq!(error["details"]["reason"], "provider_decides");
    }
    for (request, field) in [
        (json!({"payment_status": "PAID"}), "payment_status"),
        (json!({"payment_gateway": "bank"}), "payment_gateway"),
        (json!({"succeeded_at": "now"}), "succeeded_at"),
        (json!({"metadata": {"a": 1}}), "metadata.a"),
    ] {
        let error = merchant.put(&payment, request).await.expect_error(400, "validation_error");
        assert!(error["details"].get(field).is_some(), "{error}");
    }
    assert_eq!(merchant.get(&payment).await.expect(200), before);
    app.finish().await;
}

#[tokio::test]
async fn processing_a_payment_asks_razorpay_whether_it_is_paid() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let process = format!("{}/process", path_of(&session));
    let unpaid = merchant.post_empty(&process).await.expect(200);
    assert_eq!(unpaid, merchant.get(&path_of(&session)).await.expect(200));
    assert_eq!(unpaid["payment_status"], "INITIATED");
    // Paid, and no webhook has come.
    app.pay(&session);
    app.clock().advance(TimeDelta::seconds(3));
    let replies = join_all((0..8).map(|_| merchant.post(&process, json!({})))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let paid = merchant.post_empty(&process).await.expect(200);
    assert_eq!(paid["payment_status"], "SUCCEEDED");
    assert_eq!(paid, merchant.get(&path_of(&session)).await.expect(200));
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    // What has ended is not asked about.
    fail_reads(&app, None);
    app.clock().advance(TimeDelta::seconds(3));
    assert_eq!(merchant.post_empty(&process).await.expect(200), paid);
    app.sandbox.set_faults(Faults::default());
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    app.finish().await;
}

/// Razorpay refuses to tell about links, so many times or until told otherwise.
fn fail_reads(app: &TestApp, times: Option<u32>) {
    let kind = FaultKind::Status { code: 400, body: None, retry_after: None };
    let rules = vec![FaultRule { op: Op::FetchLink, times, kind }];
    app.sandbox.set_faults(Faults { rules, ..Faults::default() });
}

#[tokio::test]
async fn all_who_ask_at_once_cause_one_question() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let process = format!("{}/process", path_of(&session));
    app.pay(&session);
    // Only the first question fails: a second one would hear of the payment.
    fail_reads(&app, Some(1));
    let replies = join_all((0..16).map(|_| merchant.post_empty(&process))).await;
    for reply in replies {
        assert_eq!(reply.expect(200)["payment_status"], "INITIATED");
    }
    app.clock().advance(TimeDelta::seconds(2));
    assert_eq!(merchant.post_empty(&process).await.expect(200)["payment_status"], "SUCCEEDED");
    app.finish().await;
}

#[tokio::test]
async fn a_payment_is_answered_as_it_is_when_razorpay_does_not_answer_or_its_checkout_is_over() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let process = format!("{}/process", path_of(&session));
    fail_reads(&app, None);
    assert_eq!(merchant.post_empty(&process).await.expect(200)["payment_status"], "INITIATED");
    app.sandbox.set_faults(Faults::default());
    merchant.post_empty(&format!("/v1/checkout/sessions/{}/cancel", text(&session["id"]))).await.expect(200);
    let over = merchant.post_empty(&process).await.expect(200);
    assert_eq!((&over["payment_status"], &over["status"]), (&json!("INITIATED"), &json!("archived")));
    // It is kept for late money, and takes no changes.
    merchant.put(&path_of(&session), json!({"metadata": {"a": "b"}})).await.expect_error(404, "not_found");
    app.finish().await;
}

#[tokio::test]
async fn another_tenants_payment_is_absent() {
    let app = TestApp::start().await;
    let (merchant, stranger) = (app.merchant().await, app.merchant().await);
    let session = merchant.session().await;
    let own = path_of(&session);
    let absent = stranger.post_empty(&format!("{ABSENT}/process")).await.expect(404);
    for path in [own.as_str(), "/v1/payments/nonsense", "/v1/payments/inv_00000000000000000000000000"] {
        assert_eq!(stranger.post_empty(&format!("{path}/process")).await.expect(404), absent, "{path}");
        assert_eq!(stranger.put(path, json!({"metadata": {"a": "b"}})).await.expect(404), absent, "{path}");
    }
    assert_eq!(merchant.get(&own).await.expect(200)["metadata"], json!({}));
    // Nobody asked for the stranger, or this reader would not be the first.
    assert_eq!(merchant.read_session(&session).await["stale"], false);
    app.finish().await;
}
