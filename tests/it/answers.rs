//! What follows each kind of answer of an endpoint: nothing more, another attempt on schedule, or giving up.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{Merchant, Receiver, TestApp, events::emit_completed, verifies};

fn path(endpoint: &Value) -> String {
    format!("/v1/webhook_endpoints/{}", endpoint["id"].as_str().unwrap())
}

/// Deliveries to the endpoint, newest first.
async fn deliveries(merchant: &Merchant, endpoint: &Value) -> Vec<Value> {
    let page = merchant.get(&format!("{}/deliveries", path(endpoint))).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// An answer, and between which two waits the next attempt lies.
struct Row {
    status: u16,
    retry_after: Option<String>,
    wait: [TimeDelta; 2],
}

/// Every kind of failure, answered at `now` when the schedule's gap is `gap`.
fn failures(now: DateTime<Utc>, gap: TimeDelta) -> Vec<Row> {
    let scheduled = [gap * 8 / 10, gap * 12 / 10];
    // Asked for less than the gap, which is then the least; for more than twice as much; for something between.
    let (least, most) = ([gap, gap * 12 / 10], [gap * 2; 2]);
    let seconds = gap.num_seconds() * 3 / 2;
    let date = (now + gap * 3 / 2).trunc_subsecs(0);
    let written = |date: DateTime<Utc>| date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let row = |status, wait| Row { status, retry_after: None, wait };
    let asked = |status, text: String, wait| Row { status, retry_after: Some(text), wait };
    vec![
        row(301, scheduled),
        row(302, scheduled),
        row(307, scheduled),
        row(308, scheduled),
        row(400, scheduled),
        row(404, scheduled),
        row(418, scheduled),
        row(429, scheduled),
        asked(429, "0".into(), least),
        asked(429, "1000000000".into(), most),
        asked(429, "99999999999999999999999999".into(), most),
        asked(429, seconds.to_string(), [TimeDelta::seconds(seconds); 2]),
        asked(429, written(now - TimeDelta::days(1)), least),
        asked(429, written(now + TimeDelta::days(400)), most),
        asked(429, written(date), [date - now; 2]),
        asked(429, "soon".into(), scheduled),
        asked(429, "-1".into(), scheduled),
        asked(429, "1e9".into(), scheduled),
        row(500, scheduled),
        row(503, scheduled),
        asked(503, "0".into(), least),
        asked(503, seconds.to_string(), [TimeDelta::seconds(seconds); 2]),
        asked(503, "1000000000".into(), most),
    ]
}

/// Each kind of failure twice, then 200.
#[tokio::test]
async fn after_each_answer_the_next_attempt_comes_when_the_schedule_and_retry_after_allow() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let endpoint = merchant.endpoint(&receiver).await;
    let gaps = [TimeDelta::seconds(5), TimeDelta::minutes(5)];
    for index in 0..failures(app.state().clock.now(), gaps[0]).len() {
        let before = receiver.received().len();
        let event = emit_completed(&app, &merchant).await;
        let mut codes = vec![200];
        for (attempt, gap) in gaps.into_iter().enumerate() {
            let Row { status, retry_after, wait: [least, most] } =
                failures(app.state().clock.now(), gap).swap_remove(index);
            let what = format!("{status} {retry_after:?} after {gap}");
            let mut headers = vec![("location", elsewhere.url())];
            headers.extend(retry_after.as_deref().map(|text| ("retry-after", text)));
            receiver.answer_next_with(status, &headers, "");
            app.drain().await;
            assert_eq!(receiver.received().len(), before + attempt + 1, "{what}: one attempt when due");
            let delivery = &deliveries(&merchant, &endpoint).await[0];
            assert_eq!(
                (&delivery["status"], &delivery["attempt_count"], &delivery["last_response_code"]),
                (&json!("pending"), &json!(attempt + 1), &json!(status)),
                "{what}"
            );
            let wait = time(&delivery["next_attempt_at"]) - app.state().clock.now();
            assert!(wait >= least && wait <= most, "{what}: {wait} is not in {least} to {most}");
            app.advance(wait - TimeDelta::microseconds(1)).await;
            assert_eq!(receiver.received().len(), before + attempt + 1, "{what}: nothing before it is due");
            app.clock().advance(TimeDelta::microseconds(1));
            codes.push(i32::from(status));
        }
        app.drain().await;
        let requests = receiver.received().split_off(before);
        assert_eq!(requests.len(), 3);
        for request in requests {
            assert_eq!(request.body, event.body);
            assert_eq!(request.header("webhook-id"), event.id.to_string());
        }
        let delivery = &deliveries(&merchant, &endpoint).await[0];
        assert_eq!((&delivery["status"], &delivery["next_attempt_at"]), (&json!("delivered"), &Value::Null));
        let attempts = format!("/v1/deliveries/{}/attempts", delivery["id"].as_str().unwrap());
        let attempts = merchant.get(&attempts).await.expect(200);
        let recorded = attempts["items"].as_array().unwrap().iter().map(|attempt| &attempt["response_code"]);
        codes[1..].reverse();
        assert!(recorded.eq(&codes), "{attempts}");
    }
    assert!(elsewhere.received().is_empty(), "a redirect is not followed");
    app.finish().await;
}

