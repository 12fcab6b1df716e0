//! Events on their way to endpoints: signed, in turn, and under leases. What follows each answer is in `answers.rs`.

use std::time::Duration;

use checkoutd::{
    webhooks::{Deliver, EventType, Lease},
    worker::Job,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::Row;
use tokio::time::Instant;

use crate::support::{
    Merchant, Received, Receiver, TestApp,
    events::{emit, emit_completed},
    verifies,
};

fn path(endpoint: &Value) -> String {
    format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap())
}

/// Deliveries to the endpoint, newest first.
async fn deliveries(merchant: &Merchant, endpoint: &Value) -> Vec<Value> {
    let page = merchant.get(&format!("{}/deliveries", path(endpoint))).await.expect(200);
    assert_eq!(page["pagination"], json!({"limit": 50, "has_more": false}));
    page["items"].as_array().unwrap().clone()
}

async fn statuses(merchant: &Merchant, endpoint: &Value) -> Vec<String> {
    let all = deliveries(merchant, endpoint).await;
    all.iter().map(|delivery| delivery["status"].as_str().unwrap().to_owned()).collect()
}

fn signature_count(request: &Received) -> usize {
    request.header("webhook-signature").split(' ').count()
}

#[tokio::test]
async fn an_event_reaches_every_endpoint_signed_and_unchanged() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (first, second) = (Receiver::start().await, Receiver::start().await);
    let endpoints = [merchant.endpoint(&first).await, merchant.endpoint(&second).await];
    let event = emit_completed(&app, &merchant).await;
    app.drain().await;
    for (receiver, (endpoint, other)) in
        [&first, &second].into_iter().zip([(&endpoints[0], &endpoints[1]), (&endpoints[1], &endpoints[0])])
    {
        let [request] = &receiver.received()[..] else { panic!("one request") };
        assert_eq!(request.body, event.body);
        assert_eq!(request.header("webhook-id"), event.id.to_string());
        assert_eq!(request.header("webhook-timestamp"), app.state().clock.now().timestamp().to_string());
        assert_eq!(request.header("content-type"), "application/json");
        assert!(verifies(request, &endpoint["secret"]) && !verifies(request, &other["secret"]));
        let [delivery] = &deliveries(&merchant, endpoint).await[..] else { panic!("one delivery") };
        let expected = json!({
            "id": delivery["id"],
            "webhook_endpoint_id": endpoint["id"],
            "event_id": event.id.to_string(),
            "event_type": "checkout.session.completed",
            "status": "delivered",
            "attempt_count": 1,
            "last_response_code": 200,
            "last_error": null,
            "next_attempt_at": null,
            "delivered_at": "2026-11-23T09:30:00Z",
            "created_at": "2026-11-23T09:30:00Z",
            "updated_at": "2026-11-23T09:30:00Z",
        });
        assert_eq!(delivery, &expected);
    }
    app.advance(TimeDelta::days(5)).await;
    assert_eq!(first.received().len() + second.received().len(), 2, "delivered is delivered");
    app.finish().await;
}

#[tokio::test]
async fn an_endpoint_gets_the_types_it_asked_for_and_nobody_elses_events() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let stranger = app.merchant().await;
    let (receiver, strangers) = (Receiver::start().await, Receiver::start().await);
    let body = json!({"url": receiver.url(), "event_types": ["checkout.session.completed", "payment.late"]});
    let endpoint = merchant.post("/v1/webhook_endpoints", body).await.expect(201);
    stranger.endpoint(&strangers).await;
    for event_type in EventType::ALL {
        emit(&app, &merchant, event_type).await;
    }
    app.drain().await;
    let mut types = receiver.event_types();
    types.sort_unstable();
    assert_eq!(types, ["checkout.session.completed", "payment.late"]);
    assert_eq!(deliveries(&merchant, &endpoint).await.len(), 2);
    assert!(strangers.received().is_empty());
    app.finish().await;
}

