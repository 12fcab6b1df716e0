//! What becomes of provider events that cannot be settled at once, or ever.

use checkoutd::{
    inbox::{DriveInbox, Sweep},
    sandbox::{Delivery, FaultKind, FaultRule, Faults, Op, PayMethod, PayOutcome, PayRequest},
    worker::{self, Job},
};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Merchant, TestApp, WEBHOOK_SECRET, razorpay::paid_event, send};

const AMOUNT: i64 = 49_900;

async fn sql(app: &TestApp, statement: impl Into<String>) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.into())).execute(&app.state().pool).await.unwrap();
}

/// Only the inbox's worker: deadlines and reads would find the payment too.
async fn drive(app: &TestApp) -> usize {
    worker::drain(app.state(), &DriveInbox).await.unwrap()
}

async fn drive_after(app: &TestApp, wait: TimeDelta) -> usize {
    app.clock().advance(wait);
    drive(app).await
}

/// Status, outcome, attempts and error of every stored event.
async fn stored(app: &TestApp) -> Vec<(String, Option<String>, i32, Option<String>)> {
    sqlx::query_as(
        "select inbox_status, outcome, attempt_count, last_error from inbox order by received_at, id",
    )
    .fetch_all(&app.state().pool)
    .await
    .unwrap()
}

async fn status(app: &TestApp, session: &Value) -> String {
    let id: checkoutd::checkout::SessionId = session["id"].as_str().unwrap().parse().unwrap();
    sqlx::query_scalar("select checkout_status from checkout_sessions where id = $1")
        .bind(sqlx::types::Uuid::from(id))
        .fetch_one(&app.state().pool)
        .await
        .unwrap()
}

/// What a statement of the payment's record answers until `recover`.
async fn fail_with(app: &TestApp, code: &str) {
    let function = format!(
        "create function fail() returns trigger language plpgsql as
             $$ begin raise exception 'disk of sorrow' using errcode = '{code}'; end $$;
         create trigger fail before insert on provider_payments for each row execute function fail();"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(function)).execute(&app.state().pool).await.unwrap();
}

async fn recover(app: &TestApp) {
    sql(app, "drop trigger fail on provider_payments; drop function fail();").await;
}

/// Razorpay's `payment_link.paid` for a session that is paid now, and nothing else.
async fn paid_webhook(app: &TestApp, merchant: &Merchant, session: &Value) -> u16 {
    post(merchant, &app.pay_for_event(session)).await
}

async fn post(merchant: &Merchant, event: &Delivery) -> u16 {
    let request =
        merchant.http.post(&event.url).header("x-razorpay-signature", event.signature.as_deref().unwrap());
    send(request.body(event.body.clone())).await.status
}

#[tokio::test]
async fn an_event_that_fails_ten_times_is_parked_with_its_error_and_can_be_replayed() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    fail_with(&app, "XX000").await;
    assert_eq!(paid_webhook(&app, &merchant, &session).await, 200, "stored, so acknowledged");
    for attempts in 1..=10 {
        assert_eq!(stored(&app).await[0].0, "waiting", "before attempt {attempts}");
        drive_after(&app, TimeDelta::seconds(if attempts == 1 { 0 } else { 145 })).await;
    }
    let (inbox_status, outcome, attempts, error) = stored(&app).await.remove(0);
    assert_eq!((&*inbox_status, outcome.as_deref(), attempts), ("parked", Some("failed"), 10));
    assert!(error.unwrap().contains("disk of sorrow"));
    assert_eq!(drive_after(&app, TimeDelta::minutes(1)).await, 0, "it is left alone");
    recover(&app).await;
    // Others are not held up by it.
    let healthy = merchant.session().await;
    assert_eq!(paid_webhook(&app, &merchant, &healthy).await, 200);
    assert_eq!(status(&app, &healthy).await, "completed");

    let list = app.command(&["inbox", "list", "--status", "parked", "--json"]).await;
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let event = &list["items"][0];
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!((&event["event_type"], &event["reason"]), (&json!("payment_link.paid"), &json!("failed")));
    let id = event["id"].as_str().unwrap();
    let replay = ["inbox", "replay", "--id", id, "--json"];
    // The command has the operating system's clock: the mock one must not be behind it.
    app.clock().catch_up();
    for replayed in [json!({"replayed": [id]}), json!({"replayed": []})] {
        let output = app.command(&replay).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), replayed);
    }
    assert_eq!(stored(&app).await[0], ("waiting".into(), None, 0, None));
    app.clock().catch_up();
    drive(&app).await;
    assert_eq!(status(&app, &session).await, "completed");
    assert_eq!(stored(&app).await[0].0, "processed");
    app.finish().await;
}

