//! Refunds: amounts, texts, idempotency and events.

use super::*;

async fn refund(rig: &Rig, payment_id: &str, key: Option<&str>, body: &Value) -> (u16, Value) {
    let url = rig.url(&format!("/v1/payments/{payment_id}/refund"));
    let request = rig.http.post(url).basic_auth(KEY_ID, Some(KEY_SECRET)).json(body);
    let request = match key {
        Some(key) => request.header("X-Refund-Idempotency", key),
        None => request,
    };
    read(request.send().await.unwrap()).await
}

#[tokio::test]
async fn a_refund_gives_back_everything_that_is_left() {
    let rig = Rig::start().await;
    let payment_id = rig.paid("REF-1").await;
    let (status, part) =
        refund(&rig, &payment_id, None, &json!({"amount": 9_900, "notes": {"why": "late"}})).await;
    assert_eq!((status, &part["amount"], &part["status"]), (200, &json!(9_900), &json!("processed")));
    let payment = rig.get(&format!("/v1/payments/{payment_id}")).await.1;
    assert_eq!((&payment["status"], &payment["refund_status"]), (&json!("captured"), &json!("partial")));

    let (_, rest) = refund(&rig, &payment_id, None, &json!({})).await;
    assert_eq!(rest["amount"], 40_000);
    let payment = rig.get(&format!("/v1/payments/{payment_id}")).await.1;
    assert_eq!((&payment["status"], &payment["refund_status"]), (&json!("refunded"), &json!("full")));
    assert_eq!(payment["amount_refunded"], 49_900);
    let nothing_left = refund(&rig, &payment_id, None, &json!({})).await;
    assert_eq!(description(nothing_left), "The payment has been fully refunded already");

    let (_, fetched) = rig.get(&format!("/v1/refunds/{}", part["id"].as_str().unwrap())).await;
    assert_eq!(fetched, part);
    let (_, all) = rig.get(&format!("/v1/payments/{payment_id}/refunds")).await;
    assert_eq!((&all["count"], &all["items"]), (&json!(2), &json!([rest, part])));
    assert_eq!(rig.sandbox.ledger().links[0].status, LinkStatus::Paid);
}

#[tokio::test]
async fn what_cannot_be_refunded_is_refused_with_razorpays_text() {
    let rig = Rig::start().await;
    let payment_id = rig.paid("REF-1").await;
    for (body, field, expected) in [
        (json!({"amount": 49_901}), "amount", "The refund amount provided is greater than amount captured"),
        (json!({"amount": 99}), "amount", "The amount must be at least INR 1.00"),
        (json!({"amount": 0}), "amount", "Amount cannot be blank."),
        (json!({"amount": 1.5}), "amount", "The amount must be an integer."),
        (json!({"amount": "many"}), "amount", "The amount must be an integer."),
        (json!({"speed": "warp"}), "speed", "The selected speed is invalid."),
        (json!({"notes": {"a": "x".repeat(512)}}), "notes", "Notes validation failed."),
    ] {
        let answer = refund(&rig, &payment_id, None, &body).await;
        assert_eq!(answer.1["error"]["field"], field, "{body}");
        assert_eq!(answer.1["error"]["source"], "business");
        assert_eq!(description(answer), expected, "{body}");
    }
    let extra = refund(&rig, &payment_id, None, &json!({"colour": 1})).await;
    assert_eq!(extra.1["error"]["reason"], "extra_field_sent");
    assert_eq!(description(extra), "colour is/are not required and should not be sent");

    rig.link("REF-2").await;
    let failing = PayRequest { outcome: PayOutcome::Failure, ..PayRequest::default() };
    let failed = rig.sandbox.pay("REF-2", failing).unwrap();
    let answer = refund(&rig, &failed.payment_id, None, &json!({})).await;
    assert_eq!(description(answer), "The payment status should be captured for action to be taken");
    assert!(rig.sandbox.ledger().refunds.is_empty());

    let receipt = json!({"amount": 100, "receipt": "R1"});
    assert_eq!(refund(&rig, &payment_id, None, &receipt).await.0, 200);
    let again = refund(&rig, &payment_id, None, &receipt).await;
    assert_eq!(description(again), "Duplicate receipt found for this refund request.");
    let digits = refund(&rig, &payment_id, None, &json!({"amount": "100"})).await;
    assert_eq!(digits.1["amount"], 100);
}

