//! More creates than can be made: some are refused, nothing else waits for them.

use futures::{
    StreamExt,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, Executor};
use tokio::task::JoinSet;

use crate::support::{Merchant, Settings, TestApp};

const PATH: &str = "/v1/checkout/sessions";
/// Two are drafted at a time, and 128 wait.
const LET_IN: usize = 130;
const REFUSED: usize = 10;

#[tokio::test]
async fn creates_that_would_wait_for_long_are_refused_and_leave_nothing() {
    let variables = vec![("CHECKOUTD_CREATES_AT_ONCE", "2")];
    let app = TestApp::start_with(Settings { variables, ..Settings::default() }).await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let plan = merchant.plan().await;

    // Nobody can draft while the customer's row is locked.
    let mut jam = sqlx::PgConnection::connect(&app.database_url).await.unwrap();
    jam.execute("begin; select 1 from customers for update").await.unwrap();
    let creates = (0..LET_IN + REFUSED).map(|number| {
        let body = Merchant::session_request(&plan);
        let merchant = &merchant;
        async move { merchant.post_keyed(&format!("order_{number}"), PATH, &body).await }
    });
    let mut creates: FuturesUnordered<_> = creates.collect();
    for _ in 0..REFUSED {
        let reply = creates.next().await.unwrap();
        assert_eq!(reply.headers["retry-after"], "1");
        let error = reply.expect_error(503, "service_unavailable");
        assert_eq!(
            (&error["details"]["reason"], &error["details"]["retryable"]),
            (&json!("overloaded"), &json!(true))
        );
    }

    // Everything else goes on.
    merchant.get(&format!("{PATH}/{}", session["id"].as_str().unwrap())).await.expect(200);
    app.pay_and_settle(&session).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");

    jam.execute("rollback").await.unwrap();
    let mut made = 0;
    while let Some(reply) = creates.next().await {
        match reply.status {
            201 => made += 1,
            // A slow machine: its turn did not come in time.
            _ => {
                let error = reply.expect_error(503, "service_unavailable");
                assert_eq!(error["details"]["reason"], "overloaded");
            }
        }
    }
    let rows = app.row_counts().await;
    let count = |table: &str| rows.iter().find(|(name, _)| name == table).unwrap().1;
    assert!(made >= 2, "those that had their turn: {made}");
    assert_eq!(count("checkout_sessions"), made + 1);
    assert_eq!(count("subscriptions"), made + 1, "who was refused left nothing");
    app.finish().await;
}

/// Whoever sends the headers of creates and nothing more must not keep others from creating.
#[tokio::test]
async fn a_create_whose_body_does_not_come_takes_nobodys_place() {
    let variables = vec![("CHECKOUTD_CREATES_AT_ONCE", "2")];
    let app = TestApp::start_with(Settings { variables, ..Settings::default() }).await;
    let merchant = app.merchant().await;
    let mut stalled = JoinSet::new();
    for _ in 0..LET_IN {
        // With its first byte the client sends the headers.
        let begun = stream::once(async { Ok::<_, std::io::Error>(vec![b'{']) }).chain(stream::pending());
        let request = merchant.builder(Method::POST, PATH).header("x-api-key", &merchant.api_key);
        stalled.spawn(request.body(reqwest::Body::wrap_stream(begun)).send());
    }
    // They are on their way before the create is.
    join_all((0..LET_IN).map(|_| merchant.get("/v1/users/me"))).await;
    merchant.session().await;
    stalled.shutdown().await;
    app.finish().await;
}