/// 2xx means that it is stored: what is not, Razorpay must bring again.
#[tokio::test]
async fn an_event_that_cannot_be_stored_is_not_acknowledged() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay(&session);
    let event =
        app.sandbox.ledger().deliveries.into_iter().find(|sent| sent.event == "payment_link.paid").unwrap();
    // Refused, the disk is full, shutting down.
    for code in ["XX000", "53100", "57P01"] {
        let function = format!(
            "create function no_room() returns trigger language plpgsql as
                 $$ begin raise exception 'no room' using errcode = '{code}'; end $$;
             create trigger no_room before insert on inbox for each row execute function no_room();"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(function)).execute(&app.state().pool).await.unwrap();
        let answered = post(&merchant, &event).await;
        assert!(answered >= 500, "{code}: {answered}");
        assert!(stored(&app).await.is_empty());
        sql(&app, "drop trigger no_room on inbox; drop function no_room();").await;
    }
    assert_eq!(post(&merchant, &event).await, 200);
    assert_eq!(status(&app, &session).await, "completed");
    app.finish().await;
}

#[tokio::test]
async fn trouble_of_the_database_never_parks_an_event() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    // Admin shutdown: what a restart of Postgres does to whoever is in a statement.
    fail_with(&app, "57P01").await;
    assert_eq!(paid_webhook(&app, &merchant, &session).await, 200);
    for _ in 0..25 {
        drive_after(&app, TimeDelta::minutes(3)).await;
    }
    let (inbox_status, _, attempts, _) = stored(&app).await.remove(0);
    assert_eq!((&*inbox_status, attempts), ("waiting", 25));
    recover(&app).await;
    drive_after(&app, TimeDelta::minutes(3)).await;
    assert_eq!(status(&app, &session).await, "completed");
    app.finish().await;
}

#[tokio::test]
async fn an_event_at_which_every_worker_dies_is_parked_without_another_try() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    fail_with(&app, "XX000").await;
    assert_eq!(paid_webhook(&app, &merchant, &session).await, 200);
    recover(&app).await;
    for death in 1..=10 {
        // Claimed, and never heard of again.
        assert_eq!(DriveInbox.claim(app.state(), 8).await.unwrap().len(), 1, "death {death}");
        assert_eq!(drive(&app).await, 0, "nobody else gets it before the lease ends");
        app.clock().advance(TimeDelta::seconds(60));
    }
    drive(&app).await;
    let (inbox_status, outcome, ..) = stored(&app).await.remove(0);
    assert_eq!((&*inbox_status, outcome.as_deref()), ("parked", Some("never_finished")));
    assert_eq!(status(&app, &session).await, "pending", "what kills workers is not tried again");
    let output = app.command(&["inbox", "replay", "--all-parked"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("replayed 1"), "{output:?}");
    app.clock().catch_up();
    drive(&app).await;
    assert_eq!(status(&app, &session).await, "completed");
    app.finish().await;
}