#[tokio::test]
async fn the_same_idempotency_key_gives_the_same_refund_and_never_a_second_one() {
    let rig = Rig::start().await;
    let payment_id = rig.paid("REF-1").await;
    let other_payment = rig.paid("REF-2").await;
    let key = Some("refund_key-0001");
    let (_, first) = refund(&rig, &payment_id, key, &json!({"amount": 49_900})).await;
    let (status, again) = refund(&rig, &payment_id, key, &json!({"amount": 49_900})).await;
    assert_eq!((status, &again), (200, &first));
    for (payment, body) in
        [(&payment_id, json!({"amount": 100})), (&other_payment, json!({"amount": 49_900}))]
    {
        let (status, body) = refund(&rig, payment, key, &body).await;
        assert_eq!(status, 409);
        assert_eq!(body["error"]["code"], "BAD_REQUEST_ERROR");
        let text = "Different request with the same idempotency key has already been processed.";
        assert_eq!(body["error"]["description"], text);
    }
    assert_eq!(rig.sandbox.ledger().refunds.len(), 1);

    let short = refund(&rig, &other_payment, Some("short"), &json!({})).await;
    assert_eq!(description(short), "The idempotency key must be at least 10 characters long.");
    let odd = refund(&rig, &other_payment, Some("with spaces in it"), &json!({})).await;
    assert!(description(odd).contains("must only contain alphanumeric characters, underscores, and hyphens"));
}

#[tokio::test]
async fn a_refund_tells_of_itself_and_a_pending_one_ends_when_told() {
    let rig = Rig::start().await;
    let payment_id = rig.paid("REF-1").await;
    rig.sandbox.flush_webhooks().await;
    let events = async || {
        let seen = rig.receiver.events().len();
        rig.sandbox.flush_webhooks().await;
        rig.receiver.events().split_off(seen)
    };
    refund(&rig, &payment_id, None, &json!({"amount": 900})).await;
    assert_eq!(events().await, ["refund.created", "refund.processed"]);

    rig.sandbox.set_faults(Faults { refund_outcome: RefundStatus::Pending, ..Faults::default() });
    let (_, pending) = refund(&rig, &payment_id, None, &json!({"amount": 49_000})).await;
    assert_eq!((&pending["status"], &pending["acquirer_data"]), (&json!("pending"), &json!({"arn": null})));
    assert_eq!(events().await, ["refund.created"]);
    let path = format!("/refunds/{}/settle", pending["id"].as_str().unwrap());
    assert_eq!(rig.control(Method::POST, &path, json!({"outcome": "failed"})).await.0, 200);
    assert_eq!(events().await, ["refund.failed"]);
    assert_eq!(rig.control(Method::POST, &path, json!({"outcome": "failed"})).await.0, 409);

    // The money that did not go back can be refunded again.
    let (status, _) = refund(&rig, &payment_id, None, &json!({"amount": 49_000})).await;
    assert_eq!(status, 200);
    let id = rig.sandbox.ledger().refunds[2].id.clone();
    rig.sandbox.settle_refund(&id, RefundStatus::Processed).unwrap();
    assert_eq!(events().await, ["refund.created", "refund.processed"]);
    let last = rig.receiver.received().pop().unwrap().json();
    assert_eq!(last["contains"], json!(["refund", "payment"]));
    assert_eq!(last["payload"]["payment"]["entity"]["status"], "refunded");
    assert_eq!(last["payload"]["refund"]["entity"]["id"], id);
}
