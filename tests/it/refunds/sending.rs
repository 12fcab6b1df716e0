//! Sending: unusable answers, refusals, tries again.

use super::*;

#[tokio::test]
async fn every_unusable_answer_ends_in_one_refund() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let status = |code, retry_after| FaultKind::Status { code, body: None, retry_after };
    let page = FaultKind::Status { code: 200, body: Some("<html>".into()), retry_after: None };
    for kind in [
        FaultKind::ResetAfter,
        FaultKind::Malformed,
        FaultKind::OtherAmount,
        page,
        status(500, None),
        status(502, None),
        status(503, Some(7)),
        status(429, None),
        status(401, None),
        status(404, None),
        refusal("Request failed because another payment operation is in progress."),
    ] {
        let (session, paid) = app.late_payment(&merchant).await;
        // More than the tries of one call: the worker has to come back.
        app.sandbox.set_faults(faults(FaultRule::times(3, Op::Refund, kind.clone())));
        app.drain().await;
        for _ in 0..6 {
            app.advance(TimeDelta::minutes(1)).await;
        }
        let refund = merchant.refund_of(&session).await;
        assert_eq!(refund["refund_status"], "SUCCEEDED", "{kind:?} {refund}");
        assert_eq!(refund["gateway_refund_id"], app.made(&paid)[0].id);
        assert_eq!(app.made(&paid).len(), 1, "{kind:?}");
        assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY, "{kind:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_retry_after_is_waited_for() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let limited = FaultKind::Status { code: 429, body: None, retry_after: Some(300) };
    app.sandbox.set_faults(faults(FaultRule::times(1, Op::Refund, limited)));
    app.drain().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(time(&refund["next_attempt_at"]), app.state().clock.now() + TimeDelta::seconds(300));
    app.advance(TimeDelta::seconds(299)).await;
    assert_eq!(app.made(&paid).len(), 0);
    app.advance(TimeDelta::seconds(1)).await;
    assert_eq!(app.made(&paid).len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_under_way_is_asked_about_at_growing_intervals() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(Faults {
        webhooks: WebhookFaults { enabled: false, ..WebhookFaults::default() },
        ..outcome(RefundStatus::Pending)
    });
    app.drain().await;
    let mut gaps = Vec::new();
    for _ in 0..12 {
        let refund = merchant.refund_of(&session).await;
        assert_eq!(
            (&refund["refund_status"], &refund["attempts"].as_i64().is_some()),
            (&json!("PROCESSING"), &true)
        );
        let gap = time(&refund["next_attempt_at"]) - app.state().clock.now();
        gaps.push(gap.num_seconds());
        app.advance_quietly(gap).await;
    }
    assert!((8..=12).contains(&gaps[0]), "{gaps:?}");
    assert!(gaps[..7].windows(2).skip(1).all(|pair| pair[0] < pair[1]), "{gaps:?}");
    assert!(gaps[9..].iter().all(|gap| (480..=720).contains(gap)), "{gaps:?}");
    // No webhook tells of the end.
    app.sandbox.settle_refund(&app.made(&paid)[0].id, RefundStatus::Processed).unwrap();
    app.advance_quietly(TimeDelta::minutes(12)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "SUCCEEDED");
    assert_eq!(app.made(&paid).len(), 1);
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_that_cannot_be_asked_about_stays_under_way() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(outcome(RefundStatus::Pending));
    app.drain().await;
    for kind in [
        FaultKind::Status { code: 503, body: None, retry_after: None },
        refusal("The id provided does not exist"),
    ] {
        app.sandbox.set_faults(Faults {
            rules: vec![FaultRule::always(Op::FetchRefund, kind)],
            ..outcome(RefundStatus::Pending)
        });
        app.advance_quietly(TimeDelta::minutes(15)).await;
        let refund = merchant.refund_of(&session).await;
        assert_eq!(refund["refund_status"], "PROCESSING", "{refund}");
        assert!(refund["failure_reason"].as_str().is_some(), "{refund}");
    }
    app.sandbox.set_faults(Faults::default());
    app.sandbox.settle_refund(&app.made(&paid)[0].id, RefundStatus::Processed).unwrap();
    app.advance_quietly(TimeDelta::minutes(15)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!((&refund["refund_status"], &refund["failure_reason"]), (&json!("SUCCEEDED"), &Value::Null));
    assert_eq!(app.made(&paid).len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn a_failed_refund_is_tried_again_under_a_new_key() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(outcome(RefundStatus::Pending));
    app.drain().await;
    let first = app.made(&paid)[0].clone();
    app.sandbox.settle_refund(&first.id, RefundStatus::Failed).unwrap();
    app.sandbox.flush_webhooks().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "FAILED");
    assert_eq!(refund["failed_at"], refund["updated_at"]);
    assert!(refund["failure_reason"].as_str().unwrap().contains("failed"), "{refund}");
    // Nothing happens by itself.
    app.advance(TimeDelta::days(3)).await;
    assert_eq!(read(&merchant, &refund).await, refund);
    // Several people press the button.
    let replies = join_all((0..8).map(|_| merchant.retry(&refund))).await;
    let keys: std::collections::HashSet<_> = replies
        .into_iter()
        .map(|reply| {
            let retried = reply.expect(200);
            assert_eq!(retried["refund_status"], "PENDING");
            assert_eq!((&retried["gateway_refund_id"], &retried["failed_at"]), (&Value::Null, &Value::Null));
            retried["gateway_idempotency_token"].to_string()
        })
        .collect();
    assert_eq!(keys.len(), 1, "one new try: {keys:?}");
    assert!(!keys.contains(&refund["id"].to_string()));
    app.drain().await;
    let second = app.made(&paid)[1].clone();
    assert_eq!(read(&merchant, &refund).await["refund_status"], "PROCESSING");
    // Razorpay repeats what it said of the first one, also in a shape that was not seen yet.
    merchant.hear_of_refund("refund.failed", &first, "failed").await;
    merchant.hear_of_refund("refund.created", &first, "failed").await;
    merchant.hear_of_refund("refund.created", &first, "pending").await;
    assert_eq!(read(&merchant, &refund).await["refund_status"], "PROCESSING");
    merchant.retry(&refund).await.expect_error(400, "invalid_operation");
    app.sandbox.settle_refund(&second.id, RefundStatus::Processed).unwrap();
    app.sandbox.flush_webhooks().await;
    let refund = read(&merchant, &refund).await;
    assert_eq!(
        (&refund["refund_status"], &refund["gateway_refund_id"]),
        (&json!("SUCCEEDED"), &json!(second.id))
    );
    assert_eq!((&refund["attempts"], &refund["failed_at"]), (&json!(2), &Value::Null));
    assert_eq!(app.made(&paid).len(), 2);
    let events = ["payment.late", "refund.created", "refund.failed", "refund.succeeded"];
    assert_eq!(merchant.refund_events(&refund).await, events);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_can_fail_and_be_tried_again_more_than_once() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(outcome(RefundStatus::Failed));
    app.drain().await;
    for round in 1..=3 {
        let refund = merchant.refund_of(&session).await;
        assert_eq!((&refund["refund_status"], &refund["attempts"]), (&json!("FAILED"), &json!(round)));
        // Its own webhooks change nothing more.
        app.sandbox.flush_webhooks().await;
        if round == 3 {
            // The answer to the last try is lost, and its webhooks are the first to tell.
            let lost = FaultRule::times(3, Op::Refund, FaultKind::ResetAfter);
            app.sandbox.set_faults(faults(lost));
        }
        merchant.retry(&refund).await.expect(200);
        app.drain().await;
    }
    app.sandbox.flush_webhooks().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!((&refund["refund_status"], &refund["attempts"]), (&json!("SUCCEEDED"), &json!(4)));
    assert_eq!(app.made(&paid).iter().filter(|made| made.status == RefundStatus::Processed).count(), 1);
    assert_eq!(
        merchant.refund_events(&refund).await[2..],
        ["refund.failed", "refund.failed", "refund.failed", "refund.succeeded"]
    );
    app.finish().await;
}

#[tokio::test]
async fn only_what_is_not_on_its_way_can_be_tried_again() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let refund = merchant.refund_of(&session).await;
    // Waiting after refusals: due now, under the same key.
    app.sandbox.set_faults(faults(FaultRule::always(Op::Refund, refusal(LOW_BALANCE))));
    app.drain().await;
    for _ in 0..5 {
        app.advance(TimeDelta::minutes(3)).await;
    }
    let waiting = read(&merchant, &refund).await;
    assert_eq!(waiting["refund_status"], "PENDING");
    assert!(waiting["failure_reason"].as_str().unwrap().contains(LOW_BALANCE), "{waiting}");
    assert!(time(&waiting["next_attempt_at"]) > app.state().clock.now());
    app.sandbox.set_faults(outcome(RefundStatus::Pending));
    let due = merchant.retry(&refund).await.expect(200);
    assert_eq!(time(&due["next_attempt_at"]), app.state().clock.now());
    assert_eq!(due["gateway_idempotency_token"], refund["id"]);
    app.drain().await;
    let error = merchant.retry(&refund).await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"], json!({"reason": "refund_in_progress", "refund_status": "PROCESSING"}));
    app.sandbox.settle_refund(&app.made(&paid)[0].id, RefundStatus::Processed).unwrap();
    app.sandbox.flush_webhooks().await;
    let ended = read(&merchant, &refund).await;
    let error = merchant.retry(&refund).await.expect_error(400, "invalid_operation");
    assert_eq!(error["details"], json!({"reason": "refund_succeeded", "refund_status": "SUCCEEDED"}));
    assert_eq!(read(&merchant, &refund).await, ended);
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn a_low_balance_is_waited_for_and_people_are_told() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    app.sandbox.set_faults(faults(FaultRule::always(Op::Refund, refusal(LOW_BALANCE))));
    let alerted = async || -> Option<DateTime<Utc>> {
        sqlx::query_scalar("select alerted_at from refunds").fetch_one(&app.state().pool).await.unwrap()
    };
    app.drain().await;
    assert_eq!(alerted().await, None, "a refusal alone is no reason to wake anybody");
    let until = app.state().clock.now() + TimeDelta::hours(22);
    while app.state().clock.now() < until {
        let due = time(&merchant.refund_of(&session).await["next_attempt_at"]);
        let wait = due - app.state().clock.now();
        assert!(wait <= TimeDelta::minutes(72), "an hour at most, more or less: {wait}");
        app.advance_quietly(wait).await;
    }
    let first = alerted().await.unwrap();
    let created = time(&merchant.refund_of(&session).await["created_at"]);
    assert!((TimeDelta::minutes(34)..TimeDelta::minutes(52)).contains(&(first - created)), "{first}");
    let refund = merchant.refund_of(&session).await;
    assert!((25..50).contains(&refund["attempts"].as_i64().unwrap()), "{refund}");
    assert_eq!(refund["refund_status"], "PENDING");
    // It goes on, and so do the alerts: once a day.
    for _ in 0..12 {
        app.advance_quietly(TimeDelta::minutes(73)).await;
    }
    assert!(alerted().await.unwrap() >= first + TimeDelta::hours(24));
    app.sandbox.set_faults(Faults::default());
    app.advance(TimeDelta::minutes(73)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!((&refund["refund_status"], &refund["failure_reason"]), (&json!("SUCCEEDED"), &Value::Null));
    assert_eq!(app.made(&paid).len(), 1);
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}

#[tokio::test]
async fn a_refund_that_razorpay_holds_for_a_day_is_told_to_people() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    app.late_payment(&merchant).await;
    app.sandbox.set_faults(outcome(RefundStatus::Pending));
    app.drain().await;
    let alerts = async || -> i64 {
        let told = "select count(*) from refunds where alerted_at is not null";
        sqlx::query_scalar(told).fetch_one(&app.state().pool).await.unwrap()
    };
    app.advance_quietly(TimeDelta::hours(23)).await;
    assert_eq!(alerts().await, 0);
    app.advance_quietly(TimeDelta::hours(1)).await;
    assert_eq!(alerts().await, 1);
    app.finish().await;
}

#[tokio::test]
async fn credentials_that_do_not_work_keep_the_refund_waiting() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let pool = &app.state().pool;
    let sealed: Vec<u8> =
        sqlx::query_scalar("select secret_key_sealed from connections").fetch_one(pool).await.unwrap();
    let set = async |bytes: &[u8]| {
        sqlx::query("update connections set secret_key_sealed = $1").bind(bytes).execute(pool).await.unwrap();
    };
    set(b"nothing that opens").await;
    app.drain().await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!((&refund["refund_status"], &refund["attempts"]), (&json!("PENDING"), &json!(1)));
    assert!(refund["failure_reason"].as_str().is_some());
    set(&sealed).await;
    app.advance(TimeDelta::minutes(1)).await;
    assert_eq!(read(&merchant, &refund).await["refund_status"], "SUCCEEDED");
    assert_eq!(app.made(&paid).len(), 1);
    app.finish().await;
}