#[tokio::test]
async fn an_unreachable_endpoint_is_an_attempt_with_its_reason() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/");
    let endpoint = merchant.post("/v1/webhook_endpoints", json!({"url": url})).await.expect(201);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    let [delivery] = &deliveries(&merchant, &endpoint).await[..] else { panic!("one delivery") };
    assert_eq!((&delivery["status"], &delivery["last_response_code"]), (&json!("pending"), &Value::Null));
    let reason = delivery["last_error"].as_str().unwrap();
    assert!(reason.starts_with("could not connect") && reason.contains("refused"), "{reason}");
    // Reachable again, under another URL: what waits goes there.
    let receiver = Receiver::start().await;
    merchant.put(&path(&endpoint), json!({"url": receiver.url()})).await.expect(200);
    app.advance(TimeDelta::seconds(6)).await;
    assert_eq!(receiver.received().len(), 1);
    let [delivery] = &deliveries(&merchant, &endpoint).await[..] else { panic!("one delivery") };
    assert_eq!((&delivery["status"], &delivery["last_error"]), (&json!("delivered"), &Value::Null));
    app.finish().await;
}

#[tokio::test]
async fn a_rotated_secret_signs_along_for_a_day() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let old = merchant.endpoint(&receiver).await;
    let rotate = format!("{}/secret/rotate", path(&old));
    let new = merchant.post_empty(&rotate).await.expect(200);
    for endpoint in [&old, &new] {
        app.add_canary(endpoint["secret"].as_str().unwrap());
    }
    emit_completed(&app, &merchant).await;
    app.advance(TimeDelta::hours(24) - TimeDelta::milliseconds(1)).await;
    emit_completed(&app, &merchant).await;
    app.drain().await;
    app.advance(TimeDelta::milliseconds(1)).await;
    emit_completed(&app, &merchant).await;
    app.drain().await;
    let requests = receiver.received();
    assert_eq!(requests.iter().map(signature_count).collect::<Vec<_>>(), [2, 2, 1]);
    assert!(requests.iter().all(|request| verifies(request, &new["secret"])));
    let old_verifies: Vec<bool> = requests.iter().map(|request| verifies(request, &old["secret"])).collect();
    assert_eq!(old_verifies, [true, true, false]);
    app.finish().await;
}

#[tokio::test]
async fn a_disabled_or_deleted_endpoint_gets_nothing_more() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (disabled, deleted) = (Receiver::start().await, Receiver::start().await);
    let endpoints = [merchant.endpoint(&disabled).await, merchant.endpoint(&deleted).await];
    disabled.answer_next(500);
    deleted.answer_next(500);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    merchant.put(&path(&endpoints[0]), json!({"enabled": false})).await.expect(200);
    merchant.delete(&path(&endpoints[1])).await.expect(204);
    assert_eq!(statuses(&merchant, &endpoints[0]).await, ["cancelled"]);
    emit_completed(&app, &merchant).await;
    app.advance(TimeDelta::days(1)).await;
    assert_eq!((disabled.received().len(), deleted.received().len()), (1, 1));
    let left = "select count(*) from deliveries where delivery_status <> 'cancelled'";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&app.state().pool).await.unwrap();
    assert_eq!(left, 0, "one delivery each was made, and cancelled");
    // Enabled again, it gets what happens from now on.
    merchant.put(&path(&endpoints[0]), json!({"enabled": true})).await.expect(200);
    let event = emit_completed(&app, &merchant).await;
    app.drain().await;
    let requests = disabled.received();
    assert_eq!((requests.len(), requests[1].header("webhook-id")), (2, &*event.id.to_string()));
    app.finish().await;
}

