//! The same thing many times at once: one winner, no half effects.

use checkoutd::worker;
use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::json;

use crate::support::{Merchant, Reply, TestApp, send};

#[tokio::test]
async fn a_hundred_creates_with_one_key_make_one_session_and_one_link() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let mut request = Merchant::session_request(&plan);
    request["idempotency_key"] = json!("order_1");
    let replies = join_all((0..100).map(|_| merchant.post("/v1/checkout/sessions", request.clone()))).await;
    let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert!(statuses[1..].iter().all(|status| *status == 409), "{statuses:?}");
    let ids: std::collections::HashSet<_> = replies
        .iter()
        .map(crate::support::Reply::json)
        .map(|body| body.get("id").unwrap_or(&body["details"]["checkout_session_id"]).to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(app.sandbox.ledger().links.len(), 1);
    app.finish().await;
}

/// Webhooks, deadline, cancels, deletes and polls of one session, 64 at a time and on two processes.
#[tokio::test]
async fn everything_at_once_has_one_outcome() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (second, other) = (app.second(), app.replica(&merchant).await);
    for round in 0..50 {
        let session = merchant.session().await;
        let id = session["id"].as_str().unwrap();
        if round % 3 != 0 {
            app.pay(&session);
        }
        // Due at once, when the round is to include the deadline.
        let by = if round % 2 == 0 { TimeDelta::minutes(15) } else { TimeDelta::zero() };
        app.clock().advance(by);
        let webhook = paid_webhook(&app, id);
        let path = format!("/v1/checkout/sessions/{id}");
        let cancel = format!("{path}/cancel");
        let both = [&merchant, &other];
        let webhooks =
            join_all((0..12).filter_map(|n| webhook.as_ref().map(|event| event.post(both[n % 2]))));
        let cancels = join_all((0..12).map(|n| both[n % 2].post_empty(&cancel)));
        let deletes = join_all((0..12).map(|n| both[n % 2].delete(&path)));
        let polls = join_all((0..24).map(|n| both[n % 2].get(&path)));
        let workers = join_all([app.state(), &second].map(worker::drain_all));
        let (webhooks, cancels, deletes, polls, workers) =
            tokio::join!(webhooks, cancels, deletes, polls, workers);
        assert!(workers.iter().all(Result::is_ok), "{workers:?}");
        assert!(webhooks.iter().all(|reply| reply.status == 200), "{webhooks:?}");
        assert!(polls.iter().all(|reply| reply.status == 200), "{polls:?}");
        let status = merchant.read_session(&session).await["checkout_status"].as_str().unwrap().to_owned();
        let paid = round % 3 != 0;
        assert_eq!(status, if paid { "completed" } else { "expired" }, "round {round}");
        let (cancelled, deleted) = if paid { (400, 400) } else { (200, 204) };
        assert!(cancels.iter().all(|reply| reply.status == cancelled), "{cancels:?}");
        assert!(deletes.iter().all(|reply| reply.status == deleted), "{deletes:?}");
    }
    app.sandbox.flush_webhooks().await;
    app.drain().await;
    assert!(app.sandbox.ledger().refunds.is_empty(), "paid wins, each time");
    app.finish().await;
}

/// Razorpay's word that a session's link was paid, as it was queued.
struct PaidWebhook {
    path: String,
    body: String,
    signature: String,
}

fn paid_webhook(app: &TestApp, session: &str) -> Option<PaidWebhook> {
    let sent = app.sandbox.ledger().deliveries;
    let event =
        sent.into_iter().find(|sent| sent.event == "payment_link.paid" && sent.body.contains(session))?;
    let path = event.url.strip_prefix(&app.base_url).unwrap().to_owned();
    Some(PaidWebhook { path, body: event.body, signature: event.signature.unwrap() })
}

impl PaidWebhook {
    async fn post(&self, merchant: &Merchant) -> Reply {
        let request = merchant.builder(axum::http::Method::POST, &self.path);
        send(request.header("x-razorpay-signature", &self.signature).body(self.body.clone())).await
    }
}

#[tokio::test]
async fn one_webhook_thirty_times_at_once_completes_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay(&session);
    let event = app
        .sandbox
        .ledger()
        .deliveries
        .into_iter()
        .find(|delivery| delivery.event == "payment_link.paid")
        .unwrap();
    let posts = (0..30).map(|number| {
        let request = merchant.http.post(&event.url).body(event.body.clone());
        // The event id is not signed: another one makes no other event.
        let request = request.header("x-razorpay-event-id", format!("evt{number}"));
        send(request.header("x-razorpay-signature", event.signature.as_deref().unwrap()))
    });
    assert!(join_all(posts).await.iter().all(|reply| reply.status == 200));
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn a_waiting_reader_gets_the_answer_as_soon_as_there_is_one() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    // Uses up the window in which a reader asks the provider: the webhook must be what ends the wait.
    merchant.read_session(&session).await;
    let path = format!("/v1/checkout/sessions/{}?wait=20", session["id"].as_str().unwrap());
    let settle = async {
        while app.clock().sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        app.pay(&session);
        app.sandbox.flush_webhooks().await;
    };
    let (reply, ()) = tokio::join!(merchant.get(&path), settle);
    assert_eq!(reply.expect(200)["checkout_status"], "completed");
    app.finish().await;
}

#[tokio::test]
async fn readers_of_one_session_share_one_look_at_the_provider() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let path = format!("/v1/checkout/sessions/{}", session["id"].as_str().unwrap());
    let replies = join_all((0..10).map(|_| merchant.get(&path))).await;
    let fresh = replies.into_iter().filter(|reply| reply.json()["stale"] == false).count();
    assert_eq!(fresh, 1);
    app.clock().advance(TimeDelta::seconds(2));
    assert_eq!(merchant.get(&path).await.expect(200)["stale"], false);
    app.finish().await;
}

/// The request has read the customer, and waits for the transaction that archives it.
#[tokio::test]
async fn a_session_is_not_made_for_a_customer_who_is_archived_meanwhile() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let mut archiving = app.state().pool.begin().await.unwrap();
    sqlx::query("select from customers for update").execute(&mut *archiving).await.unwrap();
    sqlx::query("update customers set status = 'archived'").execute(&mut *archiving).await.unwrap();
    let commit_once_waited_for = async {
        app.until_waiting_for_locks(1).await;
        archiving.commit().await.unwrap();
    };
    let create = merchant.post("/v1/checkout/sessions", Merchant::session_request(&plan));
    let (reply, ()) = tokio::join!(create, commit_once_waited_for);
    assert_eq!(reply.expect_error(400, "validation_error")["details"]["reason"], "archived");
    assert!(app.sandbox.ledger().links.is_empty());
    app.finish().await;
}
