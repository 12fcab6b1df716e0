//! What an endpoint is given and how it fares: its own headers, limits, order, statistics, and being disabled.

use checkoutd::{
    webhooks::{Deliver, EventType},
    worker::Job,
};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{
    Merchant, Receiver, TestApp,
    events::{emit, emit_completed, emit_event, event_about},
};

fn path(endpoint: &Value) -> String {
    format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap())
}

async fn endpoint_with(merchant: &Merchant, receiver: &Receiver, options: Value) -> Value {
    let mut body = json!({"url": receiver.url()});
    for (name, value) in options.as_object().unwrap() {
        body[name] = value.clone();
    }
    merchant.post("/v1/webhook_endpoints", body).await.expect(201)
}

#[tokio::test]
async fn a_merchants_own_headers_are_sent_and_never_shown() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    app.add_canary("canary-token-of-the-shop");
    let headers = json!({"Authorization": "Bearer canary-token-of-the-shop", "X-Shop": "7"});
    let endpoint = endpoint_with(&merchant, &receiver, json!({"headers": headers})).await;
    assert_eq!(endpoint["header_names"], json!(["Authorization", "X-Shop"]));
    assert_eq!(endpoint["headers"], Value::Null);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    let changed = merchant.put(&path(&endpoint), json!({"headers": {"X-Shop": "8"}})).await.expect(200);
    assert_eq!(changed["header_names"], json!(["X-Shop"]));
    emit_completed(&app, &merchant).await;
    app.drain().await;
    merchant.put(&path(&endpoint), json!({"headers": {}})).await.expect(200);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    let requests = receiver.received();
    assert_eq!(requests[0].header("authorization"), "Bearer canary-token-of-the-shop");
    assert_eq!((requests[0].header("x-shop"), requests[1].header("x-shop")), ("7", "8"));
    assert!(!requests[1].headers.contains_key("authorization"));
    assert!(!requests[2].headers.contains_key("x-shop"));
    assert!(requests.iter().all(|request| request.header("webhook-id").starts_with("evt_")));
    app.finish().await;
}

#[tokio::test]
async fn options_out_of_bounds_are_refused_by_field_and_rule() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    let before = app.row_counts().await;
    for (options, field) in [
        (json!({"headers": {"webhook-id": "x"}}), "headers.webhook-id"),
        (json!({"headers": {"Host": "internal"}}), "headers.Host"),
        (json!({"headers": {"X-A": "a\r\nwebhook-id: b"}}), "headers.X-A"),
        (json!({"headers": {"X-A\r\nB": "a"}}), "headers.X-A"),
        (json!({"headers": {"X-A": 1}}), "headers.X-A"),
        (json!({"headers": ["X-A"]}), "headers"),
        (json!({"max_concurrency": 0}), "max_concurrency"),
        (json!({"max_concurrency": 65}), "max_concurrency"),
        (json!({"max_concurrency": 9_223_372_036_854_775_807_i64}), "max_concurrency"),
        (json!({"max_concurrency": 1.5}), "max_concurrency"),
        (json!({"rate_limit_per_second": 0}), "rate_limit_per_second"),
        (json!({"rate_limit_per_second": -1}), "rate_limit_per_second"),
        (json!({"rate_limit_per_second": 1001}), "rate_limit_per_second"),
        (json!({"rate_limit_per_second": "10"}), "rate_limit_per_second"),
        (json!({"event_types": ["checkout.session.paid"]}), "event_types"),
    ] {
        let mut body = options.clone();
        body["url"] = json!(receiver.url());
        for reply in [
            merchant.post("/v1/webhook_endpoints", body).await,
            merchant.put(&path(&endpoint), options.clone()).await,
        ] {
            let error = reply.expect_error(400, "validation_error");
            assert!(error["details"].to_string().contains(field), "{options}: {error}");
        }
    }
    assert_eq!(app.row_counts().await, before);
    let limited = json!({"rate_limit_per_second": 10, "max_concurrency": 2});
    let changed = merchant.put(&path(&endpoint), limited).await.expect(200);
    assert_eq!((&changed["rate_limit_per_second"], &changed["max_concurrency"]), (&json!(10), &json!(2)));
    let kept = merchant.put(&path(&endpoint), json!({"description": "x"})).await.expect(200);
    assert_eq!(kept["rate_limit_per_second"], 10, "what is absent stays");
    let lifted = merchant.put(&path(&endpoint), json!({"rate_limit_per_second": null})).await.expect(200);
    assert_eq!(lifted["rate_limit_per_second"], Value::Null);
    app.finish().await;
}