#[tokio::test]
async fn an_event_that_raced_with_the_disabling_is_cancelled_unsent() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    emit_completed(&app, &merchant).await;
    // What is left when the event's transaction committed just after the disabling one.
    sqlx::query("update webhook_endpoints set enabled = false").execute(&app.state().pool).await.unwrap();
    app.drain().await;
    assert_eq!(statuses(&merchant, &endpoint).await, ["cancelled"]);
    assert!(receiver.received().is_empty());
    app.finish().await;
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    let event = emit_completed(&app, &merchant).await;
    let stale = Deliver.claim(app.state(), 64).await.unwrap().pop().unwrap();
    assert!(Deliver.claim(app.state(), 64).await.unwrap().is_empty(), "leased is not due");
    app.clock().advance(TimeDelta::seconds(30));
    let fresh = Deliver.claim(app.state(), 64).await.unwrap().pop().unwrap();
    receiver.answer_next(410);
    Deliver.step(app.state(), stale).await.unwrap();
    let [delivery] = &deliveries(&merchant, &endpoint).await[..] else { panic!("one delivery") };
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("pending"), &json!(0)));
    assert_eq!(merchant.get(&path(&endpoint)).await.expect(200)["enabled"], true);
    Deliver.step(app.state(), fresh).await.unwrap();
    let [delivery] = &deliveries(&merchant, &endpoint).await[..] else { panic!("one delivery") };
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("delivered"), &json!(1)));
    let ids: Vec<String> =
        receiver.received().iter().map(|request| request.header("webhook-id").to_owned()).collect();
    assert_eq!(ids, vec![event.id.to_string(); 2], "at least once, under one id");
    app.finish().await;
}

/// An endpoint that 20 events wait for, and one that was made after them.
async fn busy_and_calm(app: &TestApp) -> (Merchant, Receiver, Receiver) {
    let merchant = app.merchant().await;
    let (busy, calm) = (Receiver::start().await, Receiver::start().await);
    merchant.endpoint(&busy).await;
    for _ in 0..20 {
        emit_completed(app, &merchant).await;
    }
    merchant.endpoint(&calm).await;
    (merchant, busy, calm)
}

async fn step_all(app: &TestApp, leases: Vec<Lease>) {
    join_all(leases.into_iter().map(|lease| async { Deliver.step(app.state(), lease).await.unwrap() })).await;
}

#[tokio::test]
async fn one_endpoint_has_at_most_eight_deliveries_under_way() {
    let app = TestApp::start().await;
    let (merchant, busy, calm) = busy_and_calm(&app).await;
    app.clock().advance(TimeDelta::milliseconds(1));
    emit_completed(&app, &merchant).await;
    let first = Deliver.claim(app.state(), 64).await.unwrap();
    assert_eq!(first.len(), 9, "eight for one endpoint, one for the other, though it came last");
    assert!(Deliver.claim(app.state(), 64).await.unwrap().is_empty());
    let mut first = first.into_iter();
    for lease in first.by_ref().take(2) {
        Deliver.step(app.state(), lease).await.unwrap();
    }
    // Those that were there share the eight places.
    for _ in 0..4 {
        emit_completed(&app, &merchant).await;
    }
    assert_eq!(Deliver.claim(app.state(), 64).await.unwrap().len(), 2 + 4, "as many as came free");
    app.clock().advance(TimeDelta::seconds(31));
    assert_eq!(Deliver.claim(app.state(), 3).await.unwrap().len(), 3, "never more than asked for");
    app.clock().advance(TimeDelta::seconds(31));
    app.drain().await;
    assert_eq!((busy.received().len(), calm.received().len()), (25, 5));
    app.finish().await;
}

/// Deliveries that share a place are sent one after another, as long as they go well.
#[tokio::test]
async fn a_failure_gives_back_what_would_have_come_after_it() {
    let app = TestApp::start().await;
    let (_, busy, _) = busy_and_calm(&app).await;
    let leases = Deliver.claim(app.state(), 64).await.unwrap();
    assert_eq!(leases.len(), 8);
    let leased = "select count(*) from deliveries where lease_token is not null";
    let leased = async || sqlx::query_scalar::<_, i64>(leased).fetch_one(&app.state().pool).await.unwrap();
    assert_eq!(leased().await, 20);
    busy.answer_next(500);
    let mut leases = leases.into_iter();
    for (received, left) in [(1, 17), (4, 14), (7, 11)] {
        Deliver.step(app.state(), leases.next().unwrap()).await.unwrap();
        assert_eq!((busy.received().len(), leased().await), (received, left));
    }
    step_all(&app, leases.collect()).await;
    app.advance(TimeDelta::minutes(1)).await;
    assert_eq!(busy.received().len(), 21, "one of them twice");
    app.finish().await;
}

