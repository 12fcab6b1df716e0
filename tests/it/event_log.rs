//! The log: every event, delivery and attempt by API; catching up; sending again.

use checkoutd::{webhooks::EventType, worker};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{
    Merchant, Receiver, TestApp,
    events::{emit, emit_completed, emit_event, emit_in, event, event_about, until_caught_up_with},
};

fn path(object: &Value) -> String {
    format!("/v1/webhook_endpoints/{}", object["id"].as_str().unwrap())
}

async fn items(merchant: &Merchant, path: &str) -> Vec<Value> {
    merchant.get(path).await.expect(200)["items"].as_array().unwrap().clone()
}

fn ids(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_log_is_read_page_by_page_in_both_directions() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let start = app.state().clock.now();
    let mut emitted = Vec::new();
    for event_type in [EventType::PaymentLate, EventType::CheckoutSessionCompleted].repeat(4) {
        emitted.push(emit(&app, &merchant, event_type).await.id.to_string());
        app.clock().advance(TimeDelta::seconds(1));
    }
    let newest_first: Vec<_> = emitted.iter().rev().cloned().collect();
    assert_eq!(ids(&items(&merchant, "/v1/events").await), newest_first);

    let mut walked = Vec::new();
    let mut query = "/v1/events?limit=3".to_owned();
    loop {
        let page = merchant.get(&query).await.expect(200);
        walked.extend(ids(page["items"].as_array().unwrap()));
        if page["pagination"]["has_more"] == false {
            break;
        }
        query = format!("/v1/events?limit=3&before={}", walked.last().unwrap());
    }
    assert_eq!(walked, newest_first);

    until_caught_up_with(&app).await;
    let from = (start + TimeDelta::seconds(2)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let mut caught_up = ids(&items(&merchant, &format!("/v1/events?since={from}&limit=2")).await);
    loop {
        let after = caught_up.last().unwrap();
        let page = merchant.get(&format!("/v1/events?limit=2&after={after}")).await.expect(200);
        caught_up.extend(ids(page["items"].as_array().unwrap()));
        if page["pagination"]["has_more"] == false {
            break;
        }
    }
    assert_eq!(caught_up, emitted[2..]);
    let late = items(&merchant, &format!("/v1/events?after={}&event_type=payment.late", emitted[0])).await;
    assert_eq!(ids(&late), [&*emitted[2], &*emitted[4], &*emitted[6]]);
    assert!(items(&merchant, &format!("/v1/events?after={}", emitted[7])).await.is_empty());

    let (stranger, _) = app.merchant_pair().await;
    for (query, field) in [
        ("before=evt_1".to_owned(), "before"),
        ("after=chk_1".to_owned(), "after"),
        (format!("before={}&after={}", emitted[0], emitted[1]), "before"),
        (format!("before={}&since={from}", emitted[0]), "before"),
        ("since=yesterday".to_owned(), "since"),
        ("limit=1001".to_owned(), "limit"),
        ("offset=0".to_owned(), "offset"),
        ("webhook_endpoint_id=chk_1".to_owned(), "webhook_endpoint_id"),
    ] {
        let error = merchant.get(&format!("/v1/events?{query}")).await.expect_error(400, "validation_error");
        assert!(error["details"].to_string().contains(field), "{query}: {error}");
    }
    for direction in ["before", "after"] {
        let theirs = stranger.get(&format!("/v1/events?{direction}={}", emitted[0])).await;
        theirs.expect_error(400, "validation_error");
    }
    app.finish().await;
}

/// A page that is read while an older transaction is still open must not make a reader pass over its event.
#[tokio::test]
async fn who_catches_up_misses_nothing_that_is_committed_later() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let first = emit_completed(&app, &merchant).await;
    let catch_up = async || ids(&items(&merchant, &format!("/v1/events?after={}", first.id)).await);

    let mut slow = app.state().pool.begin().await.unwrap();
    let early = event(&app, EventType::PaymentLate);
    emit_in(&app, &mut slow, &merchant, &early).await;
    let late = emit_completed(&app, &merchant).await;
    assert_eq!(catch_up().await, Vec::<String>::new(), "the open transaction comes first");
    assert_eq!(
        ids(&items(&merchant, "/v1/events").await).len(),
        2,
        "to look something up, what is there is shown"
    );
    slow.commit().await.unwrap();
    until_caught_up_with(&app).await;
    assert_eq!(catch_up().await, [early.id.to_string(), late.id.to_string()]);

    let mut undone = app.state().pool.begin().await.unwrap();
    emit_in(&app, &mut undone, &merchant, &event(&app, EventType::PaymentLate)).await;
    undone.rollback().await.unwrap();
    assert_eq!(catch_up().await.len(), 2);
    app.finish().await;
}

