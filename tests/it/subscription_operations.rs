//! What can be done with a subscription: ending it, now or later, and reading it in its other shapes.

use checkoutd::{subscriptions::CancelDue, worker};
use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Merchant, TestApp};

const ABSENT: &str = "subs_00000000000000000000000000";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

#[track_caller]
fn assert_has(actual: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&actual[name], value, "{name} of {actual:#}");
    }
}

fn path_of(session: &Value) -> String {
    format!("/v1/subscriptions/{}", text(&session["checkout_subscription_id"]))
}

/// A paid session.
async fn paid(app: &TestApp, merchant: &Merchant) -> Value {
    let session = merchant.session().await;
    app.pay_and_settle(&session).await;
    session
}

async fn cancel(merchant: &Merchant, session: &Value, request: Value) -> crate::support::Reply {
    merchant.post(&format!("{}/cancel", path_of(session)), request).await
}

async fn event_count(merchant: &Merchant) -> usize {
    let page = merchant.get("/v1/events?limit=1000").await.expect(200);
    page["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn an_active_subscription_is_cancelled_at_once_and_nothing_else_changes() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = paid(&app, &merchant).await;
    let invoice = format!("/v1/invoices/{}", text(&session["checkout_invoice_id"]));
    let (before, events) = (merchant.get(&invoice).await.expect(200), event_count(&merchant).await);
    app.clock().advance(TimeDelta::minutes(1));

    let request = json!({"cancellation_type": "immediate", "reason": "moved away", "proration_behavior": "none",
        "cancel_immediately_invoice_policy": "skip"});
    let done = cancel(&merchant, &session, request.clone()).await.expect(200);
    assert_eq!(
        done,
        json!({
            "subscription_id": session["checkout_subscription_id"], "status": "cancelled",
            "cancellation_type": "immediate", "effective_date": "2026-11-23T09:31:00Z",
            "processed_at": "2026-11-23T09:31:00Z", "message": "subscription cancelled", "reason": "moved away",
            "proration_details": [], "total_credit_amount": "0",
        })
    );
    let subscription = merchant.get(&path_of(&session)).await.expect(200);
    assert_has(
        &subscription,
        &json!({
            "subscription_status": "cancelled", "status": "published", "cancelled_at": "2026-11-23T09:31:00Z",
            "cancel_at": null, "cancel_at_period_end": false, "cancellation_reason": "moved away", "version": 3,
            "updated_at": "2026-11-23T09:31:00Z", "activated_at": "2026-11-23T09:30:00Z",
        }),
    );
    // Cancelled once is cancelled: there is nothing left to wish for.
    for kind in ["immediate", "end_of_period"] {
        let again = cancel(&merchant, &session, json!({"cancellation_type": kind})).await;
        let error = again.expect_error(400, "invalid_operation");
        assert_eq!(error["details"]["reason"], "subscription_cancelled");
    }
    assert_eq!(merchant.get(&path_of(&session)).await.expect(200), subscription);
    assert_eq!(merchant.get(&invoice).await.expect(200), before);
    assert_eq!(merchant.read_session(&session).await["checkout_status"], "completed");
    assert_eq!(event_count(&merchant).await, events, "nothing is told");
    // Nobody uses the plan and the customer any more.
    merchant.delete(&format!("/v1/plans/{}", text(&subscription["plan_id"]))).await.expect(200);
    merchant.delete(&format!("/v1/customers/{}", text(&subscription["customer_id"]))).await.expect(204);
    app.finish().await;
}

#[tokio::test]
async fn a_subscription_that_is_cancelled_at_its_periods_end_runs_until_then() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = paid(&app, &merchant).await;
    let request = json!({"cancellation_type": "end_of_period"});
    let first = cancel(&merchant, &session, request.clone()).await.expect(200);
    assert_has(
        &first,
        &json!({"status": "active", "cancellation_type": "end_of_period",
            "effective_date": "2026-12-23T09:30:00Z", "processed_at": "2026-11-23T09:30:00Z"}),
    );
    let planned = merchant.get(&path_of(&session)).await.expect(200);
    assert_has(
        &planned,
        &json!({"subscription_status": "active", "cancel_at": "2026-12-23T09:30:00Z", "cancel_at_period_end": true,
            "cancelled_at": null, "version": 3}),
    );
    // The same wish again is harmless.
    app.clock().advance(TimeDelta::minutes(1));
    let second = cancel(&merchant, &session, request).await.expect(200);
    assert_eq!(second["effective_date"], first["effective_date"]);
    assert_eq!(merchant.get(&path_of(&session)).await.expect(200), planned);

    app.advance(TimeDelta::days(30) - TimeDelta::minutes(1) - TimeDelta::seconds(1)).await;
    assert_eq!(merchant.get(&path_of(&session)).await.expect(200)["subscription_status"], "active");
    app.advance(TimeDelta::hours(1)).await;
    let ended = merchant.get(&path_of(&session)).await.expect(200);
    assert_has(
        &ended,
        &json!({"subscription_status": "cancelled", "cancelled_at": "2026-12-23T09:30:00Z",
            "cancel_at": "2026-12-23T09:30:00Z", "cancel_at_period_end": true, "version": 4,
            "updated_at": "2026-12-23T10:29:59Z"}),
    );
    for (time, count) in [("2026-12-23T09:29:59Z", 1), ("2026-12-23T09:30:00Z", 0)] {
        let found = merchant.post("/v1/subscriptions/search", json!({"active_at": time})).await.expect(200);
        assert_eq!(found["items"].as_array().unwrap().len(), count, "{time}");
    }
    app.drain().await;
    assert_eq!(merchant.get(&path_of(&session)).await.expect(200), ended);
    app.finish().await;
}

