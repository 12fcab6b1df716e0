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

fn faults(rule: FaultRule) -> Faults {
    Faults { rules: vec![rule], ..Faults::default() }
}

fn outcome(refund_outcome: RefundStatus) -> Faults {
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
    let theirs = async |path: String| stranger.get(&path).await.expect(200)["pagination"]["total"].clone();
    assert_eq!(theirs("/v1/refunds".into()).await, 0);
    let session = session["id"].as_str().unwrap();
    assert_eq!(theirs(format!("/v1/refunds?checkout_session_id={session}")).await, 0);
    assert_eq!(theirs(format!("/v1/events?refund_id={}", refund["id"].as_str().unwrap())).await, 0);
    assert_eq!(app.row_counts().await, before);
    assert_eq!(read(&merchant, &refund).await, refund);
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn every_unusable_answer_ends_in_one_refund() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let status = |code, retry_after| FaultKind::Status { code, body: None, retry_after };
    let page = FaultKind::Status { code: 200, body: Some("<html>".into()), retry_after: None };
    for kind in [
        FaultKind::ResetAfter,
        FaultKind::Malformed,
        FaultKind::OtherAmount,
        page,
        status(500, None),
        status(502, None),
        status(503, Some(7)),
        status(429, None),
        status(401, None),
        status(404, None),
        refusal("Request failed because another payment operation is in progress."),
    ] {
        let (session, paid) = app.late_payment(&merchant).await;
        // More than the tries of one call: the worker has to come back.
        app.sandbox.set_faults(faults(FaultRule::times(3, Op::Refund, kind.clone())));
        app.drain().await;
        for _ in 0..6 {
            app.advance(TimeDelta::minutes(1)).await;
        }
        let refund = merchant.refund_of(&session).await;
        assert_eq!(refund["refund_status"], "SUCCEEDED", "{kind:?} {refund}");
        assert_eq!(refund["gateway_refund_id"], app.made(&paid)[0].id);
        assert_eq!(app.made(&paid).len(), 1, "{kind:?}");
        assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY, "{kind:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_retry_after_is_waited_for() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let limited = FaultKind::Status { code: 429, body: None, retry_after: Some(300) };
    app.sandbox.set_faults(faults(FaultRule::times(1, Op::Refund, limited)));
    app.drain().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(time(&refund["next_attempt_at"]), app.state().clock.now() + TimeDelta::seconds(300));
    app.advance(TimeDelta::seconds(299)).await;
    assert_eq!(app.made(&paid).len(), 0);
    app.advance(TimeDelta::seconds(1)).await;
    assert_eq!(app.made(&paid).len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_under_way_is_asked_about_at_growing_intervals() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(Faults {
        webhooks: WebhookFaults { enabled: false, ..WebhookFaults::default() },
        ..outcome(RefundStatus::Pending)
    });
    app.drain().await;
    let mut gaps = Vec::new();
    for _ in 0..12 {
        let refund = merchant.refund_of(&session).await;
        assert_eq!(
            (&refund["refund_status"], &refund["attempts"].as_i64().is_some()),
            (&json!("PROCESSING"), &true)
        );
        let gap = time(&refund["next_attempt_at"]) - app.state().clock.now();
        gaps.push(gap.num_seconds());
        app.advance_quietly(gap).await;
    }
    assert!((8..=12).contains(&gaps[0]), "{gaps:?}");
    assert!(gaps[..7].windows(2).skip(1).all(|pair| pair[0] < pair[1]), "{gaps:?}");
    assert!(gaps[9..].iter().all(|gap| (480..=720).contains(gap)), "{gaps:?}");
    // No webhook tells of the end.
    app.sandbox.settle_refund(&app.made(&paid)[0].id, RefundStatus::Processed).unwrap();
    app.advance_quietly(TimeDelta::minutes(12)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "SUCCEEDED");
    assert_eq!(app.made(&paid).len(), 1);
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_that_cannot_be_asked_about_stays_under_way() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(outcome(RefundStatus::Pending));
    app.drain().await;
    for kind in [
        FaultKind::Status { code: 503, body: None, retry_after: None },
        refusal("The id provided does not exist"),
    ] {
        app.sandbox.set_faults(Faults {
            rules: vec![FaultRule::always(Op::FetchRefund, kind)],
            ..outcome(RefundStatus::Pending)
        });
        app.advance_quietly(TimeDelta::minutes(15)).await;
        let refund = merchant.refund_of(&session).await;
        assert_eq!(refund["refund_status"], "PROCESSING", "{refund}");
        assert!(refund["failure_reason"].as_str().is_some(), "{refund}");
    }
    app.sandbox.set_faults(Faults::default());
    app.sandbox.settle_refund(&app.made(&paid)[0].id, RefundStatus::Processed).unwrap();
    app.advance_quietly(TimeDelta::minutes(15)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!((&refund["refund_status"], &refund["failure_reason"]), (&json!("SUCCEEDED"), &Value::Null));
    assert_eq!(app.made(&paid).len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_failed_refund_is_tried_again_under_a_new_key() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(outcome(RefundStatus::Pending));
    app.drain().await;
    let first = app.made(&paid)[0].clone();
    app.sandbox.settle_refund(&first.id, RefundStatus::Failed).unwrap();
    app.sandbox.flush_webhooks().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "FAILED");
    assert_eq!(refund["failed_at"], refund["updated_at"]);
    assert!(refund["failure_reason"].as_str().unwrap().contains("failed"), "{refund}");
    // Nothing happens by itself.
    app.advance(TimeDelta::days(3)).await;
    assert_eq!(read(&merchant, &refund).await, refund);
    // Several people press the button.
    let replies = join_all((0..8).map(|_| merchant.retry(&refund))).await;
    let keys: std::collections::HashSet<_> = replies
        .into_iter()
        .map(|reply| {
            let retried = reply.expect(200);
            assert_eq!(retried["refund_status"], "PENDING");
            assert_eq!((&retried["gateway_refund_id"], &retried["failed_at"]), (&Value::Null, &Value::Null));
            retried["gateway_idempotency_token"].to_string()
        })
        .collect();
    assert_eq!(keys.len(), 1, "one new try: {keys:?}");
    assert!(!keys.contains(&refund["id"].to_string()));
    app.drain().await;
    let second = app.made(&paid)[1].clone();
    assert_eq!(read(&merchant, &refund).await["refund_status"], "PROCESSING");
    // Razorpay repeats what it said of the first one, also in a shape that was not seen yet.
    merchant.hear_of_refund("refund.failed", &first, "failed").await;
    merchant.hear_of_refund("refund.created", &first, "failed").await;
    merchant.hear_of_refund("refund.created", &first, "pending").await;
    assert_eq!(read(&merchant, &refund).await["refund_status"], "PROCESSING");
    merchant.retry(&refund).await.expect_error(400, "invalid_operation");
    app.sandbox.settle_refund(&second.id, RefundStatus::Processed).unwrap();
    app.sandbox.flush_webhooks().await;
    let refund = read(&merchant, &refund).await;
    assert_eq!(
        (&refund["refund_status"], &refund["gateway_refund_id"]),
        (&json!("SUCCEEDED"), &json!(second.id))
    );
    assert_eq!((&refund["attempts"], &refund["failed_at"]), (&json!(2), &Value::Null));
    assert_eq!(app.made(&paid).len(), 2);
    let events = ["payment.late", "refund.created", "refund.failed", "refund.succeeded"];
    assert_eq!(merchant.refund_events(&refund).await, events);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_can_fail_and_be_tried_again_more_than_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(outcome(RefundStatus::Failed));
    app.drain().await;
    for round in 1..=3 {
        let refund = merchant.refund_of(&session).await;
        assert_eq!((&refund["refund_status"], &refund["attempts"]), (&json!("FAILED"), &json!(round)));
        // Its own webhooks change nothing more.
        app.sandbox.flush_webhooks().await;
        if round == 3 {
            // The answer to the last try is lost, and its webhooks are the first to tell.
            let lost = FaultRule::times(3, Op::Refund, FaultKind::ResetAfter);
            app.sandbox.set_faults(faults(lost));
        }
        merchant.retry(&refund).await.expect(200);
        app.drain().await;
    }
    app.sandbox.flush_webhooks().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!((&refund["refund_status"], &refund["attempts"]), (&json!("SUCCEEDED"), &json!(4)));
    assert_eq!(app.made(&paid).iter().filter(|made| made.status == RefundStatus::Processed).count(), 1);
    assert_eq!(
        merchant.refund_events(&refund).await[2..],
        ["refund.failed", "refund.failed", "refund.failed", "refund.succeeded"]
    );
    app.finish().await;
}

#[tokio::test]
async fn only_what_is_not_on_its_way_can_be_tried_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let refund = merchant.refund_of(&session).await;
    // Waiting after refusals: due now, under the same key.
    app.sandbox.set_faults(faults(FaultRule::always(Op::Refund, refusal(LOW_BALANCE))));
    app.drain().await;
    for _ in 0..5 {
        app.advance(TimeDelta::minutes(3)).await;
    }
    let waiting = read(&merchant, &refund).await;
    assert_eq!(waiting["refund_status"], "PENDING");
    assert!(waiting["failure_reason"].as_str().unwrap().contains(LOW_BALANCE), "{waiting}");
    assert!(time(&waiting["next_attempt_at"]) > app.state().clock.now());
    app.sandbox.set_faults(outcome(RefundStatus::Pending));
    let due = merchant.retry(&refund).await.expect(200);
    assert_eq!(time(&due["next_attempt_at"]), app.state().clock.now());
    assert_eq!(due["gateway_idempotency_token"], refund["id"]);
    app.drain().await;
    let error = merchant.retry(&refund).await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"], json!({"reason": "refund_in_progress", "refund_status": "PROCESSING"}));
    app.sandbox.settle_refund(&app.made(&paid)[0].id, RefundStatus::Processed).unwrap();
    app.sandbox.flush_webhooks().await;
    let ended = read(&merchant, &refund).await;
    let error = merchant.retry(&refund).await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"], json!({"reason": "refund_succeeded", "refund_status": "SUCCEEDED"}));
    assert_eq!(read(&merchant, &refund).await, ended);
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn a_low_balance_is_waited_for_and_people_are_told() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(faults(FaultRule::always(Op::Refund, refusal(LOW_BALANCE))));
    let alerted = async || -> Option<DateTime<Utc>> {
        sqlx::query_scalar("select alerted_at from refunds").fetch_one(&app.state().pool).await.unwrap()
    };
    app.drain().await;
    assert_eq!(alerted().await, None, "a refusal alone is no reason to wake anybody");
    let until = app.state().clock.now() + TimeDelta::hours(22);
    while app.state().clock.now() < until {
        let due = time(&merchant.refund_of(&session).await["next_attempt_at"]);
        let wait = due - app.state().clock.now();
        assert!(wait <= TimeDelta::minutes(72), "an hour at most, more or less: {wait}");
        app.advance_quietly(wait).await;
    }
    let first = alerted().await.unwrap();
    let created = time(&merchant.refund_of(&session).await["created_at"]);
    assert!((TimeDelta::minutes(34)..TimeDelta::minutes(52)).contains(&(first - created)), "{first}");
    let refund = merchant.refund_of(&session).await;
    assert!((25..50).contains(&refund["attempts"].as_i64().unwrap()), "{refund}");
    assert_eq!(refund["refund_status"], "PENDING");
    // It goes on, and so do the alerts: once a day.
    for _ in 0..12 {
        app.advance_quietly(TimeDelta::minutes(73)).await;
    }
    assert!(alerted().await.unwrap() >= first + TimeDelta::hours(24));
    app.sandbox.set_faults(Faults::default());
    app.advance(TimeDelta::minutes(73)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!((&refund["refund_status"], &refund["failure_reason"]), (&json!("SUCCEEDED"), &Value::Null));
    assert_eq!(app.made(&paid).len(), 1);
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_that_razorpay_holds_for_a_day_is_told_to_people() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.late_payment(&merchant).await;
    app.sandbox.set_faults(outcome(RefundStatus::Pending));
    app.drain().await;
    let alerts = async || -> i64 {
        let told = "select count(*) from refunds where alerted_at is not null";
        sqlx::query_scalar(told).fetch_one(&app.state().pool).await.unwrap()
    };
    app.advance_quietly(TimeDelta::hours(23)).await;
    assert_eq!(alerts().await, 0);
    app.advance_quietly(TimeDelta::hours(1)).await;
    assert_eq!(alerts().await, 1);
    app.finish().await;
}

#[tokio::test]
async fn what_was_given_back_by_hand_is_taken_over_and_not_sent_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let lost = Faults {
        webhooks: WebhookFaults { enabled: false, ..WebhookFaults::default() },
        ..Faults::default()
    };
    // At once, in parts, and with its webhooks arriving first.
    for (parts, told) in [(vec![49_900], false), (vec![10_000, 39_900], false), (vec![49_900], true)] {
        let (session, paid) = app.late_payment(&merchant).await;
        app.sandbox.set_faults(if told { Faults::default() } else { lost.clone() });
        let mut last = Value::Null;
        for amount in &parts {
            last = app.refund_by_hand(&paid, json!({"amount": amount})).await;
        }
        app.sandbox.flush_webhooks().await;
        app.drain().await;
        let refund = merchant.refund_of(&session).await;
        assert_eq!(
            (&refund["refund_status"], &refund["gateway_refund_id"]),
            (&json!("SUCCEEDED"), &last["id"])
        );
        assert_eq!(refund["attempts"], i32::from(!told), "{parts:?}");
        assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
        assert_eq!(app.made(&paid).len(), parts.len(), "none is ours");
        app.sandbox.set_faults(Faults::default());
    }
    app.finish().await;
}

#[tokio::test]
async fn when_a_part_was_given_back_by_hand_the_rest_is_sent() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.refund_by_hand(&paid, json!({"amount": 10_000})).await;
    // The answer to the rest is lost as well: the same request again, not another one.
    let lost = FaultRule::times(4, Op::Refund, FaultKind::ResetAfter);
    app.sandbox.set_faults(faults(lost));
    app.drain().await;
    app.advance(TimeDelta::minutes(1)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "SUCCEEDED", "{refund}");
    assert_eq!((&refund["amount"], &refund["settled_amount"]), (&json!("499"), &json!("499")));
    let made = app.made(&paid);
    assert_eq!(made.iter().map(|made| made.amount).collect::<Vec<_>>(), [10_000, 39_900]);
    assert_eq!(refund["gateway_refund_id"], made[1].id);
    assert_eq!(made[1].receipt.as_deref(), refund["gateway_idempotency_token"].as_str());
    assert_ne!(refund["gateway_idempotency_token"], refund["id"], "another amount is another request");
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_by_hand_that_may_still_fail_is_waited_for() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for end in [RefundStatus::Processed, RefundStatus::Failed] {
        let (session, paid) = app.late_payment(&merchant).await;
        app.sandbox.set_faults(outcome(RefundStatus::Pending));
        let by_hand = app.refund_by_hand(&paid, json!({})).await;
        app.sandbox.flush_webhooks().await;
        app.drain().await;
        let refund = merchant.refund_of(&session).await;
        assert_eq!(refund["refund_status"], "PENDING", "{refund}");
        assert!(refund["failure_reason"].as_str().unwrap().contains("another refund"), "{refund}");
        app.sandbox.set_faults(Faults::default());
        app.sandbox.settle_refund(by_hand["id"].as_str().unwrap(), end).unwrap();
        app.advance(TimeDelta::minutes(1)).await;
        let refund = merchant.refund_of(&session).await;
        assert_eq!(refund["refund_status"], "SUCCEEDED", "{refund}");
        let given_back: i64 = app
            .made(&paid)
            .iter()
            .filter(|made| made.status == RefundStatus::Processed)
            .map(|made| made.amount)
            .sum();
        assert_eq!(given_back, 49_900, "once");
        assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_failed_refund_that_is_given_back_by_hand_is_done() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for told in [true, false] {
        let (session, paid) = app.late_payment(&merchant).await;
        app.sandbox.set_faults(outcome(RefundStatus::Failed));
        app.drain().await;
        app.sandbox.flush_webhooks().await;
        app.sandbox.set_faults(Faults {
            webhooks: WebhookFaults { enabled: told, ..WebhookFaults::default() },
            ..Faults::default()
        });
        let refund = merchant.refund_of(&session).await;
        let by_hand = app.refund_by_hand(&paid, json!({})).await;
        app.sandbox.flush_webhooks().await;
        if !told {
            // Nobody told us: whoever presses the button finds out.
            merchant.retry(&refund).await.expect(200);
            app.drain().await;
        }
        let refund = read(&merchant, &refund).await;
        assert_eq!(
            (&refund["refund_status"], &refund["gateway_refund_id"]),
            (&json!("SUCCEEDED"), &by_hand["id"])
        );
        let events = ["payment.late", "refund.created", "refund.failed", "refund.succeeded"];
        assert_eq!(merchant.refund_events(&refund).await, events);
        app.sandbox.set_faults(Faults::default());
    }
    app.finish().await;
}

/// Each list is every order of its places.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for place in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| [&order[..at], &[place], &order[at..]].concat())
            })
            .collect();
    }
    orders
}

