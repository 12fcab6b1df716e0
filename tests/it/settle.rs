//! Money has one fate: whatever order facts come in, whoever brings them, and how often.

use checkoutd::sandbox::{
    Delivery, FaultKind, FaultRule, Faults, LinkStatus, Op, PayMethod, PayOutcome, PayRequest, RefundStatus,
};
use chrono::TimeDelta;
use serde_json::Value;
use sqlx::Row;

use crate::support::{Merchant, Receiver, TestApp, send};

async fn cancel(merchant: &Merchant, session: &Value) -> crate::support::Reply {
    merchant.post_empty(&format!("/v1/checkout/sessions/{}/cancel", session["id"].as_str().unwrap())).await
}

/// Razorpay's events for this session, as they would be posted.
fn queued(app: &TestApp, count: usize) -> Vec<Delivery> {
    let deliveries = app.sandbox.ledger().deliveries;
    deliveries[deliveries.len() - count..].to_vec()
}

async fn post_event(merchant: &Merchant, event: &Delivery) -> u16 {
    merchant.post_event(event.body.clone(), event.signature.as_deref()).await.status
}

/// Status, reason and amount of every refund.
async fn refunds(app: &TestApp) -> Vec<(String, String, i64)> {
    let rows = sqlx::query("select refund_status, reason, amount_minor from refunds order by created_at, id")
        .fetch_all(&app.state().pool)
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test]
async fn money_that_comes_after_the_deadline_goes_back_in_full() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.advance(TimeDelta::minutes(15)).await;
    app.sandbox
        .pay(session["id"].as_str().unwrap(), PayRequest { late: true, ..PayRequest::default() })
        .unwrap();
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "expired");
    assert_eq!(refunds(&app).await, [("SUCCEEDED".into(), "late_payment".into(), 49_900)]);
    let refunded = app.sandbox.ledger().refunds;
    assert_eq!((refunded.len(), refunded[0].amount), (1, 49_900));
    app.finish().await;
}

#[tokio::test]
async fn a_second_payment_goes_back_and_the_first_stays_applied() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay_and_settle(&session).await;
    app.sandbox
        .pay(session["id"].as_str().unwrap(), PayRequest { late: true, ..PayRequest::default() })
        .unwrap();
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    assert_eq!(refunds(&app).await, [("SUCCEEDED".into(), "duplicate_payment".into(), 49_900)]);
    app.finish().await;
}

#[tokio::test]
async fn another_amount_or_currency_is_never_applied() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for wrong in [
        PayRequest { amount: Some(49_899), ..PayRequest::default() },
        PayRequest { currency: Some("USD".into()), ..PayRequest::default() },
    ] {
        let session = merchant.session().await;
        app.sandbox.pay(session["id"].as_str().unwrap(), wrong).unwrap();
        app.sandbox.flush_webhooks().await;
        app.drain().await;
        assert_ne!(merchant.read_session(&session).await["checkout_status"], "completed");
    }
    let reasons: Vec<_> =
        refunds(&app).await.into_iter().map(|(status, reason, _)| (status, reason)).collect();
    assert_eq!(reasons, vec![("SUCCEEDED".to_owned(), "amount_mismatch".to_owned()); 2]);
    app.finish().await;
}

#[tokio::test]
async fn every_order_of_the_events_ends_in_the_same_state() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let mut orders = vec![vec![]];
    for place in 0..4 {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| [&order[..at], &[place], &order[at..]].concat())
            })
            .collect();
    }
    assert_eq!(orders.len(), 24);
    for order in orders {
        let session = merchant.session().await;
        app.pay(&session);
        let events = queued(&app, 4);
        for place in order {
            // Each twice: a repeat does nothing.
            assert_eq!(post_event(&merchant, &events[place]).await, 200);
            assert_eq!(post_event(&merchant, &events[place]).await, 200);
        }
        let session = merchant.read_session(&session).await;
        assert_eq!(session["checkout_status"], "completed");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_failed_try_is_recorded_and_the_next_one_may_succeed() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let failing =
        PayRequest { method: PayMethod::Upi, outcome: PayOutcome::Failure, ..PayRequest::default() };
    app.sandbox.pay(session["id"].as_str().unwrap(), failing).unwrap();
    app.sandbox.flush_webhooks().await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    app.pay_and_settle(&session).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    let attempts: Vec<(i32, String)> =
        sqlx::query_as("select attempt_number, payment_status from payment_attempts order by attempt_number")
            .fetch_all(&app.state().pool)
            .await
            .unwrap();
    assert_eq!(attempts, [(1, "FAILED".into()), (2, "SUCCEEDED".into())]);
    app.finish().await;
}

