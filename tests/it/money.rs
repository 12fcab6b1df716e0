//! Whatever customers, banks and webhooks do, a captured payment has one fate: it is applied to its session, or
//! it goes back in full.

use checkoutd::sandbox::{
    Delivery, FaultKind, FaultRule, Faults, LinkStatus, Op, PaidInfo, PayRequest, PaymentStatus,
    WebhookFaults,
};
use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Merchant, Receiver, TestApp, WEBHOOK_SECRET, send};

fn pay(app: &TestApp, session: &Value, request: PayRequest) -> PaidInfo {
    app.sandbox.pay(session["id"].as_str().unwrap(), request).unwrap()
}

fn late() -> PayRequest {
    PayRequest { late: true, ..PayRequest::default() }
}

async fn cancel(merchant: &Merchant, session: &Value) -> crate::support::Reply {
    merchant.post_empty(&format!("/v1/checkout/sessions/{}/cancel", session["id"].as_str().unwrap())).await
}

/// Exactly one of: the session is completed by this payment, or the payment went back in full. Which it was.
async fn fate(app: &TestApp, merchant: &Merchant, session: &Value, paid: &PaidInfo) -> &'static str {
    let completed = merchant.read_session(session).await["checkout_status"] == "completed";
    let list = merchant.get("/v1/refunds?status=SUCCEEDED&limit=1000").await.expect(200);
    let refunds = list["items"].as_array().unwrap();
    let refunded = refunds.iter().any(|refund| refund["gateway_payment_id"] == paid.payment_id);
    let payment =
        merchant.get(&format!("/v1/payments/{}", session["checkout_payment_id"].as_str().unwrap())).await;
    let applied = completed && payment.expect(200)["gateway_payment_id"] == paid.payment_id;
    let payments = app.sandbox.ledger().payments;
    let at_provider = payments.iter().find(|payment| payment.id == paid.payment_id).unwrap().status;
    assert_eq!(app.made(paid).len(), usize::from(refunded), "{paid:?}");
    match (applied, refunded, at_provider) {
        (true, false, PaymentStatus::Captured) => "applied",
        (false, true, PaymentStatus::Refunded) => "refunded",
        other => panic!("{paid:?} has the fate {other:?}"),
    }
}

/// Razorpay's events since the ledger had `from` of them.
fn events_since(app: &TestApp, from: usize) -> Vec<Delivery> {
    app.sandbox.ledger().deliveries[from..].to_vec()
}

async fn post(merchant: &Merchant, event: &Delivery) {
    let request =
        merchant.http.post(&event.url).header("x-razorpay-signature", event.signature.as_deref().unwrap());
    assert_eq!(send(request.body(event.body.clone())).await.status, 200);
}