/// Events of one transaction about the same thing come in their own order.
#[tokio::test]
async fn events_of_one_transaction_are_caught_up_in_the_order_of_their_sequence() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let start = app.state().clock.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let subject = app.state().ids.uuid();
    let mut tx = app.state().pool.begin().await.unwrap();
    for sequence in [3, 1, 2] {
        let event = event_about(&app, EventType::RefundCreated, subject, sequence);
        emit_in(&app, &mut tx, &merchant, &event).await;
    }
    tx.commit().await.unwrap();
    until_caught_up_with(&app).await;
    let listed = items(&merchant, &format!("/v1/events?since={start}")).await;
    let sequences: Vec<_> = listed.iter().map(|event| event["sequence"].as_i64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3]);
    app.finish().await;
}

#[tokio::test]
async fn deliveries_and_attempts_are_read_by_their_tenant_only() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (stranger, _) = app.merchant_pair().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    receiver.answer_next_with(503, &[], "later, please");
    let first = emit_completed(&app, &merchant).await;
    app.drain().await;
    app.clock().advance(TimeDelta::seconds(1));
    let second = emit_completed(&app, &merchant).await;
    app.drain().await;

    let deliveries = format!("{}/deliveries", path(&endpoint));
    let list = async |query: &str| items(&merchant, &format!("{deliveries}?{query}")).await;
    let all = list("").await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["event_id"], second.id.to_string(), "newest first");
    assert_eq!(ids(&list("status=pending").await), ids(&all[1..]));
    assert_eq!(ids(&list("status=delivered").await), ids(&all[..1]));
    assert_eq!(ids(&list(&format!("event_id={}", first.id)).await), ids(&all[1..]));
    assert_eq!(ids(&list(&format!("before={}", ids(&all)[0])).await), ids(&all[1..]));
    let page = merchant.get(&format!("{deliveries}?limit=1")).await.expect(200);
    assert_eq!(page["pagination"], json!({"limit": 1, "has_more": true}));
    assert_eq!(items(&merchant, &format!("/v1/events/{}/deliveries", first.id)).await, all[1..]);

    app.advance(TimeDelta::seconds(10)).await;
    let one = format!("/v1/deliveries/{}", ids(&all)[1]);
    let delivery = merchant.get(&one).await.expect(200);
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("delivered"), &json!(2)));
    let attempts = items(&merchant, &format!("{one}/attempts")).await;
    assert_eq!(attempts.len(), 2);
    assert_eq!((&attempts[0]["attempt_number"], &attempts[0]["response_code"]), (&json!(2), &json!(200)));
    assert_eq!(attempts[1]["response_code"], 503);
    assert_eq!(attempts[1]["response_body"], "later, please");
    assert_eq!(attempts[1]["delivery_id"], delivery["id"]);
    assert!(attempts[1]["id"].as_str().unwrap().starts_with("att_"));
    assert_eq!(items(&merchant, &format!("{one}/attempts?before=2")).await, attempts[1..]);

    for query in ["status=lost", "event_id=chk_1", "before=evt_1", "limit=0"] {
        merchant.get(&format!("{deliveries}?{query}")).await.expect_error(400, "validation_error");
    }
    for log in [&deliveries, &format!("{one}/attempts"), &format!("{}/replays", path(&endpoint))] {
        let error = merchant.get(&format!("{log}?offset=50")).await.expect_error(400, "validation_error");
        assert!(
            error["details"]["offset"].is_string(),
            "{log} must not give its first page for ever: {error}"
        );
    }
    let event = format!("/v1/events/{}/deliveries", first.id);
    for path in [&deliveries, &one, &format!("{one}/attempts"), &event] {
        stranger.get(path).await.expect_error(404, "not_found");
    }
    let replay = format!("{}/replay", path(&endpoint));
    let since = json!({"since": "2026-11-23T00:00:00Z"});
    stranger.post_empty(&format!("{one}/resend")).await.expect_error(404, "not_found");
    stranger.post_empty(&format!("{}/test", path(&endpoint))).await.expect_error(404, "not_found");
    stranger.post(&replay, since).await.expect_error(404, "not_found");
    stranger.get(&format!("{}/replays", path(&endpoint))).await.expect_error(404, "not_found");
    app.drain().await;
    assert_eq!(receiver.received().len(), 3, "nothing was sent again");
    app.finish().await;
}

