//! Webhooks: what is sent, in which bytes, how it is retried, and what can be made to go wrong with it.

use super::*;
use crate::sandbox::webhooks::sign;

const PAID: [&str; 4] = ["payment.authorized", "payment.captured", "order.paid", "payment_link.paid"];

#[tokio::test]
async fn a_payment_is_told_in_four_signed_events_of_razorpays_shape() {
    let rig = Rig::start().await;
    let link = rig.link("REF-1").await;
    rig.advance(7);
    let upi = PayRequest { method: PayMethod::Upi, ..PayRequest::default() };
    let paid = rig.sandbox.pay("REF-1", upi).unwrap();
    assert_eq!(rig.sandbox.flush_webhooks().await, 4);
    assert_eq!(rig.receiver.events(), PAID);
    for received in rig.receiver.received() {
        assert_eq!(received.header("x-razorpay-signature"), sign(WEBHOOK_SECRET, &received.body));
        let event_id = received.header("x-razorpay-event-id");
        assert_eq!((event_id.len(), received.header("request-id")), (14, event_id));
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(received.header("user-agent"), "Razorpay-Webhook/v1");
        assert_eq!(received.header("accept-encoding"), "gzip");
    }
    let account_id = &rig.sandbox.ledger().links[0].account_id;
    let (id, short_url) = (link["id"].as_str().unwrap(), link["short_url"].as_str().unwrap());
    let PaidInfo { payment_id, order_id, .. } = paid;
    let rrn = &rig.sandbox.ledger().payments[0].rrn;
    let (at, stripped) = (START + 7, &id[6..]);
    let authorized = &rig.receiver.received()[0].json()["payload"]["payment"]["entity"]["acquirer_data"];
    let transaction = authorized["upi_transaction_id"].as_str().unwrap();
    // Both bodies have the keys and the order of the recordings.
    let captured = format!(
        r##"{{"entity":"event","account_id":"{account_id}","event":"payment.captured","contains":["payment"],"payload":{{"payment":{{"entity":{{"id":"{payment_id}","entity":"payment","amount":49900,"currency":"INR","status":"captured","order_id":"{order_id}","invoice_id":null,"international":false,"method":"upi","amount_refunded":0,"refund_status":null,"captured":true,"description":"#{stripped}","card_id":null,"bank":null,"wallet":null,"vpa":"success@razorpay","email":"void@razorpay.com","contact":"+919000090001","notes":{{"session_id":"REF-1"}},"fee":1177,"tax":179,"error_code":null,"error_description":null,"error_source":null,"error_step":null,"error_reason":null,"acquirer_data":{{"rrn":"{rrn}","upi_transaction_id":"{transaction}"}},"created_at":{at},"upi":{{"flow":"collect","vpa":"success@razorpay"}},"reward":null,"base_amount":49900}}}}}},"created_at":{at}}}"##
    );
    let link_paid = format!(
        r##"{{"account_id":"{account_id}","contains":["payment_link","order","payment"],"created_at":{START},"entity":"event","event":"payment_link.paid","payload":{{"order":{{"entity":{{"amount":49900,"amount_due":0,"amount_paid":49900,"attempts":1,"checkout":null,"created_at":{at},"currency":"INR","description":null,"entity":"order","id":"{order_id}","notes":{{"session_id":"REF-1"}},"offer_id":null,"receipt":"REF-1","status":"paid"}}}},"payment":{{"entity":{{"acquirer_data":{{"rrn":"{rrn}","upi_transaction_id":"{transaction}"}},"amount":49900,"amount_refunded":0,"amount_transferred":0,"bank":null,"base_amount":49900,"captured":true,"card":null,"card_id":null,"contact":"+919000090001","created_at":{at},"currency":"INR","description":"#{stripped}","email":"void@razorpay.com","entity":"payment","error_code":null,"error_description":null,"error_reason":null,"error_source":null,"error_step":null,"fee":1177,"fee_bearer":"platform","id":"{payment_id}","international":false,"invoice_id":null,"method":"upi","notes":{{"session_id":"REF-1"}},"order_id":"{order_id}","refund_status":null,"status":"captured","tax":179,"upi":{{"flow":"collect","vpa":"success@razorpay"}},"vpa":"success@razorpay","wallet":null}}}},"payment_link":{{"entity":{{"accept_partial":false,"amount":49900,"amount_paid":49900,"callback_method":"get","callback_url":"http://127.0.0.1:9/return?from=pay","cancelled_at":0,"created_at":{START},"currency":"INR","customer":{{"contact":"9000090001","name":"Jane"}},"description":"Pro, monthly","expire_by":0,"expired_at":0,"first_min_partial_amount":0,"id":"{id}","notes":{{"session_id":"REF-1"}},"notify":{{"email":false,"sms":false,"whatsapp":false}},"order_id":"{order_id}","reference_id":"REF-1","reminder_enable":false,"reminders":{{}},"short_url":"{short_url}","status":"paid","updated_at":{at},"upi_link":false,"user_id":"","whatsapp_link":false}}}}}}}}"##
    );
    let received = rig.receiver.received();
    assert_eq!(String::from_utf8_lossy(&received[1].body), captured);
    assert_eq!(String::from_utf8_lossy(&received[3].body), link_paid);
    let authorized = &received[0].json()["payload"]["payment"]["entity"];
    assert_eq!((&authorized["status"], &authorized["fee"]), (&json!("authorized"), &Value::Null));
    assert_eq!((authorized.get("reward"), &authorized["captured"]), (None, &json!(false)));
    assert_eq!(received[2].json()["payload"]["order"]["entity"]["receipt"], "REF-1");
}