#[tokio::test]
async fn refund_webhooks_end_in_the_same_state_in_every_order() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    // Each event with each status that was seen in it.
    let success = [
        ("refund.created", "created"),
        ("refund.created", "pending"),
        ("refund.created", "processed"),
        ("refund.processed", "processed"),
    ];
    let failure =
        [("refund.created", "pending"), ("refund.speed_changed", "pending"), ("refund.failed", "failed")];
    for (events, end, told) in
        [(&success[..], "SUCCEEDED", "refund.succeeded"), (&failure[..], "FAILED", "refund.failed")]
    {
        for order in orders(events.len()) {
            let (session, paid) = app.late_payment(&merchant).await;
            // Ours reached Razorpay and the process died: its webhooks are all that is heard of it.
            app.sandbox.set_faults(Faults {
                webhooks: WebhookFaults { enabled: false, ..WebhookFaults::default() },
                refund_outcome: RefundStatus::Pending,
                ..Faults::default()
            });
            let id = merchant.refund_of(&session).await["id"].clone();
            app.refund_by_hand(&paid, json!({"amount": 49_900, "receipt": id})).await;
            app.sandbox.set_faults(Faults::default());
            let made = app.made(&paid)[0].clone();
            for place in &order {
                let (event, status) = events[*place];
                merchant.hear_of_refund(event, &made, status).await;
                merchant.hear_of_refund(event, &made, status).await;
            }
            let refund = merchant.refund_of(&session).await;
            assert_eq!(refund["refund_status"], end, "{order:?}");
            assert_eq!(refund["gateway_refund_id"], made.id);
            assert_eq!(
                merchant.refund_events(&refund).await,
                ["payment.late", "refund.created", told],
                "{order:?}"
            );
            let outcome = if end == "FAILED" { RefundStatus::Failed } else { RefundStatus::Processed };
            app.sandbox.settle_refund(&made.id, outcome).unwrap();
            app.sandbox.flush_webhooks().await;
            app.drain().await;
            assert_eq!(read(&merchant, &refund).await, refund, "{order:?}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn nothing_that_comes_later_changes_a_success() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.drain().await;
    app.sandbox.flush_webhooks().await;
    let refund = merchant.refund_of(&session).await;
    let made = app.made(&paid)[0].clone();
    for (event, status) in [
        ("refund.created", "created"),
        ("refund.created", "pending"),
        ("refund.failed", "failed"),
        ("refund.processed", "processed"),
        ("refund.arn_updated", "something new"),
    ] {
        merchant.hear_of_refund(event, &made, status).await;
        app.advance(TimeDelta::minutes(11)).await;
        assert_eq!(read(&merchant, &refund).await, refund, "{event}");
    }
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn webhook_and_worker_at_once_settle_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    for _ in 0..8 {
        let (session, paid) = app.late_payment(&merchant).await;
        app.sandbox.set_faults(outcome(RefundStatus::Pending));
        app.drain().await;
        app.sandbox.set_faults(Faults::default());
        let made = app.made(&paid)[0].clone();
        app.sandbox.settle_refund(&made.id, RefundStatus::Processed).unwrap();
        app.clock().advance(TimeDelta::minutes(1));
        let told = join_all((0..6).map(|_| merchant.hear_of_refund("refund.processed", &made, "processed")));
        tokio::join!(told, app.drain(), app.drain(), app.sandbox.flush_webhooks());
        let refund = merchant.refund_of(&session).await;
        assert_eq!(refund["refund_status"], "SUCCEEDED");
        assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    }
    app.drain().await;
    let told = receiver.event_types();
    assert_eq!(told.iter().filter(|event| *event == "refund.succeeded").count(), 8);
    app.finish().await;
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_changes_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let stale = SendRefunds.claim(app.state(), 4).await.unwrap();
    assert_eq!(stale.len(), 1);
    assert!(SendRefunds.claim(app.state(), 4).await.unwrap().is_empty(), "held");
    // The process hangs, and another takes over.
    app.clock().advance(TimeDelta::seconds(61));
    app.sandbox.set_faults(outcome(RefundStatus::Failed));
    app.drain().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "FAILED");
    SendRefunds.step(app.state(), stale[0]).await.unwrap();
    assert_eq!(read(&merchant, &refund).await, refund);

    // It claimed, the refund failed by a webhook, and somebody tried again: the answer to the old try is not
    // the new one's.
    merchant.retry(&refund).await.expect(200);
    let stale = SendRefunds.claim(app.state(), 4).await.unwrap();
    let token = read(&merchant, &refund).await["gateway_idempotency_token"].clone();
    let mut claimed = app.made(&paid)[0].clone();
    (claimed.id, claimed.receipt) = ("rfnd_claimed".into(), token.as_str().map(str::to_owned));
    merchant.hear_of_refund("refund.failed", &claimed, "failed").await;
    merchant.retry(&refund).await.expect(200);
    let waiting = read(&merchant, &refund).await;
    assert_ne!(waiting["gateway_idempotency_token"], token);
    SendRefunds.step(app.state(), stale[0]).await.unwrap();
    assert_eq!(read(&merchant, &refund).await, waiting);
    assert_eq!(app.made(&paid).len(), 1, "nothing was sent");
    app.sandbox.set_faults(Faults::default());
    app.drain().await;
    assert_eq!(read(&merchant, &refund).await["refund_status"], "SUCCEEDED");
    app.finish().await;
}

/// Until the slow call is under way at Razorpay.
async fn until_called(app: &TestApp, merchant: &Merchant) {
    let url = format!("{}/_sandbox/faults", app.sandbox.base_url());
    loop {
        let faults = crate::support::send(merchant.http.get(&url)).await.expect(200);
        if faults["rules"][0]["times"] == 0 {
            return;
        }
    }
}

#[tokio::test]
async fn an_answer_that_comes_after_the_lease_is_left_to_its_new_holder() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let slow = FaultRule::times(1, Op::Refund, FaultKind::DelayMs { delay_ms: 400 });
    app.sandbox.set_faults(faults(slow));
    let held = SendRefunds.claim(app.state(), 4).await.unwrap();
    let take_over = async {
        until_called(&app, &merchant).await;
        app.clock().advance(TimeDelta::seconds(61));
        SendRefunds.claim(app.state(), 4).await.unwrap()
    };
    let (stepped, taken) = tokio::join!(SendRefunds.step(app.state(), held[0]), take_over);
    stepped.unwrap();
    let refund = merchant.refund_of(&session).await;
    assert_eq!((&refund["refund_status"], &refund["attempts"]), (&json!("PENDING"), &json!(0)));
    assert_eq!(app.made(&paid).len(), 1);
    SendRefunds.step(app.state(), taken[0]).await.unwrap();
    assert_eq!(read(&merchant, &refund).await["gateway_refund_id"], app.made(&paid)[0].id);
    assert_eq!(app.made(&paid).len(), 1, "the same key, the same refund");
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn an_answer_that_comes_after_the_webhook_changes_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let slow = FaultRule::times(1, Op::Refund, FaultKind::DelayMs { delay_ms: 400 });
    app.sandbox.set_faults(faults(slow));
    let refund = merchant.refund_of(&session).await;
    let told = async {
        until_called(&app, &merchant).await;
        let body = json!({"entity": "event", "event": "refund.processed", "payload": {"refund": {"entity": {
            "id": "rfnd_000000000TOLD", "payment_id": paid.payment_id, "amount": 49_900, "receipt": refund["id"],
            "status": "processed"}}}});
        merchant.post_signed(body.to_string(), WEBHOOK_SECRET).await.expect(200);
        let settled = read(&merchant, &refund).await;
        app.clock().advance(TimeDelta::seconds(1));
        settled
    };
    let (settled, ()) = tokio::join!(told, app.drain());
    assert_eq!(settled["refund_status"], "SUCCEEDED");
    assert_eq!(app.made(&paid).len(), 1);
    assert_eq!(read(&merchant, &refund).await, settled);
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn credentials_that_do_not_work_keep_the_refund_waiting() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let pool = &app.state().pool;
    let sealed: Vec<u8> =
        sqlx::query_scalar("select secret_key_sealed from connections").fetch_one(pool).await.unwrap();
    let set = async |bytes: &[u8]| {
        sqlx::query("update connections set secret_key_sealed = $1").bind(bytes).execute(pool).await.unwrap();
    };
    set(b"nothing that opens").await;
    app.drain().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!((&refund["refund_status"], &refund["attempts"]), (&json!("PENDING"), &json!(1)));
    assert!(refund["failure_reason"].as_str().is_some());
    set(&sealed).await;
    app.advance(TimeDelta::minutes(1)).await;
    assert_eq!(read(&merchant, &refund).await["refund_status"], "SUCCEEDED");
    assert_eq!(app.made(&paid).len(), 1);
    app.finish().await;
}

