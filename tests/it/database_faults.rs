//! Postgres that is slow, cut off, locked or in conflict: nothing acknowledged is lost, nothing is done by halves.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use checkoutd::{
    checkout, inbox, payments,
    sandbox::{Delivery, PayRequest},
    worker,
};
use chrono::TimeDelta;
use futures::{FutureExt, future::join_all};
use serde_json::{Value, json};

use crate::support::{Binary, Loss, Merchant, Reply, Settings, TestApp, WEBHOOK_SECRET, send};

async fn start_behind_proxy(pool_size: u32) -> TestApp {
    TestApp::start_with(Settings { proxied_pool: Some(pool_size), ..Settings::default() }).await
}

async fn scalar(app: &TestApp, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&app.state().pool).await.unwrap()
}

fn key(request: &Value, number: usize) -> Value {
    let mut request = request.clone();
    request["idempotency_key"] = json!(format!("order_{number}"));
    request
}

/// What a merchant's backend does: again with the same key until it has its session.
async fn create_until_known(merchant: &Merchant, request: &Value) -> String {
    for _ in 0..20 {
        let reply = merchant.post("/v1/checkout/sessions", request.clone()).await;
        let body = reply.json();
        match reply.status {
            201 => return body["id"].as_str().unwrap().to_owned(),
            409 => return body["details"]["checkout_session_id"].as_str().unwrap().to_owned(),
            503 => assert_eq!(body["details"]["retryable"], true, "{body}"),
            _ => panic!("{reply:?}"),
        }
    }
    panic!("the session never became known");
}

/// The clients' connections break off at each millisecond of a create, while Postgres answers late and connections are
/// few. Other clients' writes must not vanish with a transaction that somebody left open (F8).
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the client gives up; nothing here holds a connection")]
async fn clients_that_go_away_in_the_middle_take_nobody_elses_write_with_them() {
    let app = start_behind_proxy(2).await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let request = Merchant::session_request(&plan);
    app.proxy().delay(Duration::from_millis(5));
    let mut acknowledged = 0;
    for patience_ms in 0..60 {
        let body = key(&request, patience_ms);
        let impatient = merchant.post("/v1/checkout/sessions", body);
        let impatient = tokio::time::timeout(Duration::from_millis(patience_ms as u64), impatient);
        let body = json!({"external_id": format!("patient_{patience_ms}"), "name": "Jane Smith"});
        let (_, patient) = tokio::join!(impatient, merchant.post("/v1/customers", body));
        // Two connections can all be taken: then it says so.
        match patient.status {
            201 => acknowledged += 1,
            _ => assert_eq!(patient.status, 503, "{patient:?}"),
        }
    }
    app.proxy().calm();
    let kept = scalar(&app, "select count(*) from customers where external_id like 'patient%'").await;
    assert!(kept >= acknowledged, "{acknowledged} were acknowledged, {kept} are there");
    assert!(acknowledged > 30, "{acknowledged}");
    // What the impatient began has come to its end.
    for number in 0..60 {
        create_until_known(&merchant, &key(&request, number)).await;
    }
    app.advance(TimeDelta::seconds(30)).await;
    assert_eq!(app.sandbox.ledger().links.len(), 60);
    let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(scalar(&app, open).await, 0);
    app.finish().await;
}

