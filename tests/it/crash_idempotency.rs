//! The process dies on the way of a create under an `Idempotency-Key`: the same request goes on where it stopped.
//!
//! No worker helps: the clock is moved by hand, and the retry itself has to find the session and its link.

use chrono::TimeDelta;
use serde_json::json;

use crate::{
    idempotency::{is_in_progress, is_replay},
    support::{Binary, Merchant, Settings, TestApp},
};

macro_rules! crashes {
    ($($test:ident at $checkpoint:literal;)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                crash($checkpoint).await;
            }
        )*

        /// For the list of all.
        pub const COVERED: &[&str] = &[$($checkpoint),*];
    };
}

crashes! {
    keyed_create_when_its_key_is_claimed at "idempotency.claimed";
    keyed_create_after_its_draft at "create.drafted";
    keyed_create_after_the_link_was_made at "create.linked";
    keyed_create_after_the_second_commit at "settle.committed";
    keyed_create_before_its_answer at "create.settled";
    keyed_create_before_its_answer_is_stored at "idempotency.answered";
    keyed_create_before_its_answer_is_sent at "idempotency.stored";
}

const SESSIONS: &str = "/v1/checkout/sessions";

async fn crash(checkpoint: &str) {
    let settings = Settings { behind: Some(TimeDelta::seconds(60)), ..Settings::default() };
    let app = TestApp::start_with(settings).await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let mut request = Merchant::session_request(&plan);
    request["idempotency_key"] = json!("order_1");
    let binary = Binary::start(&app, Some(checkpoint)).await;
    let answer = binary.client(&merchant).keyed("k", SESSIONS, Some(&request)).send().await;
    assert!(answer.is_err(), "it should have died before it answered: {answer:?}");
    binary.until_death_at(checkpoint).await;

    let mut reply = merchant.post_keyed("k", SESSIONS, &request).await;
    if checkpoint == "idempotency.stored" {
        assert!(is_replay(&reply));
    } else {
        // Its lease of a minute began a minute ahead of this clock.
        is_in_progress(reply);
        app.clock().advance(TimeDelta::seconds(125));
        reply = merchant.post_keyed("k", SESSIONS, &request).await;
        assert!(!is_replay(&reply));
    }
    let again = merchant.post_keyed("k", SESSIONS, &request).await;
    assert_eq!((again.status, &again.text, is_replay(&again)), (201, &reply.text, true));

    let session = reply.expect(201);
    assert_eq!(session["checkout_status"], "pending", "{session}");
    let sessions = merchant.get(SESSIONS).await.expect(200);
    assert_eq!((&sessions["pagination"]["total"], &sessions["items"][0]["id"]), (&json!(1), &session["id"]));
    let links = app.sandbox.ledger().links;
    assert_eq!(
        links.iter().map(|link| &*link.short_url).collect::<Vec<_>>(),
        [session["payment_action"]["url"].as_str().unwrap()]
    );
    app.pay_and_settle(&session).await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    app.finish().await;
}