/// The row comes first: a refund whose row was rolled back would be sent under a key that nobody knows any more.
#[tokio::test]
async fn nothing_is_sent_before_it_is_on_record() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let session = merchant.session().await;
    app.advance(TimeDelta::minutes(15)).await;
    let pool = &app.state().pool;
    sqlx::raw_sql(
        "create function no() returns trigger language plpgsql as $$ begin raise exception 'no commit'; end $$;
         create constraint trigger no after insert on refunds deferrable initially deferred
         for each row execute function no();",
    )
    .execute(pool)
    .await
    .unwrap();
    let paid = app.pay_late(&session).await;
    app.drain().await;
    assert!(app.made(&paid).is_empty(), "sent, and not on record");
    sqlx::raw_sql("drop trigger no on refunds; drop function no();").execute(pool).await.unwrap();
    app.advance(TimeDelta::minutes(1)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "SUCCEEDED");
    let made = app.made(&paid);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].idempotency_key.as_deref(), refund["id"].as_str());
    app.finish().await;
}

/// State and event are one transaction.
#[tokio::test]
async fn a_refund_whose_event_cannot_be_written_is_recorded_when_it_can() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (session, paid) = app.late_payment(&merchant).await;
    let pool = &app.state().pool;
    // Takes the place of its third event.
    sqlx::query(
        "insert into events (environment_id, id, event_type, subject_id, sequence, body, created_at)
         select environment_id, gen_random_uuid(), 'refund.succeeded', id, 3, '{}', created_at from refunds",
    )
    .execute(pool)
    .await
    .unwrap();
    assert!(checkoutd::worker::drain(app.state(), &SendRefunds).await.is_err());
    assert_eq!(merchant.refund_of(&session).await["refund_status"], "PENDING");
    sqlx::query("delete from events where sequence = 3").execute(pool).await.unwrap();
    app.advance_quietly(TimeDelta::seconds(61)).await;
    let refund = merchant.refund_of(&session).await;
    assert_eq!(refund["refund_status"], "SUCCEEDED");
    assert_eq!(app.made(&paid).len(), 1);
    assert_eq!(merchant.refund_events(&refund).await, WHOLE_STORY);
    app.finish().await;
}