/// The row comes first: a refund whose row was rolled back would be sent under a key that nobody knows any more.
#[tokio::test]
async fn nothing_is_sent_before_it_is_on_record() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.advance(TimeDelta::minutes(15)).await;
    let pool = &app.state().pool;
    sqlx::raw_sql(
        "create function no() returns trigger language plpgsql as $$ begin raise exception 'no commit'; end $$;
         create constraint trigger no after insert on refunds deferrable initially deferred
         for each row execute function no();",
    )
    .execute(pool)
    .await
    .unwrap();
    let paid = app.pay_late(&session).await;
    app.drain().await;
    assert!(app.made(&paid).is_empty(), "sent, and not on record");
    sqlx::raw_sql("drop trigger no on refunds; drop function no();").execute(pool).await.unwrap();
    app.advance(TimeDelta::minutes(1)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "SUCCEEDED");
    let made = app.made(&paid);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].idempotency_key.as_deref(), refund["id"].as_str());
    app.finish().await;
}

/// State and event are one transaction.
#[tokio::test]
async fn a_refund_whose_event_cannot_be_written_is_recorded_when_it_can() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let pool = &app.state().pool;
    // Takes the place of its third event.
    sqlx::query(
        "insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
         select environment_id, gen_random_uuid(), 'refund.succeeded', id, 3, '{}', created_at from refunds",
    )
    .execute(pool)
    .await
    .unwrap();
    assert!(checkoutd::worker::drain(app.state(), &SendRefunds).await.is_err());
    assert_eq!(merchant.refund_of(&session).await["refund_status"], "PENDING");
    sqlx::query("delete from events where sequence = 3").execute(pool).await.unwrap();
    app.advance_quietly(TimeDelta::seconds(61)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "SUCCEEDED");
    assert_eq!(app.made(&paid).len(), 1);
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