/// A client goes away at the moment at which a transaction begins. Who gets the connection next must not write into
/// that transaction: the answer would be 201, and nobody else would see the row (docs/adr/0003).
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the client gives up; nothing here holds a connection")]
async fn what_is_acknowledged_is_seen_by_all_whoever_went_away_before() {
    let app = start_behind_proxy(1).await;
    let merchant = app.merchant().await;
    let others = checkoutd::db::connect(&app.database_url.as_str().into(), 1).unwrap();
    app.proxy().delay(Duration::from_millis(5));
    for patience_ms in 0..60 {
        // Concerns nobody, and its transaction begins early.
        let event = json!({"event": format!("invoice.paid_{patience_ms}")}).to_string();
        let impatient = merchant.post_signed(event, WEBHOOK_SECRET);
        let _ = tokio::time::timeout(Duration::from_millis(patience_ms), impatient).await;
        let external_id = format!("patient_{patience_ms}");
        let body = json!({"external_id": external_id, "name": "Jane Smith"});
        merchant.post("/v1/customers", body).await.expect(201);
        let seen = sqlx::query_scalar("select exists (select from customers where external_id = $1)");
        let seen: bool = seen.bind(external_id).fetch_one(&others).await.unwrap();
        assert!(seen, "acknowledged, and not there: the client before had {patience_ms} ms of patience");
    }
    app.proxy().calm();
    others.close().await;
    app.finish().await;
}

/// As many as a create or a completion has, looks at connections that come back included, and one for luck.
const REQUESTS: u32 = 7;

/// Postgres has carried out a statement, and its answer is lost: at each statement of a create in turn (F10).
#[tokio::test]
async fn a_create_whose_commit_is_unknown_is_found_by_its_key() {
    let app = start_behind_proxy(3).await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let request = Merchant::session_request(&plan);
    for passing in 0..24 {
        let body = key(&request, passing);
        app.proxy().lose_answer_after(u32::try_from(passing).unwrap() % REQUESTS, Loss::Request);
        let reply = merchant.post("/v1/checkout/sessions", body.clone()).await;
        assert!(matches!(reply.status, 201 | 503), "{reply:?}");
        app.proxy().calm();
        let id = create_until_known(&merchant, &body).await;
        if reply.status == 201 {
            assert_eq!(reply.json()["id"], id.as_str());
        }
    }
    assert!(app.proxy().lost() > 12, "{} answers were lost", app.proxy().lost());
    app.advance(TimeDelta::seconds(30)).await;
    let sessions = merchant.get("/v1/checkout/sessions?limit=100").await.expect(200);
    assert_eq!(sessions["pagination"]["total"], 24, "one per key");
    for session in sessions["items"].as_array().unwrap() {
        assert_eq!(session["checkout_status"], "pending", "{session}");
    }
    assert_eq!(app.sandbox.ledger().links.len(), 24, "one per session");
    app.finish().await;
}

/// The same for the webhook that completes: Razorpay repeats what was not acknowledged.
#[tokio::test]
async fn a_completion_whose_commit_is_unknown_happens_once() {
    let app = start_behind_proxy(3).await;
    let merchant = app.merchant().await;
    for passing in 0..16 {
        let session = merchant.session().await;
        app.pay(&session);
        let event = paid_event(&app, session["id"].as_str().unwrap());
        app.proxy().lose_answer_after(passing % REQUESTS, Loss::Request);
        let first = post(&merchant, &event).await;
        app.proxy().calm();
        assert!(matches!(first.status, 200 | 503), "{first:?}");
        let mut repeated = post(&merchant, &event).await;
        while repeated.status == 503 {
            repeated = post(&merchant, &event).await;
        }
        repeated.expect(200);
        app.advance(TimeDelta::seconds(3)).await;
        assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    }
    assert!(app.proxy().lost() > 8, "{} answers were lost", app.proxy().lost());
    app.finish().await;
}

fn paid_event(app: &TestApp, session: &str) -> Delivery {
    let sent = app.sandbox.ledger().deliveries;
    sent.into_iter().find(|sent| sent.event == "payment_link.paid" && sent.body.contains(session)).unwrap()
}

async fn post(merchant: &Merchant, event: &Delivery) -> Reply {
    let request = merchant.http.post(&event.url).body(event.body.clone());
    send(request.header("x-razorpay-signature", event.signature.as_deref().unwrap())).await
}

