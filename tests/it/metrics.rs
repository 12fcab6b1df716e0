//! `GET /metrics`: what happened is counted, what waits is shown, and nothing in it is anybody's.

use std::sync::Arc;

use ::metrics::{LocalRecorderGuard, set_default_local_recorder};
use axum::http::Method;
use checkoutd::{
    metrics::CountAlerts,
    sandbox::{FaultKind, FaultRule, Faults, Op, PayRequest, WebhookFaults},
};
use chrono::TimeDelta;
use metrics_exporter_prometheus::PrometheusRecorder;
use serde_json::{Value, json};
use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt};

use crate::support::{
    KEY_SECRET, Merchant, Receiver, Settings, TestApp, WEBHOOK_SECRET, razorpay::paid_event, send,
};

/// What this thread does is counted for `app` until the guards are dropped.
fn count(recorder: &Arc<PrometheusRecorder>) -> (LocalRecorderGuard<'_>, tracing::subscriber::DefaultGuard) {
    let alerts = tracing_subscriber::registry().with(CountAlerts.with_filter(LevelFilter::WARN));
    (set_default_local_recorder(&**recorder), tracing::subscriber::set_default(alerts))
}

/// The lines of a scrape that are no comments.
async fn scrape(merchant: &Merchant) -> Vec<String> {
    let reply = send(merchant.builder(Method::GET, "/metrics")).await;
    assert_eq!(reply.status, 200, "without a key");
    assert!(reply.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let lines = reply.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|found| found == line), "no {line} in\n{}", lines.join("\n"));
}

#[tokio::test]
async fn what_happens_is_counted_once() {
    let app = TestApp::start().await;
    let recorder = Arc::clone(&app.recorder);
    let _counting = count(&recorder);
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    receiver.answer_next(503);
    let (session, unpaid) = (merchant.session().await, merchant.session().await);
    app.pay_and_settle(&session).await;
    let body = paid_event(&session, "plink_other", &json!(49_900)).to_string();
    merchant.post_event(body.clone(), Some("00")).await.expect(401);
    merchant.post_event(body.clone(), None).await.expect(401);
    merchant.post_signed(body.clone(), KEY_SECRET).await.expect(401);
    for _ in 0..2 {
        merchant.post_signed(body.clone(), WEBHOOK_SECRET).await.expect(200);
    }
    merchant.post_signed("[]", WEBHOOK_SECRET).await.expect(400);
    app.sandbox
        .pay(session["id"].as_str().unwrap(), PayRequest { late: true, ..PayRequest::default() })
        .unwrap();
    app.sandbox.flush_webhooks().await;
    app.clock().advance(TimeDelta::seconds(5));
    app.drain().await;
    let path = format!("/v1/checkout/sessions/{}/cancel", unpaid["id"].as_str().unwrap());
    merchant.post_empty(&path).await.expect(200);
    let lines = scrape(&merchant).await;
    for line in [
        // authorized, captured, order.paid and payment_link.paid; all but the last again, late; then our own.
        "checkoutd_webhooks_received_total{outcome=\"nothing_to_do\"} 2",
        "checkoutd_webhooks_received_total{outcome=\"settled\"} 3",
        "checkoutd_webhooks_received_total{outcome=\"waiting\"} 2",
        "checkoutd_webhooks_received_total{outcome=\"rejected_signature\"} 3",
        "checkoutd_webhooks_received_total{outcome=\"parked\"} 1",
        "checkoutd_webhooks_received_total{outcome=\"repeat\"} 1",
        "checkoutd_webhooks_received_total{outcome=\"malformed\"} 1",
        "checkoutd_facts_total{decision=\"refund\",cause=\"webhook\"} 1",
        "checkoutd_refunds_total{outcome=\"refund.created\"} 1",
        "checkoutd_refunds_total{outcome=\"refund.succeeded\"} 1",
        "checkoutd_provider_calls_total{call=\"refund\",outcome=\"ok\"} 1",
        "checkoutd_facts_total{decision=\"applied\",cause=\"create\"} 2",
        "checkoutd_facts_total{decision=\"applied\",cause=\"webhook\"} 1",
        "checkoutd_facts_total{decision=\"already_applied\",cause=\"webhook\"} 3",
        "checkoutd_facts_total{decision=\"applied\",cause=\"cancel\"} 1",
        "checkoutd_sessions_ended_total{status=\"completed\",cause=\"webhook\"} 1",
        "checkoutd_sessions_ended_total{status=\"expired\",cause=\"cancel\"} 1",
        "checkoutd_provider_calls_total{call=\"create\",outcome=\"ok\"} 2",
        "checkoutd_provider_calls_total{call=\"cancel\",outcome=\"ok\"} 1",
        "checkoutd_deliveries_total{outcome=\"retry\"} 1",
        "checkoutd_alerts_total{alert=\"inbox_parked\"} 1",
    ] {
        has(&lines, line);
    }
    let delivered = receiver.event_types().len() - 1;
    has(&lines, &format!("checkoutd_deliveries_total{{outcome=\"delivered\"}} {delivered}"));
    app.finish().await;
}

