//! Runs that come too late, and what a later run may and may not do about what became of an earlier one.

use checkoutd::db::Pool;

use super::{
    reruns::{lose_answer, run_again},
    *,
};
use crate::support::{Receiver, verifies};

const KEYS: &str = "/v1/secrets/api/keys";
const ENDPOINTS: &str = "/v1/webhook_endpoints";

/// The first request has claimed its key and then gets no connection from its `pool` until the second, sent when the
/// lease is over, was answered.
async fn overtaken(
    app: &TestApp,
    pool: &Pool,
    key: &str,
    first: reqwest::RequestBuilder,
    second: reqwest::RequestBuilder,
) -> (Reply, Reply) {
    let mut held = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        held.push(pool.acquire().await.unwrap());
    }
    let takeover = async {
        while answered(app, key).await.is_none() {
            // Connections are given in the order of asking: the first request gets this one for a single statement.
            drop(held.pop());
            held.push(pool.acquire().await.unwrap());
        }
        app.clock().advance(LEASE);
        let reply = send(second).await;
        drop(held);
        reply
    };
    tokio::join!(send(first), takeover)
}

#[tokio::test]
async fn a_run_that_comes_too_late_replaces_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    let (late_app, late) = app.replica_by(&merchant, app.state().clock.clone()).await;
    let rotate = format!("{ENDPOINTS}/{}/secret/rotate", endpoint["id"].as_str().unwrap());
    for (path, body) in [
        (KEYS, Some(json!({"name": "Backend", "type": "private_key"}))),
        ("/v1/environments", Some(json!({"name": "Staging", "type": "development"}))),
        (&*rotate, None),
    ] {
        let (first, second) =
            (late.keyed(path, path, body.as_ref()), merchant.keyed(path, path, body.as_ref()));
        let (first, second) = overtaken(&app, &late_app.pool, path, first, second).await;
        is_in_progress(first);
        assert!(matches!(second.status, 200 | 201), "{path}: {}", second.text);
        let again = send(merchant.keyed(path, path, body.as_ref())).await;
        assert_eq!((&again.text, is_replay(&again)), (&second.text, true), "{path}");
        let acknowledged = second.json();
        if let Some(api_key) = acknowledged["api_key"].as_str() {
            app.add_canary(api_key);
            let caller = Merchant { api_key: api_key.into(), ..merchant.clone() };
            assert_eq!(caller.get("/v1/users/me").await.status, 200, "{path}");
        } else {
            app.add_canary(acknowledged["secret"].as_str().unwrap());
            merchant.post_empty(&rotate.replace("secret/rotate", "test")).await.expect(202);
            app.drain().await;
            let sent = receiver.received().pop().unwrap();
            assert!([&endpoint, &acknowledged].iter().all(|shown| verifies(&sent, &shown["secret"])));
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn what_was_made_and_is_gone_is_not_made_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    for (path, body, id) in [
        (ENDPOINTS, json!({"url": receiver.url()}), "/id"),
        (KEYS, json!({"name": "Backend", "type": "private_key"}), "/secret/id"),
    ] {
        let made = merchant.post_keyed(path, path, &body).await.expect(201);
        let made = made.pointer(id).unwrap().as_str().unwrap();
        lose_answer(&app, path).await;
        merchant.delete(&format!("{path}/{made}")).await.expect(204);
        let rows = app.row_counts().await;
        run_again(&app, &merchant, path, path, Some(&body)).await.expect_error(409, "already_exists");
        for _ in 0..3 {
            // At once: nobody waits for a lease.
            let again = merchant.post_keyed(path, path, &body).await;
            again.expect_error(409, "already_exists");
        }
        is_reused(merchant.post_keyed(path, path, &json!({"another": "request"})).await);
        assert_eq!(app.row_counts().await, rows, "{path}");
    }
    app.finish().await;
}

/// Whether the first run or somebody else changed it does not show: what failed is tried again.
#[tokio::test]
async fn what_failed_since_the_first_run_is_tried_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    merchant.post_empty(&format!("{ENDPOINTS}/{}/test", endpoint["id"].as_str().unwrap())).await.expect(202);
    app.drain().await;
    let path = format!("{ENDPOINTS}/{}/deliveries", endpoint["id"].as_str().unwrap());
    let delivery = merchant.get(&path).await.expect(200)["items"][0]["id"].as_str().unwrap().to_owned();
    let resend = format!("/v1/deliveries/{delivery}/resend");
    app.clock().advance(TimeDelta::minutes(1));
    receiver.answer_next(500);
    send(merchant.keyed("k", &resend, None)).await.expect(202);
    app.drain().await;
    assert_eq!(receiver.received().len(), 2);
    lose_answer(&app, "k").await;
    sqlx::query("update deliveries set delivery_status = 'exhausted', next_attempt_at = null")
        .execute(&app.state().pool)
        .await
        .unwrap();
    run_again(&app, &merchant, "k", &resend, None).await.expect(202);
    app.drain().await;
    assert_eq!(receiver.received().len(), 3, "it was sent again");

    let (session, _) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(crate::refunds::outcome(checkoutd::sandbox::RefundStatus::Failed));
    app.drain().await;
    let refund = merchant.refund_of(&session).await;
    let retry = format!("/v1/refunds/{}/retry", refund["id"].as_str().unwrap());
    send(merchant.keyed("r", &retry, None)).await.expect(200);
    app.drain().await;
    assert_eq!(merchant.refund_of(&session).await["refund_status"], "FAILED");
    app.sandbox.set_faults(checkoutd::sandbox::Faults::default());
    let again = run_again(&app, &merchant, "r", &retry, None).await.expect(200);
    assert_eq!(again["refund_status"], "PENDING");
    app.drain().await;
    assert_eq!(merchant.refund_of(&session).await["refund_status"], "SUCCEEDED");
    app.finish().await;
}

/// A key that is revoked lies nowhere any more.
#[tokio::test]
async fn the_answer_that_shows_a_key_goes_with_it() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (body, other) =
        (json!({"name": "Backend", "type": "private_key"}), json!({"name": "Other", "type": "private_key"}));
    let environment = json!({"name": "Staging", "type": "development"});
    let made = merchant.post_keyed("made", KEYS, &body).await.expect(201);
    merchant.post_keyed("other", KEYS, &other).await.expect(201);
    let first = merchant.post_keyed("environment", "/v1/environments", &environment).await.expect(201);
    app.clock().advance(TimeDelta::days(3));

    merchant.delete(&format!("{KEYS}/{}", made["secret"]["id"].as_str().unwrap())).await.expect(204);
    assert_eq!(answered(&app, "made").await, Some(false));
    assert_eq!(answered(&app, "other").await, Some(true));
    let rows = app.row_counts().await;
    for _ in 0..2 {
        let again = merchant.post_keyed("made", KEYS, &body).await;
        assert!(!is_replay(&again));
        again.expect_error(409, "already_exists");
    }
    assert_eq!(app.row_counts().await, rows);

    // An environment's first key came with it.
    let own = Merchant { api_key: first["api_key"].as_str().unwrap().to_owned(), ..merchant.clone() };
    let listed = own.get(KEYS).await.expect(200);
    let next = own.post(KEYS, body).await.expect(201);
    let next = Merchant { api_key: next["api_key"].as_str().unwrap().to_owned(), ..merchant.clone() };
    next.delete(&format!("{KEYS}/{}", listed["items"][0]["id"].as_str().unwrap())).await.expect(204);
    assert_eq!(answered(&app, "environment").await, Some(false));
    own.get(KEYS).await.expect_error(401, "unauthorized");
    app.finish().await;
}