/// Connections are ended by the server in the middle of everything (F11).
#[tokio::test]
async fn connections_that_the_server_ends_cost_a_retry_and_nothing_else() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let request = Merchant::session_request(&plan);
    let killer = checkoutd::db::connect(&app.database_url.as_str().into(), 1).unwrap();
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()";
    let killing = async {
        for _ in 0..40 {
            let _ = sqlx::query_scalar::<_, i64>(kill).fetch_one(&killer).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let creating = join_all((0..40).map(|number| {
        let (merchant, body) = (merchant.clone(), key(&request, number));
        async move { create_until_known(&merchant, &body).await }
    }));
    let (ids, ()) = tokio::join!(creating, killing);
    killer.close().await;
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 40);
    app.advance(TimeDelta::seconds(30)).await;
    assert_eq!(
        scalar(&app, "select count(*) from checkout_sessions where checkout_status = 'pending'").await,
        40
    );
    app.finish().await;
}

/// A table that the API needs is locked, and the API takes every connection that it can get. Payments go on: those that
/// are told of, deadlines and refunds (F12).
#[tokio::test]
async fn a_locked_table_stops_the_api_and_not_the_payments() {
    let variables = vec![("CHECKOUTD_SESSION_TTL_SECONDS", "75")];
    let settings = Settings { behind: Some(TimeDelta::seconds(60)), variables, ..Settings::default() };
    let app = TestApp::start_with(settings).await;
    let merchant = app.merchant().await;
    // Its deadline passes in the middle of it all, 15 seconds from now; the others' does not.
    let overdue = merchant.session().await;
    app.clock().advance(TimeDelta::seconds(50));
    let (session, cancelled) = (merchant.session().await, merchant.session().await);
    let path = format!("/v1/checkout/sessions/{}/cancel", cancelled["id"].as_str().unwrap());
    merchant.post_empty(&path).await.expect(200);
    app.pay(&session);
    let late = PayRequest { late: true, ..PayRequest::default() };
    let late = app.sandbox.pay(cancelled["id"].as_str().unwrap(), late).unwrap();
    let sent = app.sandbox.ledger().deliveries;
    let captured = |sent: &Delivery| sent.event == "payment.captured" && sent.body.contains(&late.payment_id);
    let events =
        [paid_event(&app, session["id"].as_str().unwrap()), sent.into_iter().find(captured).unwrap()];
    let binary = Binary::start(&app, None).await;
    let client = binary.client(&merchant);
    let mut locking = app.state().pool.begin().await.unwrap();
    sqlx::raw_sql(
        "set local idle_in_transaction_session_timeout = 0; lock table customers in access exclusive mode",
    )
    .execute(&mut *locking)
    .await
    .unwrap();
    let done = Cell::new(false);
    let customers = join_all((0..60).map(|number| {
        let body = json!({"external_id": format!("waiting_{number}"), "name": "Jane Smith"});
        let (client, done) = (client.clone(), &done);
        async move {
            while !done.get() {
                let reply = client.post("/v1/customers", body.clone()).await;
                assert_eq!(reply.status, 503, "{reply:?}");
                assert!(reply.headers.contains_key("retry-after"));
            }
        }
    }));
    let meanwhile = async {
        // All that the API may take.
        app.until_waiting_for_locks(3).await;
        for event in &events {
            let path = event.url.replace(&app.base_url, &client.base_url);
            let request = client.http.post(path).body(event.body.clone());
            let signature = event.signature.as_deref().unwrap();
            send(request.header("x-razorpay-signature", signature)).await.expect(200);
        }
        client.get("/healthz").await.expect(200);
        let ended =
            "select count(*) from checkout_sessions where checkout_status in ('completed', 'expired')";
        let refunded = "select count(*) from refunds where refund_status = 'SUCCEEDED'";
        let began = Instant::now();
        while (scalar(&app, ended).await, scalar(&app, refunded).await) != (3, 1) {
            assert!(began.elapsed() < Duration::from_secs(60), "payments wait for the API");
            tokio::task::yield_now().await;
        }
        done.set(true);
    };
    tokio::join!(customers, meanwhile);
    locking.rollback().await.unwrap();
    client.post("/v1/customers", json!({"external_id": "later", "name": "Jane Smith"})).await.expect(201);
    for (session, status) in [(&session, "completed"), (&overdue, "expired"), (&cancelled, "expired")] {
        assert_eq!(merchant.read_session(session).await["checkout_status"], status);
    }
    app.finish().await;
}

