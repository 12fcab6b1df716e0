//! What can be done with an invoice: say more about it. Its status and its money follow its checkout.

use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Merchant, TestApp};

const ABSENT: &str = "/v1/invoices/inv_00000000000000000000000000";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

fn path_of(session: &Value) -> String {
    format!("/v1/invoices/{}", text(&session["checkout_invoice_id"]))
}

/// The invoice, without the session that only a GET shows with it.
async fn read(merchant: &Merchant, invoice: &str) -> Value {
    let mut found = merchant.get(invoice).await.expect(200);
    found.as_object_mut().unwrap().remove("checkout_session").expect("a session");
    found
}

#[tokio::test]
async fn a_draft_is_neither_finalized_nor_voided_while_its_checkout_is_open() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let invoice = path_of(&session);
    let before = read(&merchant, &invoice).await;
    for verb in ["finalize", "void"] {
        for _ in 0..2 {
            let reply = merchant.post_empty(&format!("{invoice}/{verb}")).await;
            let error = reply.expect_error(400, "invalid_operation");
            assert_eq!(error["details"]["reason"], "checkout_pending", "{verb}");
            assert_eq!(error["details"]["checkout_session_id"], session["id"], "{verb}");
        }
    }
    assert_eq!(read(&merchant, &invoice).await, before);
    // It can still be paid.
    app.pay_and_settle(&session).await;
    assert_eq!(read(&merchant, &invoice).await["invoice_status"], "FINALIZED");
    app.finish().await;
}

#[tokio::test]
async fn a_paid_invoice_stays_final_and_paid() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay_and_settle(&session).await;
    let invoice = path_of(&session);
    let before = read(&merchant, &invoice).await;
    let finalize = format!("{invoice}/finalize");
    let error = merchant.post_empty(&finalize).await.expect_error(400, "validation_error");
    assert!(text(&error["message"]).contains("FINALIZED"), "{error}");
    let replies =
        join_all((0..8).map(|_| async { merchant.post(&format!("{invoice}/void"), json!({})).await })).await;
    for reply in replies {
        let error = reply.expect_error(400, "invalid_operation");
        assert_eq!(error["details"]["reason"], "invoice_paid");
    }
    assert_eq!(read(&merchant, &invoice).await, before);
    app.finish().await;
}

#[tokio::test]
async fn metadata_and_due_date_of_an_invoice_change_and_nothing_else() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let invoice = path_of(&session);
    let before = read(&merchant, &invoice).await;
    assert_eq!(before["due_date"], Value::Null);
    app.clock().advance(TimeDelta::minutes(1));
    let request = json!({"metadata": {"po": "7", "desk": "3"}, "due_date": "2026-12-01T00:00:00+05:30",
        "apply_discount": false, "unheard_of": 1});
    let mut expected = before.clone();
    for (name, value) in [
        ("metadata", json!({"po": "7", "desk": "3"})),
        ("due_date", json!("2026-11-30T18:30:00Z")),
        ("version", json!(2)),
        ("updated_at", json!("2026-11-23T09:31:00Z")),
    ] {
        expected[name] = value;
    }
    assert_eq!(merchant.put(&invoice, request.clone()).await.expect(200), expected);
    app.clock().advance(TimeDelta::minutes(1));
    for request in [request, json!({}), json!({"due_date": "2026-11-30T18:30:00Z"})] {
        assert_eq!(merchant.put(&invoice, request).await.expect(200), expected, "nothing new");
    }
    assert_eq!(merchant.request(axum::http::Method::PUT, &invoice, None).await.expect(200), expected);
    // The map is replaced, the date stays; paid or not.
    app.pay_and_settle(&session).await;
    let paid = merchant.put(&invoice, json!({"metadata": {"po": "8"}})).await.expect(200);
    assert_eq!(paid["metadata"], json!({"po": "8"}));
    assert_eq!(paid["due_date"], "2026-11-30T18:30:00Z");
    assert_eq!((&paid["invoice_status"], &paid["version"]), (&json!("FINALIZED"), &json!(4)));
    assert_eq!(read(&merchant, &invoice).await, paid);
    app.finish().await;
}

#[tokio::test]
async fn what_cannot_be_changed_of_an_invoice_is_named() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let invoice = path_of(&session);
    let before = read(&merchant, &invoice).await;
    for (request, field) in [
        (json!({"metadata": {"a": 1}}), "metadata.a"),
        (json!({"metadata": []}), "metadata"),
        (json!({"due_date": "soon"}), "due_date"),
        (json!({"invoice_pdf_url": "https://example.com/1.pdf"}), "invoice_pdf_url"),
        (json!({"apply_discount": true}), "apply_discount"),
    ] {
        let error = merchant.put(&invoice, request.clone()).await.expect_error(400, "validation_error");
        assert!(error["details"].get(field).is_some(), "{request}: {error}");
    }
    assert_eq!(read(&merchant, &invoice).await, before);
    app.finish().await;
}