/// A thousand that failed together do not come back together.
#[tokio::test]
async fn jitter_spreads_over_its_whole_range_and_no_further() {
    const EVENTS: usize = 20;
    const ENDPOINTS: usize = 50;
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    for _ in 0..ENDPOINTS {
        merchant.endpoint(&receiver).await;
    }
    for _ in 0..EVENTS {
        emit_completed(&app, &merchant).await;
    }
    (0..EVENTS * ENDPOINTS).for_each(|_| receiver.answer_next(503));
    app.drain().await;
    let query = "select (extract(epoch from next_attempt_at - created_at) * 1000000)::bigint from deliveries";
    let mut waits: Vec<i64> = sqlx::query_scalar(query).fetch_all(&app.state().pool).await.unwrap();
    assert_eq!(waits.len(), EVENTS * ENDPOINTS);
    let mut tenths = [0; 10];
    for wait in &waits {
        assert!((4_000_000..6_000_000).contains(wait), "{wait} µs");
        tenths[usize::try_from((wait - 4_000_000) / 200_000).unwrap()] += 1;
    }
    // A hundred each are expected; fifty are five standard deviations off.
    assert!(tenths.iter().all(|&count| count > 50), "{tenths:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 950, "only {} different ones", waits.len());
    app.finish().await;
}

#[tokio::test]
async fn a_failing_endpoint_is_tried_ten_times_on_the_schedule() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let receiver = Receiver::start().await;
    let endpoint = merchant.endpoint(&receiver).await;
    (0..10).for_each(|_| receiver.answer_next(503));
    let event = emit_completed(&app, &merchant).await;
    app.drain().await;
    let gaps = [
        TimeDelta::seconds(5),
        TimeDelta::minutes(5),
        TimeDelta::minutes(30),
        TimeDelta::hours(2),
        TimeDelta::hours(5),
        TimeDelta::hours(10),
        TimeDelta::hours(14),
        TimeDelta::hours(20),
        TimeDelta::hours(24),
    ];
    for (index, gap) in gaps.into_iter().enumerate() {
        assert_eq!(receiver.received().len(), index + 1);
        let [delivery] = &deliveries(&merchant, &endpoint).await[..] else { panic!("one delivery") };
        assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("pending"), &json!(index + 1)));
        let due = time(&delivery["next_attempt_at"]);
        let wait = due - app.state().clock.now();
        assert!(wait >= gap * 8 / 10 && wait <= gap * 12 / 10, "{wait} after attempt {}", index + 1);
        app.advance(wait - TimeDelta::milliseconds(1)).await;
        assert_eq!(receiver.received().len(), index + 1, "not before it is due");
        app.advance(TimeDelta::milliseconds(1)).await;
    }
    let requests = receiver.received();
    assert_eq!(requests.len(), 10);
    for request in &requests {
        assert_eq!(request.body, event.body);
        assert_eq!(request.header("webhook-id"), event.id.to_string());
        assert!(verifies(request, &endpoint["secret"]));
    }
    let timestamps: std::collections::BTreeSet<_> =
        requests.iter().map(|request| request.header("webhook-timestamp").to_owned()).collect();
    assert_eq!(timestamps.len(), 10, "each attempt is signed at its own time");
    let [delivery] = &deliveries(&merchant, &endpoint).await[..] else { panic!("one delivery") };
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("exhausted"), &json!(10)));
    assert_eq!((&delivery["last_response_code"], &delivery["next_attempt_at"]), (&json!(503), &Value::Null));
    app.advance(TimeDelta::days(10)).await;
    assert_eq!(receiver.received().len(), 10);
    app.finish().await;
}

#[tokio::test]
async fn gone_disables_the_endpoint_and_cancels_what_waits() {
    let app = TestApp::start().await;
    let merchant = app.merchant().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let endpoint = merchant.endpoint(&receiver).await;
    merchant.endpoint(&other).await;
    receiver.answer_next(500);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    receiver.answer_next(410);
    emit_completed(&app, &merchant).await;
    app.drain().await;
    let all = deliveries(&merchant, &endpoint).await;
    let mut ends: Vec<_> =
        all.iter().map(|one| (one["status"].as_str().unwrap(), &one["last_response_code"])).collect();
    ends.sort_unstable_by_key(|(status, _)| *status);
    assert_eq!(ends, [("cancelled", &json!(500)), ("exhausted", &json!(410))]);
    let disabled = merchant.get(&path(&endpoint)).await.expect(200);
    assert_eq!((&disabled["enabled"], &disabled["disabled_reason"]), (&json!(false), &json!("gone")));
    emit_completed(&app, &merchant).await;
    app.advance(TimeDelta::days(1)).await;
    assert_eq!((receiver.received().len(), other.received().len()), (2, 4), "it was told of the end too");
    assert!(other.event_types().contains(&"webhook.endpoint.disabled".to_owned()));
    app.finish().await;
}