/// Whoever has least under way comes first, and then one delivery each.
#[tokio::test]
async fn a_backlog_has_its_turn_like_a_single_event() {
    let app = TestApp::start().await;
    let (merchant, busy, calm) = busy_and_calm(&app).await;
    app.clock().advance(TimeDelta::milliseconds(1));
    for _ in 0..2 {
        emit_completed(&app, &merchant).await;
    }
    let mut leases = Vec::new();
    for free in [1, 1, 2] {
        leases.extend(Deliver.claim(app.state(), free).await.unwrap());
    }
    step_all(&app, leases).await;
    assert_eq!((busy.received().len(), calm.received().len()), (2, 2));
    app.drain().await;
    assert_eq!((busy.received().len(), calm.received().len()), (22, 2));
    app.finish().await;
}

#[tokio::test]
async fn what_is_behind_lets_what_is_new_go_first() {
    let app = TestApp::start().await;
    let (merchant, busy, calm) = busy_and_calm(&app).await;
    app.clock().advance(TimeDelta::seconds(3));
    emit_completed(&app, &merchant).await;
    let state = app.state();
    // As if new ones had just been claimed; this turn does not pass while the test runs.
    let now = Instant::now();
    state.catch_up.claimed(now + Duration::from_secs(3600), true, true, false);
    let leases = Deliver.claim_next(state, 64).await.unwrap();
    step_all(&app, leases).await;
    assert_eq!((busy.received().len(), calm.received().len()), (0, 1));
    state.catch_up.claimed(now - Duration::from_secs(1), true, true, false);
    let leases = Deliver.claim_next(state, 64).await.unwrap();
    assert_eq!(leases.len(), 8, "it has passed");
    step_all(&app, leases).await;
    app.drain().await;
    assert_eq!((busy.received().len(), calm.received().len()), (21, 1));
    app.finish().await;
}

/// Tables that Postgres has no statistics of yet: a new or restored database whose first minute is busy.
#[tokio::test]
async fn a_burst_for_many_endpoints_is_claimed_though_nothing_was_analyzed() {
    const ENDPOINTS: usize = 50;
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    for _ in 0..ENDPOINTS {
        merchant.endpoint(&receiver).await;
    }
    for _ in 0..40 {
        emit_completed(&app, &merchant).await;
    }
    // Every row joined with every other takes longer than a statement may.
    let claimed = Deliver.claim(app.state(), 256).await.unwrap();
    assert_eq!(claimed.len(), 256);
    let per_endpoint = "select count(*) from deliveries where lease_token is not null group by endpoint_id";
    let taken: Vec<i64> = sqlx::query_scalar(per_endpoint).fetch_all(&app.state().pool).await.unwrap();
    assert!(taken.len() == ENDPOINTS && taken.iter().all(|count| (5..=6).contains(count)), "{taken:?}");
    app.finish().await;
}

#[tokio::test]
async fn many_workers_deliver_everything_once_and_keep_the_cap() {
    const EVENTS: usize = 40;
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receivers = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    for receiver in &receivers {
        merchant.endpoint(receiver).await;
    }
    for _ in 0..EVENTS {
        emit_completed(&app, &merchant).await;
    }
    let state = app.state();
    let worker = || async {
        // Far more rounds than it takes: work that is stranded shows as rounds that find none.
        for _ in 0..2_000 {
            let leases = Deliver.claim(state, 5).await.unwrap();
            let counts = "select count(*) from deliveries where lease_token is not null group by endpoint_id";
            let counts: Vec<i64> = sqlx::query_scalar(counts).fetch_all(&state.pool).await.unwrap();
            assert!(counts.iter().all(|&count| count <= 8), "{counts:?}");
            step_all(&app, leases).await;
            let left = "select exists (select 1 from deliveries where delivery_status = 'pending')";
            if !sqlx::query_scalar::<_, bool>(left).fetch_one(&state.pool).await.unwrap() {
                return;
            }
        }
        panic!("deliveries are stranded");
    };
    join_all((0..6).map(|_| worker())).await;
    for receiver in &receivers {
        let ids: std::collections::BTreeSet<String> =
            receiver.received().iter().map(|request| request.header("webhook-id").to_owned()).collect();
        assert_eq!((ids.len(), receiver.received().len()), (EVENTS, EVENTS));
    }
    app.finish().await;
}