#[tokio::test]
async fn content_that_cannot_be_read_back_is_parked_at_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, broken) = (merchant.session().await, merchant.session().await);
    fail_with(&app, "XX000").await;
    for session in [&broken, &session] {
        assert_eq!(paid_webhook(&app, &merchant, session).await, 200);
    }
    recover(&app).await;
    let id = broken["id"].as_str().unwrap();
    sql(&app, format!("update inbox set content = '{{\"event\": 5}}' where content->>'session' = '{id}'"))
        .await;
    drive(&app).await;
    let rows = stored(&app).await;
    let parked = rows.iter().find(|row| row.0 == "parked").unwrap();
    assert_eq!((parked.1.as_deref(), parked.2), (Some("unreadable"), 1));
    assert!(parked.3.as_deref().unwrap().contains("invalid type"), "{parked:?}");
    assert_eq!(rows.iter().filter(|row| row.0 == "processed").count(), 1, "{rows:?}");
    assert_eq!(status(&app, &session).await, "completed");
    // Its money is found by reading the link.
    app.advance(TimeDelta::minutes(16)).await;
    assert_eq!(status(&app, &broken).await, "completed");
    app.finish().await;
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_changes_nothing() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    fail_with(&app, "XX000").await;
    assert_eq!(paid_webhook(&app, &merchant, &session).await, 200);
    let slow = DriveInbox.claim(app.state(), 8).await.unwrap().remove(0);
    app.clock().advance(TimeDelta::seconds(60));
    let quick = DriveInbox.claim(app.state(), 8).await.unwrap().remove(0);
    let (held, before) = (lease(&app).await, stored(&app).await);
    // It fails, as it would have before; and writes nothing of it.
    DriveInbox.step(app.state(), slow).await.unwrap();
    assert_eq!((lease(&app).await, stored(&app).await), (held, before));
    recover(&app).await;
    DriveInbox.step(app.state(), quick).await.unwrap();
    assert_eq!(status(&app, &session).await, "completed");
    app.finish().await;
}

async fn lease(app: &TestApp) -> Option<sqlx::types::Uuid> {
    sqlx::query_scalar("select lease_token from inbox").fetch_one(&app.state().pool).await.unwrap()
}