#[tokio::test]
async fn paid_wins_over_cancel_and_delete() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    // Paid, and the webhook is still on its way.
    app.pay(&session);
    cancel(&merchant, &session).await.expect_error(400, "invalid_operation");
    let session = merchant.read_session(&session).await;
    assert_eq!(session["checkout_status"], "completed");
    assert!(session.get("cancelled_at").is_none());
    let path = format!("/v1/checkout/sessions/{}", session["id"].as_str().unwrap());
    merchant.delete(&path).await.expect_error(400, "invalid_operation");
    app.sandbox.flush_webhooks().await;
    app.finish().await;
}

#[tokio::test]
async fn delete_expires_the_session_and_hides_it_from_lists() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let path = format!("/v1/checkout/sessions/{}", session["id"].as_str().unwrap());
    merchant.delete(&path).await.expect(204);
    merchant.delete(&path).await.expect(204);
    assert_eq!(merchant.get(&path).await.expect(200)["checkout_status"], "expired");
    assert_eq!(merchant.get("/v1/checkout/sessions").await.expect(200)["pagination"]["total"], 0);
    app.finish().await;
}

#[tokio::test]
async fn a_link_that_ends_at_the_provider_ends_the_session() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let (cancelled, expired) = (merchant.session().await, merchant.session().await);
    app.sandbox.cancel(cancelled["id"].as_str().unwrap()).unwrap();
    app.sandbox.expire(expired["id"].as_str().unwrap()).unwrap();
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    let cancelled = merchant.read_session(&cancelled).await;
    assert_eq!(cancelled["checkout_status"], "failed");
    assert!(cancelled["failure_reason"].as_str().unwrap().contains("payment_link.cancelled"));
    assert_eq!(merchant.read_session(&expired).await["checkout_status"], "expired");
    let mut types = receiver.event_types();
    types.sort();
    assert_eq!(
        types,
        [
            "checkout.session.expired",
            "checkout.session.failed",
            "checkout.session.initiated",
            "checkout.session.initiated"
        ]
    );
    app.finish().await;
}

#[tokio::test]
async fn a_provider_that_is_away_at_the_deadline_gets_ten_minutes() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let down = |op| FaultRule::always(op, FaultKind::Status { code: 503, body: None, retry_after: None });
    app.sandbox
        .set_faults(Faults { rules: vec![down(Op::CancelLink), down(Op::FetchLink)], ..Faults::default() });
    app.advance(TimeDelta::minutes(15)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    app.advance(TimeDelta::minutes(11)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "expired");
    // Money that was on its way goes back, and the link is closed once the provider is there again.
    app.sandbox.set_faults(Faults::default());
    app.sandbox
        .pay(session["id"].as_str().unwrap(), PayRequest { late: true, ..PayRequest::default() })
        .unwrap();
    app.advance(TimeDelta::minutes(2)).await;
    assert_eq!(refunds(&app).await, [("SUCCEEDED".into(), "late_payment".into(), 49_900)]);
    let link_state: String = sqlx::query_scalar("select link_state from checkout_sessions")
        .fetch_one(&app.state().pool)
        .await
        .unwrap();
    assert_eq!(link_state, "closed");
    app.finish().await;
}

