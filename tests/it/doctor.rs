//! `checkoutd doctor`: it says that all is well when it is, and every rule of it can fail.

use std::process::Output;

use checkoutd::doctor::{self, Holds, INVARIANTS, QUEUES, Rule};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Merchant, Receiver, TestApp};

/// Two completed sessions, one of them paid twice and the other one's subscription cancelled; one expired and paid late; all refunds made, everything told to an
/// endpoint that failed once.
async fn lived_in(app: &TestApp) -> (Merchant, Receiver, Value) {
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    app.clock().advance(TimeDelta::seconds(1));
    receiver.answer_next(503);
    let (paid, other, unpaid) =
        (merchant.session().await, merchant.session().await, merchant.session().await);
    app.pay_and_settle(&paid).await;
    app.pay_and_settle(&other).await;
    let subscription = other["checkout_subscription_id"].as_str().unwrap();
    let cancel = format!("/v1/subscriptions/{subscription}/cancel");
    merchant.post(&cancel, json!({"cancellation_type": "immediate"})).await.expect(200);
    app.pay_late(&paid).await;
    app.advance(TimeDelta::minutes(16)).await;
    app.pay_late(&unpaid).await;
    app.drain().await;
    app.advance(TimeDelta::minutes(10)).await;
    (merchant, receiver, paid)
}