#[tokio::test]
async fn commands_say_what_is_wrong_with_them() {
    let app = TestApp::start().await;
    let unknown = checkoutd::kit::ids::encode("inbox", sqlx::types::Uuid::nil());
    let output = app.command(&["inbox", "replay", "--id", &unknown]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no event"), "{output:?}");
    for wrong in [
        &["inbox", "replay"] as &[&str],
        &["inbox", "replay", "--id", "nonsense"],
        &["inbox", "replay", "--id", &unknown, "--all-parked"],
        &["inbox", "list", "--status", "processed"],
    ] {
        assert_eq!(app.command(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
    let empty = app.command(&["inbox", "list"]).await;
    assert_eq!(String::from_utf8_lossy(&empty.stdout), "0 event(s)\n");
    app.finish().await;
}

#[tokio::test]
async fn what_concerns_nobody_is_removed_after_fifteen_days_and_nothing_else() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.pay(&session);
    app.sandbox.flush_webhooks().await;
    let foreign = json!({"event": "payment_link.paid", "payload": {
        "payment_link": {"entity": {"id": "plink_other", "reference_id": "order 66", "status": "paid"}},
        "payment": {"entity": {"id": "pay_other", "amount": 5, "currency": "INR", "status": "captured"}},
    }});
    merchant.post_signed(foreign.to_string(), WEBHOOK_SECRET).await.expect(200);
    merchant.post_signed(r#"{"event": "invoice.paid"}"#, WEBHOOK_SECRET).await.expect(200);
    let unusable = paid_event(&session, "plink_x", &json!(0)).to_string();
    merchant.post_signed(unusable, WEBHOOK_SECRET).await.expect(200);
    app.advance(TimeDelta::seconds(5)).await;
    let outcomes = async || -> Vec<String> {
        let rows = sqlx::query_scalar("select distinct outcome from inbox order by 1");
        rows.fetch_all(&app.state().pool).await.unwrap()
    };
    let all = ["already_applied", "applied", "foreign", "ignored", "unusable_payment"];
    assert_eq!(outcomes().await, all);
    app.clock().advance(TimeDelta::days(15) - TimeDelta::seconds(5));
    worker::drain(app.state(), &Sweep).await.unwrap();
    assert_eq!(outcomes().await, all, "not a moment too early");
    // More than fit into one statement, as old as the rest.
    sql(
        &app,
        "insert into inbox (environment_id, id, connection_ids, event_type, content_hash, content, inbox_status, outcome,
            attempt_count, received_at, processed_at)
         select environment_id, gen_random_uuid(), connection_ids, 'x', decode(md5(n::text), 'hex'), '{}', 'processed',
            'ignored', 0, received_at, received_at
         from inbox, generate_series(1, 1200) n where outcome = 'foreign'",
    )
    .await;
    app.clock().advance(TimeDelta::milliseconds(1));
    worker::drain(app.state(), &Sweep).await.unwrap();
    assert_eq!(outcomes().await, ["already_applied", "applied", "unusable_payment"]);
    // Known no more, it is stored again; and still concerns nobody.
    merchant.post_signed(foreign.to_string(), WEBHOOK_SECRET).await.expect(200);
    assert_eq!(outcomes().await, ["already_applied", "applied", "foreign", "unusable_payment"]);
    app.finish().await;
}

/// As if its create had not committed yet: the row is there under another name.
async fn hide(app: &TestApp, hidden: bool) {
    let flipped = "(overlay(id::text placing case substr(id::text, 1, 1) when '0' then 'f' else '0' end from 1 for 1))::uuid";
    let link = if hidden { "'hidden ' || link_id" } else { "replace(link_id, 'hidden ', '')" };
    let statement = format!(
        "begin; set local session_replication_role = replica;
         update checkout_sessions set id = {flipped}, link_id = {link}; commit"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&app.state().pool).await.unwrap();
}

#[tokio::test]
async fn an_event_that_beats_our_own_commit_is_joined_within_ten_minutes() {
    // Named by reference_id, and a bare payment that names nothing but the link.
    for bare in [false, true] {
        let app = TestApp::start().await;
        let merchant = app.merchant().await;
        let session = merchant.session().await;
        let paid = app.pay(&session);
        let mut event = paid_event(&session, &paid.link_id, &json!(AMOUNT));
        if bare {
            event = json!({"event": "payment.captured", "payload": {"payment": {"entity": {
                "id": paid.payment_id, "amount": AMOUNT, "currency": "INR", "status": "captured",
                "description": format!("#{}", paid.link_id.strip_prefix("plink_").unwrap())}}}});
        }
        event["payload"]["payment"]["entity"]["id"] = json!(paid.payment_id);
        hide(&app, true).await;
        merchant.post_signed(event.to_string(), WEBHOOK_SECRET).await.expect(200);
        for _ in 0..9 {
            drive_after(&app, TimeDelta::minutes(1)).await;
        }
        assert_eq!(stored(&app).await[0].0, "waiting");
        app.clock().advance(TimeDelta::seconds(59));
        hide(&app, false).await;
        drive_after(&app, TimeDelta::seconds(1)).await;
        assert_eq!(status(&app, &session).await, "completed", "bare: {bare}");
        assert_eq!(stored(&app).await[0].1.as_deref(), Some("applied"));
        app.finish().await;
    }
}

#[tokio::test]
async fn an_event_for_what_never_appears_is_foreign_and_acknowledged() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let paid = app.pay(&session);
    let mut event = paid_event(&session, &paid.link_id, &json!(AMOUNT));
    event["payload"]["payment"]["entity"]["id"] = json!(paid.payment_id);
    hide(&app, true).await;
    merchant.post_signed(event.to_string(), WEBHOOK_SECRET).await.expect(200);
    for _ in 0..6 {
        drive_after(&app, TimeDelta::minutes(2)).await;
    }
    let (inbox_status, outcome, ..) = stored(&app).await.remove(0);
    assert_eq!((&*inbox_status, outcome.as_deref()), ("processed", Some("foreign")));
    // Far later, its money is still found by reading.
    hide(&app, false).await;
    app.advance(TimeDelta::minutes(5)).await;
    assert_eq!(status(&app, &session).await, "completed");
    app.finish().await;
}

#[tokio::test]
async fn the_end_of_a_link_is_believed_only_when_the_link_itself_says_so() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let link = app.sandbox.ledger().link(session["id"].as_str().unwrap()).unwrap().id.clone();
    let ended = json!({"event": "payment_link.cancelled", "payload": {"payment_link": {"entity":
        {"id": link, "reference_id": session["id"], "status": "cancelled"}}}});
    merchant.post_signed(ended.to_string(), WEBHOOK_SECRET).await.expect(200);
    for _ in 0..5 {
        drive_after(&app, TimeDelta::minutes(2)).await;
    }
    // The link is payable: a session that ended now could still be paid.
    assert_eq!(status(&app, &session).await, "pending");
    drive_after(&app, TimeDelta::minutes(1)).await;
    assert_eq!(stored(&app).await[0].1.as_deref(), Some("contradicted"));
    app.pay_and_settle(&session).await;
    assert_eq!(status(&app, &session).await, "completed");
    app.finish().await;
}

#[tokio::test]
async fn the_end_of_a_link_is_believed_once_the_provider_was_silent_for_ten_minutes() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.sandbox.cancel(session["id"].as_str().unwrap()).unwrap();
    let down = FaultKind::Status { code: 503, body: None, retry_after: None };
    app.sandbox
        .set_faults(Faults { rules: vec![FaultRule::always(Op::FetchLink, down)], ..Faults::default() });
    app.sandbox.flush_webhooks().await;
    for _ in 0..9 {
        drive_after(&app, TimeDelta::minutes(1)).await;
    }
    assert_eq!(status(&app, &session).await, "pending");
    drive_after(&app, TimeDelta::minutes(1)).await;
    assert_eq!(status(&app, &session).await, "failed");
    app.sandbox.set_faults(Faults::default());
    app.finish().await;
}

/// All that is known of a session, without ids and times.
async fn end_state(app: &TestApp, merchant: &Merchant, session: &Value) -> String {
    let id: checkoutd::checkout::SessionId = session["id"].as_str().unwrap().parse().unwrap();
    let rows: String = sqlx::query_scalar(
        "select concat_ws(' ', s.checkout_status, s.link_state, s.event_count, u.subscription_status, i.invoice_status,
            i.payment_status, p.payment_status,
            (select string_agg(payment_status, ',' order by payment_status) from payment_attempts a where a.payment_id = p.id),
            (select string_agg(fate, ',') from provider_payments f where f.session_id = s.id),
            (select count(*) from refunds r where r.session_id = s.id),
            (select string_agg(event_type, ',' order by sequence) from events e where e.subject_id = s.id))
         from checkout_sessions s join subscriptions u on u.id = s.subscription_id join invoices i on i.id = s.invoice_id
         join payments p on p.id = s.payment_id where s.id = $1",
    )
    .bind(sqlx::types::Uuid::from(id))
    .fetch_one(&app.state().pool)
    .await
    .unwrap();
    format!("{rows} {}", merchant.read_session(session).await["checkout_status"])
}

