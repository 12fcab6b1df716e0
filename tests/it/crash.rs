//! The process dies between two steps, and another goes on: one scenario for every checkpoint in `src`.
//!
//! The binary that dies is the real one, on real time; the one that goes on is driven by hand on a clock that
//! stood a minute behind when the rows were written, so that what they wait for is due for the binary at once.

use checkoutd::sandbox::{FaultKind, FaultRule, Faults, LinkStatus, Op, PayRequest};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Binary, Merchant, Receiver, Settings, TestApp, WEBHOOK_SECRET};

/// What brings the binary to its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scene {
    /// A create over HTTP.
    Create,
    /// A create whose answer was lost, taken up by the worker.
    Resume,
    /// `payment_link.paid` over HTTP.
    Paid,
    /// A payment of which no webhook has told, found by the worker.
    Found,
    /// `payment_link.paid` over HTTP, of a payment that was found before: it is not one statement.
    Known,
    /// `payment_link.paid` right after another event over HTTP: the accounts are known.
    Remembered,
    /// An event that was stored alone, taken up by the worker.
    Inbox,
    /// An event that cannot be settled at once.
    Kept,
    /// The deadline of an unpaid session.
    Deadline,
    /// A cancel over HTTP.
    Cancel,
    /// An ended session whose link could not be cancelled before.
    CloseLink,
    /// Money that came late.
    Refund,
    /// An event for an endpoint.
    Deliver,
}

macro_rules! crashes {
    ($($test:ident: $scene:ident at $checkpoint:literal;)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                crash(Scene::$scene, $checkpoint).await;
            }
        )*

        /// A checkpoint without a scenario is a step nobody has seen a crash at.
        #[test]
        fn every_checkpoint_has_a_scenario() {
            let covered = [$($checkpoint),*];
            for checkpoint in checkpoints(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
                let elsewhere = crate::crash_idempotency::COVERED.contains(&&*checkpoint);
                assert!(elsewhere || covered.contains(&&*checkpoint), "no scenario dies at {checkpoint}");
            }
        }
    };
}

crashes! {
    create_after_its_draft: Create at "create.drafted";
    create_after_the_link_was_made: Create at "create.linked";
    create_after_the_second_commit: Create at "settle.committed";
    create_before_its_answer: Create at "create.settled";
    resumed_create_after_the_link_was_found: Resume at "resume.linked";
    resumed_create_when_claimed: Resume at "check.claimed";
    deadline_when_the_wish_is_recorded: Deadline at "expire.closing";
    deadline_when_the_link_is_cancelled: Deadline at "shut.cancelled";
    deadline_when_the_session_has_ended: Deadline at "settle.committed";
    deadline_before_the_lease_is_given_back: Deadline at "check.looked";
    cancel_when_the_wish_is_recorded: Cancel at "cancel.closing";
    cancel_when_the_link_is_cancelled: Cancel at "shut.cancelled";
    cancel_before_its_answer: Cancel at "cancel.ended";
    late_cancel_of_a_link_before_it_is_recorded: CloseLink at "close.cancelled";
    delivery_when_claimed: Deliver at "deliver.claimed";
    delivery_before_its_answer_is_recorded: Deliver at "deliver.answered";
    delivery_whose_batch_is_to_be_written: Deliver at "record.batched";
    delivery_whose_batch_is_committed: Deliver at "record.committed";
    delivery_when_recorded: Deliver at "deliver.recorded";
    payment_under_the_sessions_lock: Found at "settle.locked";
    payment_before_the_commit: Found at "settle.written";
    event_that_remembered_accounts_verify: Remembered at "inbox.remembered";
    event_that_is_verified_and_not_stored: Paid at "inbox.verified";
    event_that_is_stored_and_not_committed: Known at "inbox.stored";
    event_that_is_committed_and_not_acknowledged: Paid at "inbox.committed";
    event_of_remembered_accounts_that_is_not_acknowledged: Remembered at "inbox.completed";
    event_that_is_kept_and_not_acknowledged: Kept at "inbox.kept";
    kept_event_when_claimed: Inbox at "inbox.claimed";
    kept_event_before_its_commit: Inbox at "settle.written";
    refund_when_claimed: Refund at "refund.claimed";
    refund_before_its_answer_is_recorded: Refund at "refund.answered";
    refund_when_recorded: Refund at "refund.recorded";
}