#[tokio::test]
async fn the_payment_status_of_an_invoice_is_razorpays_to_say() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let (invoice, payment) = (path_of(&session), format!("{}/payment", path_of(&session)));
    let say = async |request: Value| merchant.put(&payment, request).await;
    for (request, field) in [
        (json!({}), "payment_status"),
        (json!({"payment_status": "PAID"}), "payment_status"),
        (json!({"payment_status": 1}), "payment_status"),
        (json!({"payment_status": "PENDING", "amount": "much"}), "amount"),
        (json!({"payment_status": "PENDING", "amount": 0}), "amount"),
    ] {
        let error = say(request.clone()).await.expect_error(400, "validation_error");
        assert!(error["details"].get(field).is_some(), "{request}: {error}");
    }
    let error = say(json!({"payment_status": "PAID"})).await.expect(400);
    assert!(text(&error["message"]).contains("PARTIALLY_REFUNDED"), "lists the values: {error}");
    let draft = read(&merchant, &invoice).await;
    for right in
        [json!({"payment_status": "PENDING"}), json!({"payment_status": "pending", "amount": "0.00"})]
    {
        assert_eq!(say(right).await.expect(200), draft);
    }
    let paid = json!({"payment_status": "SUCCEEDED", "amount": "499"});
    for wrong in [
        paid.clone(),
        json!({"payment_status": "FAILED"}),
        json!({"payment_status": "PENDING", "amount": "1"}),
    ] {
        let error = say(wrong).await.expect_error(400, "invalid_operation");
        assert_eq!(error["details"]["reason"], "provider_decides");
        assert_eq!(error["details"]["payment_status"], "PENDING");
    }
    assert_eq!(read(&merchant, &invoice).await, draft);

    app.pay_and_settle(&session).await;
    assert_eq!(say(paid).await.expect(200), read(&merchant, &invoice).await);
    for wrong in ["REFUNDED", "VOIDED", "PENDING"] {
        say(json!({"payment_status": wrong})).await.expect_error(400, "invalid_operation");
    }
    app.finish().await;
}

#[tokio::test]
async fn an_invoice_is_read_with_what_it_came_from() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let invoice = path_of(&session);
    let draft = merchant.get(&invoice).await.expect(200);
    assert_eq!(draft["checkout_session"]["id"], session["id"]);
    assert_eq!(draft["checkout_session"]["checkout_status"], "pending");
    assert_eq!(draft["checkout_session"]["payment_action"], session["payment_action"]);
    assert!(draft.get("subscription").is_none());
    app.pay_and_settle(&session).await;
    let paid = merchant.get(&format!("{invoice}?expand=subscription")).await.expect(200);
    assert_eq!(paid["checkout_session"]["checkout_status"], "completed");
    assert_eq!(paid["subscription"]["id"], session["checkout_subscription_id"]);
    assert_eq!(paid["subscription"]["subscription_status"], "active");
    app.finish().await;
}

#[tokio::test]
async fn an_invoice_that_is_archived_or_another_tenants_is_absent() {
    let app = TestApp::start().await;
    let (merchant, stranger) = (app.merchant().await, app.merchant().await);
    let (gone, session) = (merchant.session().await, merchant.session().await);
    merchant.post_empty(&format!("/v1/checkout/sessions/{}/cancel", text(&gone["id"]))).await.expect(200);
    let absent = stranger.post_empty(&format!("{ABSENT}/void")).await.expect(404);
    let own = path_of(&session);
    for (caller, path) in [
        (&stranger, own.as_str()),
        (&stranger, "/v1/invoices/nonsense"),
        (&merchant, "/v1/invoices/subs_00000000000000000000000000"),
        (&merchant, &path_of(&gone)),
    ] {
        let payment = json!({"payment_status": "PENDING"});
        assert_eq!(caller.post_empty(&format!("{path}/finalize")).await.expect(404), absent, "{path}");
        assert_eq!(caller.post_empty(&format!("{path}/void")).await.expect(404), absent, "{path}");
        assert_eq!(caller.put(path, json!({"metadata": {"a": "b"}})).await.expect(404), absent, "{path}");
        assert_eq!(caller.put(&format!("{path}/payment"), payment).await.expect(404), absent, "{path}");
    }
    assert_eq!(merchant.get(&own).await.expect(200)["metadata"], json!({}));
    app.finish().await;
}