#[tokio::test]
async fn failures_cancels_and_instalments_are_told_too() {
    let rig = Rig::start().await;
    rig.link("failed").await;
    let failing = PayRequest { outcome: PayOutcome::Failure, ..PayRequest::default() };
    rig.sandbox.pay("failed", failing).unwrap();
    rig.sandbox.cancel("failed").unwrap();
    let body = json!({"amount": 500, "accept_partial": true, "reference_id": "partial"});
    rig.post("/v1/payment_links", body).await;
    let instalment = PayRequest { amount: Some(200), ..PayRequest::default() };
    rig.sandbox.pay("partial", instalment).unwrap();
    rig.sandbox.flush_webhooks().await;
    assert_eq!(
        rig.receiver.events(),
        [
            "payment.failed",
            "payment_link.cancelled",
            "payment.authorized",
            "payment.captured",
            "payment_link.partially_paid"
        ]
    );
    let received = rig.receiver.received();
    let failed = &received[0].json()["payload"]["payment"]["entity"];
    assert_eq!((&failed["status"], &failed["error_reason"]), (&json!("failed"), &json!("payment_failed")));
    let cancelled = &received[1].json();
    assert_eq!(cancelled["contains"], json!(["payment_link"]));
    assert_eq!(cancelled["payload"]["payment_link"]["entity"]["cancelled_at"], START);
    assert_eq!(received[4].json()["payload"]["order"]["entity"]["amount_due"], 300);
}

#[tokio::test]
async fn a_refused_webhook_is_sent_again_unchanged_by_the_ladder_and_then_given_up() {
    let rig =
        Rig::start_with(|config| config.retry_ladder = [10, 20].map(Duration::from_secs).to_vec()).await;
    rig.sandbox.link_cancelled("REF-1", &rig).await;
    rig.receiver.answer(&[500, 400, 302]);
    assert_eq!(rig.sandbox.flush_webhooks().await, 1);
    rig.advance(9);
    assert_eq!(rig.sandbox.flush_webhooks().await, 0);
    rig.advance(1);
    assert_eq!(rig.sandbox.flush_webhooks().await, 1);
    rig.advance(20);
    assert_eq!(rig.sandbox.flush_webhooks().await, 1);
    rig.advance(86_400);
    assert_eq!(rig.sandbox.flush_webhooks().await, 0);
    let received = rig.receiver.received();
    assert_eq!(received.len(), 3);
    for retry in &received[1..] {
        assert_eq!(retry.body, received[0].body);
        for header in ["x-razorpay-signature", "x-razorpay-event-id", "request-id"] {
            assert_eq!(retry.header(header), received[0].header(header));
        }
    }
    let delivery = &rig.sandbox.ledger().deliveries[0];
    assert_eq!(delivery.status, DeliveryStatus::Exhausted);
    let statuses: Vec<_> = delivery.attempts.iter().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [Some(500), Some(400), Some(302)]);
}