/// F19. `worker` says whether our worker looked at the deadline before the money came.
#[tokio::test]
async fn money_around_the_deadline_completes_or_goes_back() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let second = TimeDelta::seconds(1);
    for (offset, worker, expected) in [
        (-second, false, "applied"),
        (TimeDelta::zero(), false, "applied"),
        (TimeDelta::zero(), true, "refunded"),
        (second, false, "applied"),
        (second, true, "refunded"),
        (TimeDelta::minutes(3), true, "refunded"),
        (TimeDelta::days(3), true, "refunded"),
        (TimeDelta::days(14), true, "refunded"),
    ] {
        // Its webhooks come at once, or late, after the worker's look.
        for at_once in [true, false] {
            let session = merchant.session().await;
            if worker {
                app.advance(TimeDelta::minutes(15)).await;
                app.advance(offset).await;
            } else {
                app.clock().advance(TimeDelta::minutes(15) + offset);
            }
            let paid = pay(&app, &session, late());
            if at_once {
                app.sandbox.flush_webhooks().await;
            }
            app.advance(TimeDelta::minutes(5)).await;
            app.drain().await;
            let found = fate(&app, &merchant, &session, &paid).await;
            assert_eq!(found, expected, "paid at {offset}, webhooks at once: {at_once}");
            let status = if expected == "applied" { "completed" } else { "expired" };
            assert_eq!(merchant.read_session(&session).await["checkout_status"], status);
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn money_at_the_deadline_of_which_no_webhook_tells_is_applied() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(Faults {
        webhooks: WebhookFaults { enabled: false, ..WebhookFaults::default() },
        ..Faults::default()
    });
    for offset in [-1, 0, 1] {
        let session = merchant.session().await;
        app.clock().advance(TimeDelta::minutes(15) + TimeDelta::seconds(offset));
        let paid = pay(&app, &session, PayRequest::default());
        app.advance(TimeDelta::minutes(2)).await;
        assert_eq!(fate(&app, &merchant, &session, &paid).await, "applied", "{offset}");
    }
    app.finish().await;
}

/// F19, with a cancel in flight: before it reaches Razorpay, while it is there, after it, and with its answer lost.
#[tokio::test]
async fn money_during_a_cancel_completes_or_goes_back() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let slow = |op| FaultRule::always(op, FaultKind::DelayMs { delay_ms: 40 });
    let lost = |op| FaultRule::always(op, FaultKind::ResetAfter);
    let mut fates = Vec::new();
    for (rules, once_cancelled) in [
        (Vec::new(), false),
        (vec![slow(Op::CancelLink)], false),
        (vec![slow(Op::FetchLink), slow(Op::CancelLink)], false),
        (vec![lost(Op::CancelLink)], true),
        (vec![lost(Op::CancelLink), slow(Op::FetchLink)], true),
    ] {
        for told_at_once in [true, false] {
            app.sandbox.set_faults(Faults { rules: rules.clone(), ..Faults::default() });
            let session = merchant.session().await;
            let link = || app.sandbox.ledger().link(session["id"].as_str().unwrap()).unwrap().status;
            let meanwhile = async {
                while once_cancelled && link() == LinkStatus::Created {
                    tokio::task::yield_now().await;
                }
                let paid = pay(&app, &session, late());
                if told_at_once {
                    app.sandbox.flush_webhooks().await;
                }
                paid
            };
            let (reply, paid) = tokio::join!(cancel(&merchant, &session), meanwhile);
            app.sandbox.set_faults(Faults::default());
            app.advance(TimeDelta::minutes(5)).await;
            let found = fate(&app, &merchant, &session, &paid).await;
            let expected = if found == "applied" { 400 } else { 200 };
            assert_eq!(reply.status, expected, "{found} {rules:?} {}", reply.text);
            fates.push(found);
        }
    }
    assert_eq!(fates[2..6], ["applied"; 4], "paid before Razorpay cancelled");
    // Told of while we still waited for the answer, it may be applied.
    assert_eq!((fates[7], fates[9]), ("refunded", "refunded"), "paid after Razorpay cancelled");
    app.finish().await;
}

#[tokio::test]
async fn money_after_a_cancel_goes_back_and_the_merchant_is_told() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let session = merchant.session().await;
    cancel(&merchant, &session).await.expect(200);
    let paid = app.pay_late(&session).await;
    app.drain().await;
    assert_eq!(fate(&app, &merchant, &session, &paid).await, "refunded");
    let told = receiver.event_types();
    for event in ["payment.late", "refund.created", "refund.succeeded"] {
        assert_eq!(told.iter().filter(|told| *told == event).count(), 1, "{told:?}");
    }
    app.finish().await;
}