#[tokio::test]
async fn each_attempt_is_on_record_with_the_start_of_its_answer() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    receiver.answer_next_with(500, &[], &format!("a\u{0}b{}", "x".repeat(1_000_000)));
    receiver.answer_next_with(200, &[], "thanks");
    emit_completed(&app, &merchant).await;
    app.drain().await;
    app.advance(TimeDelta::seconds(6)).await;
    let query =
        "select attempt_number, response_code, response_body, error, attempted_at from delivery_attempts
        order by attempt_number";
    let rows = sqlx::query(query).fetch_all(&app.state().pool).await.unwrap();
    let attempts: Vec<(i32, i32, String)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let cut = format!("ab{}", "x".repeat(1022));
    assert_eq!(attempts, [(1, 500, cut), (2, 200, "thanks".to_owned())]);
    assert!(rows.iter().all(|row| row.get::<Option<String>, _>(3).is_none()));
    let attempted: Vec<DateTime<Utc>> = rows.iter().map(|row| row.get(4)).collect();
    assert_eq!(attempted[1] - attempted[0], TimeDelta::seconds(6));
    app.finish().await;
}

#[tokio::test]
async fn a_secret_that_does_not_open_sends_nothing_unsigned() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    emit_completed(&app, &merchant).await;
    // A ciphertext that was moved here from elsewhere.
    sqlx::query("update webhook_endpoints set secret_sealed = decode('00112233', 'hex')")
        .execute(&app.state().pool)
        .await
        .unwrap();
    app.drain().await;
    assert!(receiver.received().is_empty());
    // A failed attempt like any other: the merchant sees it, and the schedule ends it.
    let row = sqlx::query("select attempt_count, last_error, delivery_status from deliveries")
        .fetch_one(&app.state().pool)
        .await;
    let row = row.unwrap();
    assert_eq!((row.get::<i32, _>(0), row.get::<&str, _>(2)), (1, "pending"));
    assert_eq!(row.get::<&str, _>(1), "the event could not be signed");
    app.finish().await;
}

#[tokio::test]
async fn events_are_listed_as_they_were_sent() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let session = merchant.session().await;
    let id = session["id"].as_str().unwrap();
    app.pay_and_settle(&session).await;
    emit(&app, &merchant, EventType::PaymentLate).await;
    app.drain().await;

    let list = async |query: &str| merchant.get(&format!("/v1/events?{query}")).await.expect(200);
    let types = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|event| event["event_type"].as_str().unwrap().to_owned()).collect()
    };
    let of_session = list(&format!("checkout_session_id={id}")).await;
    assert_eq!(types(&of_session), ["checkout.session.completed", "checkout.session.initiated"]);
    assert_eq!(of_session["pagination"], json!({"limit": 50, "has_more": false}));
    assert_eq!(types(&list("event_type=payment.late").await), ["payment.late"]);
    let page = list(&format!("checkout_session_id={id}&limit=1")).await;
    assert_eq!(types(&page), ["checkout.session.completed"]);
    assert_eq!(page["pagination"], json!({"limit": 1, "has_more": true}));
    assert_eq!(types(&list("").await).len(), 3);

    for request in receiver.received() {
        let path = format!("/v1/events/{}", request.header("webhook-id"));
        assert_eq!(merchant.get(&path).await.text.as_bytes(), request.body, "byte for byte");
        let (stranger, _) = app.merchant_pair().await;
        stranger.get(&path).await.expect_error(404, "not_found");
        assert_eq!(stranger.get("/v1/events").await.expect(200)["items"], json!([]));
    }
    for query in ["event_type=checkout.paid", "checkout_session_id=evt_1", "limit=0", "limit=x"] {
        merchant.get(&format!("/v1/events?{query}")).await.expect_error(400, "validation_error");
    }
    merchant.get("/v1/events/evt_1").await.expect_error(404, "not_found");
    app.finish().await;
}