#[tokio::test]
async fn a_rate_limit_is_kept_second_by_second() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (slow, other) = (Receiver::start().await, Receiver::start().await);
    endpoint_with(&merchant, &slow, json!({"rate_limit_per_second": 3, "max_concurrency": 64})).await;
    merchant.endpoint(&other).await;
    for _ in 0..10 {
        emit_completed(&app, &merchant).await;
    }
    app.drain().await;
    assert_eq!((slow.received().len(), other.received().len()), (3, 10));
    app.advance(TimeDelta::milliseconds(300)).await;
    assert_eq!(slow.received().len(), 3, "a third of a second has not passed");
    app.advance(TimeDelta::milliseconds(40)).await;
    assert_eq!(slow.received().len(), 4);
    app.advance(TimeDelta::seconds(1)).await;
    assert_eq!(slow.received().len(), 7);
    app.advance(TimeDelta::seconds(60)).await;
    assert_eq!(slow.received().len(), 10, "a pause saves up one second's worth, no more");
    app.finish().await;
}

#[tokio::test]
async fn an_endpoints_own_cap_is_kept_and_one_that_fails_is_tried_one_at_a_time() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = endpoint_with(&merchant, &receiver, json!({"max_concurrency": 5})).await;
    for _ in 0..30 {
        emit_completed(&app, &merchant).await;
    }
    let claim = async || Deliver.claim(app.state(), 64).await.unwrap();
    let first = claim().await;
    assert_eq!(first.len(), 5);
    assert!(claim().await.is_empty());
    for _ in 0..10 {
        receiver.answer_next(500);
    }
    for lease in first {
        Deliver.step(app.state(), lease).await.unwrap();
    }
    for lease in claim().await {
        Deliver.step(app.state(), lease).await.unwrap();
    }
    let statistics = &merchant.get(&path(&endpoint)).await.expect(200)["statistics"];
    assert_eq!(statistics["consecutive_failures"], 10);
    let [probe] = <[_; 1]>::try_from(claim().await).ok().expect("one at a time");
    Deliver.step(app.state(), probe).await.unwrap();
    assert_eq!(claim().await.len(), 5, "it is well again");
    app.clock().advance(TimeDelta::minutes(1));
    app.advance(TimeDelta::minutes(10)).await;
    assert_eq!(receiver.received().len(), 40);
    app.finish().await;
}

#[tokio::test]
async fn an_event_waits_for_the_first_attempt_at_an_earlier_one_of_its_subject() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let (one, two) = (app.state().ids.uuid(), app.state().ids.uuid());
    let types = [EventType::CheckoutSessionInitiated, EventType::CheckoutSessionCompleted];
    // The later one is even due first.
    for (sequence, event_type) in [(2, types[1]), (1, types[0])] {
        let event = event_about(&app, event_type, one, sequence);
        emit_event(&app, &merchant, event).await;
    }
    emit_event(&app, &merchant, event_about(&app, types[1], two, 2)).await;
    let claim = async || Deliver.claim(app.state(), 64).await.unwrap();
    let first = claim().await;
    assert_eq!(first.len(), 2, "the first one's first, and what is about something else");
    assert!(claim().await.is_empty(), "an attempt that is under way is waited for");
    receiver.answer_next(500);
    receiver.answer_next(500);
    for lease in first {
        Deliver.step(app.state(), lease).await.unwrap();
    }
    let [second] = <[_; 1]>::try_from(claim().await).ok().expect("tried once is enough");
    Deliver.step(app.state(), second).await.unwrap();
    let sequences: Vec<_> =
        receiver.received().iter().map(|request| request.json()["sequence"].as_i64().unwrap()).collect();
    assert_eq!(sequences.last(), Some(&2));
    app.advance(TimeDelta::minutes(1)).await;

    // Nothing waits longer than thirty seconds.
    let three = app.state().ids.uuid();
    emit_event(&app, &merchant, event_about(&app, types[0], three, 1)).await;
    let stuck = claim().await;
    emit_event(&app, &merchant, event_about(&app, types[1], three, 2)).await;
    app.clock().advance(TimeDelta::seconds(19));
    assert!(claim().await.is_empty());
    app.clock().advance(TimeDelta::milliseconds(11_001));
    assert_eq!(claim().await.len(), 2, "the second, and the first, whose lease ran out");
    drop(stuck);
    app.clock().advance(TimeDelta::seconds(30));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn statistics_tell_what_was_delivered_and_what_fails() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    emit_completed(&app, &merchant).await;
    app.drain().await;
    app.clock().advance(TimeDelta::minutes(1));
    receiver.answer_next(503);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    let expected = json!({
        "delivered_count": 1,
        "failed_attempt_count": 1,
        "consecutive_failures": 1,
        "failing_since": "2026-11-23T09:31:00Z",
        "last_delivered_at": "2026-11-23T09:30:00Z",
        "last_failed_at": "2026-11-23T09:31:00Z",
        "last_error": "HTTP status 503",
    });
    assert_eq!(merchant.get(&path(&endpoint)).await.expect(200)["statistics"], expected);
    let listed = merchant.get("/v1/webhook_endpoints").await.expect(200);
    assert_eq!(listed["items"][0]["statistics"], expected);
    app.advance(TimeDelta::seconds(10)).await;
    let well = &merchant.get(&path(&endpoint)).await.expect(200)["statistics"];
    assert_eq!((&well["delivered_count"], &well["consecutive_failures"]), (&json!(2), &json!(0)));
    assert_eq!((&well["failing_since"], &well["last_error"]), (&Value::Null, &json!("HTTP status 503")));
    app.finish().await;
}