/// Postgres picks a transaction as the victim of a deadlock or a conflict, so many times in a row (F13).
async fn conflict(app: &TestApp, code: &str, times: i32) {
    let pool = &app.state().pool;
    let statements = [
        "create sequence if not exists conflicts".to_owned(),
        "alter sequence conflicts restart".to_owned(),
        format!(
            "create or replace function conflict() returns trigger language plpgsql as $$
             begin
                 if nextval('conflicts') <= {times} then raise exception 'conflict' using errcode = '{code}'; end if;
                 return new;
             end $$"
        ),
        "create or replace trigger conflict before insert on session_transitions for each row execute function conflict()".to_owned(),
    ];
    for statement in statements {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(pool).await.unwrap();
    }
}

#[tokio::test]
async fn a_conflict_is_tried_again_a_few_times_and_then_answered_as_retryable() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    merchant.customer("user_12345").await;
    let request = Merchant::session_request(&plan);
    for (number, code) in ["40P01", "40001"].into_iter().enumerate() {
        conflict(&app, code, 3).await;
        merchant.post("/v1/checkout/sessions", key(&request, number)).await.expect(201);
        conflict(&app, code, 1_000_000).await;
        let body = key(&request, 10 + number);
        let reply = merchant.post("/v1/checkout/sessions", body.clone()).await;
        assert!(reply.headers.contains_key("retry-after"));
        let error = reply.expect_error(503, "service_unavailable");
        assert_eq!(error["details"]["retryable"], true);
        conflict(&app, code, 0).await;
        // Its link was made: the worker takes it up.
        let id = create_until_known(&merchant, &body).await;
        assert_eq!(error["details"]["checkout_session_id"], id.as_str());
        app.advance(TimeDelta::seconds(16)).await;
        let session = merchant.get(&format!("/v1/checkout/sessions/{id}")).await.expect(200);
        assert_eq!(session["checkout_status"], "pending");
    }
    assert_eq!(app.sandbox.ledger().links.len(), 4);
    worker::drain_all(app.state()).await.unwrap();
    app.finish().await;
}

/// After a failover the old primary still answers, and refuses to write: its connection is not used again.
#[tokio::test]
async fn a_connection_to_a_server_that_became_read_only_is_used_once() {
    let app = start_behind_proxy(1).await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    let update = json!({"name": "Pro, again"});
    let path = format!("/v1/plans/{plan}");
    merchant.put(&path, update.clone()).await.expect(200);
    sqlx::raw_sql("set default_transaction_read_only = on").execute(&app.state().pool).await.unwrap();
    merchant.put(&path, update.clone()).await.expect_error(503, "service_unavailable");
    merchant.put(&path, update).await.expect(200);
    app.finish().await;
}

/// The same where nothing but plain statements runs, as on the connections of looks at sessions: the worker's claim
/// finds out.
#[tokio::test]
async fn a_claim_from_a_server_that_became_read_only_is_its_connections_last_statement() {
    let app = start_behind_proxy(1).await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.clock().advance(TimeDelta::minutes(15));
    let read_only = "set default_transaction_read_only = on";
    for claim in [
        worker::drain(app.state(), &checkout::CheckSessions).boxed(),
        worker::drain(app.state(), &inbox::DriveInbox).boxed(),
        worker::drain(app.state(), &payments::SendRefunds).boxed(),
    ] {
        sqlx::raw_sql(read_only).execute(&app.state().pool).await.unwrap();
        let error = claim.await.unwrap_err();
        assert!(error.to_string().contains("read-only transaction"), "{error:#}");
        let writes = "create temporary table now_it_writes () on commit drop";
        sqlx::raw_sql(writes).execute(&app.state().pool).await.unwrap();
    }
    app.drain().await;
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "expired");
    app.finish().await;
}
