//! What requests cost in Postgres: round trips, and transactions that write. Both are the same on every machine.

use std::{collections::HashSet, future::Future};

use checkoutd::{
    checkout::CheckSessions,
    webhooks::Deliver,
    worker::{self, Job, Work},
};
use chrono::TimeDelta;
use futures::{FutureExt, future::join_all};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::{Merchant, Receiver, Settings, TestApp, db::tables, events::emit_completed};

/// One connection, so that each statement is prepared once.
async fn start() -> (TestApp, Merchant) {
    let app = TestApp::start_with(Settings { proxied_pool: Some(1), ..Settings::default() }).await;
    let merchant = app.merchant().await;
    (app, merchant)
}

#[derive(Debug, PartialEq, Eq)]
struct Cost {
    round_trips: u64,
    commits: usize,
}

/// What `work` costs, and what it came to.
async fn cost<T>(app: &TestApp, work: impl Future<Output = T>) -> (Cost, T) {
    let (before, so_far) = (writers(app).await, app.proxy().round_trips());
    let done = work.await;
    let round_trips = app.proxy().round_trips() - so_far;
    let commits = writers(app).await.difference(&before).count();
    (Cost { round_trips, commits }, done)
}

/// The transactions that wrote the rows that there are.
async fn writers(app: &TestApp) -> HashSet<String> {
    let mut direct = sqlx::PgConnection::connect(&app.database_url).await.unwrap();
    let tables = tables(&mut direct).await;
    let sql = tables.iter().map(|table| format!("select xmin::text from {table}"));
    let sql = sql.collect::<Vec<_>>().join(" union ");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut direct).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn a_create_is_three_round_trips_and_two_commits() {
    let (app, merchant) = start().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    for _ in 0..2 {
        merchant.session().await;
    }
    let plan = merchant.plan().await;
    let request = Merchant::session_request(&plan);
    merchant.post("/v1/checkout/sessions", request.clone()).await.expect(201);
    let (cost, reply) = cost(&app, merchant.post("/v1/checkout/sessions", request)).await;
    assert_eq!(reply.expect(201)["checkout_status"], "pending");
    assert_eq!(cost, Cost { round_trips: 3, commits: 2 });
    app.finish().await;
}

#[tokio::test]
async fn a_completion_by_webhook_is_two_round_trips_and_one_commit() {
    let (app, merchant) = start().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let pay = async |session: &Value| {
        let event = app.pay_for_event(session);
        merchant.post_event(event.body, event.signature.as_deref()).await.expect(200)
    };
    let (first, second, third) =
        (merchant.session().await, merchant.session().await, merchant.session().await);
    pay(&first).await;
    let (next, _) = cost(&app, pay(&second)).await;
    assert_eq!(next, Cost { round_trips: 2, commits: 1 });
    // Two seconds later the accounts are read again.
    app.clock().advance(TimeDelta::seconds(2));
    let (later, _) = cost(&app, pay(&third)).await;
    assert_eq!(later, Cost { round_trips: 3, commits: 1 });
    for session in [&second, &third] {
        assert_eq!(merchant.read_session(session).await["checkout_status"], "completed");
    }
    app.sandbox.flush_webhooks().await;
    app.finish().await;
}

#[tokio::test]
async fn a_poll_is_one_round_trip_and_no_commit() {
    let (app, merchant) = start().await;
    let session = merchant.session().await;
    // The first asks Razorpay too, on behalf of all readers of the next two seconds.
    merchant.read_session(&session).await;
    let (cost, read) = cost(&app, merchant.read_session(&session)).await;
    assert_eq!(read["checkout_status"], "pending");
    assert_eq!(cost, Cost { round_trips: 1, commits: 0 });
    app.finish().await;
}