#[tokio::test]
async fn what_waits_is_shown_with_its_age() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    for _ in 0..3 {
        merchant.session().await;
    }
    let parked = paid_event(&json!({"id": null}), "plink_other", &json!(0)).to_string();
    merchant.post_signed(parked, WEBHOOK_SECRET).await.expect(200);
    let lines = scrape(&merchant).await;
    for line in [
        "checkoutd_database_up 1",
        "checkoutd_sessions_open 3",
        "checkoutd_sessions_overdue 0",
        "checkoutd_inbox_parked 1",
        "checkoutd_inbox_parked_oldest_seconds 0",
        "checkoutd_inbox_waiting 0",
        "checkoutd_refunds_unsettled 0",
        "checkoutd_refunds_failed 0",
        "checkoutd_links_closing 0",
        "checkoutd_deliveries_pending 0",
    ] {
        has(&lines, line);
    }
    // Workers stand still meanwhile.
    app.clock().advance(TimeDelta::minutes(25));
    let lines = scrape(&merchant).await;
    has(&lines, "checkoutd_sessions_overdue 3");
    has(&lines, "checkoutd_sessions_overdue_oldest_seconds 600");
    has(&lines, "checkoutd_inbox_parked_oldest_seconds 1500");
    // Razorpay is not reachable: sessions end all the same, their links are not closed yet.
    let down = FaultKind::Status { code: 503, body: None, retry_after: None };
    let rules = [Op::CancelLink, Op::FetchLink, Op::ListLinks].map(|op| FaultRule::always(op, down.clone()));
    app.sandbox.set_faults(Faults { rules: rules.into(), ..Faults::default() });
    app.drain().await;
    app.clock().advance(TimeDelta::seconds(70));
    let lines = scrape(&merchant).await;
    has(&lines, "checkoutd_sessions_open 0");
    has(&lines, "checkoutd_links_closing 3");
    has(&lines, "checkoutd_links_closing_oldest_seconds 70");
    app.finish().await;
}

#[tokio::test]
async fn scrapes_in_a_row_ask_postgres_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let open = "checkoutd_sessions_open";
    has(&scrape(&merchant).await, &format!("{open} 0"));
    merchant.session().await;
    has(&scrape(&merchant).await, &format!("{open} 0"));
    app.clock().advance(TimeDelta::seconds(5));
    has(&scrape(&merchant).await, &format!("{open} 1"));
    app.finish().await;
}