/// F24. Both pay before either is heard of; webhooks come in any order.
#[tokio::test]
async fn of_two_tabs_one_payment_is_applied_and_the_other_goes_back() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for shift in 0..7 {
        let session = merchant.session().await;
        let from = app.sandbox.ledger().deliveries.len();
        let tabs = [pay(&app, &session, PayRequest::default()), pay(&app, &session, late())];
        let mut events = events_since(&app, from);
        assert_eq!(events.len(), 7, "the link is paid once");
        events.rotate_left(shift);
        if shift % 2 == 1 {
            events.reverse();
        }
        for event in &events {
            post(&merchant, event).await;
            post(&merchant, event).await;
        }
        app.drain().await;
        app.sandbox.flush_webhooks().await;
        let mut fates = Vec::new();
        for paid in &tabs {
            fates.push(fate(&app, &merchant, &session, paid).await);
        }
        fates.sort_unstable();
        assert_eq!(fates, ["applied", "refunded"], "{shift}");
        let refund = merchant.refund_of(&session).await;
        assert_eq!(refund["reason"], "duplicate_payment");
        assert_eq!(merchant.refund_events(&refund).await, ["refund.created", "refund.succeeded"]);
    }
    app.finish().await;
}

#[tokio::test]
async fn ten_payments_of_one_link_at_once_are_applied_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let from = app.sandbox.ledger().deliveries.len();
    let paid: Vec<_> = (0..10).map(|_| pay(&app, &session, late())).collect();
    let events = events_since(&app, from);
    join_all(events.iter().map(|event| post(&merchant, event))).await;
    app.drain().await;
    app.sandbox.flush_webhooks().await;
    let mut applied = 0;
    for paid in &paid {
        applied += usize::from(fate(&app, &merchant, &session, paid).await == "applied");
    }
    assert_eq!(applied, 1);
    let total = merchant.get("/v1/refunds").await.expect(200)["pagination"]["total"].clone();
    assert_eq!(total, 9);
    app.finish().await;
}

#[tokio::test]
async fn one_late_payment_told_a_hundred_times_at_once_goes_back_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.advance(TimeDelta::minutes(15)).await;
    let from = app.sandbox.ledger().deliveries.len();
    let paid = pay(&app, &session, late());
    let events = events_since(&app, from);
    join_all((0..100).map(|turn| post(&merchant, &events[turn % events.len()]))).await;
    tokio::join!(app.drain(), app.drain());
    app.advance(TimeDelta::seconds(5)).await;
    assert_eq!(fate(&app, &merchant, &session, &paid).await, "refunded");
    let refund = merchant.refund_of(&session).await;
    let events = ["payment.late", "refund.created", "refund.succeeded"];
    assert_eq!(merchant.refund_events(&refund).await, events);
    // What only repeats it is done as well, and not left for later or for people.
    let left: i64 = sqlx::query_scalar("select count(*) from inbox where inbox_status <> 'processed'")
        .fetch_one(&app.state().pool)
        .await
        .unwrap();
    assert_eq!(left, 0);
    app.finish().await;
}

/// Each event alone is enough, whatever its shape; one that says nothing of a capture moves nothing.
#[tokio::test]
async fn every_event_of_a_late_payment_is_enough_to_give_it_back() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for (event, enough) in [("payment.authorized", false), ("payment.captured", true), ("order.paid", true)] {
        let session = merchant.session().await;
        // Ended for good: nothing is asked about it by itself any more.
        app.advance(TimeDelta::minutes(15)).await;
        app.advance(TimeDelta::days(8)).await;
        let paid = pay(&app, &session, PayRequest { events: Some(vec![event.into()]), ..late() });
        app.sandbox.flush_webhooks().await;
        // A bare payment's link is asked whether it is its own.
        app.advance(TimeDelta::seconds(5)).await;
        let list = format!("/v1/refunds?checkout_session_id={}", session["id"].as_str().unwrap());
        let total = merchant.get(&list).await.expect(200)["pagination"]["total"].clone();
        assert_eq!(total, i32::from(enough), "{event}");
        if !enough {
            // The capture is told of later.
            let link = app.sandbox.ledger().link(session["id"].as_str().unwrap()).unwrap().id.clone();
            let body = json!({"entity": "event", "event": "payment.captured", "payload": {"payment": {"entity": {
                "id": paid.payment_id, "amount": 49_900, "currency": "INR", "status": "captured",
                "description": link.replace("plink_", "#"), "notes": []}}}});
            merchant.post_signed(body.to_string(), WEBHOOK_SECRET).await.expect(200);
            app.advance(TimeDelta::seconds(5)).await;
        }
        assert_eq!(fate(&app, &merchant, &session, &paid).await, "refunded", "{event}");
    }
    app.finish().await;
}