impl Sandbox {
    /// One link that yields exactly one event.
    async fn link_cancelled(&self, reference_id: &str, rig: &Rig) {
        rig.link(reference_id).await;
        self.cancel(reference_id).unwrap();
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_or_is_gone_is_a_failed_attempt() {
    let rig = Rig::start_with(|config| config.webhook_timeout = Duration::from_millis(50)).await;
    rig.sandbox.link_cancelled("REF-1", &rig).await;
    rig.receiver.answer(&[0]);
    assert_eq!(rig.sandbox.flush_webhooks().await, 1);
    let delivery = &rig.sandbox.ledger().deliveries[0];
    assert_eq!((delivery.status, delivery.attempts[0].status), (DeliveryStatus::Pending, None));
    assert!(delivery.attempts[0].error.as_ref().unwrap().contains("timed out"));
    rig.advance(1);
    assert_eq!(rig.sandbox.flush_webhooks().await, 1);
    assert_eq!(rig.sandbox.ledger().deliveries[0].status, DeliveryStatus::Delivered);
}

#[tokio::test]
async fn without_being_asked_webhooks_go_out_by_themselves() {
    let rig = Rig::start_with(|config| config.auto_deliver = true).await;
    rig.paid("REF-1").await;
    while rig.sandbox.ledger().deliveries.iter().any(|d| d.status != DeliveryStatus::Delivered) {
        tokio::task::yield_now().await;
    }
    let mut events = rig.receiver.events();
    events.sort();
    let mut expected = PAID;
    expected.sort_unstable();
    assert_eq!(events, expected);
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn only_subscribed_and_asked_for_events_are_sent() {
    let rig = Rig::start().await;
    let subset = PayRequest { events: Some(vec!["payment.captured".to_owned()]), ..PayRequest::default() };
    rig.link("REF-1").await;
    rig.sandbox.pay("REF-1", subset).unwrap();
    let mut account = Account::new(KEY_ID, KEY_SECRET).with_webhook(&rig.receiver.url, WEBHOOK_SECRET);
    account.events = vec!["order.paid".to_owned()];
    rig.sandbox.put_account(account.clone()).unwrap();
    rig.paid("REF-2").await;
    account.events.clear();
    rig.sandbox.put_account(account).unwrap();
    rig.paid("REF-3").await;
    rig.sandbox.flush_webhooks().await;
    assert_eq!(rig.receiver.events(), ["payment.captured", "order.paid"]);
}

#[tokio::test]
async fn webhooks_can_be_lost_late_doubled_and_out_of_order() {
    let rig = Rig::start().await;
    let set = async |webhooks: Value| {
        assert_eq!(rig.control(Method::PUT, "/faults", json!({"webhooks": webhooks})).await.0, 200);
    };
    let flushed = async || {
        let seen = rig.receiver.received().len();
        let (_, answer) = rig.control(Method::POST, "/webhooks/flush", json!({})).await;
        let events = rig.receiver.events().split_off(seen);
        assert_eq!(answer["tried"], events.len());
        events
    };
    set(json!({"enabled": false})).await;
    rig.paid("lost").await;
    set(json!({"enabled": true})).await;
    assert_eq!(flushed().await, Vec::<String>::new());
    assert_eq!(rig.sandbox.ledger().deliveries[3].status, DeliveryStatus::Suppressed);

    set(json!({"delay_ms": 5_000})).await;
    rig.paid("late").await;
    rig.advance(4);
    assert_eq!(flushed().await, Vec::<String>::new());
    rig.advance(1);
    assert_eq!(flushed().await, PAID);

    set(json!({"duplicate": true})).await;
    rig.sandbox.link_cancelled("twice", &rig).await;
    assert_eq!(flushed().await, ["payment_link.cancelled", "payment_link.cancelled"]);
    let received = rig.receiver.received();
    let [.., first, second] = &received[..] else { panic!("two were received") };
    assert_eq!(first.header("x-razorpay-event-id"), second.header("x-razorpay-event-id"));

    set(json!({"reorder": true})).await;
    rig.paid("reversed").await;
    let mut reversed = PAID;
    reversed.reverse();
    assert_eq!(flushed().await, reversed);
}

#[tokio::test]
async fn wrong_money_and_late_money_can_be_made() {
    let rig = Rig::start().await;
    rig.link("wrong").await;
    let body = json!({"method": "upi", "outcome": "success", "amount": 1, "currency": "USD"});
    let (_, paid) = rig.control(Method::POST, "/links/wrong/pay", body).await;
    let path = format!("/v1/payments/{}", paid["payment_id"].as_str().unwrap());
    let (_, payment) = rig.get(&path).await;
    assert_eq!((&payment["amount"], &payment["currency"]), (&json!(1), &json!("USD")));

    rig.link("late").await;
    rig.sandbox.cancel("late").unwrap();
    let pay = async |late: bool| rig.control(Method::POST, "/links/late/pay", json!({"late": late})).await;
    assert_eq!(pay(false).await.0, 409);
    let (status, late) = pay(true).await;
    assert_eq!(
        (status, &late["link_status"], &late["redirect_url"]),
        (200, &json!("cancelled"), &Value::Null)
    );
    let (_, link) = rig.get(&format!("/v1/payment_links/{}", late["link_id"].as_str().unwrap())).await;
    assert_eq!(
        (&link["status"], &link["payments"][0]["payment_id"]),
        (&json!("cancelled"), &late["payment_id"])
    );
    rig.sandbox.flush_webhooks().await;
    let events = rig.receiver.events();
    let again = rig.sandbox.pay("wrong", PayRequest { late: true, ..PayRequest::default() }).unwrap();
    let ledger = rig.sandbox.ledger();
    assert_eq!((again.link_status, ledger.captured_for(&again.link_id).len()), (LinkStatus::Paid, 2));
    assert_eq!(ledger.orders.len(), 2, "both payments of a link belong to its one order");
    assert_eq!(
        events[4..],
        ["payment_link.cancelled", "payment.authorized", "payment.captured", "order.paid"]
    );
}

#[tokio::test]
async fn any_body_can_be_sent_as_a_webhook_with_any_signature() {
    let rig = Rig::start().await;
    let send = async |extra: Value| {
        let mut body = json!({"key_id": KEY_ID, "body": {"event": "made.up"}});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let (status, answer) = rig.control(Method::POST, "/webhooks/send", body).await;
        assert_eq!((status, &answer["status"]), (200, &json!(200)));
        rig.receiver.received().pop().unwrap()
    };
    let signed = send(json!({"event_id": "evt_of_my_own"})).await;
    assert_eq!(&signed.body[..], br#"{"event":"made.up"}"#);
    assert_eq!(signed.header("x-razorpay-signature"), sign(WEBHOOK_SECRET, &signed.body));
    assert_eq!(signed.header("x-razorpay-event-id"), "evt_of_my_own");
    let foreign = send(json!({"secret": "another", "body": "not json"})).await;
    assert_eq!(
        (&foreign.body[..], foreign.header("x-razorpay-signature")),
        (&b"not json"[..], &*sign("another", b"not json"))
    );
    assert_eq!(send(json!({"signature": "beef"})).await.header("x-razorpay-signature"), "beef");
    assert!(!send(json!({"signature": ""})).await.headers.contains_key("x-razorpay-signature"));
    let unknown = rig.control(Method::POST, "/webhooks/send", json!({"key_id": "nobody", "body": {}})).await;
    assert_eq!(unknown.0, 404);
}