fn checkpoints(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(checkpoints(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.split("checkpoint::reach(\"").skip(1);
        found.extend(names.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    found
}

const BEHIND: TimeDelta = TimeDelta::seconds(60);

async fn crash(scene: Scene, checkpoint: &str) {
    let short_lived = scene == Scene::Deadline;
    let variables = if short_lived { vec![("CHECKOUTD_SESSION_TTL_SECONDS", "40")] } else { Vec::new() };
    let app = TestApp::start_with(Settings { variables, behind: Some(BEHIND), ..Settings::default() }).await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let prepared = prepare(&app, &merchant, &receiver, scene).await;
    let binary = Binary::start(&app, Some(checkpoint)).await;
    provoke(&app, &binary.client(&merchant), scene, &prepared).await;
    binary.until_death_at(checkpoint).await;
    recover(&app, &merchant, scene, &prepared).await;
    verify(&app, &merchant, &receiver, scene, &prepared).await;
    app.finish().await;
}

/// What is there before the binary starts: the session, or the request for one.
async fn prepare(app: &TestApp, merchant: &Merchant, receiver: &Receiver, scene: Scene) -> Value {
    if scene == Scene::Deliver {
        merchant.endpoint(receiver).await;
    }
    let fail = |op, kind| Faults { rules: vec![FaultRule::always(op, kind)], ..Faults::default() };
    let down = FaultKind::Status { code: 503, body: None, retry_after: None };
    match scene {
        Scene::Create | Scene::Resume => {
            let plan = merchant.plan().await;
            merchant.customer("user_12345").await;
            let mut request = Merchant::session_request(&plan);
            request["idempotency_key"] = json!("order_1");
            if scene == Scene::Resume {
                app.sandbox.set_faults(Faults {
                    list_lag_ms: 10_000,
                    ..fail(Op::CreateLink, FaultKind::ResetAfter)
                });
                merchant.post("/v1/checkout/sessions", request.clone()).await.expect(503);
                app.sandbox.set_faults(Faults::default());
            }
            request
        }
        Scene::CloseLink => {
            let session = merchant.session().await;
            app.sandbox.set_faults(fail(Op::CancelLink, down));
            merchant.post_empty(&format!("{}/cancel", path(&session))).await.expect(200);
            app.sandbox.set_faults(Faults::default());
            session
        }
        Scene::Paid | Scene::Found | Scene::Known | Scene::Remembered | Scene::Inbox | Scene::Kept => {
            let session = merchant.session().await;
            app.pay(&session);
            if scene == Scene::Known {
                assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
            }
            if scene == Scene::Remembered {
                // The binary's clock is ahead: its worker would find the payment first.
                let later = "update checkout_sessions set check_at = check_at + interval '3 minutes'";
                sqlx::query(later).execute(&app.state().pool).await.unwrap();
            }
            if matches!(scene, Scene::Inbox | Scene::Kept) {
                obstruct(app).await;
            }
            if scene == Scene::Inbox {
                app.sandbox.flush_webhooks().await;
                clear(app).await;
            }
            session
        }
        Scene::Refund => {
            let session = merchant.session().await;
            merchant.post_empty(&format!("{}/cancel", path(&session))).await.expect(200);
            let late = PayRequest { late: true, ..PayRequest::default() };
            app.sandbox.pay(session["id"].as_str().unwrap(), late).unwrap();
            app.sandbox.flush_webhooks().await;
            session
        }
        Scene::Deadline | Scene::Cancel | Scene::Deliver => merchant.session().await,
    }
}

/// Takes the place of the session's second event: nothing can be settled.
async fn obstruct(app: &TestApp) {
    sqlx::query(
        "insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
         select environment_id, gen_random_uuid(), 'checkout.session.completed', id, 2, '{}', created_at from checkout_sessions",
    )
    .execute(&app.state().pool)
    .await
    .unwrap();
}

async fn clear(app: &TestApp) {
    sqlx::query("delete from events where body = '{}'").execute(&app.state().pool).await.unwrap();
}

/// The request that dies with the binary; the worker needs none.
async fn provoke(app: &TestApp, client: &Merchant, scene: Scene, prepared: &Value) {
    let request = match scene {
        Scene::Create => client.builder(axum::http::Method::POST, "/v1/checkout/sessions").json(prepared),
        Scene::Cancel => client.builder(axum::http::Method::POST, &format!("{}/cancel", path(prepared))),
        Scene::Paid | Scene::Known | Scene::Remembered | Scene::Kept => {
            if scene == Scene::Remembered {
                let nothing = json!({"entity": "event", "event": "nothing", "payload": {}}).to_string();
                client.post_signed(nothing, WEBHOOK_SECRET).await.expect(200);
            }
            let sent = app.sandbox.ledger().deliveries;
            let event = sent.iter().find(|delivery| delivery.event == "payment_link.paid").unwrap();
            let url = event.url.replace(&app.base_url, &client.base_url);
            let signature = event.signature.as_deref().unwrap();
            client.http.post(url).header("x-razorpay-signature", signature).body(event.body.clone())
        }
        _ => return,
    };
    let answer = request.header("x-api-key", &client.api_key).send().await;
    assert!(answer.is_err(), "it should have died before it answered: {answer:?}");
}

/// Another process takes over: clients and Razorpay come again, leases run out, retries are due.
async fn recover(app: &TestApp, merchant: &Merchant, scene: Scene, prepared: &Value) {
    if scene == Scene::Create {
        let reply = merchant.post("/v1/checkout/sessions", prepared.clone()).await;
        assert!(matches!(reply.status, 201 | 409), "{reply:?}");
    }
    if scene == Scene::Kept {
        clear(app).await;
    }
    app.sandbox.flush_webhooks().await;
    // The binary's leases, 60 s at most, began a minute ahead of this clock.
    for _ in 0..4 {
        app.advance(TimeDelta::seconds(60)).await;
    }
}

async fn verify(app: &TestApp, merchant: &Merchant, receiver: &Receiver, scene: Scene, prepared: &Value) {
    let sessions = merchant.get("/v1/checkout/sessions").await.expect(200);
    assert_eq!(sessions["pagination"]["total"], 1, "{sessions}");
    let session = &sessions["items"][0];
    let ledger = app.sandbox.ledger();
    assert_eq!(ledger.links.len(), 1);
    let expected = match scene {
        Scene::Create | Scene::Resume | Scene::Deliver => "pending",
        Scene::Paid | Scene::Found | Scene::Known | Scene::Remembered | Scene::Inbox | Scene::Kept => {
            "completed"
        }
        Scene::Deadline | Scene::Cancel | Scene::CloseLink | Scene::Refund => "expired",
    };
    assert_eq!(session["checkout_status"], expected, "{session}");
    match scene {
        Scene::Create | Scene::Resume => {
            // The customer can pay, once.
            assert_eq!(prepared["idempotency_key"], session["idempotency_key"]);
            app.pay_and_settle(session).await;
            assert_eq!(merchant.read_session(session).await["checkout_status"], "completed");
        }
        Scene::Deadline | Scene::Cancel | Scene::CloseLink => {
            assert_eq!(ledger.links[0].status, LinkStatus::Cancelled);
        }
        Scene::Refund => {
            assert_eq!(ledger.refunds.len(), 1);
            let refunds: Vec<String> = sqlx::query_scalar("select refund_status from refunds")
                .fetch_all(&app.state().pool)
                .await
                .unwrap();
            assert_eq!(refunds, ["SUCCEEDED"]);
        }
        Scene::Deliver => {
            let received = receiver.received();
            assert!((1..=2).contains(&received.len()), "{}", received.len());
            // A repetition is the same event, byte for byte.
            assert!(
                received
                    .iter()
                    .all(|request| request.header("webhook-id") == received[0].header("webhook-id"))
            );
            assert!(received.iter().all(|request| request.body == received[0].body));
        }
        Scene::Paid | Scene::Found | Scene::Known | Scene::Remembered | Scene::Inbox | Scene::Kept => {}
    }
}

fn path(session: &Value) -> String {
    format!("/v1/checkout/sessions/{}", session["id"].as_str().unwrap())
}

/// Killed from outside while Razorpay makes the link: the request was sent, and the answer never read.
#[tokio::test]
async fn a_create_that_is_killed_while_razorpay_works_on_it() {
    let app = TestApp::start_with(Settings { behind: Some(BEHIND), ..Settings::default() }).await;
    let merchant = app.merchant().await;
    let prepared = prepare(&app, &merchant, &Receiver::start().await, Scene::Create).await;
    let rules = vec![FaultRule::times(1, Op::CreateLink, FaultKind::TimeoutAfter)];
    app.sandbox.set_faults(Faults { rules, ..Faults::default() });
    let binary = Binary::start(&app, None).await;
    let client = binary.client(&merchant);
    let request = client.builder(axum::http::Method::POST, "/v1/checkout/sessions").json(&prepared);
    let answer = request.header("x-api-key", &client.api_key).send();
    let kill_once_made = async {
        while app.sandbox.ledger().links.is_empty() {
            tokio::task::yield_now().await;
        }
        binary.kill().await;
    };
    let (answer, ()) = tokio::join!(answer, kill_once_made);
    assert!(answer.is_err());
    recover(&app, &merchant, Scene::Create, &prepared).await;
    verify(&app, &merchant, &Receiver::start().await, Scene::Create, &prepared).await;
    app.finish().await;
}

/// Killed while the merchant's endpoint has the event and has not answered.
#[tokio::test]
async fn a_delivery_that_is_killed_while_the_endpoint_works_on_it() {
    let app = TestApp::start_with(Settings { behind: Some(BEHIND), ..Settings::default() }).await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    prepare(&app, &merchant, &receiver, Scene::Deliver).await;
    receiver.hang_next();
    let binary = Binary::start(&app, None).await;
    while receiver.received().is_empty() {
        tokio::task::yield_now().await;
    }
    binary.kill().await;
    recover(&app, &merchant, Scene::Deliver, &Value::Null).await;
    verify(&app, &merchant, &receiver, Scene::Deliver, &Value::Null).await;
    assert_eq!(receiver.received().len(), 2);
    app.finish().await;
}