#[tokio::test]
async fn a_link_that_could_not_be_cancelled_is_cancelled_later() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let down = FaultKind::Status { code: 502, body: None, retry_after: None };
    app.sandbox
        .set_faults(Faults { rules: vec![FaultRule::always(Op::CancelLink, down)], ..Faults::default() });
    let cancelled = cancel(&merchant, &session).await.expect(200);
    assert_eq!(cancelled["checkout_status"], "expired");
    let link = || app.sandbox.ledger().link(session["id"].as_str().unwrap()).unwrap().status;
    assert_eq!(link(), LinkStatus::Created);
    app.sandbox.set_faults(Faults::default());
    app.advance(TimeDelta::minutes(2)).await;
    assert_eq!(link(), LinkStatus::Cancelled);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_is_sent_until_the_provider_answers_and_never_twice() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay_and_settle(&session).await;
    let lost = FaultRule::times(3, Op::Refund, FaultKind::ResetAfter);
    app.sandbox.set_faults(Faults {
        rules: vec![lost],
        refund_outcome: RefundStatus::Pending,
        ..Faults::default()
    });
    app.sandbox
        .pay(session["id"].as_str().unwrap(), PayRequest { late: true, ..PayRequest::default() })
        .unwrap();
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    app.advance(TimeDelta::minutes(1)).await;
    let made = app.sandbox.ledger().refunds;
    assert_eq!(made.len(), 1);
    assert_eq!(refunds(&app).await[0].0, "PROCESSING");
    app.sandbox.settle_refund(&made[0].id, RefundStatus::Processed).unwrap();
    app.sandbox.flush_webhooks().await;
    assert_eq!(refunds(&app).await[0].0, "SUCCEEDED");
    app.finish().await;
}

/// The event and the state are one transaction: when the one cannot be written, the other does not happen.
#[tokio::test]
async fn a_completion_whose_event_cannot_be_written_waits_until_it_can() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    // Takes the place of the session's second event.
    let pool = &app.state().pool;
    sqlx::query(
        "insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
         select environment_id, gen_random_uuid(), 'checkout.session.completed', id, 2, '{}', created_at from checkout_sessions",
    )
    .execute(pool)
    .await
    .unwrap();
    app.pay(&session);
    assert_eq!(app.sandbox.flush_webhooks().await, 4);
    let delivered = app.sandbox.ledger().deliveries;
    assert!(
        delivered.iter().all(|delivery| delivery.attempts[0].status == Some(200)),
        "stored, so acknowledged"
    );
    let status: String =
        sqlx::query_scalar("select checkout_status from checkout_sessions").fetch_one(pool).await.unwrap();
    assert_eq!(status, "pending");
    sqlx::query("delete from events where sequence = 2").execute(pool).await.unwrap();
    app.advance(TimeDelta::minutes(1)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.finish().await;
}

/// The other way round: a change that is rolled back at its commit is told to nobody.
#[tokio::test]
async fn a_completion_that_is_rolled_back_tells_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let session = merchant.session().await;
    app.drain().await;
    let pool = &app.state().pool;
    sqlx::raw_sql(
        "create function no() returns trigger language plpgsql as $$ begin raise exception 'no commit'; end $$;
         create constraint trigger no after update on checkout_sessions deferrable initially deferred
         for each row when (new.checkout_status = 'completed') execute function no();",
    )
    .execute(pool)
    .await
    .unwrap();
    app.pay(&session);
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    assert_eq!(receiver.event_types(), ["checkout.session.initiated"]);
    sqlx::raw_sql("drop trigger no on checkout_sessions; drop function no();").execute(pool).await.unwrap();
    app.advance(TimeDelta::minutes(1)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    assert_eq!(receiver.event_types(), ["checkout.session.initiated", "checkout.session.completed"]);
    app.finish().await;
}

/// An ordinary payment is one statement, and it is all or nothing.
#[tokio::test]
async fn a_completion_that_misses_a_row_is_undone() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let session = merchant.session().await;
    app.drain().await;
    let pool = &app.state().pool;
    // No API does this.
    sqlx::raw_sql("update invoices set invoice_status = 'VOIDED'").execute(pool).await.unwrap();
    app.pay(&session);
    let events = queued(&app, 3);
    let event = events.iter().find(|event| event.event == "payment_link.paid").unwrap();
    assert_eq!(post_event(&merchant, event).await, 200, "it is kept for later");
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    let known = "select count(*) from provider_payments";
    assert_eq!(sqlx::query_scalar::<_, i64>(known).fetch_one(pool).await.unwrap(), 0);
    sqlx::raw_sql("update invoices set invoice_status = 'DRAFT'").execute(pool).await.unwrap();
    app.advance(TimeDelta::minutes(1)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    assert_eq!(receiver.event_types(), ["checkout.session.initiated", "checkout.session.completed"]);
    app.finish().await;
}