#[tokio::test]
async fn a_date_is_kept_to_and_the_last_wish_counts() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (one, two, three) =
        (paid(&app, &merchant).await, paid(&app, &merchant).await, paid(&app, &merchant).await);
    let on = |date: &str| json!({"cancellation_type": "scheduled_date", "cancel_at": date});
    app.advance(TimeDelta::days(2)).await;
    for date in ["2027-06-01T00:00:00Z", "2026-11-26T12:00:00+05:30"] {
        let done = cancel(&merchant, &one, on(date)).await.expect(200);
        assert_eq!(done["status"], "active");
    }
    let planned = merchant.get(&path_of(&one)).await.expect(200);
    assert_has(&planned, &json!({"cancel_at": "2026-11-26T06:30:00Z", "cancel_at_period_end": false}));
    // A day that has passed is at once, as of that day.
    let done = cancel(&merchant, &two, on("2026-11-24T00:00:00Z")).await.expect(200);
    assert_has(
        &done,
        &json!({"status": "cancelled", "effective_date": "2026-11-24T00:00:00Z",
            "processed_at": "2026-11-25T09:30:00Z"}),
    );
    let at = json!({"cancellation_type": "immediate", "cancel_at": "2026-11-25T00:00:00Z"});
    cancel(&merchant, &three, on("2027-06-01T00:00:00Z")).await.expect(200);
    assert_eq!(cancel(&merchant, &three, at).await.expect(200)["effective_date"], "2026-11-25T00:00:00Z");
    assert_has(
        &merchant.get(&path_of(&three)).await.expect(200),
        &json!({"subscription_status": "cancelled", "cancel_at": null, "cancelled_at": "2026-11-25T00:00:00Z"}),
    );
    app.advance(TimeDelta::days(1)).await;
    assert_has(
        &merchant.get(&path_of(&one)).await.expect(200),
        &json!({"subscription_status": "cancelled", "cancelled_at": "2026-11-26T06:30:00Z"}),
    );
    app.finish().await;
}

#[tokio::test]
async fn what_a_cancellation_cannot_be_is_named() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = paid(&app, &merchant).await;
    let before = merchant.get(&path_of(&session)).await.expect(200);
    let with = |changes: Value| {
        let mut request = json!({"cancellation_type": "immediate"});
        for (name, value) in changes.as_object().unwrap() {
            request[name] = value.clone();
        }
        request
    };
    for (request, field) in [
        (json!({}), "cancellation_type"),
        (json!({"cancellation_type": "now"}), "cancellation_type"),
        (with(json!({"cancellation_type": "scheduled_date"})), "cancel_at"),
        (
            with(json!({"cancellation_type": "end_of_period", "cancel_at": "2027-01-01T00:00:00Z"})),
            "cancel_at",
        ),
        (with(json!({"cancel_at": "2026-11-23T09:30:01Z"})), "cancel_at"),
        (with(json!({"cancel_at": "2026-11-23T09:29:59Z"})), "cancel_at"),
        (with(json!({"cancel_at": "tomorrow"})), "cancel_at"),
        (with(json!({"proration_behavior": "create_prorations"})), "proration_behavior"),
        (with(json!({"proration_behavior": "some"})), "proration_behavior"),
        (
            with(json!({"cancel_immediately_invoice_policy": "generate_invoice"})),
            "cancel_immediately_invoice_policy",
        ),
        (with(json!({"cancel_immediately_invoice_policy": "some"})), "cancel_immediately_invoice_policy"),
        (with(json!({"reason": "x".repeat(501)})), "reason"),
        (with(json!({"reason": "a\u{0}b"})), "reason"),
    ] {
        let error = cancel(&merchant, &session, request.clone()).await.expect_error(400, "validation_error");
        assert!(error["details"].get(field).is_some(), "{request}: {error}");
    }
    assert_eq!(merchant.get(&path_of(&session)).await.expect(200), before);
    app.finish().await;
}