#[tokio::test]
async fn five_days_of_nothing_but_failure_disable_an_endpoint_and_tell_the_others() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (broken, well) = (Receiver::start().await, Receiver::start().await);
    let endpoint = merchant.endpoint(&broken).await;
    merchant.endpoint(&well).await;
    let fail = |times: usize| (0..times).for_each(|_| broken.answer_next(500));
    let is_enabled = async || merchant.get(&path(&endpoint)).await.expect(200)["enabled"].clone();
    // A success in between: the five days begin anew.
    fail(1);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    app.advance(TimeDelta::seconds(10)).await;
    assert_eq!(broken.received().len(), 2);

    fail(100);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    for _ in 0..9 {
        app.advance(TimeDelta::hours(11)).await;
        emit_completed(&app, &merchant).await;
        app.drain().await;
    }
    assert_eq!(is_enabled().await, true, "four days");
    app.clock().advance(TimeDelta::hours(22));
    emit_completed(&app, &merchant).await;
    app.drain().await;
    let disabled = merchant.get(&path(&endpoint)).await.expect(200);
    assert_eq!((&disabled["enabled"], &disabled["disabled_reason"]), (&json!(false), &json!("failing")));
    let told = well.received().into_iter().map(|request| request.json());
    let told: Vec<_> = told.filter(|event| event["event_type"] == "webhook.endpoint.disabled").collect();
    let [told] = &told[..] else { panic!("told once: {told:?}") };
    assert_eq!((&told["data"]["id"], &told["data"]["disabled_reason"]), (&endpoint["id"], &json!("failing")));
    assert_eq!(told["data"], told["webhook_endpoint"]);
    assert_eq!(told["data"]["statistics"]["last_error"], "HTTP status 500");
    assert_eq!((&told["sequence"], &told["data"]["secret"]), (&json!(1), &Value::Null));
    assert!(!told.to_string().contains(broken.url()), "a URL may hold a token");
    let waiting = merchant.get(&format!("{}/deliveries?status=pending", path(&endpoint))).await.expect(200);
    assert_eq!(waiting["items"], json!([]), "what waited is cancelled");
    let sent = broken.received().len();
    emit_completed(&app, &merchant).await;
    app.advance(TimeDelta::days(1)).await;
    assert_eq!(broken.received().len(), sent);

    // Enabled again, one failure does not end it at once.
    let again = merchant.put(&path(&endpoint), json!({"enabled": true})).await.expect(200);
    assert_eq!(
        (&again["disabled_reason"], &again["statistics"]["consecutive_failures"]),
        (&Value::Null, &json!(0))
    );
    emit_completed(&app, &merchant).await;
    app.drain().await;
    assert_eq!(broken.received().len(), sent + 1);
    assert_eq!(is_enabled().await, true);
    app.finish().await;
}