#[tokio::test]
async fn without_postgres_counters_are_still_shown() {
    let app = TestApp::start_with(Settings { proxied_pool: Some(3), ..Settings::default() }).await;
    let recorder = Arc::clone(&app.recorder);
    let _counting = count(&recorder);
    let merchant = app.merchant().await;
    merchant.session().await;
    // A count that cannot be had is not an outage.
    sqlx::raw_sql("alter table inbox rename to gone").execute(&app.state().pool).await.unwrap();
    let lines = scrape(&merchant).await;
    has(&lines, "checkoutd_database_up 1");
    assert!(!lines.iter().any(|line| line.starts_with("checkoutd_inbox")), "old figures are none");
    sqlx::raw_sql("alter table gone rename to inbox").execute(&app.state().pool).await.unwrap();
    app.clock().advance(TimeDelta::seconds(5));
    app.proxy().refuse(true);
    app.proxy().reset_all();
    let lines = scrape(&merchant).await;
    app.proxy().calm();
    app.proxy().refuse(false);
    has(&lines, "checkoutd_database_up 0");
    has(&lines, "checkoutd_provider_calls_total{call=\"create\",outcome=\"ok\"} 1");
    assert!(!lines.iter().any(|line| line.starts_with("checkoutd_inbox")), "old figures are none");
    app.finish().await;
}

#[tokio::test]
async fn nothing_in_a_scrape_is_anybodys() {
    let app = TestApp::start().await;
    let recorder = Arc::clone(&app.recorder);
    let _counting = count(&recorder);
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let paid = app.pay_and_settle(&session).await;
    merchant.post_signed(r#"{"event":"an-event-from-outside"}"#, WEBHOOK_SECRET).await.expect(200);
    let text = scrape(&merchant).await.join("\n");
    for private in [
        &*merchant.tenant_id,
        &merchant.environment_id,
        &merchant.api_key,
        session["id"].as_str().unwrap(),
        &paid.payment_id,
        KEY_SECRET,
        WEBHOOK_SECRET,
        "rzp_",
        "env_",
        "user_12345",
        "an-event-from-outside",
    ] {
        assert!(!text.contains(private), "{private}");
    }
    app.finish().await;
}

/// F25: Razorpay has given our webhook up, or it was never set up.
#[tokio::test]
async fn webhooks_lost_for_a_day_cost_no_payment_and_are_told() {
    let app = TestApp::start().await;
    let recorder = Arc::clone(&app.recorder);
    let _counting = count(&recorder);
    let merchant = app.merchant().await;
    let webhooks = WebhookFaults { enabled: false, ..WebhookFaults::default() };
    app.sandbox.set_faults(Faults { webhooks, ..Faults::default() });
    let mut sessions: Vec<Value> = Vec::new();
    for _ in 0..24 {
        let session = merchant.session().await;
        app.pay(&session);
        // Nobody polls; a minute is what it may take.
        for _ in 0..6 {
            app.advance(TimeDelta::seconds(10)).await;
        }
        sessions.push(session);
        app.advance(TimeDelta::minutes(59)).await;
    }
    app.advance(TimeDelta::hours(1)).await;
    for session in &sessions {
        let session = merchant.read_session(session).await;
        assert_eq!(session["checkout_status"], "completed");
        let taken =
            |name: &str| session[name].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        assert!(taken("completed_at") - taken("created_at") <= TimeDelta::seconds(60));
    }
    let rows: i64 =
        sqlx::query_scalar("select count(*) from inbox").fetch_one(&app.state().pool).await.unwrap();
    assert_eq!(rows, 0);
    let lines = scrape(&merchant).await;
    has(&lines, "checkoutd_sessions_ended_total{status=\"completed\",cause=\"reconcile\"} 24");
    has(&lines, "checkoutd_alerts_total{alert=\"webhooks_missing\"} 24");
    // Switched on again, they are not missed any more.
    app.sandbox.set_faults(Faults::default());
    let session = merchant.session().await;
    app.pay_and_settle(&session).await;
    app.advance(TimeDelta::minutes(10)).await;
    has(&scrape(&merchant).await, "checkoutd_alerts_total{alert=\"webhooks_missing\"} 24");
    app.finish().await;
}