#[tokio::test]
async fn only_its_checkout_decides_about_a_draft() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let activate = format!("{}/activate", path_of(&session));
    let start = json!({"start_date": "2026-12-01T00:00:00Z"});
    let refused = [
        cancel(&merchant, &session, json!({"cancellation_type": "immediate"})).await,
        cancel(&merchant, &session, json!({"cancellation_type": "end_of_period"})).await,
        merchant.post(&activate, start.clone()).await,
    ];
    for reply in refused {
        let error = reply.expect_error(400, "invalid_operation");
        assert_eq!(error["details"]["reason"], "checkout_pending");
        assert_eq!(error["details"]["checkout_session_id"], session["id"]);
        assert!(text(&error["message"]).contains(text(&session["id"])), "{error}");
    }
    for request in [json!({}), json!({"start_date": "soon"})] {
        let error = merchant.post(&activate, request).await.expect_error(400, "validation_error");
        assert!(error["details"].get("start_date").is_some(), "{error}");
    }
    merchant.post_empty(&activate).await.expect_error(400, "validation_error");
    assert_eq!(merchant.get(&path_of(&session)).await.expect(200)["subscription_status"], "draft");

    // Archived with its checkout, it cannot be had any more.
    merchant.post_empty(&format!("/v1/checkout/sessions/{}/cancel", text(&session["id"]))).await.expect(200);
    cancel(&merchant, &session, json!({"cancellation_type": "immediate"}))
        .await
        .expect_error(404, "not_found");
    merchant.post(&activate, start.clone()).await.expect_error(404, "not_found");

    let session = paid(&app, &merchant).await;
    let activate = format!("{}/activate", path_of(&session));
    let error = merchant.post(&activate, start.clone()).await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"]["reason"], "subscription_active");
    cancel(&merchant, &session, json!({"cancellation_type": "immediate"})).await.expect(200);
    let error = merchant.post(&activate, start).await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"]["reason"], "subscription_cancelled");
    app.finish().await;
}

#[tokio::test]
async fn of_many_cancels_at_once_one_wins() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let other = app.replica(&merchant).await;
    for kind in ["immediate", "end_of_period"] {
        let session = paid(&app, &merchant).await;
        let request = json!({"cancellation_type": kind});
        let both = [&merchant, &other];
        let replies = join_all((0..16).map(|n| cancel(both[n % 2], &session, request.clone()))).await;
        let done = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(done, if kind == "immediate" { 1 } else { 16 }, "{kind}");
        for reply in replies.into_iter().filter(|reply| reply.status != 200) {
            reply.expect_error(400, "invalid_operation");
        }
        assert_eq!(merchant.get(&path_of(&session)).await.expect(200)["version"], 3, "{kind}");
    }
    app.finish().await;
}