#[tokio::test]
async fn a_delivery_is_sent_again_with_a_schedule_of_its_own() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    let event = emit_completed(&app, &merchant).await;
    app.drain().await;
    let [delivery] = &items(&merchant, &format!("{}/deliveries", path(&endpoint))).await[..] else {
        panic!("one delivery")
    };
    let one = format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap());
    let resend = async || merchant.post_empty(&format!("{one}/resend")).await;

    // Delivered already, and it fails now: the schedule begins anew, to its end.
    for _ in 0..10 {
        receiver.answer_next(500);
    }
    let again = resend().await.expect(202);
    assert_eq!((&again["status"], &again["id"]), (&json!("pending"), &delivery["id"]));
    app.drain().await;
    let waiting = merchant.get(&one).await.expect(200);
    assert_eq!((&waiting["status"], &waiting["attempt_count"]), (&json!("pending"), &json!(2)));
    for minutes in [1, 6, 36, 150, 360, 720, 1020, 1440, 1740] {
        app.advance(TimeDelta::minutes(minutes)).await;
    }
    let ended = merchant.get(&one).await.expect(200);
    assert_eq!((&ended["status"], &ended["attempt_count"]), (&json!("exhausted"), &json!(11)));

    // Exhausted, and it is well again.
    resend().await.expect(202);
    app.drain().await;
    let taken = merchant.get(&one).await.expect(200);
    assert_eq!((&taken["status"], &taken["attempt_count"]), (&json!("delivered"), &json!(12)));
    for request in receiver.received() {
        assert_eq!(
            (request.header("webhook-id"), &request.body[..]),
            (&*event.id.to_string(), &event.body[..])
        );
    }
    let attempts = items(&merchant, &format!("{one}/attempts")).await;
    assert_eq!(attempts.len(), 12);

    merchant.put(&path(&endpoint), json!({"enabled": false})).await.expect(200);
    let error = resend().await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"]["reason"], "endpoint_disabled");
    merchant.delete(&path(&endpoint)).await.expect(204);
    let error = resend().await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"]["reason"], "endpoint_deleted");
    merchant.post_empty("/v1/deliveries/dlv_1/resend").await.expect_error(404, "not_found");
    app.drain().await;
    assert_eq!(receiver.received().len(), 12);
    app.finish().await;
}

#[tokio::test]
async fn a_delivery_under_way_is_not_sent_twice_by_a_resend() {
    use checkoutd::{webhooks::Deliver, worker::Job};
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    emit_completed(&app, &merchant).await;
    let [lease] = <[_; 1]>::try_from(Deliver.claim(app.state(), 8).await.unwrap()).ok().unwrap();
    let all = items(&merchant, &format!("{}/deliveries", path(&endpoint))).await;
    merchant.post_empty(&format!("/v1/deliveries/{}/resend", ids(&all)[0])).await.expect(202);
    Deliver.step(app.state(), lease).await.unwrap();
    app.drain().await;
    assert_eq!(receiver.received().len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_replay_sends_everything_since_a_time_and_what_was_missed() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let before = emit_completed(&app, &merchant).await;
    app.clock().advance(TimeDelta::minutes(1));
    let since = app.state().clock.now();
    let missed = emit_completed(&app, &merchant).await;
    let types = json!({"url": receiver.url(), "event_types": ["checkout.session.completed", "payment.late"]});
    let endpoint = merchant.post("/v1/webhook_endpoints", types).await.expect(201);
    let taken = emit_completed(&app, &merchant).await;
    emit(&app, &merchant, EventType::RefundCreated).await;
    app.drain().await;
    app.clock().advance(TimeDelta::minutes(1));

    let replay = format!("{}/replay", path(&endpoint));
    let started = merchant.post(&replay, json!({"since": since})).await.expect(202);
    assert_eq!(started["status"], "running");
    assert_eq!(started["webhook_endpoint_id"], endpoint["id"]);
    let error = merchant.post(&replay, json!({"since": since})).await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"]["reason"], "replay_running");
    app.drain().await;
    let sent: Vec<_> =
        receiver.received().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    assert_eq!(sent.len(), 3, "the one that was taken, again, and the one that was missed");
    assert_eq!(sent.iter().filter(|id| **id == taken.id.to_string()).count(), 2);
    assert!(sent.contains(&missed.id.to_string()) && !sent.contains(&before.id.to_string()));
    let [done] = &items(&merchant, &format!("{}/replays", path(&endpoint))).await[..] else {
        panic!("one replay")
    };
    assert_eq!((&done["status"], &done["replayed_count"]), (&json!("completed"), &json!(2)));

    // Only what was not taken: nothing.
    let only = json!({"since": since, "undelivered_only": true});
    merchant.post(&replay, only.clone()).await.expect(202);
    app.drain().await;
    assert_eq!(receiver.received().len(), 3);
    // Or what waited while the endpoint was off.
    receiver.answer_next(500);
    emit(&app, &merchant, EventType::PaymentLate).await;
    app.drain().await;
    merchant.put(&path(&endpoint), json!({"enabled": false})).await.expect(200);
    merchant.post(&replay, only.clone()).await.expect_error(400, "invalid_operation");
    merchant.put(&path(&endpoint), json!({"enabled": true})).await.expect(200);
    app.clock().advance(TimeDelta::seconds(1));
    merchant.post(&replay, only).await.expect(202);
    app.drain().await;
    assert_eq!(receiver.event_types()[3..], ["payment.late", "payment.late"]);
    app.finish().await;
}

#[tokio::test]
async fn a_replay_goes_on_in_batches_and_ends_with_its_endpoint() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let since = app.state().clock.now();
    for _ in 0..150 {
        emit_event(&app, &merchant, event(&app, EventType::PaymentLate)).await;
    }
    app.clock().advance(TimeDelta::seconds(1));
    let endpoint = merchant.endpoint(&receiver).await;
    let replay = format!("{}/replay", path(&endpoint));
    merchant.post(&replay, json!({"since": since})).await.expect(202);
    worker::drain_all(app.state()).await.unwrap();
    assert_eq!(receiver.received().len(), 100, "a batch a second");
    app.advance(TimeDelta::seconds(1)).await;
    assert_eq!(receiver.received().len(), 150);

    app.clock().advance(TimeDelta::seconds(1));
    merchant.post(&replay, json!({"since": since})).await.expect(202);
    merchant.put(&path(&endpoint), json!({"enabled": false})).await.expect(200);
    app.drain().await;
    let replays = items(&merchant, &format!("{}/replays", path(&endpoint))).await;
    assert_eq!(
        replays.iter().map(|replay| &replay["status"]).collect::<Vec<_>>(),
        ["cancelled", "completed"]
    );
    assert_eq!(receiver.received().len(), 150);
    app.finish().await;
}

