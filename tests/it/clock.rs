//! Replicas whose machines disagree about the time agree about deadlines: they go by the database's clock.

use std::sync::Arc;

use axum::http::Method;
use checkoutd::{
    app::App,
    checkout::CheckSessions,
    db::clock::{DatabaseTime, measure_skew},
    doctor,
    kit::clock::{Clock, TimeSource},
    worker,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::support::{Merchant, MockClock, TestApp, send};

async fn database_now(app: &TestApp) -> DateTime<Utc> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(&app.state().pool).await.unwrap()
}

/// A replica on a machine whose clock is wrong by `skew` and stands still unless it is moved.
async fn replica(app: &TestApp, merchant: &Merchant, skew: TimeDelta) -> (App, Merchant, MockClock) {
    let machine = MockClock::new();
    machine.advance(database_now(app).await + skew - machine.now());
    let clock = Clock::from_source(Arc::new(DatabaseTime::new(Arc::new(machine.clone()))));
    assert_eq!(clock.now(), chrono::SubsecRound::trunc_subsecs(machine.now(), 6), "not asked yet");
    let (replica, merchant) = app.replica_by(merchant, clock).await;
    measure_skew(&replica.pool, &replica.clock).await.unwrap();
    (replica, merchant, machine)
}

fn apart(one: DateTime<Utc>, other: DateTime<Utc>) -> TimeDelta {
    (one - other).abs()
}

async fn status(app: &TestApp) -> String {
    sqlx::query_scalar("select checkout_status from checkout_sessions")
        .fetch_one(&app.state().pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn deadlines_are_the_same_on_machines_that_are_twenty_minutes_apart() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let slow = replica(&app, &merchant, TimeDelta::minutes(-10)).await;
    let fast = replica(&app, &merchant, TimeDelta::minutes(10)).await;
    let moment = TimeDelta::milliseconds(500);
    assert!(apart(slow.0.clock.now(), fast.0.clock.now()) < moment);
    assert!(apart(slow.0.clock.now(), database_now(&app).await) < moment);
    // Razorpay's clock is right.
    app.sandbox.set_clock_offset(database_now(&app).await - app.clock().now());
    let session = slow.1.session().await;
    let expires_at: DateTime<Utc> = session["expires_at"].as_str().unwrap().parse().unwrap();
    let quarter = database_now(&app).await + TimeDelta::minutes(15);
    assert!(apart(expires_at, quarter) < TimeDelta::seconds(5), "{expires_at} {quarter}");
    // The machine that is ahead, and one that leaps to the very deadline, do not end it early.
    fast.2.advance(TimeDelta::minutes(5));
    slow.2.advance(expires_at - slow.2.now());
    for app_of in [&fast.0, &slow.0] {
        worker::drain(app_of, &CheckSessions).await.unwrap();
    }
    assert_eq!(status(&app).await, "pending");
    // Nor does one whose clock is set back by an hour take its time back.
    let before = fast.0.clock.now();
    fast.2.advance(TimeDelta::hours(-1));
    assert!(fast.0.clock.now() >= before);
    measure_skew(&fast.0.pool, &fast.0.clock).await.unwrap();
    assert!(fast.0.clock.now() >= before);
    assert!(apart(fast.0.clock.now(), database_now(&app).await) < moment);
    let path = format!("/v1/checkout/sessions/{}/cancel", session["id"].as_str().unwrap());
    fast.1.post_empty(&path).await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn a_machine_whose_clock_is_wrong_says_that_it_is_not_ready() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (service, seen, machine) = replica(&app, &merchant, TimeDelta::zero()).await;
    let ready = async || send(seen.builder(Method::GET, "/readyz")).await;
    let clock = async || -> Value {
        let findings = serde_json::to_value(doctor::examine(&service).await).unwrap();
        findings.as_array().unwrap().iter().find(|finding| finding["name"] == "clock").unwrap().clone()
    };
    ready().await.expect(200);
    assert_eq!(clock().await["status"], "ok");
    for (wrong, side) in [(TimeDelta::minutes(10), "ahead"), (TimeDelta::hours(-1), "behind")] {
        machine.advance(database_now(&app).await + wrong - machine.now());
        let error = ready().await.expect_error(503, "service_unavailable");
        assert_eq!(error["details"]["reason"], "clock_skewed");
        let skew = error["details"]["skew_ms"].as_i64().unwrap();
        assert!((skew - wrong.num_milliseconds()).abs() < 2000, "{error}");
        let finding = clock().await;
        assert_eq!(finding["status"], "fail");
        assert!(finding["reason"].as_str().unwrap().ends_with(side), "{finding}");
    }
    // It goes on serving what reaches it, by the right time.
    machine.advance(database_now(&app).await + TimeDelta::milliseconds(1500) - machine.now());
    ready().await.expect(200);
    app.finish().await;
}