#[tokio::test]
async fn one_failure_long_ago_and_one_today_disable_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    for _ in 0..2 {
        receiver.answer_next(500);
    }
    emit_completed(&app, &merchant).await;
    app.drain().await;
    app.clock().advance(TimeDelta::days(6));
    app.drain().await;
    assert_eq!(receiver.received().len(), 2);
    assert_eq!(merchant.get(&path(&endpoint)).await.expect(200)["enabled"], true);
    app.finish().await;
}

#[tokio::test]
async fn gone_is_told_to_the_other_endpoints() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (gone, well) = (Receiver::start().await, Receiver::start().await);
    let endpoint = merchant.endpoint(&gone).await;
    endpoint_with(&merchant, &well, json!({"event_types": ["webhook.endpoint.disabled"]})).await;
    gone.answer_next(410);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    let [told] = &well.received()[..] else { panic!("told once") };
    assert_eq!(told.json()["data"]["id"], endpoint["id"]);
    assert_eq!(told.json()["data"]["disabled_reason"], "gone");
    let query = format!("/v1/events?webhook_endpoint_id={}", endpoint["id"].as_str().unwrap());
    assert_eq!(merchant.get(&query).await.expect(200)["items"], json!([told.json()]));
    let by_hand = merchant.put(&path(&endpoint), json!({"enabled": false})).await.expect(200);
    assert_eq!(by_hand["disabled_reason"], "gone", "it was disabled already");
    merchant.put(&path(&endpoint), json!({"enabled": true})).await.expect(200);
    let by_hand = merchant.put(&path(&endpoint), json!({"enabled": false})).await.expect(200);
    assert_eq!(by_hand["disabled_reason"], "requested");
    app.drain().await;
    assert_eq!(well.received().len(), 1, "what the merchant does himself is no news");
    app.finish().await;
}

#[tokio::test]
async fn a_test_event_reaches_its_endpoint_alone() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (tried, other) = (Receiver::start().await, Receiver::start().await);
    let only = json!({"event_types": ["checkout.session.completed"]});
    let endpoint = endpoint_with(&merchant, &tried, only).await;
    merchant.endpoint(&other).await;
    let delivery = merchant.post_empty(&format!("{}/test", path(&endpoint))).await.expect(202);
    assert_eq!(delivery["event_type"], "webhook.endpoint.test");
    app.drain().await;
    let [request] = &tried.received()[..] else { panic!("one request") };
    assert_eq!(request.header("webhook-id"), delivery["event_id"].as_str().unwrap());
    assert_eq!(request.json()["data"]["id"], endpoint["id"]);
    assert!(other.received().is_empty());
    let sent =
        merchant.get(&format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(sent["status"], "delivered");
    emit(&app, &merchant, EventType::PaymentLate).await;
    app.drain().await;
    merchant.put(&path(&endpoint), json!({"enabled": false})).await.expect(200);
    let refused = merchant.post_empty(&format!("{}/test", path(&endpoint))).await;
    assert_eq!(refused.expect_error(400, "invalid_operation")["details"]["reason"], "endpoint_disabled");
    app.finish().await;
}

/// More than one statement may cancel within its time limit.
#[tokio::test]
async fn a_long_backlog_is_cancelled_with_its_endpoint() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    emit_completed(&app, &merchant).await;
    let copies = "with e as (
            insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
            select environment_id, md5(id::text || n)::uuid, event_type, md5(subject_id::text || n)::uuid, 1, body, created_at
            from events, generate_series(1, 12000) n
            returning *
        )
        insert into deliveries (environment_id, id, event_id, subject_id, sequence, endpoint_id, delivery_status, attempt_count,
            next_attempt_at, created_at, updated_at)
        select e.environment_id, e.id, e.id, e.subject_id, 1, d.endpoint_id, 'pending', 0, e.created_at, e.created_at, e.created_at
        from e, deliveries d";
    let mut tx = app.state().pool.begin().await.unwrap();
    sqlx::raw_sql("set local statement_timeout = 0").execute(&mut *tx).await.unwrap();
    sqlx::query(copies).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    merchant.put(&path(&endpoint), json!({"enabled": false})).await.expect(200);
    let waiting = merchant.get(&format!("{}/deliveries?status=pending", path(&endpoint))).await.expect(200);
    assert_eq!(waiting["items"], json!([]));
    app.drain().await;
    assert!(receiver.received().is_empty());
    app.finish().await;
}