#[tokio::test]
async fn wrong_money_goes_back_and_the_right_one_is_applied_afterwards() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let of = |amount: Option<i64>, currency: Option<&str>| PayRequest {
        amount,
        currency: currency.map(str::to_owned),
        ..PayRequest::default()
    };
    for wrong in [
        of(Some(49_899), None),
        of(Some(49_901), None),
        of(Some(100), None),
        of(Some(99_800), None),
        of(None, Some("USD")),
        of(None, Some("JPY")),
        of(Some(499), Some("KWD")),
    ] {
        let session = merchant.session().await;
        let from = app.sandbox.ledger().deliveries.len();
        let bad = pay(&app, &session, wrong.clone());
        let mut events = events_since(&app, from);
        events.reverse();
        for event in &events {
            post(&merchant, event).await;
        }
        app.drain().await;
        assert_eq!(fate(&app, &merchant, &session, &bad).await, "refunded", "{wrong:?}");
        assert_eq!(merchant.refund_of(&session).await["reason"], "amount_mismatch");
        assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending", "{wrong:?}");
        let good = pay(&app, &session, PayRequest { late: true, ..of(Some(49_900), None) });
        app.sandbox.flush_webhooks().await;
        assert_eq!(fate(&app, &merchant, &session, &good).await, "applied", "{wrong:?}");
    }
    app.finish().await;
}

/// Our links take no instalments; one that does (changed by hand at Razorpay) pays nothing.
#[tokio::test]
async fn a_part_of_the_money_is_never_applied() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let silent = PayRequest { amount: Some(10_000), events: Some(Vec::new()), ..PayRequest::default() };
    let paid = pay(&app, &session, silent);
    let body = json!({"entity": "event", "event": "payment_link.partially_paid", "payload": {
        "payment_link": {"entity": {"id": paid.link_id, "reference_id": session["id"], "status": "partially_paid"}},
        "order": {"entity": {"id": paid.order_id, "receipt": session["id"]}},
        "payment": {"entity": {"id": paid.payment_id, "amount": 10_000, "currency": "INR", "status": "captured"}},
    }});
    merchant.post_signed(body.to_string(), WEBHOOK_SECRET).await.expect(200);
    app.drain().await;
    assert_eq!(fate(&app, &merchant, &session, &paid).await, "refunded");
    assert_eq!(app.made(&paid)[0].amount, 10_000);
    app.advance(TimeDelta::minutes(15)).await;
    app.advance(TimeDelta::minutes(15)).await;
    assert_ne!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.finish().await;
}

/// The customer's bank settles the same try twice over: one id, one fate.
#[tokio::test]
async fn a_payment_that_is_told_of_again_after_it_went_back_stays_as_it_is() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.drain().await;
    app.sandbox.flush_webhooks().await;
    let refund = merchant.refund_of(&session).await;
    let before = app.row_counts().await;
    // Razorpay's own retries, and the same payment as it reads now.
    for delivery in app.sandbox.ledger().deliveries.iter().filter(|delivery| delivery.signature.is_some()) {
        post(&merchant, delivery).await;
    }
    assert_eq!(app.row_counts().await, before);
    let body = json!({"entity": "event", "event": "payment.captured", "payload": {"payment": {"entity": {
        "id": paid.payment_id, "amount": 49_900, "currency": "INR", "status": "refunded",
        "description": paid.link_id.replace("plink_", "#"), "notes": []}}}});
    merchant.post_signed(body.to_string(), WEBHOOK_SECRET).await.expect(200);
    app.drain().await;
    assert_eq!(merchant.refund_of(&session).await, refund);
    assert_eq!(fate(&app, &merchant, &session, &paid).await, "refunded");
    app.finish().await;
}