/// What breaks which rule. Constraints that would prevent it are dropped; each is undone afterwards.
const DAMAGES: &[(&str, &str)] = &[
    ("I1", "delete from refunds"),
    ("I1", "drop index provider_payments_one_applied; update provider_payments set fate = 'applied' where fate = 'refund'"),
    ("I1", "update provider_payments set fate = 'refund' where fate = 'applied'"),
    ("I1", "update refunds set session_id = gen_random_uuid()"),
    ("I2", "update subscriptions set subscription_status = 'draft' where subscription_status = 'active'"),
    ("I2", "update subscriptions set subscription_status = 'active' where subscription_status = 'draft'"),
    ("I2", "update subscriptions set subscription_status = 'paused' where subscription_status = 'active'"),
    ("I2", "update subscriptions set subscription_status = 'paused' where subscription_status = 'draft'"),
    ("I2", "update subscriptions set subscription_status = 'cancelled', cancelled_at = created_at where subscription_status = 'draft'"),
    ("I2", "update invoices set invoice_status = 'DRAFT' where invoice_status = 'FINALIZED'"),
    ("I2", "update invoices set payment_status = 'PENDING' where payment_status = 'SUCCEEDED'"),
    ("I2", "update invoices set amount_paid_minor = 1 where payment_status = 'SUCCEEDED'"),
    ("I2", "update payments set payment_status = 'INITIATED' where payment_status = 'SUCCEEDED'"),
    ("I2", "update checkout_sessions set checkout_status = 'pending', completed_at = null where checkout_status = 'completed'"),
    ("I2", "delete from payments"),
    ("I3", "delete from provider_payments where fate = 'applied'"),
    ("I3", "update payments set gateway_payment_id = 'pay_other' where payment_status = 'SUCCEEDED'"),
    ("I3", "update provider_payments set session_id = (select id from checkout_sessions where checkout_status = 'expired')
        where provider_payment_id = (select min(provider_payment_id) from provider_payments where fate = 'applied')"),
    ("I4", "update session_transitions set from_status = 'completed' where sequence = 2"),
    ("I4", "update session_transitions set from_status = 'initiated' where sequence = 2"),
    ("I4", "update session_transitions set to_status = 'failed' where sequence = 1"),
    ("I5", "update checkout_sessions set event_count = event_count + 1"),
    ("I5", "delete from events where sequence = 2"),
    ("I5", "update events set sequence = 5 where sequence = 2"),
    ("I5", "delete from session_transitions where sequence = 2"),
    ("I5", "update session_transitions set sequence = 5 where sequence = 2"),
    ("I5", "update checkout_sessions set checkout_status = 'failed' where checkout_status = 'expired'"),
    ("I5", "update events set event_type = 'checkout.session.failed' where event_type = 'checkout.session.completed'"),
    ("I5.refunds", "update refunds set event_count = event_count + 1"),
    ("I5.refunds", "update events set sequence = 9 where event_type = 'refund.succeeded'"),
    ("I5.refunds", "update refunds set refund_status = 'PROCESSING'"),
    ("I5.refunds", "update refunds set refund_status = 'FAILED'"),
    ("I5.refunds", "update events set event_type = 'refund.failed' where event_type = 'refund.succeeded'"),
    ("I5.refunds", "update events set event_type = 'refund.created' where event_type = 'payment.late'"),
    ("I5.refunds", "update events set event_type = 'payment.late' where event_type = 'refund.created'"),
    ("I6", "update checkout_sessions set link_state = 'open' where checkout_status = 'expired'"),
    ("I6", "update checkout_sessions set link_state = 'none' where checkout_status = 'completed'"),
    ("I6", "update checkout_sessions set checkout_status = 'pending' where checkout_status = 'expired'"),
    ("I8", "alter table checkout_sessions drop constraint checkout_sessions_amount_positive;
        alter table invoices drop constraint invoices_total_positive; alter table payments drop constraint payments_amount_positive;
        update checkout_sessions set amount_minor = 0; update invoices set total_minor = 0;
        update payments set amount_minor = 0; update invoice_line_items set amount_minor = 0; delete from provider_payments"),
    ("I8", "update invoices set total_minor = 1"),
    ("I8", "update invoices set currency = 'usd'"),
    ("I8", "update payments set amount_minor = 1"),
    ("I8", "update payments set currency = 'usd'"),
    ("I8", "update provider_payments set amount_minor = 1"),
    ("I8", "update provider_payments set currency = 'usd'"),
    ("I8", "update invoice_line_items set amount_minor = 1"),
    ("I8", "delete from invoice_line_items"),
    ("I9", "drop index checkout_sessions_open_key;
        update checkout_sessions set idempotency_key = 'k', checkout_status = 'pending', completed_at = null"),
    ("I11", "update subscriptions set status = 'archived' where subscription_status = 'active'"),
    ("I11", "update invoices set status = 'archived' where invoice_status = 'FINALIZED'"),
    ("I11", "update payments set status = 'archived' where payment_status = 'SUCCEEDED'"),
    ("I11", "update subscriptions set status = 'published'"),
    ("I11", "update subscriptions set status = 'published', subscription_status = 'active', cancelled_at = null; update invoices set status = 'published';
        update payments set status = 'published';
        update checkout_sessions set checkout_status = 'pending', completed_at = null"),
    ("I11", "delete from invoices"),
    ("I12", "update events set event_type = 'checkout.session.completed' where event_type = 'checkout.session.initiated'"),
    ("I14", "update checkout_sessions set expires_at = expires_at + interval '1 day' where checkout_status = 'expired'"),
    ("I15", "update session_transitions set inbox_id = null where cause = 'webhook'"),
    ("I15", "update session_transitions set inbox_id = (select id from inbox limit 1) where cause = 'create'"),
    ("I15", "update provider_payments set inbox_id = null"),
    ("I15", "delete from inbox"),
    ("I16", "update deliveries set created_at = created_at + interval '1 second'"),
    ("I16", "delete from deliveries"),
    ("I17", "update delivery_attempts set response_code = 500"),
    ("I17", "update delivery_attempts set response_code = null"),
    ("I17", "update deliveries set delivery_status = 'exhausted'"),
    ("I17", "update deliveries set delivery_status = 'pending', next_attempt_at = created_at"),
    ("I17", "delete from delivery_attempts"),
    ("I18", "update deliveries set attempt_count = attempt_count + 1"),
    ("I18", "delete from delivery_attempts where attempt_number = 1"),
    ("I18", "update delivery_attempts set attempt_number = attempt_number + 7"),
    ("I21", "update provider_payments set session_id = gen_random_uuid()"),
    ("I21", "update refunds set session_id = gen_random_uuid()"),
    ("I21.events", "update events set subject_id = gen_random_uuid()"),
    ("I21", "update refunds set environment_id = (select id from environments where mode = 'live')"),
    ("I21", "update inbox set connection_ids = array[gen_random_uuid()]"),
    ("I21", "update inbox set connection_ids = '{}'"),
    ("I24", "alter table refunds drop constraint refunds_one_per_payment;
        insert into refunds (environment_id, id, provider_payment_id, session_id, connection_id, amount_minor, currency,
            refund_status, reason, attempt_count, next_attempt_at, created_at, updated_at)
        select environment_id, gen_random_uuid(), provider_payment_id, session_id, connection_id, 1, currency, refund_status,
            reason, 0, created_at, created_at, created_at from refunds"),
    ("I24", "update refunds set amount_minor = amount_minor + 1"),
    ("I24", "update refunds set currency = 'usd'"),
    ("I24", "alter table refunds drop constraint refunds_send_within_amount; update refunds set send_minor = amount_minor + 1"),
    ("cancellations", "alter table subscriptions drop constraint subscriptions_cancelled_at_set;
        update subscriptions set subscription_status = 'cancelled' where subscription_status = 'active'"),
    ("cancellations", "alter table subscriptions drop constraint subscriptions_cancelled_at_set;
        update subscriptions set cancelled_at = updated_at where subscription_status = 'active'"),
    ("cancellations", "update subscriptions set subscription_status = 'cancelled', cancelled_at = updated_at where subscription_status = 'draft'"),
    ("cancellations", "update subscriptions set cancel_at = updated_at where subscription_status = 'draft'"),
    ("cancellations", "update subscriptions set cancel_at = updated_at + interval '1 day' where subscription_status = 'cancelled'"),
    ("cancellations", "update subscriptions set cancelled_at = updated_at + interval '1 day' where subscription_status = 'cancelled'"),
    ("cancellations", "update subscriptions set cancel_at_period_end = true where subscription_status = 'active'"),
    ("cancellations", "update subscriptions set status = 'archived' where subscription_status = 'cancelled'"),
    ("invoices", "update invoice_counters set last_number = last_number + 1"),
    ("invoices", "delete from invoice_counters"),
    ("invoices", "update invoices set invoice_number = 'INV-202611-00009' where invoice_number like '%2'"),
    ("invoices", "drop index invoices_number_unique; update invoices set invoice_number = 'INV-202611-00002' where invoice_number is not null"),
    ("I13", "update checkout_sessions set checkout_status = 'pending', completed_at = null, expires_at = '2020-01-01'"),
    ("I13", "update inbox set inbox_status = 'waiting', next_attempt_at = received_at, received_at = '2020-01-01'"),
    ("refunds.failed", "update refunds set refund_status = 'FAILED'"),
    ("refunds.late", "update refunds set refund_status = 'PROCESSING', created_at = '2020-01-01'"),
    ("links.closing", "update checkout_sessions set link_state = 'closing', updated_at = '2020-01-01'"),
    ("sessions.unwatched", "update checkout_sessions set checkout_status = 'pending', completed_at = null, check_at = null"),
    ("sessions.unwatched", "update checkout_sessions set link_state = 'closing', check_at = null"),
    ("cancellations.due", "update subscriptions set cancel_at = '2020-01-01' where subscription_status = 'active'"),
    ("inbox.parked", "update inbox set inbox_status = 'parked'"),
    ("events.order", "update events set xact_id = xact_id + 1000000"),
    ("deliveries.due", "update deliveries set delivery_status = 'pending', next_attempt_at = '2020-01-01'"),
    ("webhooks.missing", "update provider_payments set inbox_id = null, created_at = created_at - interval '10 minutes'"),
];

#[tokio::test]
async fn every_rule_is_silent_on_a_healthy_database_and_fails_on_a_broken_one() {
    let app = TestApp::start().await;
    let _lived_in = lived_in(&app).await;
    let (pool, now) = (&app.state().pool, app.state().clock.now());
    let rules: Vec<&Rule> = INVARIANTS.iter().chain(QUEUES).collect();
    for rule in &rules {
        let (offenders, _) = doctor::run(pool, rule, now, 10).await.unwrap();
        assert_eq!(offenders, Vec::<String>::new(), "{}", rule.name);
        assert!(DAMAGES.iter().any(|(name, _)| *name == rule.name), "nothing breaks {}", rule.name);
    }
    let mut silent = Vec::new();
    for (name, damage) in DAMAGES {
        let rule = rules.iter().find(|rule| rule.name == *name).unwrap();
        let mut tx = pool.begin().await.unwrap();
        // Foreign keys are not checked in this role.
        sqlx::raw_sql("set local session_replication_role = replica").execute(&mut *tx).await.unwrap();
        let damaged = sqlx::raw_sql(*damage).execute(&mut *tx).await;
        assert!(damaged.is_ok_and(|done| done.rows_affected() > 0), "{name}: {damage}");
        let query = sqlx::query_scalar::<_, String>(rule.sql);
        let query = if let Holds::After(seconds) = rule.holds {
            query.bind(now - TimeDelta::seconds(seconds))
        } else {
            query
        };
        if query.fetch_all(&mut *tx).await.unwrap().is_empty() {
            silent.push(format!("{name}: {damage}"));
        }
        tx.rollback().await.unwrap();
    }
    assert_eq!(silent, Vec::<String>::new());
    app.finish().await;
}

/// Both bear the time before their commits: the event did not see the endpoint.
#[tokio::test]
async fn an_event_from_the_moment_an_endpoint_was_made_need_not_be_delivered_to_it() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    let before = "update webhook_endpoints set created_at = created_at - interval '1 second', updated_at = updated_at - interval '1 second'";
    sqlx::query(before).execute(&app.state().pool).await.unwrap();
    assert_eq!(session["checkout_status"], "pending");
    let check = INVARIANTS.iter().find(|rule| rule.name == "I16").unwrap();
    let now = app.state().clock.now();
    assert_eq!(doctor::run(&app.state().pool, check, now, 10).await.unwrap(), (Vec::new(), false));
    app.finish().await;
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn found(output: &Output, name: &str) -> Value {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap().clone()
}

#[tokio::test]
async fn the_exit_code_says_whether_all_is_well() {
    let app = TestApp::start().await;
    let (_, _receiver, paid) = lived_in(&app).await;
    let before = app.row_counts().await;
    let healthy = app.command(&["doctor"]).await;
    assert_eq!(healthy.status.code(), Some(0), "{}", text(&healthy));
    assert_eq!(text(&healthy).lines().count(), 3 + INVARIANTS.len() + QUEUES.len());
    assert!(text(&healthy).lines().all(|line| line.starts_with("ok    ")), "{}", text(&healthy));
    let healthy = app.command(&["doctor", "--json"]).await;
    assert_eq!(serde_json::from_slice::<Value>(&healthy.stdout).unwrap()["status"], "ok");

    let pool = &app.state().pool;
    let parked = "update inbox set inbox_status = 'parked' where outcome = 'ignored'";
    sqlx::query(parked).execute(pool).await.unwrap();
    let warned = app.command(&["doctor"]).await;
    assert_eq!(warned.status.code(), Some(0), "a warning is not a failure");
    assert!(text(&warned).contains("\nwarn  inbox.parked: "), "{}", text(&warned));

    sqlx::query("update payments set payment_status = 'INITIATED'").execute(pool).await.unwrap();
    let broken = app.command(&["doctor"]).await;
    assert_eq!(broken.status.code(), Some(1));
    let line = text(&broken).lines().find(|line| line.starts_with("FAIL  I2: ")).unwrap().to_owned();
    assert!(line.contains(paid["id"].as_str().unwrap()), "{line}");
    sqlx::query("update payments set payment_status = 'SUCCEEDED' where succeeded_at is not null")
        .execute(pool)
        .await
        .unwrap();
    sqlx::query("update inbox set inbox_status = 'processed'").execute(pool).await.unwrap();
    assert_eq!(app.row_counts().await, before);
    app.finish().await;
}

#[tokio::test]
async fn offenders_are_named_up_to_a_limit() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    merchant.post_signed(r#"{"event": "x"}"#, crate::support::WEBHOOK_SECRET).await.expect(200);
    sqlx::raw_sql(
        "insert into inbox (environment_id, id, connection_ids, event_type, content_hash, content, inbox_status, outcome,
            attempt_count, received_at, processed_at)
         select environment_id, gen_random_uuid(), connection_ids, 'x', decode(md5(n::text), 'hex'), '{}', 'parked',
            'failed', 10, '2026-01-01', '2026-01-01' from inbox, generate_series(1, 21) n",
    )
    .execute(&app.state().pool)
    .await
    .unwrap();
    let check = found(&app.command(&["doctor", "--json"]).await, "inbox.parked");
    assert_eq!((check["offenders"].as_array().unwrap().len(), &check["more"]), (20, &json!(true)));
    assert!(check["offenders"][0].as_str().unwrap().starts_with("inbox_"), "{check}");
    assert!(text(&app.command(&["doctor"]).await).contains(" and more\n"));
    sqlx::raw_sql("delete from inbox where inbox_status = 'parked'")
        .execute(&app.state().pool)
        .await
        .unwrap();
    app.finish().await;
}

#[tokio::test]
async fn secrets_that_do_not_open_are_named_and_not_shown() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    let connections = merchant.get("/v1/connections").await.expect(200);
    let other_key = [("CHECKOUTD_ENCRYPTION_KEY", "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=")];
    let output = app.command_with(&["doctor", "--json"], &other_key).await;
    assert_eq!(output.status.code(), Some(1));
    let check = found(&output, "secrets");
    assert_eq!(check["status"], "fail");
    assert_eq!(check["offenders"], json!([connections["items"][0]["id"], endpoint["id"]]));
    // A ciphertext that was moved to another row does not open either.
    sqlx::query("update connections set secret_key_sealed = webhook_secret_sealed")
        .execute(&app.state().pool)
        .await
        .unwrap();
    let output = app.command(&["doctor", "--json"]).await;
    assert_eq!(found(&output, "secrets")["offenders"], json!([connections["items"][0]["id"]]));
    app.finish().await;
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_exit_code_2() {
    let app = TestApp::start().await;
    let wrong = app
        .command_with(
            &["doctor"],
            &[("DATABASE_URL", ""), ("CHECKOUTD_BIND", "nonsense"), ("CHECKOUTD_ENCRYPTION_KEY", "x")],
        )
        .await;
    assert_eq!(wrong.status.code(), Some(2));
    for name in ["DATABASE_URL", "CHECKOUTD_BIND", "CHECKOUTD_ENCRYPTION_KEY"] {
        assert!(text(&wrong).contains(name), "{}", text(&wrong));
    }
    assert!(text(&wrong).starts_with("FAIL  configuration: "));
    let nobody =
        app.command_with(&["doctor"], &[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")]).await;
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody).starts_with("FAIL  database: "), "{}", text(&nobody));
    sqlx::raw_sql("alter table inbox rename to gone").execute(&app.state().pool).await.unwrap();
    let unknown = app.command(&["doctor", "--json"]).await;
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(found(&unknown, "inbox.parked")["unknown"], true);
    assert_eq!(found(&unknown, "I2")["unknown"], false);
    sqlx::raw_sql("alter table gone rename to inbox").execute(&app.state().pool).await.unwrap();
    app.finish().await;
}

#[tokio::test]
async fn it_holds_on_a_busy_service() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    merchant.endpoint(&receiver).await;
    merchant.customer_if_missing().await;
    let plan = merchant.plan().await;
    let work = async {
        for round in 0..12 {
            let sessions = futures::future::join_all((0..4).map(|_| async {
                let request = Merchant::session_request(&plan);
                merchant.post("/v1/checkout/sessions", request).await.expect(201)
            }));
            let sessions = sessions.await;
            app.pay(&sessions[0]);
            app.pay(&sessions[1]);
            let path = format!("/v1/checkout/sessions/{}/cancel", sessions[2]["id"].as_str().unwrap());
            tokio::join!(app.sandbox.flush_webhooks(), merchant.post_empty(&path));
            if round % 3 == 0 {
                app.pay_late(&sessions[1]).await;
            }
            app.drain().await;
        }
    };
    let look = async {
        let mut looks = 0;
        loop {
            for finding in doctor::examine(app.state()).await {
                assert_eq!(finding.status, doctor::Severity::Ok, "{finding:?}");
            }
            looks += 1;
            tokio::task::yield_now().await;
            if looks == 10 {
                return;
            }
        }
    };
    tokio::join!(work, look);
    app.finish().await;
}
