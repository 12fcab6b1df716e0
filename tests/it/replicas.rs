//! Two processes on one database: each effect happens once, and who comes too late writes nothing.

use checkoutd::{
    app::App,
    checkout::CheckSessions,
    inbox::DriveInbox,
    payments::SendRefunds,
    sandbox::PayRequest,
    webhooks::Deliver,
    worker::{self, Job},
};
use chrono::TimeDelta;
use serde_json::Value;

use crate::support::{Merchant, Receiver, TestApp};

/// Sessions whose deadline is due, money to give back, events to deliver.
async fn work_of_every_kind(app: &TestApp, merchant: &Merchant) {
    let mut late = Vec::new();
    for _ in 0..6 {
        late.push(merchant.session().await);
    }
    app.advance(TimeDelta::minutes(15)).await;
    for session in &late {
        let request = PayRequest { late: true, ..PayRequest::default() };
        app.sandbox.pay(session["id"].as_str().unwrap(), request).unwrap();
    }
    for _ in 0..6 {
        merchant.session().await;
    }
    app.clock().advance(TimeDelta::minutes(15));
    app.sandbox.flush_webhooks().await;
}

/// Each event once at the endpoint; one refund per payment; no link left open.
async fn everything_happened_once(app: &TestApp, receiver: &Receiver) {
    let received = receiver.received();
    let mut ids: Vec<_> = received.iter().map(|request| request.header("webhook-id").to_owned()).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "an event was delivered twice");
    let events: i64 =
        sqlx::query_scalar("select count(*) from events").fetch_one(&app.state().pool).await.unwrap();
    assert_eq!(i64::try_from(all).unwrap(), events);
    assert_eq!(app.sandbox.ledger().refunds.len(), 6);
}

#[tokio::test]
async fn two_processes_that_race_for_every_job_do_each_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let second = app.second();
    work_of_every_kind(&app, &merchant).await;
    // Claimed by both at the same moments, again and again, until neither finds anything.
    let race = async |app: &App| {
        while step_all(app).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(race(app.state()), race(&second), race(app.state()), race(&second));
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    everything_happened_once(&app, &receiver).await;
    app.finish().await;
}

async fn step_all(app: &App) -> usize {
    worker::drain(app, &CheckSessions).await.unwrap()
        + worker::drain(app, &DriveInbox).await.unwrap()
        + worker::drain(app, &SendRefunds).await.unwrap()
        + worker::drain(app, &Deliver).await.unwrap()
}

/// Rows as the table has them, without the columns that say when they were looked at.
async fn snapshot(app: &TestApp, table: &'static str) -> Vec<Value> {
    let sql = format!("select to_jsonb(t) from {table} t order by environment_id, id");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&app.state().pool).await.unwrap()
}

/// A worker stalls with a claim for longer than its lease. Another does the work. Then the first goes on.
async fn stall_and_go_on<J: Job>(app: &TestApp, job: J, table: &'static str) {
    let leases = job.claim(app.state(), J::SLOTS).await.unwrap();
    assert!(!leases.is_empty(), "{table}: nothing was claimed");
    app.clock().advance(TimeDelta::seconds(61));
    worker::drain_all(&app.second()).await.unwrap();
    let before = snapshot(app, table).await;
    for lease in leases {
        // What it does outside may happen again; its record of it may not.
        let _ = job.step(app.state(), lease).await;
    }
    assert_eq!(snapshot(app, table).await, before, "{table}: a lost lease has written");
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    work_of_every_kind(&app, &merchant).await;
    stall_and_go_on(&app, CheckSessions, "checkout_sessions").await;
    let session = merchant.session().await;
    app.pay(&session);
    app.sandbox.flush_webhooks().await;
    stall_and_go_on(&app, Deliver, "deliveries").await;
    app.drain().await;
    assert_eq!(app.sandbox.ledger().refunds.len(), 6);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_whose_lease_was_lost_is_sent_and_recorded_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    work_of_every_kind(&app, &merchant).await;
    stall_and_go_on(&app, SendRefunds, "refunds").await;
    app.drain().await;
    assert_eq!(app.sandbox.ledger().refunds.len(), 6);
    app.finish().await;
}