/// All orders of `0..count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![vec![]], |orders, place| {
        let insert = |order: Vec<usize>| {
            (0..=order.len()).map(move |at| [&order[..at], &[place], &order[at..]].concat())
        };
        orders.into_iter().flat_map(insert).collect()
    })
}

/// A session, failed once and then paid; Razorpay's events of it, and one that says that its link ended.
async fn paid_with_events(app: &TestApp, merchant: &Merchant, plan: &str, end: &str) -> (Value, Vec<String>) {
    let request = Merchant::session_request(plan);
    let session = merchant.post("/v1/checkout/sessions", request).await.expect(201);
    let before = app.sandbox.ledger().deliveries.len();
    let failing =
        PayRequest { method: PayMethod::Upi, outcome: PayOutcome::Failure, ..PayRequest::default() };
    app.sandbox.pay(session["id"].as_str().unwrap(), failing).unwrap();
    let paid = app.pay(&session);
    let wanted =
        ["payment.captured", "payment_link.paid", "order.paid", "payment.failed", "payment.authorized"];
    let deliveries = &app.sandbox.ledger().deliveries[before..];
    let body = |event: &&str| deliveries.iter().find(|d| d.event == **event).unwrap().body.clone();
    let mut bodies: Vec<String> = wanted.iter().map(body).collect();
    let ended = json!({"event": format!("payment_link.{end}"), "payload": {"payment_link": {"entity":
        {"id": paid.link_id, "reference_id": session["id"], "status": end}}}});
    bodies.insert(4, ended.to_string());
    (session, bodies)
}

