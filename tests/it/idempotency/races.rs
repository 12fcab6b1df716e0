//! Requests under one key at the same time, and clients that do not wait.

use futures::future::{Either, join_all, select};

use super::*;

#[tokio::test]
async fn many_at_once_under_one_key_make_one_session_and_one_link() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let other = app.replica(&merchant).await;
    let request = session_request(&merchant).await;
    let both = [&merchant, &other];
    let replies = join_all((0..40).map(|n| both[n % 2].post_keyed("k", SESSIONS, &request))).await;
    let made: Vec<_> = replies.iter().filter(|reply| reply.status == 201).collect();
    assert_eq!(made.iter().filter(|reply| !is_replay(reply)).count(), 1, "one of them did it");
    assert_eq!(made.iter().map(|reply| &reply.text).collect::<HashSet<_>>().len(), 1);
    let text = made[0].text.clone();
    for reply in replies.into_iter().filter(|reply| reply.status != 201) {
        is_in_progress(reply);
    }
    assert_eq!(other.post_keyed("k", SESSIONS, &request).await.text, text);
    assert_eq!((count(&app, "checkout_sessions").await, app.sandbox.ledger().links.len()), (1, 1));
    app.finish().await;
}

#[tokio::test]
async fn a_run_that_was_taken_for_dead_and_comes_back_writes_nothing_twice() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let request = session_request(&merchant).await;
    // The draft waits for the customer's row.
    let mut holder = app.state().pool.begin().await.unwrap();
    sqlx::query("select from customers for update").execute(&mut *holder).await.unwrap();
    let first = merchant.post_keyed("k", SESSIONS, &request);
    let takeover = async {
        while answered(&app, "k").await.is_none() {
            tokio::task::yield_now().await;
        }
        app.clock().advance(LEASE);
        let second = merchant.post_keyed("k", SESSIONS, &request);
        let release = async {
            app.until_waiting_for_locks(2).await;
            holder.rollback().await.unwrap();
        };
        tokio::join!(second, release).0
    };
    let (first, second) = tokio::join!(first, takeover);
    is_in_progress(first);
    let again = merchant.post_keyed("k", SESSIONS, &request).await;
    assert_eq!((second.status, &again.text, is_replay(&again)), (201, &second.text, true));
    assert_eq!((count(&app, "checkout_sessions").await, app.sandbox.ledger().links.len()), (1, 1));
    app.finish().await;
}

#[tokio::test]
async fn a_client_that_went_away_gets_the_answer_when_it_comes_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let request = session_request(&merchant).await;
    let mut holder = app.state().pool.begin().await.unwrap();
    sqlx::query("select from customers for update").execute(&mut *holder).await.unwrap();
    let sent = Box::pin(merchant.post_keyed("k", SESSIONS, &request));
    let waiting = Box::pin(app.until_waiting_for_locks(1));
    match select(sent, waiting).await {
        Either::Left((reply, _)) => panic!("answered without the customer: {reply:?}"),
        // Its connection is closed here.
        Either::Right(((), sent)) => drop(sent),
    }
    holder.rollback().await.unwrap();
    while answered(&app, "k").await != Some(true) {
        tokio::task::yield_now().await;
    }
    let reply = merchant.post_keyed("k", SESSIONS, &request).await;
    assert!(is_replay(&reply));
    assert_eq!(reply.expect(201)["checkout_status"], "pending");
    assert_eq!((count(&app, "checkout_sessions").await, app.sandbox.ledger().links.len()), (1, 1));
    app.finish().await;
}
