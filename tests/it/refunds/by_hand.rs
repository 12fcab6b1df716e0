//! Money that a person gave back, at Razorpay or by another way.

use super::*;

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