/// Razorpay cannot make it; the customer gets the money by another way, and a person says so.
#[tokio::test]
async fn a_refund_that_was_made_by_another_way_is_closed_with_its_event() {
    // The command goes by the real time.
    let behind = Some(TimeDelta::hours(1));
    let app = TestApp::start_with(Settings { behind, ..Settings::default() }).await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let (session, failed) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(outcome(RefundStatus::Failed));
    app.drain().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "FAILED");
    let id = refund["id"].as_str().unwrap().to_owned();
    let (other_session, waiting) = app.late_payment(&merchant).await;
    let close = async |id: &str, note: &str| {
        let output = app.command(&["refund", "close", "--id", id, "--note", note]).await;
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = close(&id, "bank transfer, reference 4711").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("FAILED") && said.contains(refund["gateway_refund_id"].as_str().unwrap()),
        "{said}"
    );
    let closed = read(&merchant, &refund).await;
    assert_eq!((&closed["refund_status"], &closed["failed_at"]), (&json!("SUCCEEDED"), &Value::Null));
    assert_eq!(closed["failure_reason"], "closed by hand: bank transfer, reference 4711");
    assert_eq!(
        merchant.refund_events(&refund).await,
        ["payment.late", "refund.created", "refund.failed", "refund.succeeded"]
    );
    // Again, and of one that there is not.
    let before = app.row_counts().await;
    let (code, said) = close(&id, "again").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing to do"), "{said}");
    let unknown = checkoutd::kit::ids::encode("refund", sqlx::types::Uuid::nil());
    for (id, note) in [(&*unknown, "x"), (&*id, " "), ("nonsense", "x")] {
        assert!(!matches!(close(id, note).await, (Some(0), _)), "{id} {note:?}");
    }
    assert_eq!(app.row_counts().await, before);
    assert_eq!(read(&merchant, &refund).await, closed);
    merchant.retry(&refund).await.expect_error(400, "invalid_operation");

    // One that a worker is at: what it learns comes too late.
    let stale = SendRefunds.claim(app.state(), 4).await.unwrap();
    let refund = merchant.refund_of(&other_session).await;
    assert_eq!(close(refund["id"].as_str().unwrap(), "cash").await.0, Some(0));
    let closed = read(&merchant, &refund).await;
    SendRefunds.step(app.state(), stale[0]).await.unwrap();
    app.clock().catch_up();
    app.drain().await;
    assert_eq!(read(&merchant, &refund).await, closed);
    assert_eq!(receiver.event_types().iter().filter(|event| *event == "refund.succeeded").count(), 2);
    assert!(app.made(&waiting).is_empty(), "nothing was sent");
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    // The audit goes by Razorpay's books: there it went back by hand.
    app.sandbox.set_faults(Faults::default());
    for paid in [&failed, &waiting] {
        app.refund_by_hand(paid, json!({})).await;
    }
    app.advance(TimeDelta::seconds(1)).await;
    assert_eq!(read(&merchant, &refund).await, closed);
    let doctor = app.command(&["doctor"]).await;
    assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stdout));
    app.finish().await;
}
