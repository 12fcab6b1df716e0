//! What is learnt by asking: without webhooks, within a budget, and after the end.

use checkoutd::sandbox::{FaultKind, FaultRule, Faults, LinkStatus, Op, PayRequest, WebhookFaults};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Merchant, Settings, TestApp};

fn no_webhooks() -> Faults {
    Faults { webhooks: WebhookFaults { enabled: false, ..WebhookFaults::default() }, ..Faults::default() }
}

fn path(session: &Value) -> String {
    format!("/v1/checkout/sessions/{}", session["id"].as_str().unwrap())
}

/// Status in the table: unlike a read by the API, looking here asks nobody.
async fn status(app: &TestApp, session: &Value) -> String {
    let id: checkoutd::checkout::SessionId = session["id"].as_str().unwrap().parse().unwrap();
    sqlx::query_scalar("select checkout_status from checkout_sessions where id = $1")
        .bind(uuid::Uuid::from(id))
        .fetch_one(&app.state().pool)
        .await
        .unwrap()
}

async fn refunds(app: &TestApp) -> Vec<(String, String)> {
    sqlx::query_as("select reason, refund_status from refunds order by created_at")
        .fetch_all(&app.state().pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn without_webhooks_a_paid_session_completes_within_a_minute_at_any_age() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(no_webhooks());
    for paid_after_seconds in [0, 7, 61, 400, 880] {
        let session = merchant.session().await;
        for _ in 0..paid_after_seconds {
            app.clock().advance(TimeDelta::seconds(1));
            app.drain().await;
        }
        app.pay(&session);
        let mut waited_seconds = 0;
        while status(&app, &session).await != "completed" {
            waited_seconds += 1;
            assert!(waited_seconds <= 60, "paid at {paid_after_seconds} s");
            app.clock().advance(TimeDelta::seconds(1));
            app.drain().await;
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn without_webhooks_a_polled_session_completes_within_three_seconds() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(no_webhooks());
    for age_seconds in [0, 45, 600] {
        let session = merchant.session().await;
        app.clock().advance(TimeDelta::seconds(age_seconds));
        merchant.read_session(&session).await;
        app.pay(&session);
        let mut seen = Vec::new();
        for _ in 0..3 {
            app.clock().advance(TimeDelta::seconds(1));
            seen.push(merchant.read_session(&session).await["checkout_status"].clone());
        }
        assert_eq!(seen[2], "completed", "at the age of {age_seconds} s: {seen:?}");
    }
    app.finish().await;
}

/// A read and a webhook say the same of a link that died, whichever comes first.
#[tokio::test]
async fn without_webhooks_a_dead_link_ends_its_session_the_way_it_died() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(no_webhooks());
    let (expired, cancelled) = (merchant.session().await, merchant.session().await);
    app.sandbox.expire(expired["id"].as_str().unwrap()).unwrap();
    app.sandbox.cancel(cancelled["id"].as_str().unwrap()).unwrap();
    for (session, ended) in [(&expired, "expired"), (&cancelled, "failed")] {
        assert_eq!(merchant.read_session(session).await["checkout_status"], ended);
    }
    app.finish().await;
}

#[tokio::test]
async fn what_can_wait_keeps_to_the_accounts_budget_and_what_cannot_does_not() {
    let settings =
        Settings { variables: vec![("CHECKOUTD_PROVIDER_READS_PER_SECOND", "1")], ..Settings::default() };
    let app = TestApp::start_with(settings).await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(no_webhooks());
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(merchant.session().await);
    }
    let paths: Vec<_> = sessions.iter().map(path).collect();
    let polls = join_all(paths.iter().map(|path| merchant.get(path))).await;
    let fresh = polls.iter().filter(|reply| reply.json()["stale"] == false).count();
    assert_eq!(fresh, 3, "one a second, saved up for five seconds, a quarter left to the worker");
    // Cancelling asks all the same: paid wins.
    app.pay(&sessions[0]);
    merchant.post_empty(&format!("{}/cancel", path(&sessions[0]))).await.expect(400);
    // And the deadline.
    app.clock().advance(TimeDelta::minutes(15));
    app.drain().await;
    for session in &sessions[1..] {
        assert_eq!(status(&app, session).await, "expired");
    }
    app.finish().await;
}

/// Thousands of open sessions that come again every minute would keep the worker busy with nothing.
#[tokio::test]
async fn looks_beyond_the_budget_have_a_turn_each() {
    let settings =
        Settings { variables: vec![("CHECKOUTD_PROVIDER_READS_PER_SECOND", "1")], ..Settings::default() };
    let app = TestApp::start_with(settings).await;
    let merchant = app.merchant().await;
    for _ in 0..20 {
        merchant.session().await;
    }
    app.advance(TimeDelta::seconds(15)).await;
    let turns: Vec<DateTime<Utc>> = sqlx::query_scalar("select check_at from checkout_sessions order by 1")
        .fetch_all(&app.state().pool)
        .await
        .unwrap();
    let now = app.state().clock.now();
    let seconds: Vec<_> = turns.iter().map(|turn| (*turn - now).as_seconds_f64()).collect();
    for first in &seconds {
        let together = seconds.iter().filter(|second| (*first..first + 1.0).contains(*second)).count();
        assert!(together <= 5, "{together} in the second from {first}: {seconds:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_provider_that_keeps_failing_is_left_alone_for_a_while_and_nothing_is_drafted() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let request = Merchant::session_request(&plan);
    let down = FaultKind::Status { code: 503, body: None, retry_after: None };
    let rules = vec![FaultRule::always(Op::CreateLink, down)];
    app.sandbox.set_faults(Faults { rules, ..Faults::default() });
    // Three tries each.
    let replies = join_all((0..4).map(|_| merchant.post("/v1/checkout/sessions", request.clone()))).await;
    for reply in replies {
        let error = reply.expect_error(503, "service_unavailable");
        assert_eq!(error["details"]["retryable"], true);
        assert!(error["details"]["checkout_session_id"].is_string(), "{error}");
    }
    let before = app.row_counts().await;
    let reply = merchant.post("/v1/checkout/sessions", request.clone()).await;
    let retry_after: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=61).contains(&retry_after), "{retry_after}");
    let error = reply.expect_error(503, "service_unavailable");
    assert_eq!(error["details"]["reason"], "provider_unavailable");
    assert_eq!(app.row_counts().await, before);
    // It recovers: one tries, the drafted ones become payable by themselves, new ones are taken.
    app.sandbox.set_faults(Faults::default());
    app.advance(TimeDelta::seconds(61)).await;
    app.advance(TimeDelta::seconds(61)).await;
    let sessions = merchant.get("/v1/checkout/sessions?status=pending").await.expect(200);
    assert_eq!(sessions["pagination"]["total"], 4);
    merchant.post("/v1/checkout/sessions", request).await.expect(201);
    assert_eq!(app.sandbox.ledger().links.len(), 5, "one link each");
    app.finish().await;
}

#[tokio::test]
async fn money_that_comes_after_the_end_is_found_and_goes_back_though_no_webhook_tells() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.sandbox.set_faults(no_webhooks());
    let (expired, cancelled, completed) =
        (merchant.session().await, merchant.session().await, merchant.session().await);
    let try_to_pay = |session: &Value, late: bool| {
        let request = PayRequest { late, ..PayRequest::default() };
        app.sandbox.pay(session["id"].as_str().unwrap(), request).unwrap();
    };
    app.pay(&completed);
    merchant.post_empty(&format!("{}/cancel", path(&cancelled))).await.expect(200);
    app.advance(TimeDelta::minutes(16)).await;
    // In a second tab, by banks that answered late.
    for session in [&expired, &cancelled, &completed] {
        try_to_pay(session, true);
    }
    app.advance(TimeDelta::minutes(60)).await;
    let found = refunds(&app).await;
    let reasons: Vec<_> = found.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == "late_payment").count(), 2, "{found:?}");
    assert_eq!(reasons.iter().filter(|reason| **reason == "duplicate_payment").count(), 1, "{found:?}");
    assert!(found.iter().all(|(_, status)| status == "SUCCEEDED"), "{found:?}");
    // Three days later, which is as late as Razorpay captures.
    app.advance(TimeDelta::hours(70)).await;
    try_to_pay(&expired, true);
    app.advance(TimeDelta::hours(3)).await;
    assert_eq!(refunds(&app).await.len(), 4);
    app.finish().await;
}

