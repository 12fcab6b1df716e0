//! The webhook, the worker and other workers at once, and in every order.

use super::*;

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