/// Razorpay counts in a currency that this service does not know: kept for people.
#[tokio::test]
async fn money_of_an_unknown_currency_is_parked() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let link = app.sandbox.ledger().link(session["id"].as_str().unwrap()).unwrap().id.clone();
    let mut body = crate::support::razorpay::paid_event(&session, &link, &json!(49_900));
    body["payload"]["payment"]["entity"]["currency"] = json!("XBT");
    merchant.post_signed(body.to_string(), WEBHOOK_SECRET).await.expect(200);
    app.drain().await;
    let parked: Vec<(String, Option<String>)> =
        sqlx::query_as("select inbox_status, outcome from inbox").fetch_all(&app.state().pool).await.unwrap();
    assert_eq!(parked, [("parked".into(), Some("unusable_payment".into()))]);
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    app.finish().await;
}

/// The payer of something else at the same account can write any session into that payment's notes, in the browser.
#[tokio::test]
async fn money_that_only_claims_to_be_for_a_session_is_neither_applied_nor_given_back() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (open, ended) = (merchant.session().await, merchant.session().await);
    merchant
        .post_empty(&format!("/v1/checkout/sessions/{}/cancel", ended["id"].as_str().unwrap()))
        .await
        .expect(200);
    for (number, (session, amount)) in
        [(&open, 49_900), (&open, 100), (&ended, 49_900)].into_iter().enumerate()
    {
        let body = json!({"entity": "event", "event": "payment.captured", "payload": {"payment": {"entity": {
            "id": format!("pay_0000000000000{number}"), "amount": amount, "currency": "INR", "status": "captured",
            "notes": {"checkout_session_id": session["id"]}}}}, "created_at": 1_795_000_000});
        merchant.post_signed(body.to_string(), crate::support::WEBHOOK_SECRET).await.expect(200);
    }
    app.advance(TimeDelta::seconds(10)).await;
    app.advance(TimeDelta::minutes(11)).await;
    assert_eq!(merchant.read_session(&open).await["checkout_status"], "pending");
    let known: i64 = sqlx::query_scalar("select count(*) from provider_payments")
        .fetch_one(&app.state().pool)
        .await
        .unwrap();
    assert_eq!(known, 0);
    let outcomes: Vec<String> =
        sqlx::query_scalar("select outcome from inbox where event_type = 'payment.captured'")
            .fetch_all(&app.state().pool)
            .await
            .unwrap();
    assert_eq!(outcomes, ["contradicted"; 3]);
    app.finish().await;
}

/// Razorpay refuses to cancel what is paid. That it then cannot be asked why is not silence.
#[tokio::test]
async fn a_link_that_cannot_be_cancelled_nor_asked_about_never_ends_its_session_unpaid() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (cancelled, at_deadline) = (merchant.session().await, merchant.session().await);
    app.pay(&cancelled);
    app.pay(&at_deadline);
    let down = FaultKind::Status { code: 503, body: None, retry_after: None };
    let rules = vec![FaultRule::always(Op::FetchLink, down)];
    app.sandbox.set_faults(Faults { rules, ..Faults::default() });
    let path = format!("/v1/checkout/sessions/{}/cancel", cancelled["id"].as_str().unwrap());
    let error = merchant.post_empty(&path).await.expect_error(503, "service_unavailable");
    assert_eq!(error["details"]["reason"], "payment_in_progress");
    app.clock().advance(TimeDelta::minutes(15));
    app.drain().await;
    app.clock().advance(TimeDelta::minutes(12));
    app.drain().await;
    app.sandbox.set_faults(Faults::default());
    // No webhook came, all this time.
    app.clock().advance(TimeDelta::minutes(2));
    app.drain().await;
    for session in [&cancelled, &at_deadline] {
        assert_eq!(merchant.read_session(session).await["checkout_status"], "completed");
    }
    app.finish().await;
}