/// The claim, the session, the wish to end it, the account, the end, and the lease that ended with it.
#[tokio::test]
async fn a_deadline_is_six_round_trips() {
    let (app, merchant) = start().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let (first, second) = (merchant.session().await, merchant.session().await);
    app.clock().advance(TimeDelta::minutes(15));
    let expire = async || {
        let lease = CheckSessions.claim(app.state(), 1).await.unwrap().pop().unwrap();
        Box::pin(CheckSessions.step(app.state(), lease)).await.unwrap();
    };
    expire().await;
    let (cost, ()) = cost(&app, expire()).await;
    for session in [first, second] {
        assert_eq!(merchant.read_session(&session).await["checkout_status"], "expired");
    }
    assert_eq!(cost.round_trips, 6);
    app.finish().await;
}

#[tokio::test]
async fn nobody_looks_for_deliveries_of_an_event_that_no_endpoint_wants() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let looks = || app.state().wake.notified(Work::Deliveries).now_or_never().is_some();
    let (paid, expired) = (merchant.session().await, merchant.session().await);
    app.pay(&paid);
    app.sandbox.flush_webhooks().await;
    app.clock().advance(TimeDelta::minutes(15));
    app.drain().await;
    for (session, end) in [(&paid, "completed"), (&expired, "expired")] {
        assert_eq!(merchant.read_session(session).await["checkout_status"], end);
    }
    assert!(!looks(), "a claim for each event, and never anything to be claimed");

    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let session = merchant.session().await;
    assert!(looks(), "the first event is due at once");
    app.pay(&session);
    app.sandbox.flush_webhooks().await;
    assert!(looks(), "the last one, too");

    merchant.session().await;
    assert!(looks());
    app.clock().advance(TimeDelta::minutes(15));
    worker::drain(app.state(), &CheckSessions).await.unwrap();
    assert!(looks(), "and the one of a session that was not paid");
    app.drain().await;
    app.finish().await;
}

/// Whoever holds a connection and waits for another can wait for ever.
#[tokio::test]
async fn a_create_needs_one_connection_at_a_time() {
    let (app, merchant) = start().await;
    merchant.session().await;
    let plan = merchant.plan().await;
    let mut request = Merchant::session_request(&plan);
    request["idempotency_key"] = json!("order-1");
    merchant.post("/v1/checkout/sessions", request.clone()).await.expect(201);
    merchant.post("/v1/checkout/sessions", request.clone()).await.expect_error(409, "already_exists");
    request["customer_external_id"] = json!("nobody");
    merchant.post("/v1/checkout/sessions", request).await.expect_error(404, "not_found");
    app.finish().await;
}

/// Claims and records of deliveries are transactions of several statements.
#[tokio::test]
async fn two_hundred_deliveries_are_a_handful_of_commits() {
    const ENDPOINTS: usize = 25;
    const EVENTS: usize = 8;
    let app = TestApp::start_with(Settings { proxied_pool: Some(4), ..Settings::default() }).await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    for _ in 0..ENDPOINTS {
        merchant.endpoint(&receiver).await;
    }
    for _ in 0..EVENTS {
        emit_completed(&app, &merchant).await;
    }
    let so_far = app.proxy().commits();
    let leases = Deliver.claim(app.state(), 256).await.unwrap();
    assert_eq!(leases.len(), ENDPOINTS * EVENTS);
    // What is answered while others are being written waits for its turn: here, for as long as it takes.
    let mut direct = sqlx::PgConnection::connect(&app.database_url).await.unwrap();
    let mut holder = direct.begin().await.unwrap();
    sqlx::query("lock table delivery_attempts").execute(&mut *holder).await.unwrap();
    let steps = join_all(leases.into_iter().map(|lease| Deliver.step(app.state(), lease)));
    let answered = async {
        while receiver.received().len() < ENDPOINTS * EVENTS {
            tokio::task::yield_now().await;
        }
        holder.rollback().await.unwrap();
    };
    let (done, ()) = tokio::join!(steps, answered);
    assert!(done.into_iter().all(|step| step.is_ok()));
    let commits = app.proxy().commits() - so_far;
    assert!(commits * 10 <= (ENDPOINTS * EVENTS) as u64, "{commits} commits");
    app.finish().await;
}
