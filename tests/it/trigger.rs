//! `checkoutd trigger`: the real binary makes real sessions take their ways at the sandbox.

use std::{fs, path::PathBuf};

use chrono::TimeDelta;
use serde_json::json;

use crate::support::{Command, Merchant, TestApp, connection, send};

/// A folder in which `dev` seems to have been started.
fn folder(app: &TestApp, merchant: &Merchant) -> PathBuf {
    // Ids are the same in all tests; ports are not.
    let port = app.base_url.rsplit(':').next().unwrap();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("trigger-{port}"));
    fs::create_dir_all(folder.join(".checkoutd")).unwrap();
    let running = json!({
        "api_url": format!("{}/", app.base_url), "sandbox_url": format!("{}/", app.sandbox.base_url()),
        "api_key": merchant.api_key,
    });
    fs::write(folder.join(".checkoutd/dev.json"), running.to_string()).unwrap();
    folder
}

#[tokio::test]
async fn each_event_comes_of_a_real_session_that_takes_its_way() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (plan, folder) = (merchant.plan().await, folder(&app, &merchant));
    merchant.customer("user_12345").await;
    let refunds = ["refund.created", "refund.succeeded"];
    for (event, status, later) in [
        ("checkout.session.initiated", "pending", &[][..]),
        ("checkout.session.completed", "completed", &[]),
        ("checkout.session.failed", "failed", &[]),
        ("checkout.session.expired", "expired", &[]),
        ("payment.late", "expired", &refunds),
        ("refund.created", "expired", &refunds[1..]),
        ("refund.succeeded", "expired", &[]),
        ("refund.failed", "expired", &[]),
    ] {
        let mut command = Command::start(&folder, &["trigger", event, "--plan", &plan], &[]);
        let session = command.line("session").await.split_whitespace().nth(1).unwrap().to_owned();
        command.line(&format!("waiting  for {event}")).await;
        // Razorpay's webhooks, and what a worker does in half a minute.
        app.sandbox.flush_webhooks().await;
        for _ in 0..3 {
            app.advance(TimeDelta::seconds(10)).await;
        }
        let ended = command.until_end().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let told = ended.lines.iter().find(|line| line.starts_with("event")).unwrap();
        let id = told.split_whitespace().nth(2).unwrap();
        let found = merchant.get(&format!("/v1/events/{id}")).await.expect(200);
        assert_eq!(found["event_type"], event);
        let about = if event.starts_with("checkout") { "id" } else { "checkout_session_id" };
        assert_eq!(found["data"][about], *session, "{found}");
        let read = merchant.get(&format!("/v1/checkout/sessions/{session}")).await.expect(200);
        assert_eq!(read["checkout_status"], status, "{event}");
        for later in later {
            let path = format!("/v1/events?event_type={later}");
            assert!(
                !merchant.get(&path).await.expect(200)["items"].as_array().unwrap().is_empty(),
                "{later}"
            );
        }
    }
    let faults = merchant.http.get(format!("{}/_sandbox/faults", app.sandbox.base_url()));
    assert_eq!(send(faults).await.expect(200)["refund_outcome"], "processed", "put back");
    app.finish().await;
}

#[tokio::test]
async fn nothing_but_the_sandbox_is_triggered() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let folder = folder(&app, &merchant);
    // Its account is not one of the sandbox.
    let (elsewhere, live) = app.merchant_pair().await;
    elsewhere.post("/v1/connections", connection("rzp_test_elsewhere0001")).await.expect(201);
    let (unconnected, _) = app.merchant_pair().await;
    let before = app.row_counts().await;
    let completed = "checkout.session.completed";
    let known = "one of checkout.session.initiated, ";
    for (arguments, told) in [
        (vec!["trigger"], ["EVENT_TYPE", "required"]),
        (vec!["trigger", "checkout.session.paid"], ["EVENT_TYPE", known]),
        (vec!["trigger", "webhook.endpoint.test"], ["cannot be triggered at the sandbox", known]),
        (vec!["trigger", completed, "--api-key", &live.api_key], ["live environment", "sk_test_"]),
        (
            vec!["trigger", completed, "--api-key", &elsewhere.api_key],
            ["rzp_test_elsewhere0001 is not one of the sandbox", "nothing was created"],
        ),
        (
            vec!["trigger", completed, "--api-key", &unconnected.api_key],
            ["no Razorpay connection", "POST /v1/connections"],
        ),
        (
            vec!["trigger", completed, "--sandbox-url", "https://api.razorpay.com"],
            ["--sandbox-url", "on this machine"],
        ),
        (
            vec!["trigger", completed, "--api-url", "http://localhost:1", "--api-key", "sk_test_abc"],
            ["--sandbox-url", "must be given"],
        ),
        (vec!["trigger", completed], ["a session of plan_pro_monthly for user_12345", "404"]),
    ] {
        let ended = Command::start(&folder, &arguments, &[]).until_end().await;
        assert!(ended.code.is_some_and(|code| code != 0), "{arguments:?}: {ended:?}");
        assert!(told.iter().all(|text| ended.stderr.contains(text)), "{arguments:?}: {ended:?}");
    }
    assert_eq!(app.row_counts().await, before);
    app.finish().await;
}