#[tokio::test]
async fn processes_that_race_for_planned_ends_carry_out_each_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let second = app.second();
    let mut sessions = Vec::new();
    for _ in 0..12 {
        let session = paid(&app, &merchant).await;
        cancel(&merchant, &session, json!({"cancellation_type": "end_of_period"})).await.expect(200);
        sessions.push(session);
    }
    app.clock().advance(TimeDelta::days(31));
    // Whoever asks for the end at this moment competes with the workers.
    let now = json!({"cancellation_type": "immediate"});
    let (workers, replies) = tokio::join!(
        join_all([app.state(), &second, app.state(), &second].map(|app| worker::drain(app, &CancelDue))),
        join_all(sessions.iter().map(|session| cancel(&merchant, session, now.clone()))),
    );
    assert!(workers.iter().all(Result::is_ok), "{workers:?}");
    app.drain().await;
    for (session, reply) in sessions.iter().zip(replies) {
        let subscription = merchant.get(&path_of(session)).await.expect(200);
        assert_has(&subscription, &json!({"subscription_status": "cancelled", "version": 4}));
        let by_hand = reply.status == 200;
        let at = if by_hand { "2026-12-24T09:30:00Z" } else { "2026-12-23T09:30:00Z" };
        assert_eq!(subscription["cancelled_at"], at, "{}", reply.text);
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_due_and_what_a_draft_waits_for_are_found_by_index() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    paid(&app, &merchant).await;
    let mut tx = app.state().pool.begin().await.unwrap();
    // Many that run, some of them with an end in the far future.
    sqlx::raw_sql(
        "set local session_replication_role = replica;
         set local statement_timeout = 0;
         create temp table one as select * from subscriptions limit 1;
         insert into subscriptions select made.* from one, generate_series(1, 2000) n,
            jsonb_populate_record(one, jsonb_build_object('id', gen_random_uuid(),
                'cancel_at', case when n % 10 = 0 then '2030-01-01'::timestamptz end)) as made;
         create temp table two as select * from checkout_sessions limit 1;
         insert into checkout_sessions select made.* from two, generate_series(1, 2000) n,
            jsonb_populate_record(two, jsonb_build_object('id', gen_random_uuid(), 'subscription_id', gen_random_uuid(),
                'link_id', null, 'check_count', n)) as made;
         analyze subscriptions, checkout_sessions",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    for (sql, index) in [
        ("select environment_id, id from subscriptions
          where cancel_at is not null and cancelled_at is null and cancel_at <= '2026-11-23' order by cancel_at limit 500",
         "subscriptions_due_cancellations"),
        ("select id from checkout_sessions where environment_id = (select environment_id from one)
          and subscription_id = (select id from one)", "checkout_sessions_by_subscription"),
    ] {
        let sql = sqlx::AssertSqlSafe(format!("explain {sql}"));
        let plan: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *tx).await.unwrap();
        assert!(plan.iter().any(|line| line.contains(index)), "{plan:#?}");
    }
    tx.rollback().await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn another_tenants_subscription_is_absent() {
    let app = TestApp::start().await;
    let (merchant, stranger) = (app.merchant().await, app.merchant().await);
    let session = paid(&app, &merchant).await;
    let own = path_of(&session);
    let wish = json!({"cancellation_type": "immediate"});
    let start = json!({"start_date": "2026-12-01T00:00:00Z"});
    let absent = stranger.post(&format!("/v1/subscriptions/{ABSENT}/cancel"), wish.clone()).await.expect(404);
    for path in [&own, "/v1/subscriptions/nonsense", "/v1/subscriptions/cust_00000000000000000000000000"] {
        assert_eq!(stranger.post(&format!("{path}/cancel"), wish.clone()).await.expect(404), absent);
        assert_eq!(stranger.post(&format!("{path}/activate"), start.clone()).await.expect(404), absent);
        assert_eq!(stranger.get(&format!("{path}/v2")).await.expect(404), absent);
    }
    let unknown = stranger.get("/v1/customers/external/nobody/subscriptions").await.expect(404);
    assert_eq!(stranger.get("/v1/customers/external/user_12345/subscriptions").await.expect(404), unknown);
    assert_eq!(merchant.get(&own).await.expect(200)["subscription_status"], "active");
    app.finish().await;
}

#[tokio::test]
async fn a_subscription_embeds_everything_and_version_two_what_is_asked_for() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = paid(&app, &merchant).await;
    let whole = merchant.get(&path_of(&session)).await.expect(200);
    assert_eq!(whole["latest_invoice"]["id"], session["checkout_invoice_id"]);
    assert_eq!(whole["latest_invoice"]["invoice_status"], "FINALIZED");
    assert_eq!(whole["checkout_session"]["id"], session["id"]);
    assert_eq!(whole["checkout_session"]["checkout_status"], "completed");
    let embedded = ["line_items", "plan", "customer", "latest_invoice", "checkout_session"];
    for (query, expected) in [
        ("", vec![]),
        ("?expand=nothing", vec![]),
        ("?expand=plan", vec!["plan"]),
        ("?expand=customer,plan", vec!["plan", "customer"]),
        ("?expand=subscription_line_items,prices,plan,customer", vec!["line_items", "plan", "customer"]),
    ] {
        let found = merchant.get(&format!("{}/v2{query}", path_of(&session))).await.expect(200);
        for (name, value) in whole.as_object().unwrap() {
            if !embedded.contains(&name.as_str()) || expected.contains(&name.as_str()) {
                assert_eq!(&found[name], value, "{name} with {query}");
            } else {
                assert!(found.get(name).is_none(), "{name} with {query}");
            }
        }
    }
    let lines =
        merchant.get(&format!("{}/v2?expand=subscription_line_items", path_of(&session))).await.expect(200);
    assert!(lines["line_items"][0].get("price").is_none(), "{lines}");
    app.finish().await;
}