#[tokio::test]
async fn a_replay_of_no_past_is_refused_by_field_and_rule() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    let before = app.row_counts().await;
    for (body, field) in [
        (json!({}), "since"),
        (json!({"since": null}), "since"),
        (json!({"since": "yesterday"}), "since"),
        (json!({"since": 1_795_000_000}), "since"),
        (json!({"since": "2026-11-23T09:30:01Z"}), "since"),
        (json!({"since": "9999-01-01T00:00:00Z"}), "since"),
        (json!({"since": "2026-11-23T09:00:00Z", "until": "2026-11-23T09:30:01Z"}), "until"),
        (json!({"since": "2026-11-23T09:00:00Z", "until": "2026-11-23T08:59:59Z"}), "until"),
        (json!({"since": "2026-11-23T09:00:00Z", "undelivered_only": "yes"}), "undelivered_only"),
    ] {
        let reply = merchant.post(&format!("{}/replay", path(&endpoint)), body.clone()).await;
        let error = reply.expect_error(400, "validation_error");
        assert!(error["details"].to_string().contains(field), "{body}: {error}");
    }
    assert_eq!(app.row_counts().await, before);
    app.finish().await;
}

#[tokio::test]
async fn old_events_are_removed_and_nothing_that_is_still_to_be_delivered() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (receiver, broken) = (Receiver::start().await, Receiver::start().await);
    let session = merchant.session().await;
    merchant.endpoint(&receiver).await;
    app.pay_and_settle(&session).await;
    let old = emit_completed(&app, &merchant).await;
    app.advance(TimeDelta::days(80)).await;
    let endpoint = merchant.endpoint(&broken).await;
    let replay = json!({"since": "2026-11-23T00:00:00Z"});
    broken.answer_next(500);
    let young = emit(&app, &merchant, EventType::PaymentLate).await;
    app.drain().await;
    assert_eq!(items(&merchant, "/v1/events").await.len(), 4);
    // Old, and about to be sent again: the last moment before it would be gone.
    merchant.post(&format!("{}/replay", path(&endpoint)), replay).await.expect(202);
    (0..100).for_each(|_| broken.answer_next(500));
    app.drain().await;
    app.clock().advance(TimeDelta::days(11));
    checkoutd::worker::drain(app.state(), &checkoutd::webhooks::Prune).await.unwrap();
    assert_eq!(items(&merchant, "/v1/events").await.len(), 4, "all of them wait for the broken endpoint");
    merchant.put(&path(&endpoint), json!({"enabled": false})).await.expect(200);
    app.drain().await;
    let left = items(&merchant, "/v1/events").await;
    assert_eq!(ids(&left), [young.id.to_string()]);
    merchant.get(&format!("/v1/events/{}", old.id)).await.expect_error(404, "not_found");
    let error = merchant.get(&format!("/v1/events?after={}", old.id)).await;
    error.expect_error(400, "validation_error");
    app.finish().await;
}