#[tokio::test]
async fn a_session_that_nobody_tried_to_pay_is_asked_about_twice_after_its_end() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.session().await;
    app.advance(TimeDelta::minutes(16)).await;
    app.advance(TimeDelta::minutes(5)).await;
    let check_at = "select check_at is null from checkout_sessions";
    assert!(!sqlx::query_scalar::<_, bool>(check_at).fetch_one(&app.state().pool).await.unwrap());
    app.advance(TimeDelta::minutes(55)).await;
    assert!(sqlx::query_scalar::<_, bool>(check_at).fetch_one(&app.state().pool).await.unwrap());
    app.finish().await;
}

/// Razorpay has been seen to answer "already attempted" while its lists are still empty.
#[tokio::test]
async fn a_reference_that_is_taken_but_not_listed_yet_is_waited_for_and_adopted() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    app.sandbox.set_faults(Faults {
        rules: vec![FaultRule::times(1, Op::CreateLink, FaultKind::ResetAfter)],
        list_lag_ms: 5_000,
        ..Faults::default()
    });
    let reply = merchant.post("/v1/checkout/sessions", Merchant::session_request(&plan)).await;
    let error = reply.expect_error(503, "service_unavailable");
    let session = json!({"id": error["details"]["checkout_session_id"]});
    app.advance(TimeDelta::seconds(16)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    assert_eq!(app.sandbox.ledger().links.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn of_two_links_for_one_reference_one_is_adopted_and_the_other_cancelled() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let rules = vec![FaultRule::times(1, Op::CreateLink, FaultKind::Twice)];
    app.sandbox.set_faults(Faults { rules, ..Faults::default() });
    // The answer for the first came: nobody knows of the second until somebody looks.
    let unseen = merchant.post("/v1/checkout/sessions", Merchant::session_request(&plan)).await.expect(201);
    let links = app.sandbox.ledger().links;
    assert_eq!(links.len(), 2);
    // Somebody pays on the one, somebody on the other.
    app.sandbox.pay(&links[0].id, PayRequest::default()).unwrap();
    app.sandbox.pay(&links[1].id, PayRequest { events: Some(Vec::new()), ..PayRequest::default() }).unwrap();
    app.sandbox.flush_webhooks().await;
    assert_eq!(merchant.read_session(&unseen).await["checkout_status"], "completed");
    app.advance(TimeDelta::minutes(6)).await;
    assert_eq!(refunds(&app).await, [("duplicate_payment".to_owned(), "SUCCEEDED".to_owned())]);
    app.finish().await;
}

#[tokio::test]
async fn a_second_link_that_is_seen_while_the_first_is_looked_for_dies_at_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let rules = vec![FaultRule::times(1, Op::CreateLink, FaultKind::Twice)];
    app.sandbox.set_faults(Faults { rules, ..Faults::default() });
    let session = merchant.post("/v1/checkout/sessions", Merchant::session_request(&plan)).await.expect(201);
    // As after a crash between the answer and its record: the worker looks the link up by its reference.
    sqlx::query(
        "update checkout_sessions set checkout_status = 'initiated', link_id = null, link_url = null, link_state = 'none', event_count = 0",
    )
    .execute(&app.state().pool)
    .await
    .unwrap();
    for table in ["session_transitions", "deliveries", "events"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("delete from {table}")))
            .execute(&app.state().pool)
            .await
            .unwrap();
    }
    app.advance(TimeDelta::seconds(16)).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "pending");
    let open = app.sandbox.ledger().links.iter().filter(|link| link.status == LinkStatus::Created).count();
    assert_eq!(open, 1);
    app.finish().await;
}
