//! SIGTERM in the middle of work: what was accepted is answered, what was claimed is given back.

use checkoutd::sandbox::{FaultKind, FaultRule, Faults, Op};
use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::json;

use crate::support::{Binary, Merchant, Receiver, Settings, TestApp};

async fn count(app: &TestApp, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&app.state().pool).await.unwrap()
}

#[tokio::test]
async fn a_process_that_is_told_to_stop_answers_what_it_accepted_and_gives_back_what_it_claimed() {
    let settings = Settings { behind: Some(TimeDelta::seconds(60)), ..Settings::default() };
    let app = TestApp::start_with(settings).await;
    let merchant = app.merchant().await;
    // Events for an endpoint that takes them and never answers: the worker will be in the middle of them.
    let hanging = Receiver::start().await;
    for _ in 0..8 {
        hanging.hang_next();
    }
    merchant.endpoint(&hanging).await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    for _ in 0..8 {
        merchant.post("/v1/checkout/sessions", Merchant::session_request(&plan)).await.expect(201);
    }
    let binary = Binary::start(&app, None).await;
    let client = binary.client(&merchant);
    while hanging.received().len() < 8 {
        tokio::task::yield_now().await;
    }
    // Creates that wait for Razorpay, and a reader who waits for an end that does not come.
    let rules = vec![FaultRule::always(Op::CreateLink, FaultKind::DelayMs { delay_ms: 1_500 })];
    app.sandbox.set_faults(Faults { rules, ..Faults::default() });
    let creates = join_all((0..30).map(|number| {
        let mut request = Merchant::session_request(&plan);
        request["idempotency_key"] = json!(format!("order_{number}"));
        let client = client.clone();
        async move { client.post("/v1/checkout/sessions", request).await }
    }));
    let sessions = merchant.get("/v1/checkout/sessions").await.expect(200);
    let path = format!("/v1/checkout/sessions/{}?wait=30", sessions["items"][0]["id"].as_str().unwrap());
    let reader = client.get(&path);
    let stop_once_accepted = async {
        while count(&app, "select count(*) from checkout_sessions").await < 38 {
            tokio::task::yield_now().await;
        }
        binary.terminate();
        binary.terminate();
        binary.until_end().await
    };
    let (replies, read, code) = tokio::join!(creates, reader, stop_once_accepted);
    assert_eq!(code, Some(0));
    assert!(replies.iter().all(|reply| reply.status == 201), "{replies:?}");
    assert_eq!(read.expect(200)["checkout_status"], "pending", "not told to wait any longer");
    for leases in [
        "select count(*) from deliveries where lease_token is not null",
        "select count(*) from checkout_sessions where lease_token is not null",
        "select count(*) from inbox where lease_token is not null",
        "select count(*) from refunds where lease_token is not null",
    ] {
        assert_eq!(count(&app, leases).await, 0, "{leases}");
    }
    // And another process need not wait for any lease to run out.
    app.sandbox.set_faults(Faults::default());
    app.advance(TimeDelta::minutes(2)).await;
    assert_eq!(count(&app, "select count(*) from deliveries where delivery_status <> 'delivered'").await, 0);
    app.finish().await;
}