#[tokio::test]
async fn an_end_that_misses_a_row_is_undone() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let session = merchant.session().await;
    app.drain().await;
    // No API does this.
    let pool = &app.state().pool;
    let away = "set session_replication_role = replica; create temp table away as table subscriptions;
        delete from subscriptions";
    let mut connection = pool.acquire().await.unwrap();
    sqlx::raw_sql(away).execute(&mut *connection).await.unwrap();
    app.advance(TimeDelta::minutes(15)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    let archived = "select count(*) from payments where status = 'archived'";
    assert_eq!(sqlx::query_scalar::<_, i64>(archived).fetch_one(pool).await.unwrap(), 0);
    let back = "insert into subscriptions table away; set session_replication_role = origin";
    sqlx::raw_sql(back).execute(&mut *connection).await.unwrap();
    drop(connection);
    app.advance(TimeDelta::minutes(1)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "expired");
    assert_eq!(receiver.event_types(), ["checkout.session.initiated", "checkout.session.expired"]);
    app.finish().await;
}

/// The worker looked at the session before the merchant cancelled it, and ends it after.
#[tokio::test]
async fn a_cancel_while_the_deadline_ends_the_session_is_kept() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.clock().advance(TimeDelta::minutes(15));
    // The worker's call comes first, and is answered first.
    let slow = FaultRule::times(1, Op::CancelLink, FaultKind::DelayMs { delay_ms: 1500 });
    let slower = FaultRule::always(Op::CancelLink, FaultKind::DelayMs { delay_ms: 2500 });
    app.sandbox.set_faults(Faults { rules: vec![slow, slower], ..Faults::default() });
    let meanwhile = async {
        while app.sandbox.faults().rules[0].times == Some(1) {
            tokio::task::yield_now().await;
        }
        cancel(&merchant, &session).await
    };
    let ((), reply) = tokio::join!(app.drain(), meanwhile);
    let ended = reply.expect(200);
    assert_eq!(ended["checkout_status"], "expired");
    assert_ne!(ended["cancelled_at"], Value::Null);
    assert_eq!(merchant.read_session(&session).await["cancelled_at"], ended["cancelled_at"]);
    app.finish().await;
}

/// The merchant's cancel has read the session, and puts its wish on record after the payment has completed it.
#[tokio::test]
async fn a_payment_while_a_cancel_is_put_on_record_is_kept() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay(&session);
    let paid = queued(&app, 1).remove(0);
    let mut holder = app.state().pool.begin().await.unwrap();
    sqlx::query("select from checkout_sessions for update").execute(&mut *holder).await.unwrap();
    let cancel = async {
        // The lock lets them through in the order in which they came.
        app.until_waiting_for_locks(1).await;
        cancel(&merchant, &session).await
    };
    let release = async {
        app.until_waiting_for_locks(2).await;
        holder.rollback().await.unwrap();
    };
    let (accepted, reply, ()) = tokio::join!(post_event(&merchant, &paid), cancel, release);
    assert_eq!(accepted, 200);
    assert_eq!(reply.expect_error(400, "invalid_operation")["details"]["reason"], "session_completed");
    let session = merchant.read_session(&session).await;
    assert_eq!(session["checkout_status"], "completed");
    assert_eq!(session["cancelled_at"], Value::Null);
    app.finish().await;
}