#[tokio::test]
async fn five_events_in_all_120_orders_with_repeats_end_in_one_state() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.customer_if_missing().await;
    let plan = merchant.plan().await;
    let mut paid = Vec::new();
    for (number, order) in orders(5).into_iter().enumerate() {
        let end = if number % 2 == 0 { "expired" } else { "cancelled" };
        paid.push((paid_with_events(&app, &merchant, &plan, end).await, order));
    }
    assert_eq!(paid.len(), 120);
    for round in 0..5 {
        let posts = paid.iter().enumerate().flat_map(|(number, ((_, bodies), order))| {
            // The authorization, which says nothing of money, somewhere in between.
            let extra = (number % 5 == round).then(|| &bodies[5]);
            std::iter::once(&bodies[order[round]]).chain(extra).flat_map(|body| [body, body])
        });
        let posts: Vec<_> = posts.collect();
        for some in posts.chunks(12) {
            let post = |body: &&String| merchant.post_signed((*body).clone(), WEBHOOK_SECRET);
            let replies = futures::future::join_all(some.iter().map(post)).await;
            assert!(replies.iter().all(|reply| reply.status == 200));
        }
        drive(&app).await;
    }
    drive_after(&app, TimeDelta::minutes(1)).await;
    let mut states = std::collections::BTreeSet::new();
    for ((session, _), _) in &paid {
        states.insert(end_state(&app, &merchant, session).await);
    }
    let expected = "completed closed 2 active FINALIZED SUCCEEDED SUCCEEDED FAILED,SUCCEEDED applied 0 \
        checkout.session.initiated,checkout.session.completed \"completed\"";
    assert_eq!(states.into_iter().collect::<Vec<_>>(), [expected]);
    app.finish().await;
}

#[tokio::test]
async fn money_on_a_dead_link_ends_the_same_in_every_order_of_its_events() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.customer_if_missing().await;
    let plan = merchant.plan().await;
    let mut states = std::collections::BTreeSet::new();
    for order in orders(3) {
        let request = Merchant::session_request(&plan);
        let session = merchant.post("/v1/checkout/sessions", request).await.expect(201);
        let before = app.sandbox.ledger().deliveries.len();
        app.sandbox.expire(session["id"].as_str().unwrap()).unwrap();
        let late = PayRequest { late: true, ..PayRequest::default() };
        app.sandbox.pay(session["id"].as_str().unwrap(), late).unwrap();
        let deliveries = app.sandbox.ledger().deliveries[before..].to_vec();
        let wanted = ["payment_link.expired", "payment.captured", "order.paid"];
        let event = |place: usize| deliveries.iter().find(|d| d.event == wanted[place]).unwrap();
        for place in order {
            assert_eq!(post(&merchant, event(place)).await, 200);
            drive(&app).await;
        }
        states.insert(end_state(&app, &merchant, &session).await);
    }
    assert_eq!(states.len(), 1, "{states:?}");
    app.finish().await;
}