async fn session_of(merchant: &Merchant, plan: &str, external_id: &str) -> Value {
    let mut request = Merchant::session_request(plan);
    request["customer_external_id"] = external_id.into();
    merchant.post("/v1/checkout/sessions", request).await.expect(201)
}

#[tokio::test]
async fn a_customers_subscriptions_are_listed_by_the_merchants_own_name() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let plan = merchant.plan().await;
    for external_id in ["user_1", "a/b c@d", "quiet"] {
        merchant.customer(external_id).await;
    }
    let first = session_of(&merchant, &plan, "user_1").await;
    app.pay_and_settle(&first).await;
    app.clock().advance(TimeDelta::seconds(1));
    let second = session_of(&merchant, &plan, "user_1").await;
    let slashed = session_of(&merchant, &plan, "a/b c@d").await;
    let list = async |path: &str| merchant.get(&format!("/v1/customers/external/{path}")).await.expect(200);
    let ids = |page: &Value| -> Vec<Value> {
        page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
    };
    let subscription = |session: &Value| session["checkout_subscription_id"].clone();

    let page = list("user_1/subscriptions").await;
    assert_eq!(ids(&page), [subscription(&second), subscription(&first)]);
    assert_eq!(page["pagination"], json!({"total": 2, "limit": 50, "offset": 0}));
    assert!(page["items"][0].get("plan").is_none());
    let page =
        list("user_1/subscriptions?expand=subscription_line_items,plan,customer&limit=1&offset=1").await;
    assert_eq!(ids(&page), [subscription(&first)]);
    assert_eq!(page["items"][0]["plan"]["id"], plan.as_str());
    assert_eq!(page["items"][0]["customer"]["external_id"], "user_1");
    assert_eq!(page["items"][0]["line_items"].as_array().unwrap().len(), 1);
    // Slashes as the clients send them.
    for path in ["a/b%20c@d/subscriptions", "a%2Fb%20c%40d/subscriptions"] {
        assert_eq!(ids(&list(path).await), [subscription(&slashed)], "{path}");
    }
    assert_eq!(ids(&list("quiet/subscriptions").await), Vec::<Value>::new());
    merchant
        .get("/v1/customers/external/user_1/subscriptions?limit=0")
        .await
        .expect_error(400, "validation_error");
    for path in [
        "nobody/subscriptions",
        "user_1/subscriptions/subscriptions",
        "user_1/subscriptions/",
        "subscriptions",
    ] {
        merchant.get(&format!("/v1/customers/external/{path}")).await.expect_error(404, "not_found");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_name_that_ends_like_the_route_is_told_by_its_slash() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let read = async |path: &str| merchant.get(&format!("/v1/customers/external/{path}")).await;
    merchant.customer("acme/subscriptions").await;
    merchant.customer("subscriptions").await;
    let named = async |path: &str| read(path).await.expect(200)["external_id"].clone();
    assert_eq!(named("acme%2Fsubscriptions").await, "acme/subscriptions");
    assert_eq!(named("acme%2fsubscriptions?limit=0").await, "acme/subscriptions");
    assert_eq!(named("subscriptions").await, "subscriptions");
    // What follows an unescaped slash is never a part of the name: nobody can stand in front of another's list.
    read("acme/subscriptions").await.expect_error(404, "not_found");
    assert_eq!(read("subscriptions/subscriptions").await.expect(200)["items"], json!([]));
    assert_eq!(read("acme/subscriptions/subscriptions").await.expect(200)["items"], json!([]));
    let acme = merchant.customer("acme").await;
    assert_eq!(read("acme/subscriptions").await.expect(200)["items"], json!([]));
    assert_eq!(named("acme%2Fsubscriptions").await, "acme/subscriptions");
    // Deleted, it cannot be asked for.
    merchant.delete(&format!("/v1/customers/{}", text(&acme["id"]))).await.expect(204);
    read("acme/subscriptions").await.expect_error(404, "not_found");
    app.finish().await;
}