/// Razorpay lists a payment a moment after the link is paid.
fn payment_not_listed() -> Vec<FaultRule> {
    let body = |text: &str| FaultKind::Status { code: 200, body: Some(text.to_owned()), retry_after: None };
    let down = FaultKind::Status { code: 503, body: None, retry_after: None };
    vec![
        FaultRule::always(Op::FetchPayment, down),
        FaultRule::always(Op::OrderPayments, body(r#"{"items":[]}"#)),
    ]
}

#[tokio::test]
async fn a_paid_link_whose_payment_cannot_be_read_yet_never_ends_unpaid() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (at_deadline, cancelled) = (merchant.session().await, merchant.session().await);
    app.pay(&at_deadline);
    app.pay(&cancelled);
    // No webhook comes, and the payment itself is not readable for longer than a silent provider is waited for.
    app.sandbox.set_faults(Faults { rules: payment_not_listed(), ..Faults::default() });
    let reply = cancel(&merchant, &cancelled).await;
    assert_eq!(reply.expect_error(503, "service_unavailable")["details"]["reason"], "payment_in_progress");
    app.clock().advance(TimeDelta::minutes(15));
    app.drain().await;
    app.clock().advance(TimeDelta::minutes(12));
    app.drain().await;
    assert_eq!(merchant.read_session(&at_deadline).await["checkout_status"], "pending");
    app.sandbox.set_faults(Faults::default());
    app.clock().advance(TimeDelta::minutes(2));
    app.drain().await;
    for session in [&at_deadline, &cancelled] {
        assert_eq!(merchant.read_session(session).await["checkout_status"], "completed");
    }
    app.finish().await;
}

#[tokio::test]
async fn money_that_went_back_at_the_provider_completes_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let paid = app.pay(&session);
    // The merchant gives it back in Razorpay's dashboard before any webhook came.
    let account = app.sandbox.ledger().payments[0].account_id.clone();
    assert!(!account.is_empty());
    let refund = merchant
        .http
        .post(format!("{}/v1/payments/{}/refund", app.sandbox.base_url(), paid.payment_id))
        .basic_auth("rzp_test_00000000000000", Some(crate::support::KEY_SECRET));
    send(refund.json(&serde_json::json!({}))).await.expect(200);
    app.clock().advance(TimeDelta::minutes(15));
    app.drain().await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "expired");
    assert_eq!(refunds(&app).await, [("SUCCEEDED".into(), "refunded_already".into(), 49_900)]);
    assert_eq!(app.sandbox.ledger().refunds.len(), 1, "nothing is sent back twice");
    app.finish().await;
}

#[tokio::test]
async fn a_refund_that_the_merchant_makes_by_hand_does_not_stand_for_ours() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay_and_settle(&session).await;
    let down = FaultKind::Status { code: 500, body: None, retry_after: None };
    app.sandbox
        .set_faults(Faults { rules: vec![FaultRule::times(3, Op::Refund, down)], ..Faults::default() });
    let late = PayRequest { late: true, ..PayRequest::default() };
    let paid = app.sandbox.pay(session["id"].as_str().unwrap(), late).unwrap();
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    let by_hand = merchant
        .http
        .post(format!("{}/v1/payments/{}/refund", app.sandbox.base_url(), paid.payment_id))
        .basic_auth("rzp_test_00000000000000", Some(crate::support::KEY_SECRET));
    send(by_hand.json(&serde_json::json!({"amount": 10_000}))).await.expect(200);
    app.sandbox.flush_webhooks().await;
    assert_eq!(refunds(&app).await[0].0, "PENDING");
    app.finish().await;
}

#[tokio::test]
async fn an_account_that_is_connected_anew_still_settles_its_older_sessions() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let connections = merchant.get("/v1/connections").await.expect(200);
    let id = connections["items"][0]["id"].as_str().unwrap();
    merchant.delete(&format!("/v1/connections/{id}")).await.expect(204);
    merchant.post("/v1/connections", crate::support::connection("rzp_test_00000000000000")).await.expect(201);
    app.pay(&session);
    app.sandbox.flush_webhooks().await;
    let status: String = sqlx::query_scalar("select checkout_status from checkout_sessions")
        .fetch_one(&app.state().pool)
        .await
        .unwrap();
    assert_eq!(status, "completed", "by the webhook alone");
    app.finish().await;
}
